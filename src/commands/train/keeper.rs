//! What is kept of a run while it trains: metrics and checkpoints. A disk that fails does not end the
//! run: it goes on, is saved when the next checkpoint is due, and in the end elsewhere if need be.

use super::display::Display;
use super::folder::{CONFIG_FILE, RunFolder};
use super::stop::Stop;
use crate::checkpoint::{Best, FORMAT, ModelCard, State, Store, Versions};
use crate::config::Config;
use crate::error::one_line;
use crate::files::write_atomically;
use crate::report::metrics::MetricsFile;
use crate::train::Trainer;
use crate::train::divergence::{Explosion, REMEDY, explosion};
use crate::train::epoch::EpochSums;
use crate::train::run::{EndRecord, EpochRecord, Observer, Position, Wish};
use crate::ui::{Ui, accuracy_text, counted, duration, quoted};
use anyhow::Result;
use std::path::Path;
use std::time::{Duration, Instant};

/// The observer of `resnet train`.
#[derive(Debug)]
pub struct Keeper<'a> {
    folder: &'a RunFolder,
    config: Config,
    card: ModelCard,
    store: Store,
    metrics: MetricsFile,
    /// The best checkpoint that is there, and the one that is the best once the run is saved.
    best: Option<Best>,
    best_if_saved: Option<Best>,
    last: Option<EpochRecord>,
    position: Position,
    /// When this part of the run began, and the seconds that the parts before it took.
    start: Instant,
    earlier_seconds: f64,
    last_save: Instant,
    /// What it took.
    save_cost: Duration,
    /// Why the last checkpoint that was due is not there.
    unsaved: Option<anyhow::Error>,
    stop: &'a Stop,
    display: Display,
    ui: Ui,
}

