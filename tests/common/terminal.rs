//! Runs the program in a terminal of its own, and reads what it shows there.

use super::Program;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// The terminal's second screen begins, and ends.
pub const ENTER: &str = "\u{1b}[?1049h";
pub const LEAVE: &str = "\u{1b}[?1049l";

/// The longest time that a test waits for the program, in seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program that runs in a terminal of 80 columns and 24 rows.
pub struct InTerminal {
    pub child: Child,
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    shown: Vec<u8>,
    /// The program's end of the terminal.
    terminal: OwnedFd,
}

/// A new terminal: the user's end and the program's end.
fn terminal() -> (File, OwnedFd) {
    let size = libc::winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    let (mut user, mut program) = (-1, -1);
    // SAFETY: the first call fills in two numbers, and reads the size; it needs neither a name nor settings. The second
    // changes a flag of the new file.
    unsafe {
        let none = std::ptr::null_mut();
        let opened = libc::openpty(&mut user, &mut program, none, std::ptr::null(), &size);
        assert_eq!(opened, 0, "{}", io::Error::last_os_error());
        // If the program had the user's end too, its terminal would outlive the test.
        libc::fcntl(user, libc::F_SETFD, libc::FD_CLOEXEC);
        (File::from_raw_fd(user), OwnedFd::from_raw_fd(program))
    }
}

impl Program {
    /// Starts the program in a new terminal. Its stdout goes to this terminal too.
    pub fn in_terminal(self) -> InTerminal {
        let (user, terminal) = terminal();
        let end = || Stdio::from(terminal.try_clone().expect("a copy of the terminal"));
        let Self(mut command) = self.stdin(end()).stdout(end()).stderr(end()).env("TERM", "xterm");
        // SAFETY: both calls may be made between fork and exec. They make this the program's own terminal.
        unsafe {
            command.pre_exec(|| {
                let made = libc::setsid() >= 0 && libc::ioctl(0, libc::TIOCSCTTY, 0) >= 0;
                if made { Ok(()) } else { Err(io::Error::last_os_error()) }
            });
        }
        let child = command.spawn().expect("the program starts");
        let mut reader = user.try_clone().expect("a copy of the terminal");
        let (sender, screen) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                if sender.send(bytes.get(..count).unwrap_or_default().to_vec()).is_err() {
                    break;
                }
            }
        });
        InTerminal { child, keyboard: user, screen, shown: Vec::new(), terminal }
    }
}

impl Drop for InTerminal {
    /// Ends the program if the test failed before that.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl InTerminal {
    /// Presses keys.
    pub fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("the terminal takes keys");
    }

    /// Waits until the program has written a text. A view writes only what changed, so the text should be a word.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.shown().contains(text) {
            assert!(Instant::now() < end, "no {text:?} in {}", self.shown());
            if let Ok(bytes) = self.screen.recv_timeout(Duration::from_millis(20)) {
                self.shown.extend(bytes);
            }
        }
    }

    /// Waits until the program ends. Returns its exit code and everything that it has shown. Checks that the terminal
    /// is as before: it echoes, waits for whole lines, and makes a signal of Ctrl-C.
    #[track_caller]
    pub fn end(mut self) -> (Option<i32>, String) {
        let end = Instant::now() + PATIENCE;
        let status = loop {
            self.shown.extend(self.screen.try_iter().flatten());
            if let Some(status) = self.child.try_wait().expect("the program can be waited for") {
                break status;
            }
            assert!(Instant::now() < end, "it does not end: {}", self.shown());
            std::thread::sleep(Duration::from_millis(5));
        };
        // What the program wrote last may still be on its way.
        while let Ok(bytes) = self.screen.recv_timeout(Duration::from_millis(100)) {
            self.shown.extend(bytes);
        }
        // SAFETY: the call fills in a plain C structure, for which all zeros is a value.
        let settings = unsafe {
            let mut settings: libc::termios = std::mem::zeroed();
            assert_eq!(libc::tcgetattr(self.terminal.as_raw_fd(), &mut settings), 0);
            settings
        };
        let usual = libc::ECHO | libc::ICANON | libc::ISIG;
        assert_eq!(settings.c_lflag & usual, usual, "{}", self.shown());
        (status.code(), self.shown())
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown).into_owned()
    }
}
