//! A run: epochs of training and the evaluations between them.

use super::evaluate::{Evaluation, evaluate};
use super::trainer::{Progress, Trainer};
use crate::data::batches::DeviceImages;
use anyhow::Result;
use serde::Serialize;

/// The figures of an epoch, as they stand in `metrics.jsonl` and on stdout with `--json`.
#[derive(Debug, Clone, PartialEq, Serialize, serde::Deserialize)]
pub struct EpochRecord {
    /// Always `epoch`.
    pub event: String,
    /// Counted from 1.
    pub epoch: u64,
    /// Optimizer steps since the start of the run.
    pub step: u64,
    /// Learning rate of the epoch's last step.
    pub lr: f64,
    /// Mean training loss of an image in nats, with label smoothing.
    pub train_loss: f64,
    /// Fraction of training images classified right, each before its step.
    pub train_accuracy: f64,
    /// Mean test loss in nats; none where the epoch was not evaluated.
    pub test_loss: Option<f64>,
    /// Fraction of test images classified right.
    pub test_accuracy: Option<f64>,
    /// Mean loss over the held-out images, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_loss: Option<f64>,
    /// Fraction of the held-out images classified right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_accuracy: Option<f64>,
    /// Training images a second.
    pub images_per_second: f64,
    /// Seconds of training, without evaluation.
    pub seconds: f64,
}

/// The end of a run, as it stands in `metrics.jsonl` and on stdout with `--json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EndRecord {
    /// Always `end`.
    pub event: &'static str,
    /// The run's folder.
    pub run_dir: String,
    /// Epochs trained.
    pub epochs: u64,
    /// Fraction of test images classified right after the last epoch.
    pub test_accuracy: Option<f64>,
    /// Accuracy of `checkpoints/best`: the highest on the held-out images with `--validation`; the
    /// last epoch's on the test images without, since those choose nothing.
    pub best_accuracy: Option<f64>,
    /// Seconds of the run, with evaluations and checkpoints.
    pub seconds: f64,
}

/// Who is told how a run goes, and keeps what it leaves behind.
pub trait Observer {
    /// An epoch, counted from 1, begins.
    fn epoch_begins(&mut self, epoch: u64, steps: usize);
    /// Some steps of the epoch are done.
    fn trained(&mut self, progress: &Progress);
    /// Some of the images are evaluated.
    fn evaluated(&mut self, images: usize, of: usize);
    /// An epoch is over.
    ///
    /// # Errors
    /// What could not be kept; ends the run.
    fn epoch_ends(&mut self, trainer: &Trainer, record: &EpochRecord) -> Result<()>;
}

/// The images that a run is measured on.
#[derive(Debug)]
pub struct EvalSets<'a> {
    /// The test images; they choose nothing.
    pub test: &'a DeviceImages,
    /// Training images that were held out, if any.
    pub validation: Option<&'a DeviceImages>,
}

/// Trains from the epoch after `done` to the recipe's last.
///
/// # Errors
/// Divergence, or what the observer could not keep.
pub fn run(
    trainer: &mut Trainer,
    sets: &EvalSets,
    done: u64,
    observer: &mut dyn Observer,
) -> Result<()> {
    for epoch in done + 1..=trainer.recipe().epochs {
        let steps = trainer.steps_per_epoch();
        observer.epoch_begins(epoch, steps);
        let trained = trainer.epoch(epoch, &mut |progress| observer.trained(progress))?;
        let mut look = |images: Option<&DeviceImages>| -> Result<Option<Evaluation>> {
            match images {
                Some(images) if trainer.recipe().evaluates(epoch) => {
                    let mut told = |done| observer.evaluated(done, images.len());
                    Ok(Some(evaluate(
                        trainer.network(),
                        images,
                        trainer.preprocess(),
                        trainer.recipe().batch_size,
                        trainer.recipe().limit_batches,
                        &mut told,
                    )?))
                }
                _ => Ok(None),
            }
        };
        let validation = look(sets.validation)?;
        let test = look(Some(sets.test))?;
        let losses = [&validation, &test].into_iter().flatten().map(|evaluation| evaluation.loss);
        trainer.check_finite(epoch, losses)?;
        let record = EpochRecord {
            event: "epoch".to_owned(),
            epoch,
            step: epoch * steps as u64,
            lr: trained.lr,
            train_loss: trained.loss,
            train_accuracy: trained.accuracy,
            test_loss: test.as_ref().map(|test| test.loss),
            test_accuracy: test.as_ref().map(Evaluation::accuracy),
            validation_loss: validation.as_ref().map(|validation| validation.loss),
            validation_accuracy: validation.as_ref().map(Evaluation::accuracy),
            images_per_second: trained.images_per_second,
            seconds: trained.seconds,
        };
        observer.epoch_ends(trainer, &record)?;
    }
    Ok(())
}
