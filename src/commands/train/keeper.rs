//! What is kept and shown of a run while it trains: bars, lines, metrics and checkpoints.

use crate::checkpoint::{Best, FORMAT, ModelCard, State, Store, Versions};
use crate::config::Config;
use crate::report::metrics::MetricsFile;
use crate::train::Trainer;
use crate::train::run::{EndRecord, EpochRecord, Observer};
use crate::train::trainer;
use crate::ui::{Progress, Ui, duration};
use anyhow::Result;
use std::time::Instant;

/// The observer of `resnet train`.
#[derive(Debug)]
pub struct Keeper {
    store: Store,
    metrics: MetricsFile,
    card: ModelCard,
    config: toml::Table,
    best: Option<Best>,
    last: Option<EpochRecord>,
    checkpoint_every: u64,
    epochs: u64,
    epoch: u64,
    steps: usize,
    progress: Option<Progress>,
    last_step: Instant,
    /// Of evaluations and checkpoints so far, and after how many epochs.
    seconds_between: f64,
    epochs_seen: u64,
    ui: Ui,
}

impl Keeper {
    /// A keeper of a run; `best` is the best checkpoint of the part that is done.
    pub fn new(
        store: Store,
        metrics: MetricsFile,
        config: &Config,
        card: ModelCard,
        table: toml::Table,
        best: Option<Best>,
        ui: Ui,
    ) -> Self {
        Self {
            store,
            metrics,
            card,
            config: table,
            best,
            last: None,
            checkpoint_every: config.checkpoint_every,
            epochs: config.recipe.epochs,
            epoch: 0,
            steps: 0,
            progress: None,
            last_step: Instant::now(),
            seconds_between: 0.0,
            epochs_seen: 0,
            ui,
        }
    }

    /// Test accuracy after the last epoch.
    pub fn last_test_accuracy(&self) -> Option<f64> {
        self.last.as_ref()?.test_accuracy
    }

    /// Accuracy of the best checkpoint; see [`EndRecord::best_accuracy`].
    pub fn best_accuracy(&self) -> Option<f64> {
        self.best.map(|best| best.validation_accuracy).or(self.last_test_accuracy())
    }

    /// Records and shows the end of the run.
    pub fn finish(self, end: &EndRecord) -> Result<()> {
        self.metrics.append(end)?;
        if self.ui.is_json() {
            self.ui.json(end);
        } else {
            if let Some(best) = self.best {
                self.ui.out(format!(
                    "best validation accuracy {:.4} at step {}",
                    best.validation_accuracy, best.step
                ));
            }
            self.ui.out(format!(
                "test accuracy {:.4} after {} epochs",
                end.test_accuracy.unwrap_or_default(),
                end.epochs
            ));
        }
        self.ui.say(format!("done in {}; the run is in {}", duration(end.seconds), end.run_dir));
        self.ui.say(format!("each class, and the confusion matrix: resnet eval {}", end.run_dir));
        let last = self.last.map(|last| last.step);
        if self.best.is_some_and(|best| Some(best.step) != last) {
            self.ui.say(format!(
                "that is the best checkpoint; the last epoch's is {}/checkpoints/last",
                end.run_dir
            ));
        }
        Ok(())
    }

    /// Seconds that evaluation and checkpoint take after an epoch, by the epochs so far.
    fn between_epochs(&self) -> f64 {
        self.seconds_between / self.epochs_seen.max(1) as f64
    }

    fn label(&self) -> String {
        let width = self.epochs.to_string().len();
        format!("epoch {:>width$}/{}", self.epoch, self.epochs)
    }

    fn keep_checkpoint(&mut self, trainer: &Trainer, record: &EpochRecord) -> Result<()> {
        if let Some(accuracy) = record.validation_accuracy
            && self.best.is_none_or(|best| accuracy > best.validation_accuracy)
        {
            self.best = Some(Best { step: record.step, validation_accuracy: accuracy });
        }
        let due = record.epoch.is_multiple_of(self.checkpoint_every)
            || record.epoch == self.epochs
            || self.best.is_some_and(|best| best.step == record.step);
        if due {
            let state = State {
                format: FORMAT,
                step: record.step,
                epoch: record.epoch,
                seed: trainer.recipe().seed,
                best: self.best,
                versions: Versions::current(),
                config: self.config.clone(),
            };
            self.store.save(trainer.network(), trainer.sgd(), &self.card, &state)?;
        }
        Ok(())
    }
}

impl Observer for Keeper {
    fn epoch_begins(&mut self, epoch: u64, steps: usize) {
        self.epoch = epoch;
        self.steps = steps;
        self.progress = Some(self.ui.steps_progress(&self.label(), steps as u64));
    }

    fn trained(&mut self, so_far: &trainer::Progress) {
        let per_step = so_far.seconds / so_far.steps as f64;
        let epoch_left = per_step * (self.steps - so_far.steps) as f64;
        let later_epochs = self.epochs.saturating_sub(self.epoch);
        let run_left = epoch_left
            + per_step * (later_epochs * self.steps as u64) as f64
            + self.between_epochs() * (later_epochs + 1) as f64;
        let figures = format!(
            "loss {:.4}  acc {:.4}  {:.0} images/s  left: epoch {}, run {}",
            so_far.loss,
            so_far.accuracy,
            so_far.images_per_second,
            duration(epoch_left),
            duration(run_left),
        );
        if let Some(progress) = &mut self.progress {
            progress.show(so_far.steps as u64, figures);
        }
        self.last_step = Instant::now();
    }

    fn evaluated(&mut self, images: usize, of: usize) {
        if let Some(progress) = &mut self.progress {
            progress.show(self.steps as u64, format!("evaluating {images}/{of}"));
        }
    }

    fn epoch_ends(&mut self, trainer: &Trainer, record: &EpochRecord) -> Result<()> {
        if let Some(progress) = self.progress.take() {
            progress.clear();
        }
        self.epochs_seen += 1;
        // The line first: a resumed run drops the lines after its checkpoint, but could not add one.
        self.metrics.append(record)?;
        self.keep_checkpoint(trainer, record)?;
        if self.ui.is_json() {
            self.ui.json(record);
        }
        let mut line = format!(
            "{}  train loss {:.4} acc {:.4}",
            self.label(),
            record.train_loss,
            record.train_accuracy
        );
        for (name, loss, accuracy) in [
            ("validation", record.validation_loss, record.validation_accuracy),
            ("test", record.test_loss, record.test_accuracy),
        ] {
            if let (Some(loss), Some(accuracy)) = (loss, accuracy) {
                line.push_str(&format!("  {name} loss {loss:.4} acc {accuracy:.4}"));
            }
        }
        self.ui.say(format!(
            "{line}  lr {:.4}  {:.0} images/s  {}",
            record.lr,
            record.images_per_second,
            duration(record.seconds)
        ));
        self.last = Some(record.clone());
        self.seconds_between += self.last_step.elapsed().as_secs_f64();
        Ok(())
    }
}
