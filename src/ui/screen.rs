//! The terminal as one screen that is drawn as a whole. What is printed meanwhile is kept, and printed afterwards, so
//! that nothing is missing in the terminal's history.

use super::progress;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use ratatui::{Frame, Terminal};
use rustix::process::getpgrp;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr};
use signal_hook::consts::{SIGABRT, SIGQUIT};
use signal_hook::low_level;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Stderr, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// What was printed since the screen is shown. None if no screen is shown.
static KEPT: Mutex<Option<Vec<(Kind, String)>>> = Mutex::new(None);
/// Whether the terminal shows a screen.
static SHOWN: AtomicBool = AtomicBool::new(false);
/// The terminal before the first screen.
static BEFORE: OnceLock<Before> = OnceLock::new();

/// Changes to the terminal's second screen, and hides the cursor.
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l";
/// Sets plain colours, changes back to the first screen, and shows the cursor.
const LEAVE: &[u8] = b"\x1b[0m\x1b[?1049l\x1b[?25h";

struct Before {
    /// The terminal that the keys come from.
    terminal: OwnedFd,
    settings: Termios,
}

/// What a printed line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Data, for stdout.
    Data,
    /// A message, for stderr. A screen shows it too.
    Message,
    /// Figures, for stderr. A screen shows them in its own way.
    Figures,
}

/// Something that the user did at the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// Pressed `q`.
    Leave,
    /// Pressed Ctrl-C. While a screen is shown, the terminal does not make a signal of it.
    Interrupt,
    /// Changed the terminal's size.
    Resize,
}

/// The terminal as one screen. When this value is dropped, the terminal is as before.
#[derive(Debug)]
pub struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<Stderr>>>,
    /// Number of kept lines that [`Self::messages`] has looked at.
    read: usize,
}

impl Screen {
    /// The reason why no screen can be shown, if there is one.
    pub fn obstacle() -> Option<&'static str> {
        let stderr = io::stderr();
        if !stderr.is_terminal() {
            Some("stderr is not a terminal")
        } else if std::env::var_os("TERM").is_some_and(|name| name == "dumb") {
            Some("this terminal (TERM=dumb) shows only lines")
        } else if tcgetpgrp(&stderr).is_ok_and(|group| group != getpgrp()) {
            Some("the program runs in the background")
        } else {
            None
        }
    }

    /// Shows an empty screen. Lines that are printed from now on are kept.
    ///
    /// # Errors
    /// The terminal cannot be set up.
    pub fn open() -> io::Result<Self> {
        let before = before()?;
        let mut raw = before.settings.clone();
        raw.make_raw();
        let mut kept = kept();
        tcsetattr(&before.terminal, OptionalActions::Now, &raw)?;
        SHOWN.store(true, Ordering::SeqCst);
        let terminal = io::stderr()
            .write_all(ENTER)
            .and_then(|()| Terminal::new(CrosstermBackend::new(BufWriter::new(io::stderr()))));
        match terminal {
            Ok(terminal) => {
                progress::hide();
                *kept = Some(Vec::new());
                Ok(Self { terminal, read: 0 })
            }
            Err(error) => {
                restore();
                Err(error)
            }
        }
    }

    /// Draws the whole screen.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn draw(&mut self, draw: impl FnOnce(&mut Frame)) -> io::Result<()> {
        self.terminal.draw(draw).map(drop)
    }

    /// Waits for the user, but no longer than `longest`.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn input(&self, longest: Duration) -> io::Result<Option<Input>> {
        if !event::poll(longest)? {
            return Ok(None);
        }
        Ok(match event::read()? {
            Event::Resize(..) => Some(Input::Resize),
            Event::Key(key) if key.is_press() => match key.code {
                KeyCode::Char('q' | 'Q') => Some(Input::Leave),
                KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                    Some(Input::Interrupt)
                }
                _ => None,
            },
            _ => None,
        })
    }

    /// The messages that were printed since the last call, without colours.
    pub fn messages(&mut self) -> Vec<String> {
        let kept = kept();
        let lines = kept.as_deref().unwrap_or_default();
        let new = lines.get(self.read..).unwrap_or_default();
        self.read = lines.len();
        let messages = new.iter().filter(|(kind, _)| *kind == Kind::Message);
        messages.map(|(_, line)| console::strip_ansi_codes(line).into_owned()).collect()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let mut kept = kept();
        restore();
        for (kind, line) in kept.take().unwrap_or_default() {
            match kind {
                Kind::Data => super::write_stdout(&line),
                Kind::Message | Kind::Figures => super::write_stderr(&line),
            }
        }
        progress::show();
    }
}

/// Leaves the screen, if one is shown. A signal handler may call this: it locks and allocates nothing.
pub fn restore() {
    if SHOWN.swap(false, Ordering::SeqCst)
        && let Some(before) = BEFORE.get()
    {
        let _ = rustix::io::write(rustix::stdio::stderr(), LEAVE);
        let _ = tcsetattr(&before.terminal, OptionalActions::Now, &before.settings);
    }
}

/// Prints a line with `write`, or keeps it if a screen is shown.
pub(super) fn print(kind: Kind, line: &str, write: impl FnOnce(&str)) {
    // The lock is held while the line is written, so that no screen opens in the meantime.
    match kept().as_mut() {
        Some(lines) if kind != Kind::Data || io::stdout().is_terminal() => {
            lines.push((kind, line.to_owned()));
        }
        _ => write(line),
    }
}

/// Whether a screen is shown.
pub(super) fn is_shown() -> bool {
    SHOWN.load(Ordering::SeqCst)
}

fn kept() -> MutexGuard<'static, Option<Vec<(Kind, String)>>> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The terminal as it is before the first screen. From now on it is restored too if the process aborts.
fn before() -> io::Result<&'static Before> {
    if let Some(before) = BEFORE.get() {
        return Ok(before);
    }
    // Keys are read from the same terminal.
    let stdin = io::stdin();
    let terminal = match stdin.is_terminal() {
        true => stdin.as_fd().try_clone_to_owned()?,
        false => File::options().read(true).write(true).open("/dev/tty")?.into(),
    };
    let settings = tcgetattr(&terminal)?;
    for signal in [SIGABRT, SIGQUIT] {
        let end = move || {
            restore();
            let _ = low_level::emulate_default_handler(signal);
        };
        // SAFETY: a signal handler may call both functions.
        unsafe { low_level::register(signal, end) }?;
    }
    Ok(BEFORE.get_or_init(|| Before { terminal, settings }))
}
