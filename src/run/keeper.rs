//! Keeps a run's folder up to date while it trains: metrics, checkpoints and settings.
//!
//! A disk that fails does not end the run. The run continues, and is saved when the next checkpoint is due. If the last
//! save fails too, the run is saved in the system's folder for temporary files (docs/decisions/0013).

use super::folder::{RunFolder, write_config};
use super::metrics::MetricsFile;
use crate::checkpoint::{Best, FORMAT, ModelCard, State, Store, Versions};
use crate::config::Config;
use crate::error::one_line;
use crate::train::divergence::{Explosion, explosion};
use crate::train::event::{EndFigures, EpochFigures};
use crate::train::run::Position;
use crate::train::{Event, Sink, Trainer};
use crate::ui::{Ui, quoted};
use anyhow::Result;
use std::path::Path;
use std::time::{Duration, Instant};

/// The keeper of a run's folder.
#[derive(Debug)]
pub struct Keeper<'a> {
    folder: &'a RunFolder,
    config: Config,
    card: ModelCard,
    store: Store,
    metrics: MetricsFile<'a>,
    /// The best checkpoint that is saved.
    best: Option<Best>,
    /// The best checkpoint if the next save succeeds.
    best_if_saved: Option<Best>,
    /// The last epoch that is over.
    last: Option<EpochFigures>,
    position: Position,
    /// When this process began to run. A run that was resumed has several parts, one for each process.
    start: Instant,
    /// Seconds of the earlier parts of the run.
    earlier_seconds: f64,
    last_save: Instant,
    /// How long the last save took.
    save_cost: Duration,
    /// The error of the last save, if it failed.
    unsaved: Option<anyhow::Error>,
    ui: Ui,
}

