//! Progress bars.

use super::{BAR, Ui, columns, screen};
use console::measure_text_width;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::{Duration, Instant};

/// Time between two plain lines, if stderr is not a terminal.
const PLAIN_INTERVAL: Duration = Duration::from_secs(30);

const STEPS_TEMPLATE: &str = "{prefix} {bar:12} {pos}/{len} {wide_msg}";
/// Columns of the bar in [`STEPS_TEMPLATE`].
const STEPS_BAR: usize = 12;
const BYTES_TEMPLATE: &str = "{prefix} {bar:24} {bytes}/{total_bytes} {bytes_per_sec} {eta} left";

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
        let template = match unit {
            Unit::Steps => STEPS_TEMPLATE,
            Unit::Bytes => BYTES_TEMPLATE,
        };
        let style = ProgressStyle::with_template(template)
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("━╸─");
        bar.set_style(style);
        bar.set_prefix(label.to_owned());
        if let Ok(mut current) = BAR.lock() {
            *current = Some(bar.downgrade());
        }
        let plain = !ui.quiet && !ui.terminal;
        Self { bar, plain, unit, last_line: Instant::now() }
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
    /// texts are ordered from long to short.
    pub fn show(&mut self, position: u64, figures: &[String]) {
        let room = if self.plain { usize::MAX } else { self.columns_for_figures() };
        let fits = figures.iter().find(|figures| measure_text_width(figures) <= room);
        let shown = fits.or(figures.last()).cloned().unwrap_or_default();
        self.bar.set_message(shown);
        self.set(position);
    }

    /// Columns of the terminal that are free after the bar.
    fn columns_for_figures(&self) -> usize {
        let length = self.bar.length().unwrap_or_default().to_string().len();
        let before = measure_text_width(&self.bar.prefix()) + STEPS_BAR + 2 * length + "  / ".len();
        columns().saturating_sub(before)
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
