//! Progress bars.

use super::{BAR, Ui, columns, screen};
use console::measure_text_width;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::{Duration, Instant};

/// Time between two plain lines, if stderr is not a terminal.
const PLAIN_INTERVAL: Duration = Duration::from_secs(30);

/// Layouts of a line with steps, and the columns that each needs besides the label, the figures, and the steps that are
/// done and to do. The first that leaves room for the figures is used, so that the line never wraps.
const STEPS_LAYOUTS: [Layout; 4] = [
    Layout { template: "{prefix} {bar:12} {pos}/{len} {msg}", fixed: 16, label: true, steps: true },
    Layout { template: "{prefix} {pos}/{len} {msg}", fixed: 3, label: true, steps: true },
    Layout { template: "{prefix} {msg}", fixed: 1, label: true, steps: false },
    Layout { template: "{msg}", fixed: 0, label: false, steps: false },
];
const BYTES_TEMPLATE: &str = "{prefix} {bar:24} {bytes}/{total_bytes} {bytes_per_sec} {eta} left";

/// A way to show a line.
struct Layout {
    template: &'static str,
    fixed: usize,
    label: bool,
    steps: bool,
}

impl Layout {
    /// Columns before the figures, for a label and a number of steps of these widths.
    fn before(&self, label: usize, steps: usize) -> usize {
        let part = |shown: bool, width: usize| if shown { width } else { 0 };
        self.fixed + part(self.label, label) + part(self.steps, 2 * steps)
    }
}

/// What a progress bar counts.
#[derive(Debug, Clone, Copy)]
pub(super) enum Unit {
    Bytes,
    Steps,
}

fn on_stderr() -> ProgressDrawTarget {
    ProgressDrawTarget::stderr_with_hz(10)
}

/// Hides the current bar while a screen is shown.
pub(super) fn hide() {
    draw_to(ProgressDrawTarget::hidden());
}

/// Shows the current bar after a screen. Only a program that may draw bars shows a screen.
pub(super) fn show() {
    draw_to(on_stderr());
}

fn draw_to(target: ProgressDrawTarget) {
    if let Some(bar) = BAR.lock().ok().and_then(|bar| bar.as_ref()?.upgrade()) {
        bar.set_draw_target(target);
    }
}

/// A progress bar, or a plain line every half a minute if stderr is not a terminal.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    plain: bool,
    unit: Unit,
    last_line: Instant,
}

impl Progress {
    pub(super) fn new(ui: &Ui, label: &str, length: u64, unit: Unit) -> Self {
        let is_drawn = !ui.quiet && ui.terminal && !screen::is_shown();
        let target = if is_drawn { on_stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(length), target);
        bar.set_prefix(label.to_owned());
        if let Ok(mut current) = BAR.lock() {
            *current = Some(bar.downgrade());
        }
        let plain = !ui.quiet && !ui.terminal;
        let progress = Self { bar, plain, unit, last_line: Instant::now() };
        match unit {
            Unit::Steps => progress.arrange(&[]),
            Unit::Bytes => progress.set_template(BYTES_TEMPLATE),
        }
        progress
    }

    /// Sets how much is done, in bytes or steps.
    pub fn set(&mut self, position: u64) {
        self.bar.set_position(position);
        if self.plain && self.last_line.elapsed() >= PLAIN_INTERVAL {
            self.last_line = Instant::now();
            super::stderr(&self.plain_line());
        }
    }

    /// Sets how much is done, and the figures after the bar: the first text in `figures` that fits the terminal. The
    /// texts are ordered from long to short. If not even the last one fits, other parts of the line are left out.
    pub fn show(&mut self, position: u64, figures: &[String]) {
        self.arrange(figures);
        self.set(position);
    }

    /// Chooses the layout and the figures.
    fn arrange(&self, figures: &[String]) {
        let columns = if self.plain { usize::MAX } else { columns() };
        let label = measure_text_width(&self.bar.prefix());
        let steps = self.bar.length().unwrap_or_default().to_string().len();
        let (layout, shown) = arranged((label, steps), figures, columns);
        self.set_template(layout.template);
        self.bar.set_message(shown.to_owned());
    }

    fn set_template(&self, template: &str) {
        let style = ProgressStyle::with_template(template)
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("━╸─");
        self.bar.set_style(style);
    }

    /// Removes the bar.
    pub fn clear(self) {
        self.bar.finish_and_clear();
    }

    fn plain_line(&self) -> String {
        let (position, length) = (self.bar.position(), self.bar.length().unwrap_or_default());
        let done = match self.unit {
            Unit::Bytes => {
                let percent = 100 * position / length.max(1);
                format!("{percent} % of {}", indicatif::HumanBytes(length))
            }
            Unit::Steps => format!("{position}/{length}"),
        };
        format!("{} {done}  {}", self.bar.prefix(), self.bar.message()).trim_end().to_owned()
    }
}

/// The layout and the figures for a terminal of this width. `before` is the width of the label and of the number of
/// steps.
fn arranged(
    (label, steps): (usize, usize),
    figures: &[String],
    columns: usize,
) -> (&'static Layout, &str) {
    let [.., last] = &STEPS_LAYOUTS;
    let shortest = figures.last().map_or("", String::as_str);
    let fits = |layout: &Layout, figures: &str| {
        layout.before(label, steps) + measure_text_width(figures) <= columns
    };
    let layout = STEPS_LAYOUTS.iter().find(|layout| fits(layout, shortest)).unwrap_or(last);
    let shown = figures.iter().find(|figures| fits(layout, figures));
    (layout, shown.map_or(shortest, String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_never_wraps_and_keeps_the_time_left() {
        let left = "left 1234:56:07";
        let figures = [
            format!("loss 9999.9999  acc 0.1234  123456 images/s  {left}"),
            format!("loss 9999.9999  {left}"),
            left.to_owned(),
        ];
        // `epoch 1000/1000`, and 100,000 steps.
        let (label, steps) = (15, 6);
        for (columns, template, shown) in [
            (200, "{prefix} {bar:12} {pos}/{len} {msg}", &*figures[0]),
            (80, "{prefix} {bar:12} {pos}/{len} {msg}", &*figures[1]),
            (60, "{prefix} {bar:12} {pos}/{len} {msg}", left),
            (50, "{prefix} {pos}/{len} {msg}", left),
            (40, "{prefix} {msg}", left),
            (20, "{msg}", left),
        ] {
            let (layout, found) = arranged((label, steps), &figures, columns);
            assert_eq!((layout.template, found), (template, shown), "{columns} columns");
            assert!(layout.before(label, steps) + found.len() <= columns);
        }
    }
}
