//! All that a person sees: talk and progress on stderr, data on stdout. No other module prints.

use console::{Term, measure_text_width, style};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, WeakProgressBar};
use serde::Serialize;
use std::borrow::Cow;
use std::ffi::OsString;
use std::io::{ErrorKind, IsTerminal, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

/// Seconds between two plain progress lines where stderr is no terminal.
const PLAIN_INTERVAL: Duration = Duration::from_secs(30);

/// Of a bar over steps.
const STEPS_TEMPLATE: &str = "{prefix} {bar:12} {pos}/{len} {wide_msg}";
/// Columns of that bar.
const STEPS_BAR: usize = 12;

/// The bar that is on the terminal, which makes room for other lines, whoever prints them.
static BAR: Mutex<Option<WeakProgressBar>> = Mutex::new(None);

/// Where the output of a command goes, decided once from the flags and the terminal.
#[derive(Debug, Clone, Copy)]
pub struct Ui {
    quiet: bool,
    json: bool,
    terminal: bool,
}

impl Ui {
    /// `quiet` silences talk and progress (warnings and errors stay); `json` turns data into JSON
    /// lines.
    pub fn new(quiet: bool, json: bool) -> Self {
        Self { quiet, json, terminal: std::io::stderr().is_terminal() }
    }

    /// Whether data goes to stdout as JSON lines instead of text for people.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// A line of talk on stderr.
    pub fn say(&self, line: impl AsRef<str>) {
        if !self.quiet {
            stderr(&harmless(line.as_ref()));
        }
    }

    /// A line of talk that is a label and parts of it; on a terminal that is too narrow for it several lines,
    /// each of whole parts, the later ones below the first part.
    pub fn say_parts(&self, label: &str, parts: &[String]) {
        let columns = if self.terminal { columns() } else { usize::MAX };
        self.say(in_columns(label, parts, columns));
    }

    /// A warning on stderr; `--quiet` does not silence it.
    pub fn warn(&self, line: impl AsRef<str>) {
        let line = message(line.as_ref());
        stderr(&format!("{} {line}", style("warning:").for_stderr().yellow().bold()));
    }

    /// Lines of data for people on stdout.
    pub fn out(&self, lines: impl AsRef<str>) {
        stdout(&harmless(lines.as_ref()));
    }

    /// A JSON line on stdout.
    pub fn json(&self, value: &impl Serialize) {
        if let Ok(line) = serde_json::to_string(value) {
            stdout(&line);
        }
    }

    /// Progress over `length` bytes (a spinner where the length is unknown), with rate and time
    /// left.
    pub fn bytes_progress(&self, label: &str, length: Option<u64>) -> Progress {
        let template = match length {
            Some(_) => "{prefix} {bar:24} {bytes}/{total_bytes} {bytes_per_sec} {eta} left",
            None => "{prefix} {spinner} {bytes} {bytes_per_sec}",
        };
        self.progress(label, length, template, Unit::Bytes)
    }

    /// Progress over `length` steps of an epoch; the message holds the running figures.
    pub fn steps_progress(&self, label: &str, length: u64) -> Progress {
        self.progress(label, Some(length), STEPS_TEMPLATE, Unit::Steps)
    }

    fn progress(&self, label: &str, length: Option<u64>, template: &str, unit: Unit) -> Progress {
        let bar = if self.quiet || !self.terminal {
            ProgressBar::with_draw_target(length, ProgressDrawTarget::hidden())
        } else {
            ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr_with_hz(10))
        };
        let style = ProgressStyle::with_template(template)
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("━╸─");
        bar.set_style(style);
        bar.set_prefix(label.to_owned());
        if let Ok(mut current) = BAR.lock() {
            *current = Some(bar.downgrade());
        }
        let plain = !self.quiet && !self.terminal;
        Progress { bar, plain, unit, last_line: Instant::now() }
    }
}

#[derive(Debug, Clone, Copy)]
enum Unit {
    Bytes,
    Steps,
}

/// A bar on a terminal; elsewhere a plain line now and then.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    plain: bool,
    unit: Unit,
    last_line: Instant,
}

impl Progress {
    /// Sets how much is done, in the unit that the progress counts.
    pub fn set(&mut self, position: u64) {
        self.bar.set_position(position);
        if self.plain && self.last_line.elapsed() >= PLAIN_INTERVAL {
            self.last_line = Instant::now();
            stderr(&self.plain_line());
        }
    }

    /// Sets how much is done, and the running figures behind the bar: the first of those given, from full to
    /// short, that the terminal has room for.
    pub fn show(&mut self, position: u64, figures: &[String]) {
        let room = if self.plain { usize::MAX } else { self.columns_for_figures() };
        let fits = figures.iter().find(|figures| measure_text_width(figures) <= room);
        let shown = fits.or(figures.last()).cloned().unwrap_or_default();
        self.bar.set_message(shown);
        self.set(position);
    }

