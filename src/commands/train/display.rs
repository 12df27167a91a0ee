//! What a person sees of a run while it trains.

use crate::train::epoch::EpochSums;
use crate::train::run::EpochRecord;
use crate::ui::{Progress, Ui, accuracy_text, duration, loss};
use std::time::Instant;

/// A bar for the epoch under way, a line for each that is over.
#[derive(Debug)]
pub struct Display {
    ui: Ui,
    epochs: u64,
    epoch: u64,
    steps: usize,
    progress: Option<Progress>,
    last_step: Instant,
    /// Of evaluations and checkpoints so far, and after how many epochs.
    seconds_between: f64,
    epochs_seen: u64,
}

impl Display {
    /// The display of a run of so many epochs.
    pub fn new(epochs: u64, ui: Ui) -> Self {
        Self {
            ui,
            epochs,
            epoch: 0,
            steps: 0,
            progress: None,
            last_step: Instant::now(),
            seconds_between: 0.0,
            epochs_seen: 0,
        }
    }

    /// An epoch of so many steps begins.
    pub fn epoch_begins(&mut self, epoch: u64, steps: usize) {
        self.epoch = epoch;
        self.steps = steps;
        self.progress = Some(self.ui.steps_progress(&self.label(), steps as u64));
    }

    /// The figures of the epoch so far.
    pub fn trained(&mut self, sums: &EpochSums) {
        let per_step = sums.seconds / sums.steps as f64;
        let epoch_left = per_step * self.steps.saturating_sub(sums.steps) as f64;
        let later_epochs = self.epochs.saturating_sub(self.epoch);
        let run_left = epoch_left
            + per_step * (later_epochs * self.steps as u64) as f64
            + self.between_epochs() * (later_epochs + 1) as f64;
        let figures = format!(
            "loss {}  acc {:.4}  {:.0} images/s  left: epoch {}, run {}",
            loss(sums.mean_loss()),
            sums.accuracy(),
            sums.images_per_second(),
            duration(epoch_left),
            duration(run_left),
        );
        if let Some(progress) = &mut self.progress {
            progress.show(sums.steps as u64, figures);
        }
        self.last_step = Instant::now();
    }

    /// An evaluation is under way.
    pub fn evaluated(&mut self, images: usize, of: usize) {
        if let Some(progress) = &mut self.progress {
            progress.show(self.steps as u64, format!("evaluating {images}/{of}"));
        }
    }

    /// The epoch's bar is taken away, so that a line can be said.
    pub fn clear(&mut self) {
        if let Some(progress) = self.progress.take() {
            progress.clear();
        }
    }

    /// A warning, above the bar where there is one.
    pub fn warn(&self, line: &str) {
        match &self.progress {
            Some(progress) => progress.suspend(|| self.ui.warn(line)),
            None => self.ui.warn(line),
        }
    }

    /// The figures of an epoch that is over.
    pub fn epoch_ends(&mut self, record: &EpochRecord) {
        self.clear();
        let mut line = format!(
            "{}  train loss {} acc {:.4}",
            self.label(),
            loss(record.train_loss),
            record.train_accuracy
        );
        for (name, mean_loss, accuracy, limited) in [
            (
                "validation",
                record.validation_loss,
                record.validation_accuracy,
                record.validation_images,
            ),
            ("test", record.test_loss, record.test_accuracy, record.test_images),
        ] {
            if let (Some(mean_loss), Some(accuracy)) = (mean_loss, accuracy) {
                let accuracy = accuracy_text(accuracy, limited);
                line.push_str(&format!("  {name} loss {} acc {accuracy}", loss(mean_loss)));
            }
        }
        self.ui.say(format!(
            "{line}  lr {:.4}  {:.0} images/s  {}",
            record.lr,
            record.images_per_second,
            duration(record.seconds)
        ));
        self.seconds_between += self.last_step.elapsed().as_secs_f64();
        self.epochs_seen += 1;
    }

    /// Seconds that evaluation and checkpoint take after an epoch, by the epochs so far.
    fn between_epochs(&self) -> f64 {
        self.seconds_between / self.epochs_seen.max(1) as f64
    }

    fn label(&self) -> String {
        let width = self.epochs.to_string().len();
        format!("epoch {:>width$}/{}", self.epoch, self.epochs)
    }
}
