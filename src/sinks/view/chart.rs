//! A chart in the live view: curves by epoch, with axes.

use super::scale::Scale;
use super::theme::Theme;
use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::style::{Color, Style};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::canvas::{self, Canvas};

/// A chart with less room is not drawn.
const SMALLEST: (u16, u16) = (20, 5);
/// The name of the horizontal axis.
const HORIZONTAL: &str = "epoch";
/// Rows between two ticks of the vertical axis, and columns between two of the horizontal axis.
const ROWS_OF_TICK: usize = 2;
const COLUMNS_OF_TICK: usize = 7;
/// The mark of a line that has only one point.
const POINT: &str = "━";

/// A curve of a chart.
#[derive(Debug)]
pub struct Curve {
    /// (epoch, value) from left to right. Values that are not finite are left out.
    pub points: Vec<(f64, f64)>,
    /// Its colour.
    pub style: Style,
    /// The mark of each point. None for a line through the points.
    pub mark: Option<&'static str>,
}

/// A chart.
#[derive(Debug)]
pub struct Chart {
    /// What it shows.
    pub title: &'static str,
    /// Its curves. Later ones are drawn over earlier ones.
    pub curves: Vec<Curve>,
    /// The last epoch on the horizontal axis.
    pub last_epoch: u64,
    /// The limits of the vertical axis, if its values have limits.
    pub limits: Option<(f64, f64)>,
}

impl Chart {
    /// Draws the chart. Where there is no room, or no value yet, it draws less.
    pub fn draw(&self, frame: &mut Frame, area: Rect, theme: Theme) {
        if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
            return;
        }
        let values = self.curves.iter().flat_map(|curve| curve.points.iter().map(|point| point.1));
        let scale = Scale::around(values, self.limits.is_none());
        let mut title = vec![Span::styled(self.title, theme.strong())];
        if scale.is_some_and(|scale| scale.is_logarithmic()) {
            title.push(Span::styled("  logarithmic", theme.quiet()));
        }
        frame.render_widget(Line::from(title), Rect { height: 1, ..area });
        let below = Rect { y: area.y + 1, height: area.height - 1, ..area };
        let Some(mut scale) = scale else {
            let row = Rect { y: below.y + below.height / 2, height: 1, ..below };
            let text = Line::styled("no figures yet", theme.quiet()).centered();
            frame.render_widget(text, row);
            return;
        };
        if let Some((lowest, highest)) = self.limits {
            scale = scale.within(lowest, highest);
        }
        let ticks = scale.ticks((usize::from(below.height) - 2) / ROWS_OF_TICK);
        let widest = ticks.iter().map(|(_, label)| label.chars().count()).max().unwrap_or_default();
        let gutter = u16::try_from(widest.max(HORIZONTAL.len()) + 2).unwrap_or(u16::MAX);
        if below.width < gutter + 4 {
            return;
        }
        let plot = Rect {
            x: below.x + gutter,
            y: below.y,
            width: below.width - gutter,
            height: below.height - 2,
        };
        let epochs = Scale::linear(0.0, self.last_epoch as f64);
        axes(frame.buffer_mut(), plot, gutter, (&epochs, self.last_epoch), &ticks, theme);
        self.curves.iter().for_each(|curve| curve.draw_line(frame, plot, &epochs, &scale));
        self.curves.iter().for_each(|curve| curve.draw_marks(frame, plot, &epochs, &scale));
    }
}

impl Curve {
    /// The places of its points between (0, 0) and (1, 1), at most `most`.
    fn places(&self, epochs: &Scale, scale: &Scale, most: usize) -> Vec<(f64, f64)> {
        let finite = self.points.iter().filter(|(_, value)| value.is_finite());
        let places = finite.map(|(epoch, value)| (epochs.place(*epoch), scale.place(*value)));
        thinned(places.filter(|(_, height)| height.is_finite()).collect(), most)
    }

