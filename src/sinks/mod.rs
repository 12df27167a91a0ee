//! Receivers of a run's events, one file for each. [`MetricsFile`](crate::run::metrics::MetricsFile) is also a
//! receiver, but it belongs to the run's folder.

mod bars;
mod json;
mod progress;
pub mod tensorboard;
mod tracker;
pub mod view;

pub use bars::Bars;
pub use json::JsonLines;
pub use progress::ProgressFile;
pub use tensorboard::TensorBoard;
pub use view::View;

use crate::train::{Event, Sink};
use crate::ui::Ui;
use crate::{libtorch, limits};
use tch::Device;

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

/// Memory in use, in bytes: of this process, or the most that was used on a GPU. None if it is not known.
fn memory_in_use(device: Device) -> Option<u64> {
    match device {
        Device::Cpu => limits::used_memory(),
        _ => libtorch::peak_memory_bytes(device),
    }
}
