//! The texts of the live view: its figures, its progress and its messages.

use super::board::{Board, rate};
use super::theme::{Series, Theme};
use crate::limits::gib;
use crate::train::event::EpochFigures;
use crate::ui::{duration, grouped, loss};
use ratatui::text::{Line, Span};

/// Columns of a name in a table.
const NAME: usize = 18;
/// Columns of a figure in a table.
const FIGURE: usize = 10;
/// Columns of the time left.
const LEFT: usize = 15;
/// What stands in the place of a figure that is not known.
const UNKNOWN: &str = "–";

/// How far something is: a bar between its name and its figures.
#[derive(Debug, PartialEq)]
pub struct Bar {
    pub name: String,
    /// From 0 to 1.
    pub done: f64,
    /// What is done, such as `120/235`.
    pub count: String,
    /// How long it takes.
    pub time: String,
}

/// The bars of the epoch and of the run.
pub fn bars(board: &Board) -> [Bar; 2] {
    let last = board.history.last().map_or(0, |figures| figures.epoch);
    let left = |seconds: Option<f64>| match seconds {
        Some(seconds) if seconds.is_finite() => format!("{} left", duration(seconds)),
        _ => String::new(),
    };
    let whole = board.epochs.max(1) as f64;
    let (epoch, count, done, time, run_time) = match &board.progress {
        Some(progress) => {
            let time = match (progress.evaluated, progress.to_evaluate) {
                (Some(done), Some(all)) => format!("evaluating {} %", 100 * done / all.max(1)),
                _ => left(progress.epoch_seconds_left),
            };
            let count = format!("{}/{}", progress.step, progress.steps);
            (progress.epoch, count, progress.of_epoch(), time, left(progress.run_seconds_left))
        }
        None => {
            let took = board.seconds.map(|seconds| format!("took {}", duration(seconds)));
            let done = f64::from(u8::from(last > 0));
            (last, String::new(), done, String::new(), took.unwrap_or_default())
        }
    };
    let of_run = (board.epochs_done() / whole).min(1.0);
    [
        Bar { name: format!("epoch {epoch}/{}", board.epochs), done, count, time },
        Bar {
            name: "run".to_owned(),
            done: of_run,
            count: format!("{:.0} %", (100.0 * of_run).floor()),
            time: run_time,
        },
    ]
}

/// The lines of bars in `columns` columns.
pub fn bar_lines(bars: &[Bar], columns: usize, theme: Theme) -> Vec<Line<'static>> {
    let widest = |text: fn(&Bar) -> &str| {
        bars.iter().map(|bar| text(bar).chars().count()).max().unwrap_or_default()
    };
    let (name, count) = (widest(|bar| &bar.name), widest(|bar| &bar.count));
    let rest = columns.saturating_sub(name + count + LEFT + 6);
    bars.iter()
        .map(|bar| {
            let Bar { name: text, count: number, time, .. } = bar;
            let mut parts = vec![Span::raw(format!("{text:<name$}  "))];
            if rest >= 4 {
                let (done, open) = dashes(bar.done, rest);
                parts.extend([Span::raw(done), Span::styled(open + "  ", theme.quiet())]);
            }
            parts.push(Span::raw(format!("{number:>count$}")));
            parts.push(Span::styled(format!("  {time:>LEFT$}"), theme.quiet()));
            Line::from(parts)
        })
        .collect()
}

/// The two parts of a bar of `columns` columns.
fn dashes(done: f64, columns: usize) -> (String, String) {
    let full = (done.clamp(0.0, 1.0) * columns as f64).floor() as usize;
    ("━".repeat(full), "─".repeat(columns - full))
}

/// The kinds of images of which the run has figures.
pub fn series(board: &Board) -> Vec<Series> {
    let has_validation = board.history.iter().any(|epoch| epoch.validation_loss.is_some());
    let all = [Series::Training, Series::Validation, Series::Test];
    all.into_iter().filter(|series| *series != Series::Validation || has_validation).collect()
}

/// Loss and accuracy of a kind of images in an epoch, and the number of images if a limit left some out.
pub fn of_epoch(epoch: &EpochFigures, series: Series) -> Option<(f64, f64, Option<usize>)> {
    Some(match series {
        Series::Training => (epoch.train_loss, epoch.train_accuracy, None),
        Series::Validation => {
            (epoch.validation_loss?, epoch.validation_accuracy?, epoch.validation_images)
        }
        Series::Test => (epoch.test_loss?, epoch.test_accuracy?, epoch.test_images),
    })
}

