//! A run: epochs of training and the evaluations between them.

use super::epoch::{Epoch, EpochSums};
use super::evaluate::{Evaluation, evaluate};
use super::trainer::Trainer;
use crate::data::batches::DeviceImages;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// The figures of an epoch, as they stand in `metrics.jsonl` and on stdout with `--json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// How many test images these two figures are of, where a limit left some out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_images: Option<usize>,
    /// Mean loss over the held-out images, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_loss: Option<f64>,
    /// Fraction of the held-out images classified right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_accuracy: Option<f64>,
    /// How many held-out images these two figures are of, where a limit left some out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_images: Option<usize>,
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
    /// How many test images the accuracies on them are of, where a limit left some out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_images: Option<usize>,
    /// Accuracy of `checkpoints/best`: the highest on the held-out images with `--validation`; the
    /// last epoch's on the test images without, since those choose nothing.
    pub best_accuracy: Option<f64>,
    /// Fraction of test images that `checkpoints/best` classifies right.
    pub best_test_accuracy: Option<f64>,
    /// Whether the last epoch's losses are beyond those of a guess; see
    /// [`explosion`](super::divergence::explosion).
    pub diverged: bool,
    /// Seconds of the run over all its parts, with evaluations and checkpoints.
    pub seconds: f64,
}

/// Where a run stands between two steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Position {
    /// Epochs that are over.
    pub epoch: u64,
    /// Optimizer steps since the run's start.
    pub step: u64,
    /// The steps of an epoch that is not over.
    pub in_epoch: Option<EpochSums>,
}

impl Position {
    /// Before the first step.
    pub const START: Self = Self { epoch: 0, step: 0, in_epoch: None };
}

/// What an observer wishes after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// The next step.
    GoOn,
    /// To save first.
    Save,
    /// To save, and to end the run here.
    Stop,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All epochs are done.
    Done,
    /// The observer wished so; the run is saved.
    Stopped,
}

/// Who is told how a run goes, keeps what it leaves behind, and may stop it.
pub trait Observer {
    /// An epoch, counted from 1, begins or goes on after some of its `steps`.
    fn epoch_begins(&mut self, epoch: u64, steps: usize);
    /// A step is done: `step` of the run.
    fn wish(&mut self, step: u64) -> Wish;
    /// Whether to give up an evaluation under way, and with it the run. A limit of time is no reason:
    /// a run whose parts are shorter than an evaluation would never get past it.
    fn breaks_off_evaluation(&self) -> bool;
    /// The device ran out of memory, and `step`, which is done now, was taken in so many micro-batches,
    /// as all later ones are.
    fn accumulates(&mut self, accumulate: usize, step: u64);
    /// Steps are computed one by one from here on, since none could be recorded, or its memory was needed.
    fn stops_replaying(&mut self, reason: &anyhow::Error);
    /// What the epoch's steps so far came to.
    fn trained(&mut self, sums: &EpochSums);
    /// Some of the images are evaluated.
    fn evaluated(&mut self, images: usize, of: usize);
    /// It is time to save, in the middle of an epoch.
    fn save(&mut self, trainer: &Trainer, position: &Position);
    /// An epoch is over.
    fn epoch_ends(&mut self, trainer: &Trainer, record: &EpochRecord);
}

/// The images that a run is measured on.
#[derive(Debug)]
pub struct EvalSets<'a> {
    /// The test images; they choose nothing.
    pub test: &'a DeviceImages,
    /// Training images that were held out, if any.
    pub validation: Option<&'a DeviceImages>,
}