impl<'a> Keeper<'a> {
    /// The keeper of the run in `folder`. A resumed run continues from the state `resumed`. This part of the run began
    /// at `start`.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn open(
        folder: &'a RunFolder,
        config: &Config,
        card: ModelCard,
        resumed: Option<&State>,
        start: Instant,
        ui: Ui,
    ) -> Result<Self> {
        let position = resumed.map_or(Position::START, State::position);
        folder.write_config(config)?;
        let store = Store::open(folder.path(), config.keep)?;
        let mut best = None;
        if let Some(state) = resumed {
            best = state.best.filter(|best| store.has(best.step));
            if best != state.best {
                ui.warn("the best checkpoint so far is gone; a new best one will be chosen");
            }
            // `last` must lead to this checkpoint before the metrics of later epochs are moved.
            let aside = store.go_on_from(state.step, best)?;
            if !aside.is_empty() {
                let aside = aside.join(", ");
                ui.warn(format!(
                    "the steps after {} will be trained again; their old checkpoints are now {aside}",
                    state.step
                ));
            }
        }
        let (metrics, warnings) = MetricsFile::open(folder, position.epoch, position.step)?;
        warnings.iter().for_each(|warning| ui.warn(warning));
        Ok(Self {
            folder,
            config: config.clone(),
            card,
            store,
            last: metrics.last_epoch(),
            metrics,
            best,
            best_if_saved: best,
            position,
            start,
            earlier_seconds: resumed.map_or(0.0, |state| state.seconds),
            last_save: Instant::now(),
            save_cost: Duration::ZERO,
            unsaved: None,
            ui,
        })
    }

    /// The position of the run that the next save writes.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Takes an event of the run: writes its line to the metrics, and saves at the end of an epoch if a checkpoint is
    /// due.
    pub fn take(&mut self, event: &Event, trainer: &Trainer) {
        if let Event::OutOfMemory { accumulate, .. } = event {
            self.config.settle_accumulate(*accumulate);
            self.card.batch_size = self.config.recipe.micro_batch_size();
            let written = self.folder.write_config(&self.config);
            self.warn_of(written);
        }
        if let Event::Epoch(figures) = event {
            self.position = Position { epoch: figures.epoch, step: figures.step, in_epoch: None };
        }
        // The line is written before the checkpoint. A resumed run can remove lines after its checkpoint, but it could
        // not add a missing line.
        self.record(event);
        if let Event::Epoch(figures) = event {
            self.end_epoch(figures, trainer);
        }
    }

    /// Adds a line to the metrics and to their table. If that fails, this warns, and the line is written with the next
    /// one.
    fn record(&mut self, event: &Event) {
        if let Err(error) = self.metrics.take(event) {
            self.ui.warn(format!("{}; the line is written with the next one", one_line(&error)));
        }
    }

    fn end_epoch(&mut self, figures: &EpochFigures, trainer: &Trainer) {
        let better = figures
            .validation_accuracy
            .filter(|accuracy| self.best.is_none_or(|best| *accuracy > best.validation_accuracy))
            .map(|validation_accuracy| Best { step: figures.step, validation_accuracy });
        self.best_if_saved = better.or(self.best);
        let (since, cadence) = (self.last_save.elapsed(), self.config.checkpoint_every);
        let gives_up = better.is_none() && self.is_out_of_patience();
        let is_last = gives_up || figures.epoch == self.config.recipe.epochs;
        let is_due = cadence.is_due_after_epoch(figures.epoch, figures.step, since, self.save_cost);
        if is_due || is_last || better.is_some() {
            self.save_or_warn(trainer, is_last);
        }
        self.last = Some(figures.clone());
    }

    /// Whether a checkpoint is due after a step of the run that does not end an epoch.
    pub fn is_due(&self, step: u64) -> bool {
        self.config.checkpoint_every.is_due_after_step(step, self.last_save.elapsed())
    }

    /// Saves the run in the middle of an epoch. If that fails, this warns. `is_last` means that no later checkpoint
    /// follows.
    pub fn save(&mut self, trainer: &Trainer, position: Position, is_last: bool) {
        self.position = position;
        self.best_if_saved = self.best;
        self.save_or_warn(trainer, is_last);
    }

    /// Saves a run before its first step, so that it can be resumed from there.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn save_start(&mut self, trainer: &Trainer) -> Result<()> {
        self.try_save(trainer)
    }

    /// Saves the run and records that it continues with other settings, so that a later resume uses these settings.
    pub fn resumed_with(&mut self, changes: &toml::Table, trainer: &Trainer) -> Event {
        self.save_or_warn(trainer, false);
        let Position { epoch, step, .. } = self.position;
        let event = Event::Resume { epoch, step, changes: changes.clone() };
        self.record(&event);
        event
    }

    /// Makes sure that the run is saved when it stops: in its folder, or else in the system's folder for temporary
    /// files.
    ///
    /// # Errors
    /// The run could not be saved in its folder. The message gives the reason and the folder that it is saved in.
    pub fn stop(&mut self, trainer: &Trainer) -> Result<()> {
        self.ensure_saved(trainer, false).map(drop)
    }

    /// Makes sure that a run that is over is saved with its end: in its folder, or else in the system's folder for
    /// temporary files. Returns the figures of the run.
    ///
    /// # Errors
    /// The run could not be saved in its folder. The message gives the reason and the folder that it is saved in.
    pub fn finish(&mut self, trainer: &Trainer) -> Result<EndFigures> {
        self.ensure_saved(trainer, true)
    }

    /// The best checkpoint on the held-out images, and the figures of its epoch.
    pub fn best(&self) -> Option<(Best, Option<EpochFigures>)> {
        self.best.map(|best| (best, self.metrics.epoch_of(best.step)))
    }

    /// Whether the accuracy on the held-out images has not risen for as many epochs as `--patience` allows.
    pub fn is_out_of_patience(&self) -> bool {
        let best = self.best().and_then(|(_, figures)| figures).map(|figures| figures.epoch);
        match (self.config.recipe.patience, best) {
            (Some(patience), Some(best)) => self.position.epoch >= best + patience,
            _ => false,
        }
    }

    /// Checks whether the losses of the last epoch show that the run has diverged.
    pub fn explosion(&self) -> Option<Explosion> {
        explosion(self.last.as_ref()?, self.config.spec.classes)
    }

    /// Seconds of the run so far, over all its parts.
    fn seconds(&self) -> f64 {
        self.earlier_seconds + self.start.elapsed().as_secs_f64()
    }

    /// The figures of the run with the checkpoints that exist now.
    fn end(&self) -> EndFigures {
        let last = self.last.as_ref();
        let test_accuracy = last.and_then(|last| last.test_accuracy);
        let (best_accuracy, best_test_accuracy) = match self.best() {
            Some((best, figures)) => {
                (Some(best.validation_accuracy), figures.and_then(|figures| figures.test_accuracy))
            }
            None => (test_accuracy, test_accuracy),
        };
        EndFigures {
            run_dir: self.folder.path().display().to_string(),
            epochs: self.position.epoch,
            test_accuracy,
            test_images: last.and_then(|last| last.test_images),
            best_accuracy,
            best_test_accuracy,
            diverged: self.explosion().is_some(),
            seconds: self.seconds(),
        }
    }

    fn ensure_saved(&mut self, trainer: &Trainer, is_over: bool) -> Result<EndFigures> {
        let reason = match self.save_here(trainer, is_over) {
            Ok(end) => return Ok(end),
            Err(reason) => reason,
        };
        let name = self.folder.path().file_name().unwrap_or_default().to_string_lossy();
        let rescue = || -> Result<_> {
            // If an error occurs before `keep`, the folder is removed again.
            let prefix = format!("resnet-{name}-");
            let folder = tempfile::Builder::new().prefix(&prefix).tempdir()?;
            self.save_to(folder.path(), trainer, is_over)?;
            Ok(folder.keep())
        };
        let run_dir = self.folder.path().display();
        Err(match rescue() {
            Ok(folder) => reason.context(format!(
                "the run's end could not be saved in {run_dir}, but it is in {} (continue with resnet train --resume {})",
                folder.display(),
                quoted(&folder)
            )),
            Err(_) => reason.context(format!(
                "the run's end could be saved neither in {run_dir} nor in {}",
                std::env::temp_dir().display()
            )),
        })
    }

    fn save_here(&mut self, trainer: &Trainer, is_over: bool) -> Result<EndFigures> {
        if self.unsaved.is_some() {
            self.try_save(trainer)?;
        }
        // The figures are computed after the last save, because they name the best checkpoint.
        let end = self.end();
        if is_over {
            self.record(&Event::End(end.clone()));
        }
        self.metrics.complete()?;
        let written = self.metrics.complete_table();
        self.warn_of(written);
        Ok(end)
    }

    /// Saves the run into another folder, where it has one checkpoint.
    fn save_to(&self, folder: &Path, trainer: &Trainer, is_over: bool) -> Result<()> {
        write_config(folder, &self.config)?;
        let state = State { best: None, ..self.state()? };
        let store = Store::open(folder, self.config.keep)?;
        store.save(trainer.result(), &trainer.save(), &self.card, &state)?;
        let end = self.end();
        let best_accuracy = self.last.as_ref().and_then(|last| last.validation_accuracy);
        let end = Event::End(EndFigures {
            run_dir: folder.display().to_string(),
            best_accuracy: best_accuracy.or(end.test_accuracy),
            best_test_accuracy: end.test_accuracy,
            ..end
        });
        self.metrics.copy_to(folder, is_over.then_some(&end))
    }

    fn state(&self) -> Result<State> {
        Ok(State {
            format: FORMAT,
            step: self.position.step,
            epoch: self.position.epoch,
            in_epoch: self.position.in_epoch,
            seed: self.config.recipe.seed,
            best: self.best_if_saved,
            versions: Versions::current(),
            seconds: self.seconds(),
            config: self.config.to_table(),
            derived: self.config.derived(),
        })
    }

    fn save_or_warn(&mut self, trainer: &Trainer, is_last: bool) {
        self.last_save = Instant::now();
        self.unsaved = self.try_save(trainer).err();
        self.save_cost = self.last_save.elapsed();
        if let Some(error) = &self.unsaved {
            let next = if is_last {
                "the program will try once more"
            } else {
                "the run goes on, and is saved when the next checkpoint is due"
            };
            self.ui.warn(format!("{}; {next}", one_line(error)));
        }
    }

    fn try_save(&mut self, trainer: &Trainer) -> Result<()> {
        self.folder.ensure()?;
        // If the folder was removed and made again, the best checkpoint is gone.
        let is_gone = |best: &Best| best.step != self.position.step && !self.store.has(best.step);
        self.best_if_saved = self.best_if_saved.filter(|best| !is_gone(best));
        if !self.folder.has_config() {
            self.folder.write_config(&self.config)?;
        }
        // The lines are written first, as in `take`. If that fails, the checkpoint is written anyway.
        let lines = self.metrics.complete();
        self.store.save(trainer.result(), &trainer.save(), &self.card, &self.state()?)?;
        self.best = self.best_if_saved;
        lines
    }

    fn warn_of(&self, done: Result<()>) {
        if let Err(error) = done {
            self.ui.warn(one_line(&error));
        }
    }
}