/// The table of losses and accuracies. It explains the marks of the charts too.
pub fn table(board: &Board, theme: Theme) -> Vec<Line<'static>> {
    let last = board.history.last().map(|epoch| epoch.epoch);
    let head = last.map_or_else(String::new, |epoch| format!("after epoch {epoch}"));
    let row = |name: &str, figures: [&str; 2]| {
        let [loss, accuracy] = figures;
        format!("{name:<NAME$}{loss:>FIGURE$}{accuracy:>FIGURE$}")
    };
    let mut lines =
        vec![Line::styled(format!("   {}", row(&head, ["loss", "accuracy"])), theme.quiet())];
    for series in series(board) {
        let newest = board.history.iter().rev();
        let found = newest.filter_map(|epoch| Some((epoch.epoch, of_epoch(epoch, series)?))).next();
        let mut name = series.name().to_owned();
        let (mut figures, mut note) = ([UNKNOWN.to_owned(), UNKNOWN.to_owned()], String::new());
        if let Some((epoch, (mean_loss, accuracy, images))) = found {
            figures = [loss(mean_loss), format!("{accuracy:.4}")];
            if Some(epoch) != last {
                name = format!("{name}, epoch {epoch}");
            }
            note = images.map_or_else(String::new, |images| format!("  of {}", grouped(images)));
        }
        lines.push(Line::from(vec![
            Span::styled(format!("{:<3}", series.mark().unwrap_or("━━")), theme.series(series)),
            Span::raw(row(&name, [&figures[0], &figures[1]])),
            Span::styled(note, theme.quiet()),
        ]));
    }
    if let Some(progress) = &board.progress {
        let figure = |figure: Option<f64>, text: fn(f64) -> String| {
            figure.map_or_else(|| UNKNOWN.to_owned(), text)
        };
        let figures =
            [figure(progress.loss, loss), figure(progress.accuracy, |a| format!("{a:.4}"))];
        let name = format!("epoch {} so far", progress.epoch);
        lines.push(Line::raw(format!("   {}", row(&name, [&figures[0], &figures[1]]))));
    }
    lines
}

/// Figures that are no losses and accuracies, each with its name.
pub fn others(board: &Board) -> Vec<(&'static str, String)> {
    let (progress, last) = (board.progress.as_ref(), board.history.last());
    let lr = progress.and_then(|now| now.lr).or(last.map(|epoch| epoch.lr));
    let speed = progress.and_then(|now| now.images_per_second);
    let speed = speed.or(last.map(|epoch| epoch.images_per_second));
    let memory = progress.and_then(|now| now.memory_bytes);
    let rows = [
        ("learning rate", lr.map(rate)),
        ("images/s", speed.map(|speed| grouped(speed as usize))),
        ("memory", memory.map(|bytes| format!("{:.2} GiB", gib(bytes)))),
    ];
    rows.into_iter().filter_map(|(name, figure)| Some((name, figure?))).collect()
}

/// The run in lines of text, for output that is not a screen.
pub fn lines(board: &Board) -> Vec<String> {
    let row = |name: &str, text: &str| format!("{name:<NAME$} {text}").trim_end().to_owned();
    let mut lines =
        vec![row("run", &board.run), row("network", &board.about), row("state", board.activity())];
    lines.extend(bars(board).map(|bar| row(&bar.name, &format!("{}  {}", bar.count, bar.time))));
    lines.extend(others(board).into_iter().map(|(name, figure)| row(name, &figure)));
    // Its marks explain a chart.
    let table = table(board, Theme::Plain).into_iter();
    lines.extend(table.map(|line| line.to_string().chars().skip(3).collect()));
    lines
}

/// The last lines of the messages, in at most `rows` lines of at most `columns` columns.
pub fn messages(board: &Board, columns: usize, rows: usize) -> Vec<String> {
    let wrapped = board.messages.iter().rev().take(rows).rev();
    let mut lines: Vec<String> = wrapped.flat_map(|message| wrap(message, columns)).collect();
    lines.drain(..lines.len().saturating_sub(rows));
    lines
}

/// A message in lines of whole words. A word that is too long is cut by the screen.
fn wrap(message: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in message.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) => lines.push(format!("  {word}")),
            None => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::board::tests::{board, progress};
    use super::*;
    use crate::run::progress::Progress;

    #[test]
    fn bars_tell_the_epoch_and_the_run() {
        let mut board = board(2, 8);
        let bar = |name: &str, done, count: &str, time: &str| {
            let [name, count, time] = [name, count, time].map(str::to_owned);
            Bar { name, done, count, time }
        };
        assert_eq!(bars(&board), [bar("epoch 2/8", 1.0, "", ""), bar("run", 0.25, "25 %", "")]);
        board.progress = Some(progress(3));
        let run = bar("run", 0.3125, "31 %", "1:02:05 left");
        assert_eq!(bars(&board), [bar("epoch 3/8", 0.5, "120/240", "0:41 left"), run]);
        board.progress =
            Some(Progress { evaluated: Some(250), to_evaluate: Some(1000), ..progress(3) });
        assert_eq!(bars(&board)[0].time, "evaluating 25 %");
        (board.progress, board.seconds) = (None, Some(65.0));
        assert_eq!(bars(&board)[1].time, "took 1:05");
        assert_eq!(dashes(0.5, 4), ("━━".to_owned(), "──".to_owned()));
        assert_eq!(dashes(f64::NAN, 2), (String::new(), "──".to_owned()));
    }

    #[test]
    fn an_epoch_without_evaluation_shows_the_last_one_that_has_one() {
        let mut board = board(3, 8);
        (board.history[2].test_loss, board.history[1].test_images) = (None, Some(1234));
        let table: Vec<String> =
            table(&board, Theme::Plain).iter().map(|line| line.to_string()).collect();
        assert_eq!(
            table,
            [
                "   after epoch 3           loss  accuracy",
                "━━ training              0.5000    0.8000",
                "•  test, epoch 2         0.4510    0.8495  of 1,234",
            ]
        );
    }

    #[test]
    fn messages_are_wrapped_between_words_and_the_last_lines_stay() {
        let mut board = board(0, 8);
        assert!(messages(&board, 80, 3).is_empty());
        board.add_message("first");
        board.add_message("warning: one two three");
        assert_eq!(messages(&board, 14, 3), ["first", "warning: one", "  two three"]);
        assert_eq!(messages(&board, 14, 1), ["  two three"]);
        assert_eq!(messages(&board, 0, 9).len(), 5);
    }
}
