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
        let loss = format!("loss {}", loss(sums.mean_loss()));
        let loss_and_accuracy = format!("{loss}  acc {:.4}", sums.accuracy());
        let left = format!("left {}", duration(run_left));
        // From all to what matters most.
        let figures = [
            format!(
                "{loss_and_accuracy}  {:.0} images/s  left: epoch {}, run {}",
                sums.images_per_second(),
                duration(epoch_left),
                duration(run_left)
            ),
            format!("{loss_and_accuracy}  {:.0} images/s  {left}", sums.images_per_second()),
            format!("{loss_and_accuracy}  {left}"),
            format!("{loss}  {left}"),
            left,
        ];
        if let Some(progress) = &mut self.progress {
            progress.show(sums.steps as u64, &figures);
        }
        self.last_step = Instant::now();
    }

    /// An evaluation is under way.
    pub fn evaluated(&mut self, images: usize, of: usize) {
        if let Some(progress) = &mut self.progress {
            progress.show(self.steps as u64, &[format!("evaluating {images}/{of}")]);
        }
    }

    /// The epoch's bar is taken away, so that a line can be said.
    pub fn clear(&mut self) {
        if let Some(progress) = self.progress.take() {
            progress.clear();
        }
    }

    /// The figures of an epoch that is over.
    pub fn epoch_ends(&mut self, record: &EpochRecord) {
        self.clear();
        let mut parts = vec![format!(
            "train loss {} acc {:.4}",
            loss(record.train_loss),
            record.train_accuracy
        )];
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
                parts.push(format!("{name} loss {} acc {accuracy}", loss(mean_loss)));
            }
        }
        parts.push(format!("lr {:.4}", record.lr));
        parts.push(format!("{:.0} images/s", record.images_per_second));
        parts.push(duration(record.seconds));
        self.ui.say_parts(&self.label(), &parts);
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
