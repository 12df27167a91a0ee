//! Everything that is printed: messages and progress on stderr, data on stdout. No other module prints.

mod blocks;
mod progress;
mod screen;
mod text;

pub use progress::Progress;
pub use screen::{Input, Screen, restore};
pub use text::{accuracy_text, counted, duration, grouped, loss, quoted, rounded, short, table};

use console::{Term, style};
use indicatif::WeakProgressBar;
use progress::Unit;
use screen::Kind;
use serde::Serialize;
use std::ffi::OsString;
use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::{Mutex, OnceLock};
use text::{comma_lines, harmless, in_columns, message};

/// The progress bar on the terminal. It is hidden while another line is printed.
static BAR: Mutex<Option<WeakProgressBar>> = Mutex::new(None);

/// Where the output of a command goes. It is decided once from the flags and the terminal.
#[derive(Debug, Clone, Copy)]
pub struct Ui {
    quiet: bool,
    json: bool,
    terminal: bool,
}

impl Ui {
    /// `quiet` turns messages and progress off; warnings and errors stay. `json` turns data into JSON lines.
    pub fn new(quiet: bool, json: bool) -> Self {
        Self { quiet, json, terminal: std::io::stderr().is_terminal() }
    }

    /// Whether data goes to stdout as JSON lines, not as text for people.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Whether messages and progress are turned off.
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Prints a message on stderr.
    pub fn say(&self, line: impl AsRef<str>) {
        self.say_as(Kind::Message, line.as_ref());
    }

    /// Prints figures on stderr: a label and several parts. If the terminal is too narrow, they become several lines; no
    /// part is split.
    pub fn say_parts(&self, label: &str, parts: &[String]) {
        let columns = if self.terminal { columns() } else { usize::MAX };
        self.say_as(Kind::Figures, &in_columns(label, parts, columns));
    }

    fn say_as(&self, kind: Kind, line: &str) {
        if !self.quiet {
            screen::print(kind, &harmless(line), write_stderr);
        }
    }

    /// Prints a message that is a list, in lines of at most 80 columns, or fewer on a narrow terminal. No part is split.
    pub fn say_list(&self, parts: &[String]) {
        const MOST: usize = 80;
        let columns = if self.terminal { columns().min(MOST) } else { MOST };
        comma_lines(parts, columns).iter().for_each(|line| self.say(line));
    }

    /// Prints a warning on stderr, also with `--quiet`.
    pub fn warn(&self, line: impl AsRef<str>) {
        let line = message(line.as_ref());
        stderr(&format!("{} {line}", style("warning:").for_stderr().yellow().bold()));
    }

    /// Prints lines of data for people on stdout.
    pub fn out(&self, lines: impl AsRef<str>) {
        stdout(&harmless(lines.as_ref()));
    }

    /// Shows an image of bytes `[C, H, W]` under its name, if stdout is a terminal with colours.
    pub fn picture(&self, name: &str, pixels: &[u8], channels: usize, width: usize) {
        let terminal = Term::stdout();
        if terminal.is_term()
            && console::colors_enabled()
            && usize::from(terminal.size().1) >= width
        {
            self.out(name);
            blocks::half_blocks(pixels, channels, width).iter().for_each(|line| stdout(line));
        }
    }

    /// Prints a value as a JSON line on stdout.
    pub fn json(&self, value: &impl Serialize) {
        if let Ok(line) = serde_json::to_string(value) {
            stdout(&line);
        }
    }

    /// Progress over `length` bytes, with the rate and the time left.
    pub fn bytes_progress(&self, label: &str, length: u64) -> Progress {
        Progress::new(self, label, length, Unit::Bytes)
    }

    /// Progress over `length` steps, with figures after the bar.
    pub fn steps_progress(&self, label: &str, length: u64) -> Progress {
        Progress::new(self, label, length, Unit::Steps)
    }
}

/// Whether text on stderr may have colours. The environment variable `NO_COLOR` forbids them.
pub fn has_colours() -> bool {
    console::colors_enabled_stderr()
}

/// Columns of the terminal that stderr is connected to.
fn columns() -> usize {
    usize::from(Term::stderr().size().1)
}

/// Prints the error that a command ends with.
pub fn error(text: &str) {
    let text = message(text);
    stderr(&format!("{} {text}", style("error:").for_stderr().red().bold()));
}

/// Prints what is wrong with the command line, or the help text that the user asked for, and ends the process.
pub fn refuse(error: &clap::Error) -> ! {
    let hostile =
        |argument: OsString| harmless(&argument.to_string_lossy()) != argument.to_string_lossy();
    if std::env::args_os().any(hostile) {
        stderr(&harmless(&error.render().to_string()));
        std::process::exit(error.exit_code());
    }
    error.exit()
}

/// The reason why a line could not be written to stdout, if that happened. The command continues without the line, and
/// the program fails at its end.
pub fn lost_output() -> Option<&'static str> {
    LOST_OUTPUT.get().map(String::as_str)
}

static LOST_OUTPUT: OnceLock<String> = OnceLock::new();

fn stdout(line: &str) {
    screen::print(Kind::Data, line, write_stdout);
}

fn write_stdout(line: &str) {
    match writeln!(std::io::stdout().lock(), "{line}") {
        // A closed pipe (`resnet shapes | head`) is not a failure: the reader needs no more lines.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            LOST_OUTPUT.get_or_init(|| error.to_string());
        }
        _ => {}
    }
}

fn stderr(line: &str) {
    screen::print(Kind::Message, line, write_stderr);
}

fn write_stderr(line: &str) {
    let write = || {
        let _ = writeln!(std::io::stderr().lock(), "{line}");
    };
    let bar = BAR.lock().ok().and_then(|bar| bar.as_ref()?.upgrade());
    match bar {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}
