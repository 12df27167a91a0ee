//! The output for the user while a run trains: a progress bar, a line for each epoch, and warnings.

use crate::config::Config;
use crate::train::divergence::{REMEDY, explosion};
use crate::train::epoch::EpochSums;
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
    /// The current epoch, counted from 1.
    epoch: u64,
    /// Steps in an epoch.
    steps: usize,
    progress: Option<Progress>,
    last_step: Instant,
    /// Seconds of evaluations and checkpoints so far.
    seconds_between: f64,
    /// Number of epochs that are over in this process.
    epochs_seen: u64,
}

impl Sink for Bars {
    fn take(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::EpochStart { epoch, steps } => self.start_epoch(*epoch, *steps),
            Event::Step { sums: Some(sums), .. } => self.show_sums(sums),
            Event::Evaluated { images, of } => self.show_evaluation(*images, *of),
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
            epoch: 0,
            steps: 0,
            progress: None,
            last_step: Instant::now(),
            seconds_between: 0.0,
            epochs_seen: 0,
        }
    }

    fn start_epoch(&mut self, epoch: u64, steps: usize) {
        self.epoch = epoch;
        self.steps = steps;
        self.progress = Some(self.ui.steps_progress(&self.label(), steps as u64));
    }

    /// Shows the figures of the epoch so far.
    fn show_sums(&mut self, sums: &EpochSums) {
        let per_step = sums.seconds / sums.steps as f64;
        let epoch_left = per_step * self.steps.saturating_sub(sums.steps) as f64;
        let later_epochs = self.epochs.saturating_sub(self.epoch);
        let run_left = epoch_left
            + per_step * (later_epochs * self.steps as u64) as f64
            + self.between_epochs() * (later_epochs + 1) as f64;
        let loss = format!("loss {}", loss(sums.mean_loss()));
        let loss_and_accuracy = format!("{loss}  acc {:.4}", sums.accuracy());
        let left = format!("left {}", duration(run_left));
        // From the line with all figures to the shortest line.
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

    fn show_evaluation(&mut self, images: usize, of: usize) {
        if let Some(progress) = &mut self.progress {
            progress.show(self.steps as u64, &[format!("evaluating {images}/{of}")]);
        }
    }

    /// Removes the bar, so that a line can be printed.
    fn clear(&mut self) {
        if let Some(progress) = self.progress.take() {
            progress.clear();
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
        self.ui.say_parts(&self.label(), &parts);
        self.seconds_between += self.last_step.elapsed().as_secs_f64();
        self.epochs_seen += 1;
        // After the last epoch, an explosion is reported as the run's error instead.
        if figures.epoch < self.epochs
            && let Some(explosion) = explosion(figures, self.classes)
        {
            let epoch = figures.epoch;
            self.ui.warn(format!("epoch {epoch}: {explosion}: the run diverges; {REMEDY}"));
        }
    }

    /// Mean seconds of evaluation and checkpoint after an epoch, over the epochs so far.
    fn between_epochs(&self) -> f64 {
        self.seconds_between / self.epochs_seen.max(1) as f64
    }

    fn label(&self) -> String {
        let width = self.epochs.to_string().len();
        format!("epoch {:>width$}/{}", self.epoch, self.epochs)
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.clear();
    }
}
