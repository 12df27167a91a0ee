//! Receivers of a run's events, one file for each. [`MetricsFile`](crate::run::metrics::MetricsFile) is also a
//! receiver, but it belongs to the run's folder.

mod bars;
mod json;
mod tensorboard;

pub use bars::Bars;
pub use json::JsonLines;
pub use tensorboard::TensorBoard;

use crate::train::{Event, Sink};
use crate::ui::Ui;

/// The sinks of a run. Each event goes to all of them in order.
pub struct Sinks {
    sinks: Vec<Box<dyn Sink>>,
    ui: Ui,
}

impl Sinks {
    /// These sinks.
    pub fn new(sinks: Vec<Box<dyn Sink>>, ui: Ui) -> Self {
        Self { sinks, ui }
    }

    /// Gives an event to every sink. An error of a sink is a warning.
    pub fn take(&mut self, event: &Event) {
        for sink in &mut self.sinks {
            if let Err(error) = sink.take(event) {
                self.ui.warn(format!("{error:#}"));
            }
        }
    }
}
