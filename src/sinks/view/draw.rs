//! Where the parts of the live view are on the screen.

use super::board::{Board, Viewer};
use super::chart::{Chart, Curve};
use super::figures;
use super::scale::last_epoch;
use super::theme::{Series, Theme};
use crate::run::overview::State;
use crate::train::event::EpochFigures;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};

/// Columns between two parts.
const GAP: u16 = 4;
/// The smallest width for two charts side by side, and the smallest room for four charts.
const TWO_CHARTS: u16 = 60;
const FOUR_CHARTS: (u16, u16) = (100, 24);
/// Columns of the table of losses and accuracies with its notes, and of the other figures.
const TABLE: u16 = 51;
const OTHERS: u16 = 25;

/// Draws the view. Parts for which there is no room are left out.
pub fn draw(frame: &mut Frame, board: &Board, theme: Theme) {
    let area = frame.area();
    let margin = u16::from(area.width >= 40);
    let rest = &mut Rect { x: margin, width: area.width - 2 * margin, ..area };
    let columns = usize::from(rest.width);
    let is_roomy = area.height >= 16;

    header(frame, top(rest, 1), board, theme);
    top(rest, u16::from(is_roomy));
    let bars = figures::bar_lines(&figures::bars(board), columns, theme);
    lines(frame, top(rest, 2), bars);
    if rest.height >= 4 {
        frame.render_widget(Line::styled(keys(board.viewer), theme.quiet()), bottom(rest, 1));
    }
    let most = if area.height >= 40 { 8 } else { 3 };
    let messages = figures::messages(board, columns, most);
    if !messages.is_empty() && rest.height >= 12 {
        bottom(rest, u16::from(is_roomy));
        let styled = messages.into_iter().map(|text| message(text, theme)).collect::<Vec<_>>();
        lines(frame, bottom(rest, styled.len() as u16), styled);
    }
    let table = figures::table(board, theme);
    let rows = table.len() as u16;
    if rest.height >= rows + 8 {
        bottom(rest, 1);
        let area = bottom(rest, rows);
        lines(frame, area, table);
        others(frame, area, board, theme);
        bottom(rest, 1);
    }
    top(rest, u16::from(is_roomy));
    charts(frame, *rest, board, theme);
}

/// Takes rows from the top.
fn top(rest: &mut Rect, rows: u16) -> Rect {
    let taken = Rect { height: rows.min(rest.height), ..*rest };
    *rest = Rect { y: rest.y + taken.height, height: rest.height - taken.height, ..*rest };
    taken
}

/// Takes rows from the bottom.
fn bottom(rest: &mut Rect, rows: u16) -> Rect {
    let height = rows.min(rest.height);
    rest.height -= height;
    Rect { y: rest.bottom(), height, ..*rest }
}

fn lines(frame: &mut Frame, area: Rect, lines: Vec<Line>) {
    for (row, line) in area.rows().zip(lines) {
        frame.render_widget(line, row);
    }
}

fn header(frame: &mut Frame, area: Rect, board: &Board, theme: Theme) {
    let style = match board.state {
        State::Diverged | State::Damaged => theme.alarm(),
        _ => theme.strong(),
    };
    let activity = Span::styled(board.activity(), style);
    let width = area.width.min(activity.width() as u16);
    let room = area.width.saturating_sub(width + 2);
    let mut parts = vec![Span::styled(board.run.as_str(), theme.strong())];
    let name = board.run.chars().count() + 3;
    let about: String = board.about.chars().take(usize::from(room).saturating_sub(name)).collect();
    // Half of a name says little.
    if about.chars().count() >= 8.min(board.about.chars().count()) {
        parts.push(Span::styled(format!("   {about}"), theme.quiet()));
    }
    frame.render_widget(Line::from(parts), Rect { width: room, ..area });
    frame.render_widget(activity, Rect { x: area.right() - width, width, ..area });
}

fn keys(viewer: Viewer) -> &'static str {
    match viewer {
        Viewer::Trainer => "q  leave the view, training goes on     Ctrl-C  save and stop",
        Viewer::Watcher => "q  leave, the run is not changed",
    }
}