    /// Columns of the terminal behind the bar.
    fn columns_for_figures(&self) -> usize {
        let length = self.bar.length().unwrap_or_default().to_string().len();
        let before = measure_text_width(&self.bar.prefix()) + STEPS_BAR + 2 * length + "  / ".len();
        columns().saturating_sub(before)
    }

    /// Removes the bar: what it showed is said again, once, by the caller.
    pub fn clear(self) {
        self.bar.finish_and_clear();
    }

    fn plain_line(&self) -> String {
        let (position, length) = (self.bar.position(), self.bar.length());
        let done = match (self.unit, length) {
            (Unit::Bytes, Some(length)) => {
                let percent = 100 * position / length.max(1);
                format!("{percent} % of {}", indicatif::HumanBytes(length))
            }
            (Unit::Bytes, None) => indicatif::HumanBytes(position).to_string(),
            (Unit::Steps, _) => format!("{position}/{}", length.unwrap_or(position)),
        };
        format!("{} {done}  {}", self.bar.prefix(), self.bar.message()).trim_end().to_owned()
    }
}

/// Columns of the terminal that stderr is.
fn columns() -> usize {
    usize::from(Term::stderr().size().1)
}

/// A label and parts of a line in lines of so many columns, where each part fits into one.
fn in_columns(label: &str, parts: &[String], columns: usize) -> String {
    const GAP: &str = "  ";
    let indent = measure_text_width(label);
    let mut text = label.to_owned();
    let mut used = indent;
    for (index, part) in parts.iter().enumerate() {
        let width = GAP.len() + measure_text_width(part);
        if index > 0 && used + width > columns {
            text.push('\n');
            text.push_str(&" ".repeat(indent));
            used = indent;
        }
        text.push_str(GAP);
        text.push_str(part);
        used += width;
    }
    text
}

/// Columns under a header line; those of `numbers` are aligned to the right.
pub fn table<Row: AsRef<[String]>>(lines: &[Row], numbers: Range<usize>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    for line in lines {
        table.add_row(line.as_ref());
    }
    for column in table.column_iter_mut().skip(numbers.start).take(numbers.len()) {
        column.set_cell_alignment(comfy_table::CellAlignment::Right);
    }
    let text = table.to_string();
    // The style pads every cell on both sides; a table of data starts at the margin.
    let lines = text.lines().map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end());
    lines.collect::<Vec<_>>().join("\n")
}

/// A number with its thousands set apart: `11,175,370`.
pub fn grouped(number: usize) -> String {
    indicatif::HumanCount(number as u64).to_string()
}

/// An accuracy to four places, marked where a limit left only so many images for it.
pub fn accuracy_text(fraction: f64, limited: Option<usize>) -> String {
    let mark = limited.map_or_else(String::new, |images| format!(" (of {})", grouped(images)));
    format!("{fraction:.4}{mark}")
}

/// A number as people write it: four digits, and a power of ten where it is very large or small.
pub fn rounded(number: f64) -> String {
    let text = format!("{number:.3e}");
    let number = text.parse().unwrap_or(number);
    if number == 0.0 || (1e-4..1e6).contains(&number.abs()) {
        number.to_string()
    } else {
        format!("{number:e}")
    }
}

/// A loss with four decimals, as long as they mean anything.
pub fn loss(loss: f64) -> String {
    if loss < 1e4 { format!("{loss:.4}") } else { rounded(loss) }
}

/// A number of things: `1 epoch`, `2 epochs`.
pub fn counted(number: impl Into<u64>, thing: &str) -> String {
    let number = number.into();
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// Parts with commas between them, in lines of at most 80 columns.
pub fn comma_lines(parts: &[String]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for part in parts {
        match lines.last_mut() {
            Some(line)
                if console::measure_text_width(line) + 2 + console::measure_text_width(part)
                    < 80 =>
            {
                line.push_str(", ");
                line.push_str(part);
            }
            last => {
                if let Some(line) = last {
                    line.push(',');
                }
                lines.push(part.clone());
            }
        }
    }
    lines
}

/// A time span as `h:mm:ss` or `m:ss`.
pub fn duration(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

/// A path as a shell takes it, for a command that is to be typed: in quotes where it must be.
pub fn quoted(path: &Path) -> String {
    let path = path.to_string_lossy();
    // A path from a file system has no zero byte, which alone cannot be quoted.
    shlex::try_quote(&path).unwrap_or(Cow::Borrowed(&*path)).into_owned()
}

/// Prints an error the way every command ends with one.
pub fn error(text: &str) {
    let text = message(text);
    stderr(&format!("{} {text}", style("error:").for_stderr().red().bold()));
}

/// Says what is wrong with the command line, or prints the help that was asked for, and ends the process.
pub fn refuse(error: &clap::Error) -> ! {
    let hostile =
        |argument: OsString| harmless(&argument.to_string_lossy()) != argument.to_string_lossy();
    if std::env::args_os().any(hostile) {
        stderr(&harmless(&error.render().to_string()));
        std::process::exit(error.exit_code());
    }
    error.exit()
}

/// A message as a terminal can show it. One that quotes what lies in a file may be of any length.
fn message(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(LONGEST_MESSAGE) {
        Some((end, _)) => Cow::Owned(harmless(text.get(..end).unwrap_or(text)).into_owned() + "…"),
        None => harmless(text),
    }
}

const LONGEST_MESSAGE: usize = 2000;

/// Text with its control characters escaped, but for the ends of lines and tabs: a name in a message may
/// come from anywhere, and a terminal would obey it.
fn harmless(text: &str) -> Cow<'_, str> {
    let commands = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(commands) {
        return Cow::Borrowed(text);
    }
    let escape = |c: char| if commands(c) { c.escape_default().to_string() } else { c.to_string() };
    Cow::Owned(text.chars().map(escape).collect())
}

/// A name out of a file, which may hold anything at any length, as it stands in a table or a message: in one
/// line, and cut after some 60 characters.
pub fn short(name: &str) -> String {
    let escape =
        |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    let short: String = name.chars().take(LONGEST_NAME).map(escape).collect();
    if name.chars().nth(LONGEST_NAME).is_some() { short + "…" } else { short }
}

const LONGEST_NAME: usize = 60;

/// Why stdout did not take a line, if so. A command goes on without it (a run is worth more
/// than its report), and the program fails in the end.
pub fn lost_output() -> Option<&'static str> {
    LOST_OUTPUT.get().map(String::as_str)
}