    /// Draws the line through its points. Without colours, points that have marks need no line: it could be taken for
    /// the line of another curve.
    fn draw_line(&self, frame: &mut Frame, plot: Rect, epochs: &Scale, scale: &Scale) {
        if self.mark.is_none() || self.style.fg.is_some() {
            // A column of the terminal has two dots of a line.
            let places = self.places(epochs, scale, 2 * usize::from(plot.width));
            line(frame, plot, &places, self.style);
        }
    }

    fn draw_marks(&self, frame: &mut Frame, plot: Rect, epochs: &Scale, scale: &Scale) {
        let places = self.places(epochs, scale, usize::from(plot.width));
        let symbol = match (self.mark, places.len()) {
            (Some(mark), _) => mark,
            (None, 1) => POINT,
            (None, _) => return,
        };
        for place in places {
            if let Some(cell) = frame.buffer_mut().cell_mut(position(plot, place)) {
                cell.set_symbol(symbol).set_style(self.style);
            }
        }
    }
}

/// Draws a line through places between (0, 0) and (1, 1).
fn line(frame: &mut Frame, plot: Rect, places: &[(f64, f64)], style: Style) {
    let color = style.fg.unwrap_or(Color::Reset);
    let paint = |context: &mut canvas::Context| {
        for pair in places.windows(2) {
            if let [(x1, y1), (x2, y2)] = *pair {
                context.draw(&canvas::Line { x1, y1, x2, y2, color });
            }
        }
    };
    let canvas = Canvas::default().marker(Marker::Braille).paint(paint);
    frame.render_widget(canvas.x_bounds([0.0, 1.0]).y_bounds([0.0, 1.0]), plot);
}

/// At most `most` points: each is the mean of its neighbours.
fn thinned(points: Vec<(f64, f64)>, most: usize) -> Vec<(f64, f64)> {
    if points.len() <= most {
        return points;
    }
    let together = points.len().div_ceil(most.max(1));
    let mean = |part: &[(f64, f64)]| {
        let count = part.len() as f64;
        let sum = part.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        (sum.0 / count, sum.1 / count)
    };
    points.chunks(together).map(mean).collect()
}

/// The cell of a place between (0, 0) and (1, 1).
fn position(plot: Rect, (right, up): (f64, f64)) -> Position {
    let cell = |place: f64, count: u16| {
        (place.clamp(0.0, 1.0) * f64::from(count.saturating_sub(1))).round() as u16
    };
    let bottom = plot.bottom().saturating_sub(1);
    Position { x: plot.x + cell(right, plot.width), y: bottom - cell(up, plot.height) }
}

fn axes(
    buffer: &mut Buffer,
    plot: Rect,
    gutter: u16,
    (epochs, last_epoch): (&Scale, u64),
    ticks: &[(f64, String)],
    theme: Theme,
) {
    let style = theme.quiet();
    let mut put = |x: u16, y: u16, text: &str| {
        buffer.set_stringn(x, y, text, usize::from(plot.right().saturating_sub(x)), style);
    };
    let (left, bottom) = (plot.x - 1, plot.bottom());
    for y in plot.top()..bottom {
        put(left, y, "│");
    }
    for (place, label) in ticks {
        let y = position(plot, (0.0, *place)).y;
        let width = label.chars().count() as u16;
        put(left.saturating_sub(1 + width), y, label);
        put(left, y, "┤");
    }
    put(left, bottom, &format!("└{}", "─".repeat(usize::from(plot.width))));
    put(plot.x - gutter, bottom + 1, HORIZONTAL);
    let most = (usize::from(plot.width) / COLUMNS_OF_TICK)
        .min(last_epoch.try_into().unwrap_or(usize::MAX));
    // Labels do not touch each other.
    let mut free = plot.x - 1;
    for (place, label) in epochs.ticks(most) {
        let x = position(plot, (place, 0.0)).x;
        let width = label.chars().count() as u16;
        let start = x.saturating_sub(width / 2).min(plot.right().saturating_sub(width));
        put(x, bottom, "┬");
        if start >= free {
            put(start, bottom + 1, &label);
            free = start + width + 1;
        }
    }
}
