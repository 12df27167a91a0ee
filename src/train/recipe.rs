//! How a network is trained: every setting of training, its default and its allowed values.

use super::schedule::{Schedule, ScheduleKind};
use crate::data::augment::{Augment, Change};
use crate::error::{above_zero, at_least_one, in_range, usage};
use anyhow::Result;
use serde::{Deserialize, Serialize};

/// All settings that decide the result of a training run, except the network and the data.
///
/// Each field has the name of its flag and of its key in a config file. A field that is missing in a config file has
/// its default value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Recipe {
    /// Number of passes over the training images.
    pub epochs: u64,
    /// Images in an optimizer step.
    pub batch_size: usize,
    /// Micro-batches in an optimizer step; they are computed one after another.
    pub accumulate: usize,
    /// Whether the activations inside each block are computed again in the backward pass. This saves memory
    /// and does not change the result.
    pub recompute: bool,
    /// Whether a CUDA device records a step as a graph and replays it. The computation is the same, but the fastest
    /// algorithms may be other ones, so that bits can differ.
    pub cuda_graphs: bool,
    /// Peak learning rate.
    pub lr: f64,
    /// Kind of learning-rate schedule.
    #[serde(rename = "schedule")]
    pub schedule_kind: ScheduleKind,
    /// Epochs in which the learning rate rises to its peak.
    pub warmup_epochs: f64,
    /// For [`ScheduleKind::Step`]: epochs between two cuts of the learning rate.
    pub step_every: f64,
    /// For [`ScheduleKind::Step`]: the factor by which each cut multiplies the learning rate.
    pub step_factor: f64,
    /// Settings of the optimizer.
    #[serde(flatten)]
    pub sgd: SgdOptions,
    /// Fraction of each target that is spread over all classes (Szegedy et al. 2016, section 7).
    pub label_smoothing: f64,
    /// Largest L2 norm of the gradient of all parameters together; `None` for no clipping.
    pub clip_grad_norm: Option<f64>,
    /// Fraction of the weights' exponential moving average (EMA) that each step keeps; `None` for no average.
    pub ema_decay: Option<f64>,
    /// Random changes to training images.
    pub augment: Augment,
    /// Number of epochs in which mixup and CutMix mix images; `None` for all epochs.
    pub mix_epochs: Option<u64>,
    /// Seed of all random numbers.
    pub seed: u64,
    /// Number of batches after which an epoch or an evaluation ends early, for short tests.
    pub limit_batches: Option<usize>,
    /// Epochs from one evaluation to the next; the last epoch is always evaluated.
    pub eval_every: u64,
}

/// Settings of SGD that stay the same over a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct SgdOptions {
    /// Fraction of the last update that is kept (Sutskever et al. 2013); 0 for plain SGD.
    pub momentum: f64,
    /// Whether the momentum is Nesterov's, in the form of `torch.optim.SGD`.
    pub nesterov: bool,
    /// This multiple of each weight is added to the weight's gradient.
    pub weight_decay: f64,
    /// Whether weight decay also applies to biases and to batch norm's scales and shifts.
    pub decay_all: bool,
}

impl Default for Recipe {
    /// The defaults of `resnet train` for Fashion-MNIST.
    fn default() -> Self {
        let (epochs, schedule_kind) = (10, ScheduleKind::Cosine);
        Self {
            epochs,
            batch_size: 256,
            accumulate: 1,
            recompute: false,
            cuda_graphs: true,
            lr: 0.05,
            schedule_kind,
            warmup_epochs: default_warmup(schedule_kind, epochs),
            step_every: default_step_every(epochs),
            step_factor: 0.1,
            sgd: SgdOptions::default(),
            label_smoothing: 0.1,
            clip_grad_norm: None,
            ema_decay: None,
            augment: Augment::from([Change::Flip, Change::Crop]),
            mix_epochs: None,
            seed: 0,
            limit_batches: None,
            eval_every: 1,
        }
    }
}

impl Default for SgdOptions {
    /// The defaults of `resnet train`.
    fn default() -> Self {
        let momentum = 0.9;
        let nesterov = default_nesterov(momentum);
        Self { momentum, nesterov, weight_decay: 5e-4, decay_all: false }
    }
}