static LOST_OUTPUT: OnceLock<String> = OnceLock::new();

fn stdout(line: &str) {
    match writeln!(std::io::stdout().lock(), "{line}") {
        // A closed pipe (`resnet shapes | head`) is no failure: its reader has had enough.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            LOST_OUTPUT.get_or_init(|| error.to_string());
        }
        _ => {}
    }
}

fn stderr(line: &str) {
    let write = || {
        let _ = writeln!(std::io::stderr().lock(), "{line}");
    };
    let bar = BAR.lock().ok().and_then(|bar| bar.as_ref()?.upgrade());
    match bar {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_narrow_terminal_gets_lines_of_whole_parts() {
        let parts =
            ["train loss 1.0 acc 0.7", "test loss 0.4 acc 0.8", "lr 0.1"].map(str::to_owned);
        let wide = "epoch 1/3  train loss 1.0 acc 0.7  test loss 0.4 acc 0.8  lr 0.1";
        assert_eq!(in_columns("epoch 1/3", &parts, usize::MAX), wide);
        assert_eq!(in_columns("epoch 1/3", &parts, wide.len()), wide);
        let two = in_columns("epoch 1/3", &parts, wide.len() - 1);
        assert_eq!(two, wide.replace("  lr", "\n           lr"));
        assert_eq!(in_columns("epoch 1/3", &parts, 1).lines().count(), 3);
    }

    #[test]
    fn a_path_is_quoted_where_a_shell_would_split_it() {
        assert_eq!(quoted(Path::new("runs/my-run_2.0")), "runs/my-run_2.0");
        assert_eq!(quoted(Path::new("runs/my run")), "'runs/my run'");
        let typed = quoted(Path::new("runs/$(date) it's"));
        assert_eq!(shlex::split(&typed), Some(vec!["runs/$(date) it's".to_owned()]), "{typed}");
    }

    #[test]
    fn numbers_are_rounded_as_people_write_them() {
        for (number, text) in [
            (18.825_509_907_063_324, "18.83"),
            (0.05, "0.05"),
            (1.0, "1"),
            (123_456.0, "123500"),
            (3_852_291_727_687_680.0, "3.852e15"),
            (0.000_012_345, "1.234e-5"),
            (-2.5, "-2.5"),
            (0.0, "0"),
        ] {
            assert_eq!(rounded(number), text);
        }
        assert_eq!((loss(2.0), loss(123_456.0)), ("2.0000".to_owned(), "123500".to_owned()));
        assert_eq!(
            (counted(1u64, "epoch"), counted(0u64, "epoch")),
            ("1 epoch".to_owned(), "0 epochs".to_owned())
        );
    }

    #[test]
    fn parts_are_joined_in_lines_of_80_columns() {
        let lines = comma_lines(&["a".repeat(40), "é".repeat(37), "b".to_owned(), "c".repeat(90)]);
        let expected =
            [format!("{}, {},", "a".repeat(40), "é".repeat(37)), "b,".to_owned(), "c".repeat(90)];
        assert_eq!(lines, expected);
        assert_eq!(lines.first().map(|line| line.chars().count()), Some(80));
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(harmless("two\n\tlines é"), "two\n\tlines é");
        assert_eq!(harmless("\u{1b}[31m\u{7}\u{9b}\r"), "\\u{1b}[31m\\u{7}\\u{9b}\\r");
        assert_eq!(message(&"é".repeat(10_000)).chars().count(), LONGEST_MESSAGE + 1);
        assert_eq!(short("T-shirt/top"), "T-shirt/top");
        assert_eq!(short("a\nb"), "a\\nb");
        assert_eq!(short(&"é".repeat(1000)).chars().count(), LONGEST_NAME + 1);
    }
}
