//! What the commands that use a trained network do first: open the checkpoint, choose the device and the precision.

use crate::checkpoint::{self, Checkpoint};
use crate::cli::DeviceArgs;
use crate::data::catalog::{self, DatasetInfo};
use crate::data::preprocess::Preprocess;
use crate::device;
use crate::precision::{Precision, PrecisionChoice};
use crate::train::evaluate::{Evaluation, Evaluator};
use crate::ui::Ui;
use anyhow::{Result, anyhow};
use std::path::Path;
use tch::Device;

/// A checkpoint, and how its network is used.
pub struct Trained {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// The data set that its network was trained on.
    pub dataset: &'static DatasetInfo,
    /// The device that computes.
    pub device: Device,
    /// The floating-point format of the computation.
    pub precision: Precision,
}

impl Trained {
    /// Opens a run's best checkpoint, a checkpoint or a file of weights.
    ///
    /// # Errors
    /// It cannot be read, or the device or the precision is not possible.
    pub fn open(path: &Path, args: &DeviceArgs, choice: Option<PrecisionChoice>) -> Result<Self> {
        device::check_threads(args.threads)?;
        let checkpoint = checkpoint::open(&checkpoint::resolve(path)?)?;
        let device = device::choose(&args.device)?;
        device::set_threads(args.threads);
        let card = &checkpoint.card;
        let dataset = catalog::find(&card.dataset)
            .map_err(|error| anyhow!("{}: {error}", checkpoint.path.display()))?;
        let precision = match (choice, card.precision) {
            (Some(choice), _) => choice.resolve(device, card.spec.favours_fp32())?,
            (None, Precision::Tf32) if !device.is_cuda() => Precision::Fp32,
            (None, trained) => trained,
        };
        precision.apply();
        Ok(Self { checkpoint, dataset, device, precision })
    }

    /// Converts images into the input of the network, as in training.
    pub fn preprocess(&self) -> Preprocess {
        let card = &self.checkpoint.card;
        let options = (self.precision.kind(), self.device);
        Preprocess::new(&card.mean, &card.std, card.spec.size, options)
    }
}

/// Evaluates all images, with a progress bar.
///
/// # Errors
/// An operation of libtorch failed.
pub fn evaluate(mut evaluator: Evaluator, ui: &Ui) -> Result<Evaluation> {
    let mut progress = ui.steps_progress("evaluating", evaluator.count() as u64);
    while evaluator.advance()? {
        progress.set(evaluator.done() as u64);
    }
    progress.clear();
    evaluator.finish()
}
