//! JSON lines on stdout, for other programs.

use crate::train::{Event, Sink};
use crate::ui::Ui;
use anyhow::Result;

/// Prints the figures of each epoch, and how the run ended.
#[derive(Debug)]
pub struct JsonLines(Ui);

impl JsonLines {
    /// A sink that prints through `ui`.
    pub fn new(ui: Ui) -> Self {
        Self(ui)
    }
}

impl Sink for JsonLines {
    fn take(&mut self, event: &Event) -> Result<()> {
        if matches!(event, Event::Epoch(_) | Event::Stop { .. } | Event::End(_)) {
            self.0.json(event);
        }
        Ok(())
    }
}
