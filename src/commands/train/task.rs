//! Decides what to train and where to start: everything that can be decided before data is read.

use crate::checkpoint::{self, State};
use crate::cli::TrainArgs;
use crate::config::Config;
use crate::device;
use crate::error::{one_line, usage};
use crate::libtorch;
use crate::limits;
use crate::precision::{Precision, PrecisionChoice};
use crate::run::RunFolder;
use crate::run::metrics::has_end;
use crate::train::memory;
use crate::ui::{Ui, counted};
use anyhow::Result;
use std::path::{Path, PathBuf};
use tch::Device;
use toml::Table;

/// A run that is about to begin or to continue.
pub struct Task {
    pub config: Config,
    pub folder: RunFolder,
    pub resumed: Option<Resumed>,
}

/// The checkpoint that a run continues from.
pub struct Resumed {
    pub checkpoint: PathBuf,
    pub state: State,
    /// Settings that differ from here on: `section.key` = [old value, new value].
    pub changes: Table,
}

impl Task {
    /// Makes the plan from the command line, and claims the run's folder.
    ///
    /// # Errors
    /// A setting, the folder or the checkpoint is wrong.
    pub fn new(args: &TrainArgs) -> Result<Self> {
        match &args.resume {
            Some(path) => Self::resume(path, args),
            None => Self::begin(args),
        }
    }

    fn begin(args: &TrainArgs) -> Result<Self> {
        let config = Config::load(args.config.as_deref(), &args.options)?;
        let folder = RunFolder::begin(args.run_dir.as_deref(), &config.spec)?;
        Ok(Self { config, folder, resumed: None })
    }

    fn resume(path: &Path, args: &TrainArgs) -> Result<Self> {
        let run_dir = checkpoint::run_of(path)?;
        let folder = RunFolder::reopen(&run_dir)?;
        checkpoint::remove_leftovers(&run_dir)?;
        let checkpoint = checkpoint::resume_point(path, &run_dir)?;
        checkpoint::verify_to_resume(&checkpoint)?;
        let state = State::read(&checkpoint)?;
        let (config, changes) = Config::resume(&state.config, &state.derived, &args.options)?;
        if changes.is_empty()
            && let Some(patience) = config.recipe.patience
            && has_end(&run_dir)?
        {
            return Err(usage(format!(
                "--resume {}: the run is over, by --patience {patience} or by its last epoch; give a larger --patience or more --epochs to continue",
                run_dir.display()
            )));
        }
        // A run that was killed after its last checkpoint may lack the last line of its metrics. It still gets that
        // line.
        let only_lacks_its_end = changes.is_empty() && !has_end(&run_dir)?;
        if config.recipe.epochs < state.epoch + u64::from(state.in_epoch.is_some())
            || config.recipe.epochs == state.epoch && !only_lacks_its_end
        {
            return Err(usage(format!(
                "--resume {}: the run has done {} of {}; give --epochs with a larger number to continue",
                run_dir.display(),
                state.epoch,
                counted(config.recipe.epochs, "epoch")
            )));
        }
        Ok(Self { config, folder, resumed: Some(Resumed { checkpoint, state, changes }) })
    }

    /// The saved state of a resumed run.
    pub fn state(&self) -> Option<&State> {
        self.resumed.as_ref().map(|resumed| &resumed.state)
    }

    /// The settings that change, if any do.
    pub fn changes(&self) -> Option<&Table> {
        self.resumed.as_ref().map(|resumed| &resumed.changes).filter(|changes| !changes.is_empty())
    }

    /// Chooses the device, its threads and the precision.
    ///
    /// # Errors
    /// The device is not usable, or does not support the precision.
    pub fn prepare_device(&mut self, ui: &Ui) -> Result<(Device, Precision)> {
        let device = device::choose(&self.config.device)?;
        if self.resumed.is_some()
            && self.config.precision == PrecisionChoice::Tf32
            && !device.is_cuda()
        {
            ui.warn(
                "--precision tf32: this device does not support it; the run continues with fp32",
            );
            self.config.precision = PrecisionChoice::Fp32;
        }
        let precision = prepare(&mut self.config, device, ui)?;
        Ok((device, precision))
    }

    /// Refuses a run that the system would kill because it needs too much memory. For a resumed run this is only a
    /// warning: its batch cannot change, and it did fit before.
    ///
    /// # Errors
    /// A usage error that says what fits.
    pub fn check_memory(&self, precision: Precision, device: Device, ui: &Ui) -> Result<()> {
        match shortage(&self.config, precision, device) {
            Some(shortage) if self.resumed.is_none() => return Err(usage(shortage)),
            Some(shortage) => ui.warn(shortage),
            None => {}
        }
        precision.slow_warning(device).iter().for_each(|warning| ui.warn(warning));
        Ok(())
    }
}

/// Sets the process up to compute with these settings. Returns the precision.
///
/// # Errors
/// The device does not support the precision.
pub fn prepare(config: &mut Config, device: Device, ui: &Ui) -> Result<Precision> {
    let precision = config.settle_precision(device)?;
    precision.apply();
    if let Err(problem) = config.cuda_tuning.apply(device) {
        ui.warn(format!("{}; libtorch's are used", one_line(&problem)));
    }
    if device.is_cuda() {
        libtorch::set_deterministic(config.deterministic);
    }
    device::set_threads(config.threads);
    Ok(precision)
}

/// A message that says what fits, if a step needs more memory than is free. Only a CPU's memory is known.
pub fn shortage(config: &Config, precision: Precision, device: Device) -> Option<String> {
    let free = limits::free_memory().filter(|_| device == Device::Cpu)?;
    memory::run_shortage(&config.spec, &config.recipe, precision, free)
}