impl<'a> Keeper<'a> {
    /// A keeper of the run in `folder`, which stands where `resumed` says, if it goes on. This part of it
    /// began at `start`.
    ///
    /// # Errors
    /// A folder that cannot be written to.
    pub fn open(
        folder: &'a RunFolder,
        config: &'a Config,
        card: ModelCard,
        resumed: Option<&State>,
        stop: &'a Stop,
        start: Instant,
        ui: Ui,
    ) -> Result<Self> {
        let run_dir = folder.path();
        let position = resumed.map_or(Position::START, State::position);
        write_config(config, run_dir)?;
        let store = Store::open(run_dir, config.keep)?;
        let mut best = None;
        if let Some(state) = resumed {
            best = state.best.filter(|best| store.has(best.step));
            if best != state.best {
                ui.warn("the best checkpoint so far is gone; the best is chosen anew");
            }
            // Before metrics of later epochs are set aside, the last checkpoint must be this one.
            let aside = store.go_on_from(state.step, best)?;
            if !aside.is_empty() {
                let aside = aside.join(", ");
                ui.warn(format!(
                    "checkpoints of later steps, which are trained anew, are now {aside}"
                ));
            }
        }
        let (metrics, warnings) = MetricsFile::open(run_dir, position.epoch, position.step)?;
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
            stop,
            display: Display::new(config.recipe.epochs, ui),
            ui,
        })
    }

    /// Where the run stands.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Saves and records that the run goes on with other settings: whoever resumes it next goes on with
    /// these.
    pub fn resumed_with(&mut self, changes: &toml::Table, trainer: &Trainer) {
        self.save_or_warn(trainer);
        let record = serde_json::json!({
            "event": "resume",
            "epoch": self.position.epoch,
            "step": self.position.step,
            "changes": changes,
        });
        self.record(&record);
    }

    /// Seconds that the run took so far, over all its parts.
    pub fn seconds(&self) -> f64 {
        self.earlier_seconds + self.start.elapsed().as_secs_f64()
    }

    /// Test accuracy after the last epoch.
    pub fn last_test_accuracy(&self) -> Option<f64> {
        self.last.as_ref()?.test_accuracy
    }

    /// Accuracy of the best checkpoint; see [`EndRecord::best_accuracy`].
    fn best_accuracy(&self) -> Option<f64> {
        self.best.map(|best| best.validation_accuracy).or(self.last_test_accuracy())
    }

    /// Test accuracy of the best checkpoint, as it was measured after its epoch.
    fn best_test_accuracy(&self) -> Option<f64> {
        match self.best {
            Some(best) => self.metrics.epoch_of(best.step)?.test_accuracy,
            None => self.last_test_accuracy(),
        }
    }

    /// How many test images were evaluated, where a limit left some out.
    pub fn limited_test_images(&self) -> Option<usize> {
        self.last.as_ref()?.test_images
    }

    /// Whether the last epoch's losses are those of a run that has diverged.
    pub fn explosion(&self) -> Option<Explosion> {
        explosion(self.last.as_ref()?, self.config.spec.classes)
    }

    /// Shows the end of the run.
    pub fn show_end(&self, end: &EndRecord) {
        if self.ui.is_json() {
            self.ui.json(end);
        } else {
            if let Some(best) = self.best {
                let limited =
                    self.metrics.epoch_of(best.step).and_then(|epoch| epoch.validation_images);
                let validation = accuracy_text(best.validation_accuracy, limited);
                self.ui.out(format!("best validation accuracy {validation} at step {}", best.step));
                if let Some(accuracy) = end.best_test_accuracy {
                    let accuracy = accuracy_text(accuracy, end.test_images);
                    self.ui.out(format!("test accuracy {accuracy} at step {}", best.step));
                }
            }
            if let Some(accuracy) = end.test_accuracy {
                let accuracy = accuracy_text(accuracy, end.test_images);
                let epochs = counted(end.epochs, "epoch");
                self.ui.out(format!("test accuracy {accuracy} after {epochs}"));
            }
        }
        self.ui.say(format!("done in {}; the run is in {}", duration(end.seconds), end.run_dir));
        let run = quoted(self.folder.path());
        self.ui.say(format!("each class, and the confusion matrix: resnet eval {run}"));
        if self.best.is_some_and(|best| best.step != self.position.step) {
            self.ui.say(format!(
                "that is the best checkpoint; the last epoch's is {}/checkpoints/last",
                end.run_dir
            ));
        }
    }

    /// Takes the bar away, at the end of the run or of this part of it.
    pub fn clear(&mut self) {
        self.display.clear();
    }

    /// Makes sure, at the end, that the run is saved as it stands, and its end recorded, if it is over: in its
    /// folder, or else in another.
    ///
    /// # Errors
    /// The reason why it is not in its folder, and where it is.
    pub fn ensure_saved(
        &mut self,
        trainer: &Trainer,
        mut end: Option<&mut EndRecord>,
    ) -> Result<()> {
        let Err(reason) = self.save_here(trainer, end.as_deref_mut()) else { return Ok(()) };
        let name = self.folder.path().file_name().unwrap_or_default().to_string_lossy();
        let prefix = format!("resnet-{name}-");
        let home = etcetera::home_dir().ok();
        let mut folders = [Some(std::env::temp_dir()), home].into_iter().flatten();
        let rescued = folders.find_map(|folder| {
            // A folder that is not kept is removed again.
            let folder = tempfile::Builder::new().prefix(&prefix).tempdir_in(folder).ok()?;
            self.save_to(folder.path(), trainer, end.as_deref()).ok()?;
            Some(folder.keep())
        });
        let run_dir = self.folder.path().display();
        Err(match rescued {
            Some(folder) => reason.context(format!(
                "the run's end could not be saved in {run_dir}, but it is in {} (go on with resnet train --resume {})",
                folder.display(),
                quoted(&folder)
            )),
            None => reason.context(format!(
                "the run's end could be saved neither in {run_dir} nor in the temporary or the home folder"
            )),
        })
    }

    fn save_here(&mut self, trainer: &Trainer, end: Option<&mut EndRecord>) -> Result<()> {
        if self.unsaved.is_some() {
            self.try_save(trainer)?;
        }
        if let Some(end) = end {
            // Only now is it known which checkpoints there are.
            end.best_accuracy = self.best_accuracy();
            end.best_test_accuracy = self.best_test_accuracy();
            self.record(end);
        }
        self.metrics.complete()
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

    /// Saves a checkpoint; where that fails, warns, so that the run goes on.
    fn save_or_warn(&mut self, trainer: &Trainer) {
        self.last_save = Instant::now();
        self.unsaved = self.try_save(trainer).err();
        self.save_cost = self.last_save.elapsed();
        if let Some(error) = &self.unsaved {
            let over = self.position.epoch == self.config.recipe.epochs;
            let next = if over || self.stop.reason().is_some() {
                "one more try follows"
            } else {
                "the run goes on, and is saved when the next checkpoint is due"
            };
            self.ui.warn(format!("{}; {next}", one_line(error)));
        }
    }

    fn try_save(&mut self, trainer: &Trainer) -> Result<()> {
        self.folder.ensure()?;
        // It may have gone with a folder that was made anew.
        let gone = |best: &Best| best.step != self.position.step && !self.store.has(best.step);
        self.best_if_saved = self.best_if_saved.filter(|best| !gone(best));
        if !self.folder.path().join(CONFIG_FILE).exists() {
            write_config(&self.config, self.folder.path())?;
        }
        // The lines first, as in `epoch_ends`.
        let lines = self.metrics.complete();
        self.store.save(trainer.result(), &trainer.state(), &self.card, &self.state()?)?;
        self.best = self.best_if_saved;
        lines
    }

    fn save_to(&self, folder: &Path, trainer: &Trainer, end: Option<&EndRecord>) -> Result<()> {
        write_config(&self.config, folder)?;
        let state = State { best: None, ..self.state()? };
        let store = Store::open(folder, self.config.keep)?;
        store.save(trainer.result(), &trainer.state(), &self.card, &state)?;
        // The one checkpoint there is the best.
        let last = self.last.as_ref();
        let best_accuracy = last.and_then(|last| last.validation_accuracy.or(last.test_accuracy));
        let best_test_accuracy = last.and_then(|last| last.test_accuracy);
        let run_dir = folder.display().to_string();
        let end =
            end.map(|end| EndRecord { run_dir, best_accuracy, best_test_accuracy, ..end.clone() });
        self.metrics.copy_to(folder, end.as_ref())
    }

    /// Adds a line to the metrics; where that fails, warns, and the line is written with the next.
    pub fn record(&mut self, record: &impl serde::Serialize) {
        let mut write = || {
            self.metrics.add(record)?;
            self.folder.ensure()?;
            self.metrics.complete()
        };
        if let Err(error) = write() {
            self.ui.warn(format!("{}; the line is written with the next", one_line(&error)));
        }
    }
}