/// The largest micro-batch of a batch that is computed in `accumulate` micro-batches, in images.
pub fn micro_batch_size(batch_size: usize, accumulate: usize) -> usize {
    batch_size.div_ceil(accumulate)
}

/// The default of [`Recipe::warmup_epochs`]. It depends on the schedule and the number of epochs.
pub fn default_warmup(schedule: ScheduleKind, epochs: u64) -> f64 {
    match schedule {
        ScheduleKind::Constant | ScheduleKind::OneCycle => 0.0,
        // A run of one epoch still needs the peak learning rate for most of the epoch.
        ScheduleKind::Cosine | ScheduleKind::Step => 0.5f64.min(epochs as f64 / 10.0),
    }
}

/// The default of [`Recipe::step_every`]: a third of the run.
pub fn default_step_every(epochs: u64) -> f64 {
    epochs as f64 / 3.0
}

/// The default of [`SgdOptions::nesterov`]: true if there is momentum, because Nesterov momentum needs it.
pub fn default_nesterov(momentum: f64) -> bool {
    momentum > 0.0
}

/// The largest number of epochs. No run needs that many epochs. The limit keeps the number of steps within 64 bits.
const MAX_EPOCHS: u64 = 1_000_000;

impl Recipe {
    /// Refuses values that are not possible for a run on `images` training images.
    ///
    /// # Errors
    /// A usage error that names the flag, its value and the values that are possible.
    pub fn check(&self, images: usize) -> Result<()> {
        let Self { epochs, batch_size, accumulate, .. } = *self;
        in_range("--epochs", epochs, 1..=MAX_EPOCHS)?;
        if !(1..=images).contains(&batch_size) {
            return Err(usage(format!(
                "--batch-size {batch_size}: expected a number from 1 to the {images} training images"
            )));
        }
        if !(1..=batch_size).contains(&accumulate) {
            return Err(usage(format!(
                "--accumulate {accumulate}: expected a number from 1 to the batch size {batch_size}"
            )));
        }
        in_range("--warmup-epochs", self.warmup_epochs, 0.0..=epochs as f64)?;
        self.sgd.check_momentum()?;
        above_zero("--lr", self.lr)?;
        in_range("--weight-decay", self.sgd.weight_decay, 0.0..=1.0)?;
        in_range("--label-smoothing", self.label_smoothing, 0.0..=1.0)?;
        above_zero("--step-every", self.step_every)?;
        in_range("--step-factor", self.step_factor, 0.0..=1.0)?;
        if let Some(norm) = self.clip_grad_norm {
            above_zero("--clip-grad-norm", norm)?;
        }
        if let Some(decay) = self.ema_decay
            && !(decay > 0.0 && decay < 1.0)
        {
            return Err(usage(format!(
                "--ema-decay {decay}: expected a number above 0 and below 1"
            )));
        }
        if let Some(limit) = self.limit_batches {
            at_least_one("--limit-batches", limit)?;
        }
        at_least_one("--eval-every", self.eval_every)?;
        if let Some(epochs) = self.mix_epochs {
            at_least_one("--mix-epochs", epochs)?;
        }
        Ok(())
    }

    /// The learning-rate schedule of a run with `steps_per_epoch` optimizer steps in an epoch.
    pub fn schedule(&self, steps_per_epoch: usize) -> Schedule {
        let steps = |epochs: f64| (epochs * steps_per_epoch as f64).round() as u64;
        Schedule {
            kind: self.schedule_kind,
            peak: self.lr,
            warmup_steps: steps(self.warmup_epochs),
            total_steps: self.epochs * steps_per_epoch as u64,
            step_every: steps(self.step_every),
            step_factor: self.step_factor,
        }
    }

    /// Number of images in a micro-batch; the last one of a step may have fewer.
    pub fn micro_batch_size(&self) -> usize {
        micro_batch_size(self.batch_size, self.accumulate)
    }

    /// Whether an epoch, counted from 1, ends with an evaluation.
    pub fn evaluates(&self, epoch: u64) -> bool {
        epoch.is_multiple_of(self.eval_every) || epoch == self.epochs
    }
}

impl SgdOptions {
    fn check_momentum(&self) -> Result<()> {
        in_range("--momentum", self.momentum, 0.0..=1.0)?;
        if self.nesterov && self.momentum == 0.0 {
            return Err(usage("--nesterov true: needs --momentum above 0"));
        }
        Ok(())
    }
}