fn message(text: String, theme: Theme) -> Line<'static> {
    let alarm = ["warning:", "error:"].into_iter().find(|alarm| text.starts_with(alarm));
    match alarm.and_then(|alarm| Some((alarm, text.strip_prefix(alarm)?))) {
        Some((alarm, rest)) => {
            Line::from(vec![Span::styled(alarm, theme.alarm()), Span::raw(rest.to_owned())])
        }
        None => Line::raw(text),
    }
}

/// The other figures, to the right of the table.
fn others(frame: &mut Frame, area: Rect, board: &Board, theme: Theme) {
    if area.width < TABLE + OTHERS {
        return;
    }
    // On a wide screen they begin where the second chart begins.
    let x = match area.width >= FOUR_CHARTS.0 {
        true => two(area)[1].x,
        false => area.right() - OTHERS,
    };
    let width = usize::from(OTHERS);
    let rows = figures::others(board).into_iter().map(|(name, figure)| {
        let figure = format!("{figure:>rest$}", rest = width.saturating_sub(name.len()));
        Line::from(vec![Span::styled(name, theme.quiet()), Span::raw(figure)])
    });
    let right = Rect { x, y: area.y + 1, width: OTHERS, height: area.height - 1 };
    lines(frame, right, rows.collect());
}

/// Two halves with a gap between them.
fn two(area: Rect) -> [Rect; 2] {
    Layout::horizontal([Constraint::Fill(1); 2]).spacing(GAP).areas(area)
}

fn charts(frame: &mut Frame, area: Rect, board: &Board, theme: Theme) {
    let (loss, accuracy) = (
        chart(board, theme, "Loss", None, |figures| figures.0),
        chart(board, theme, "Accuracy", Some((0.0, 1.0)), |figures| figures.1),
    );
    if area.width >= FOUR_CHARTS.0 && area.height >= FOUR_CHARTS.1 {
        let parts = [Constraint::Fill(2), Constraint::Fill(1)];
        let [above, below] = Layout::vertical(parts).spacing(1).areas(area);
        let ([left, right], [lower_left, lower_right]) = (two(above), two(below));
        loss.draw(frame, left, theme);
        accuracy.draw(frame, right, theme);
        let now = board.progress.as_ref();
        let (lr, speed) = (now.and_then(|now| now.lr), now.and_then(|now| now.images_per_second));
        single(board, "Learning rate", |epoch| epoch.lr, lr).draw(frame, lower_left, theme);
        let of_epoch = |epoch: &EpochFigures| epoch.images_per_second;
        single(board, "Images per second", of_epoch, speed).draw(frame, lower_right, theme);
    } else if area.width >= TWO_CHARTS {
        let [left, right] = two(area);
        loss.draw(frame, left, theme);
        accuracy.draw(frame, right, theme);
    } else if area.height >= 14 {
        let [above, below] = Layout::vertical([Constraint::Fill(1); 2]).spacing(1).areas(area);
        loss.draw(frame, above, theme);
        accuracy.draw(frame, below, theme);
    } else {
        loss.draw(frame, area, theme);
    }
}

/// A chart with a curve for each kind of images.
fn chart(
    board: &Board,
    theme: Theme,
    title: &'static str,
    limits: Option<(f64, f64)>,
    figure: fn((f64, f64)) -> f64,
) -> Chart {
    let curve = |series: Series| {
        let of_epoch = |epoch: &EpochFigures| {
            let (loss, accuracy, _) = figures::of_epoch(epoch, series)?;
            Some((epoch.epoch as f64, figure((loss, accuracy))))
        };
        let mut points: Vec<(f64, f64)> = board.history.iter().filter_map(of_epoch).collect();
        // The training line ends with the epoch under way.
        if let (Series::Training, Some(progress)) = (series, &board.progress)
            && let (Some(loss), Some(accuracy)) = (progress.loss, progress.accuracy)
        {
            points.push((board.epochs_done(), figure((loss, accuracy))));
        }
        Curve { points, style: theme.series(series), mark: series.mark() }
    };
    let curves = figures::series(board).into_iter().map(curve).collect();
    let last_epoch = last_epoch(board.epochs_done(), board.epochs);
    Chart { title, curves, last_epoch, limits }
}

/// A chart with one line. It ends with the figure `now` of the epoch under way.
fn single(
    board: &Board,
    title: &'static str,
    figure: fn(&EpochFigures) -> f64,
    now: Option<f64>,
) -> Chart {
    let past = board.history.iter().map(|epoch| (epoch.epoch as f64, figure(epoch)));
    let points = past.chain(now.map(|now| (board.epochs_done(), now))).collect();
    let last_epoch = last_epoch(board.epochs_done(), board.epochs);
    let curves = vec![Curve { points, style: Style::new(), mark: None }];
    Chart { title, curves, last_epoch, limits: None }
}