impl Observer for Keeper<'_> {
    fn epoch_begins(&mut self, epoch: u64, steps: usize) {
        self.display.epoch_begins(epoch, steps);
    }

    fn wish(&mut self, step: u64) -> Wish {
        if self.stop.reason().is_some() {
            Wish::Stop
        } else if self.config.checkpoint_every.is_due_after_step(step, self.last_save.elapsed()) {
            Wish::Save
        } else {
            Wish::GoOn
        }
    }

    fn breaks_off_evaluation(&self) -> bool {
        self.stop.is_signalled()
    }

    fn accumulates(&mut self, accumulate: usize, step: u64) {
        self.config.settle_accumulate(accumulate);
        let size = self.config.recipe.micro_batch_size();
        let parts = self.config.recipe.batch_size.div_ceil(size);
        self.card.batch_size = size;
        self.ui.warn(format!(
            "out of memory at step {step}: from here on a batch goes through the network in {parts} parts of {size} images, as with --accumulate {accumulate}; batch norm sees a part at a time"
        ));
        if let Err(error) = write_config(&self.config, self.folder.path()) {
            self.ui.warn(one_line(&error));
        }
        self.record(&serde_json::json!({
            "event": "out-of-memory",
            "epoch": self.position.epoch,
            "step": step,
            "accumulate": accumulate,
        }));
    }

    fn stops_replaying(&mut self, reason: &anyhow::Error) {
        self.ui.warn(format!(
            "{}; the run goes on without CUDA graphs, as with --cuda-graphs false",
            one_line(reason)
        ));
    }

    fn trained(&mut self, sums: &EpochSums) {
        self.display.trained(sums);
    }

    fn evaluated(&mut self, images: usize, of: usize) {
        self.display.evaluated(images, of);
    }

    fn save(&mut self, trainer: &Trainer, position: &Position) {
        self.position = *position;
        self.best_if_saved = self.best;
        self.save_or_warn(trainer);
    }

    fn epoch_ends(&mut self, trainer: &Trainer, record: &EpochRecord) {
        self.position = Position { epoch: record.epoch, step: record.step, in_epoch: None };
        let better = record
            .validation_accuracy
            .filter(|accuracy| self.best.is_none_or(|best| *accuracy > best.validation_accuracy))
            .map(|validation_accuracy| Best { step: record.step, validation_accuracy });
        self.best_if_saved = better.or(self.best);
        // The line first: a resumed run drops the lines after its checkpoint, but could not add one.
        self.record(record);
        let since = self.last_save.elapsed();
        let cadence = self.config.checkpoint_every;
        let due = cadence.is_due_after_epoch(record.epoch, record.step, since, self.save_cost)
            || record.epoch == self.config.recipe.epochs
            || better.is_some();
        if due {
            self.save_or_warn(trainer);
        }
        if self.ui.is_json() {
            self.ui.json(record);
        }
        self.display.epoch_ends(record);
        // What it says of the last epoch is the run's error.
        if record.epoch < self.config.recipe.epochs
            && let Some(explosion) = explosion(record, self.config.spec.classes)
        {
            self.ui
                .warn(format!("epoch {}: {explosion}: the run diverges; {REMEDY}", record.epoch));
        }
        self.last = Some(record.clone());
    }
}

fn write_config(config: &Config, run_dir: &Path) -> Result<()> {
    write_atomically(&run_dir.join(CONFIG_FILE), config.to_file()?.as_bytes())
}
