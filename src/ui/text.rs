//! Formats numbers, names and lines.

use console::measure_text_width;
use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;

/// A label and the parts after it, in lines of at most `columns` columns. A part is never split.
pub(super) fn in_columns(label: &str, parts: &[String], columns: usize) -> String {
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

/// A table whose first line is its header. The columns in `numbers` are aligned to the right.
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
    // The style pads every cell on both sides, but a table of data starts in the first column.
    let lines = text.lines().map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end());
    lines.collect::<Vec<_>>().join("\n")
}

/// A number with commas between its thousands: `11,175,370`.
pub fn grouped(number: usize) -> String {
    indicatif::HumanCount(number as u64).to_string()
}

/// An accuracy with four decimals, and the number of images if a limit left some of them out.
pub fn accuracy_text(fraction: f64, limited: Option<usize>) -> String {
    let mark = limited.map_or_else(String::new, |images| format!(" (of {})", grouped(images)));
    format!("{fraction:.4}{mark}")
}

/// A number with four significant digits, and with a power of ten if it is very large or small.
pub fn rounded(number: f64) -> String {
    let text = format!("{number:.3e}");
    let number = text.parse().unwrap_or(number);
    if number == 0.0 || (1e-4..1e6).contains(&number.abs()) {
        number.to_string()
    } else {
        format!("{number:e}")
    }
}

/// A loss with four decimals; a very large one is rounded.
pub fn loss(loss: f64) -> String {
    if loss < 1e4 { format!("{loss:.4}") } else { rounded(loss) }
}

/// A number with its noun: `1 epoch`, `2 epochs`.
pub fn counted(number: impl Into<u64>, thing: &str) -> String {
    let number = number.into();
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// Parts with commas between them, in lines of at most `columns` columns, if no part is longer.
pub(super) fn comma_lines(parts: &[String], columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for part in parts {
        match lines.last_mut() {
            Some(line) if measure_text_width(line) + 2 + measure_text_width(part) < columns => {
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

/// A path for a command that the user can type: quoted for the shell if needed.
pub fn quoted(path: &Path) -> String {
    let path = path.to_string_lossy();
    // Only a zero byte cannot be quoted, and no path has one.
    shlex::try_quote(&path).unwrap_or(Cow::Borrowed(&*path)).into_owned()
}

/// A message that is safe to print, and not too long: it may quote the content of a file.
pub(super) fn message(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(LONGEST_MESSAGE) {
        Some((end, _)) => Cow::Owned(harmless(text.get(..end).unwrap_or(text)).into_owned() + "…"),
        None => harmless(text),
    }
}

const LONGEST_MESSAGE: usize = 2000;

/// Text with its control characters escaped, except ends of lines and tabs. A name in a message can come from anywhere,
/// and a terminal would obey its control characters.
pub(super) fn harmless(text: &str) -> Cow<'_, str> {
    let commands = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(commands) {
        return Cow::Borrowed(text);
    }
    let escape = |c: char| if commands(c) { c.escape_default().to_string() } else { c.to_string() };
    Cow::Owned(text.chars().map(escape).collect())
}

/// A name from a file, for a table or a message. The name can be any text, so it is put in one line and cut after 60
/// characters.
pub fn short(name: &str) -> String {
    let escape =
        |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    let short: String = name.chars().take(LONGEST_NAME).map(escape).collect();
    if name.chars().nth(LONGEST_NAME).is_some() { short + "…" } else { short }
}

const LONGEST_NAME: usize = 60;

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
        let parts = ["a".repeat(40), "é".repeat(37), "b".to_owned(), "c".repeat(90)];
        let lines = comma_lines(&parts, 80);
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