#[cfg(test)]
mod tests {
    use super::super::board::tests::{board, progress};
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn screen(board: &Board, (width, height): (u16, u16), theme: Theme) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, board, theme)).unwrap();
        let buffer = terminal.backend().buffer();
        let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        (0..height).map(row).collect()
    }

    #[test]
    fn every_size_and_every_run_can_be_drawn() {
        let mut broken = board(2, 8);
        broken.history[0].train_loss = f64::NAN;
        broken.history[1].train_loss = f64::INFINITY;
        broken.history[0].test_loss = Some(f64::MAX);
        broken.history[1].test_loss = Some(f64::MIN_POSITIVE);
        broken.history[1].images_per_second = f64::NEG_INFINITY;
        broken.history[1].lr = f64::NAN;
        let mut busy = board(1, 0);
        busy.progress = Some(progress(2));
        busy.messages = vec!["warning: ".to_owned() + &"word ".repeat(99), "x".repeat(300)];
        for board in [board(0, 8), board(1, 1), board(1000, 1000), broken, busy] {
            for size in [(1, 1), (20, 5), (80, 24), (200, 50), (41, 3), (300, 2), (3, 90)] {
                screen(&board, size, Theme::Plain);
                screen(&board, size, Theme::Exact);
            }
        }
        for width in (1..140).step_by(3) {
            for height in 1..40 {
                let mut board = board(5, 8);
                board.progress = Some(progress(6));
                board.messages = vec!["a message".to_owned(); 4];
                screen(&board, (width, height), Theme::Palette);
            }
        }
    }

    #[test]
    fn a_small_terminal_shows_everything_without_colours() {
        let mut board = board(2, 8);
        board.progress = Some(progress(3));
        board.messages = vec!["warning: the disk is full".to_owned()];
        let shown = screen(&board, (80, 24), Theme::Plain);
        for part in [
            " my-run   ResNet-18 on mnist",
            "training ",
            " epoch 3/8  ━━━━",
            "120/240",
            "0:41 left",
            "31 %     1:02:05 left",
            " Loss   ",
            " Accuracy ",
            "after epoch 2",
            " ━━ training              0.5000    0.8000",
            " •  test                  0.4500    0.8500",
            "epoch 3 so far        0.3000    0.8800",
            "learning rate      0.0431",
            "images/s            4,321",
            "memory           1.50 GiB",
            " warning: the disk is full",
            " q  leave the view, training goes on",
        ] {
            assert!(shown.iter().any(|row| row.contains(part)), "no {part}: {shown:#?}");
        }
        board.viewer = Viewer::Watcher;
        board.history[1].validation_loss = Some(0.1);
        board.history[1].validation_accuracy = Some(0.9);
        let shown = screen(&board, (200, 50), Theme::Plain);
        for part in
            ["Learning rate", "Images per second", "×  validation", "the run is not changed"]
        {
            assert!(shown.iter().any(|row| row.contains(part)), "no {part}: {shown:#?}");
        }
        let tiny = screen(&board, (20, 5), Theme::Plain);
        assert!(tiny[0].contains("training") && tiny[1].starts_with("epoch 3/8"), "{tiny:#?}");
    }

    #[test]
    fn a_run_of_one_epoch_has_points_and_a_long_run_fills_the_chart() {
        let one = screen(&board(1, 1), (80, 24), Theme::Plain);
        let marks =
            |mark: &str| one[6..16].iter().map(|row| row.matches(mark).count()).sum::<usize>();
        assert_eq!((marks("━"), marks("•")), (2, 2), "{one:#?}");
        let long = screen(&board(1000, 1000), (80, 24), Theme::Plain);
        let points = long[6..16].iter().map(|row| row.matches('•').count()).sum::<usize>();
        assert!(points > 50, "{points} points: {long:#?}");
        assert!(long.iter().any(|row| row.contains("1,000")), "{long:#?}");
        let none = screen(&board(0, 8), (80, 24), Theme::Plain);
        assert!(none.iter().any(|row| row.matches("no figures yet").count() == 2), "{none:#?}");
    }
}