/// Trains from where the run stands to the recipe's last epoch.
///
/// # Errors
/// Divergence, or what libtorch could not do.
pub fn run(
    trainer: &mut Trainer,
    sets: &EvalSets,
    from: &Position,
    observer: &mut dyn Observer,
) -> Result<Outcome> {
    let mut sums = from.in_epoch.unwrap_or_default();
    for number in from.epoch + 1..=trainer.recipe().epochs {
        let mut epoch = trainer.epoch(number, std::mem::take(&mut sums));
        observer.epoch_begins(number, trainer.steps_per_epoch());
        let over = train_epoch(trainer, &mut epoch, observer)?;
        let measured = if over { measure(trainer, sets, &epoch, observer)? } else { None };
        let Some([validation, test]) = measured else {
            save(trainer, &mut epoch, observer)?;
            return Ok(Outcome::Stopped);
        };
        let losses = [&validation, &test].into_iter().flatten().map(|evaluation| evaluation.loss);
        trainer.check_finite(&epoch, losses)?;
        let trained = epoch.sums();
        let limited = |evaluation: &Option<Evaluation>, of: Option<&DeviceImages>| {
            let images = evaluation.as_ref()?.images;
            (images < of?.len()).then_some(images)
        };
        let record = EpochRecord {
            event: "epoch".to_owned(),
            epoch: number,
            step: epoch.step(),
            lr: trainer.lr(&epoch),
            train_loss: trained.mean_loss(),
            train_accuracy: trained.accuracy(),
            test_loss: test.as_ref().map(|test| test.loss),
            test_accuracy: test.as_ref().map(Evaluation::accuracy),
            test_images: limited(&test, Some(sets.test)),
            validation_loss: validation.as_ref().map(|validation| validation.loss),
            validation_accuracy: validation.as_ref().map(Evaluation::accuracy),
            validation_images: limited(&validation, sets.validation),
            images_per_second: trained.images_per_second(),
            seconds: trained.seconds,
        };
        observer.epoch_ends(trainer, &record);
    }
    Ok(Outcome::Done)
}

/// Takes the epoch's steps; false where the observer stopped it.
fn train_epoch(
    trainer: &mut Trainer,
    epoch: &mut Epoch,
    observer: &mut dyn Observer,
) -> Result<bool> {
    while !epoch.is_over() {
        let accumulate = trainer.accumulate();
        trainer.step(epoch)?;
        if trainer.accumulate() != accumulate {
            observer.accumulates(trainer.accumulate(), epoch.step());
        }
        if let Some(reason) = trainer.take_replay_problem() {
            observer.stops_replaying(&reason);
        }
        let wish = observer.wish(epoch.step());
        if wish != Wish::GoOn || epoch.look_is_due() {
            trainer.look(epoch)?;
            observer.trained(epoch.sums());
        }
        match wish {
            Wish::Stop => return Ok(false),
            // At the epoch's end its figures are to be known first.
            Wish::Save if !epoch.is_over() => save(trainer, epoch, observer)?,
            Wish::Save | Wish::GoOn => {}
        }
    }
    Ok(true)
}

/// Evaluates on the held-out and the test images, if it is time to; none where the observer stopped
/// it.
fn measure(
    trainer: &Trainer,
    sets: &EvalSets,
    epoch: &Epoch,
    observer: &mut dyn Observer,
) -> Result<Option<[Option<Evaluation>; 2]>> {
    let recipe = trainer.recipe();
    let mut evaluations = [None, None];
    if recipe.evaluates(epoch.number()) {
        for (images, evaluation) in
            [sets.validation, Some(sets.test)].into_iter().zip(&mut evaluations)
        {
            let Some(images) = images else { continue };
            let mut goes_on = |done| {
                observer.evaluated(done, images.len());
                !observer.breaks_off_evaluation()
            };
            *evaluation = evaluate(
                trainer.result(),
                images,
                trainer.preprocess(),
                // What fits in training fits here, or beside a recorded step in smaller parts.
                trainer.micro_batch_size(),
                recipe.limit_batches.map(|limit| limit.saturating_mul(recipe.micro_batch_size())),
                &mut goes_on,
            )?;
            if evaluation.is_none() {
                return Ok(None);
            }
        }
    }
    Ok(Some(evaluations))
}

/// Has the run saved as it stands in the middle of an epoch.
fn save(trainer: &Trainer, epoch: &mut Epoch, observer: &mut dyn Observer) -> Result<()> {
    let start = Instant::now();
    trainer.check_finite(epoch, std::iter::empty())?;
    let position =
        Position { epoch: epoch.number() - 1, step: epoch.step(), in_epoch: Some(*epoch.sums()) };
    observer.save(trainer, &position);
    epoch.leave_out(start.elapsed());
    Ok(())
}
