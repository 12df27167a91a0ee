//! The output for the user while a run trains: a progress bar, a line for each epoch, and warnings.

use super::tracker::Tracker;
use crate::config::Config;
use crate::run::progress;
use crate::train::divergence::{REMEDY, explosion};
use crate::train::event::EpochFigures;
use crate::train::recipe::micro_batch_size;
use crate::train::{Event, Sink};
use crate::ui::{Progress, Ui, accuracy_text, duration, loss};
use anyhow::Result;
use std::time::Instant;

/// A bar for the current epoch, and a line for each epoch that is over.
#[derive(Debug)]
pub struct Bars {
    ui: Ui,
    /// Epochs in the run.
    epochs: u64,
    classes: usize,
    batch_size: usize,
    tracker: Tracker,
    bar: Option<Progress>,
}

impl Sink for Bars {
    fn take(&mut self, event: &Event) -> Result<()> {
        self.tracker.take(event, Instant::now());
        match event {
            Event::EpochStart { epoch, steps } => {
                self.bar = Some(self.ui.steps_progress(&self.label(*epoch), *steps as u64));
            }
            Event::Step { sums: Some(_), .. } | Event::Evaluated { .. } => self.show_progress(),
            Event::Epoch(figures) => self.end_epoch(figures),
            Event::OutOfMemory { step, accumulate, .. } => {
                let size = micro_batch_size(self.batch_size, *accumulate);
                let parts = self.batch_size.div_ceil(size);
                self.ui.warn(format!(
                    "out of memory at step {step}: from here on a batch goes through the network in {parts} parts of {size} images, as with --accumulate {accumulate}; batch norm sees a part at a time"
                ));
            }
            Event::Stop { .. } | Event::End(_) => self.clear(),
            Event::GraphsOff { reason, .. } => self.ui.warn(format!(
                "{reason}; the run continues without CUDA graphs, as with --cuda-graphs false"
            )),
            _ => {}
        }
        Ok(())
    }
}

impl Bars {
    /// The bars of a run.
    pub fn new(config: &Config, ui: Ui) -> Self {
        Self {
            ui,
            epochs: config.recipe.epochs,
            classes: config.spec.classes,
            batch_size: config.recipe.batch_size,
            tracker: Tracker::new(config),
            bar: None,
        }
    }

    /// Shows the figures of the epoch so far.
    fn show_progress(&mut self) {
        if let (Some(bar), Some(progress)) = (&mut self.bar, self.tracker.progress()) {
            bar.show(progress.step as u64, &figures(progress));
        }
    }

    /// Removes the bar, so that a line can be printed.
    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.clear();
        }
    }

    /// Prints the figures of an epoch that is over.
    fn end_epoch(&mut self, figures: &EpochFigures) {
        self.clear();
        let mut parts = vec![format!(
            "train loss {} acc {:.4}",
            loss(figures.train_loss),
            figures.train_accuracy
        )];
        for (name, mean_loss, accuracy, limited) in [
            (
                "validation",
                figures.validation_loss,
                figures.validation_accuracy,
                figures.validation_images,
            ),
            ("test", figures.test_loss, figures.test_accuracy, figures.test_images),
        ] {
            if let (Some(mean_loss), Some(accuracy)) = (mean_loss, accuracy) {
                let accuracy = accuracy_text(accuracy, limited);
                parts.push(format!("{name} loss {} acc {accuracy}", loss(mean_loss)));
            }
        }
        parts.push(format!("lr {:.4}", figures.lr));
        parts.push(format!("{:.0} images/s", figures.images_per_second));
        parts.push(duration(figures.seconds));
        self.ui.say_parts(&self.label(figures.epoch), &parts);
        // After the last epoch, an explosion is reported as the run's error instead.
        if figures.epoch < self.epochs
            && let Some(explosion) = explosion(figures, self.classes)
        {
            let epoch = figures.epoch;
            self.ui.warn(format!("epoch {epoch}: {explosion}: the run diverges; {REMEDY}"));
        }
    }

    fn label(&self, epoch: u64) -> String {
        let width = self.epochs.to_string().len();
        format!("epoch {epoch:>width$}/{}", self.epochs)
    }
}

/// The figures of the epoch so far, from the line with all figures to the shortest line.
fn figures(progress: &progress::Progress) -> Vec<String> {
    if let (Some(images), Some(of)) = (progress.evaluated, progress.to_evaluate) {
        return vec![format!("evaluating {images}/{of}")];
    }
    let figure = |figure: Option<f64>| figure.unwrap_or(f64::NAN);
    let epoch_left = duration(figure(progress.epoch_seconds_left));
    let run_left = duration(figure(progress.run_seconds_left));
    let loss = format!("loss {}", loss(figure(progress.loss)));
    let loss_and_accuracy = format!("{loss}  acc {:.4}", figure(progress.accuracy));
    let speed = format!("{:.0} images/s", figure(progress.images_per_second));
    let left = format!("left {run_left}");
    vec![
        format!("{loss_and_accuracy}  {speed}  left: epoch {epoch_left}, run {run_left}"),
        format!("{loss_and_accuracy}  {speed}  {left}"),
        format!("{loss_and_accuracy}  {left}"),
        format!("{loss}  {left}"),
        left,
    ]
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.clear();
    }
}
