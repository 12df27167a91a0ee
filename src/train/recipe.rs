//! How a network is trained: every setting of training, its default and its allowed values.

use super::average::Averaging;
use super::milestones::Milestones;
use super::optimizer::Hyperparameters;
use super::rates::Rates;
use super::schedule::{Cuts, Schedule, ScheduleKind};
use super::sizes::Sizes;
use crate::data::augment::{Augment, Change};
use crate::error::{above_zero, at_least_one, in_range, usage};
use crate::model::Spec;
use anyhow::Result;
use clap::ValueEnum;
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
    /// Steps in which the learning rate rises to its peak; `None` for [`Self::warmup_epochs`].
    pub warmup_steps: Option<u64>,
    /// For [`ScheduleKind::Step`]: epochs between two cuts of the learning rate.
    pub step_every: f64,
    /// For [`ScheduleKind::Step`]: the points at which the learning rate is cut; `None` for [`Self::step_every`].
    pub milestones: Option<Milestones>,
    /// For [`ScheduleKind::Step`]: the factor by which each cut multiplies the learning rate.
    pub step_factor: f64,
    /// Settings of the optimizer.
    #[serde(flatten)]
    pub optimizer: OptimizerOptions,
    /// Factors of the learning rate by part of the network; `None` for one rate.
    pub rates: Option<Rates>,
    /// Sizes of the images in earlier parts of the run; `None` for one size.
    pub sizes: Option<Sizes>,
    /// Fraction of each target that is spread over all classes (Szegedy et al. 2016, section 7).
    pub label_smoothing: f64,
    /// Largest L2 norm of the gradient of all parameters together; `None` for no clipping.
    pub clip_grad_norm: Option<f64>,
    /// Fraction of the weights' exponential moving average (EMA) that each step keeps; `None` for no average.
    pub ema_decay: Option<f64>,
    /// Number of last epochs whose steps are averaged equally; `None` for no such average.
    pub swa_epochs: Option<f64>,
    /// Random changes to training images.
    pub augment: Augment,
    /// Number of epochs in which mixup and CutMix mix images; `None` for all epochs.
    pub mix_epochs: Option<u64>,
    /// Seed of all random numbers.
    pub seed: u64,
    /// Number of batches after which an epoch or an evaluation ends early, for short tests.
    pub limit_batches: Option<usize>,
    /// Number of epochs after which the run ends if the accuracy on the held-out images has not risen; `None` to train to
    /// the last epoch.
    pub patience: Option<u64>,
    /// Epochs from one evaluation to the next; the last epoch is always evaluated.
    pub eval_every: u64,
}

/// How gradients become updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
pub enum OptimizerKind {
    /// Stochastic gradient descent.
    #[serde(rename = "sgd")]
    #[value(name = "sgd")]
    Sgd,
    /// Adam with decoupled weight decay (Loshchilov and Hutter 2019).
    #[serde(rename = "adamw")]
    #[value(name = "adamw")]
    AdamW,
    /// SGD with a learning rate for each weight (You et al. 2017), for very large batches.
    #[serde(rename = "lars")]
    #[value(name = "lars")]
    Lars,
}

/// Settings of the optimizer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct OptimizerOptions {
    /// The optimizer.
    #[serde(rename = "optimizer")]
    pub kind: OptimizerKind,
    /// Fraction of the last update that is kept (Sutskever et al. 2013); 0 for plain SGD. β₁ of AdamW.
    pub momentum: f64,
    /// The momentum at the end of the run, if it changes.
    pub momentum_end: Option<f64>,
    /// β₂ of AdamW: the fraction of the mean of squares that each step keeps.
    pub beta2: f64,
    /// Whether the momentum is Nesterov's, in the form of `torch.optim.SGD`.
    pub nesterov: bool,
    /// This multiple of each weight is added to the weight's gradient.
    pub weight_decay: f64,
    /// The weight decay at the end of the run, if it changes.
    pub weight_decay_end: Option<f64>,
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
            warmup_steps: None,
            step_every: default_step_every(epochs),
            milestones: None,
            step_factor: 0.1,
            optimizer: OptimizerOptions::default(),
            rates: None,
            sizes: None,
            label_smoothing: 0.1,
            clip_grad_norm: None,
            ema_decay: None,
            swa_epochs: None,
            augment: Augment::from(&[Change::Flip][..]),
            mix_epochs: None,
            seed: 0,
            limit_batches: None,
            patience: None,
            eval_every: 1,
        }
    }
}

impl Default for OptimizerOptions {
    /// The defaults of `resnet train`.
    fn default() -> Self {
        let (kind, momentum) = (OptimizerKind::Sgd, 0.9);
        Self {
            kind,
            momentum,
            momentum_end: None,
            beta2: 0.999,
            nesterov: default_nesterov(kind, momentum),
            weight_decay: 5e-4,
            weight_decay_end: None,
            decay_all: false,
        }
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
        ScheduleKind::Cosine | ScheduleKind::Linear | ScheduleKind::Step => {
            0.5f64.min(epochs as f64 / 10.0)
        }
    }
}

/// The default of [`Recipe::step_every`]: a third of the run.
pub fn default_step_every(epochs: u64) -> f64 {
    epochs as f64 / 3.0
}

/// The default of [`OptimizerOptions::nesterov`]: true for SGD with momentum, because Nesterov momentum needs it.
pub fn default_nesterov(kind: OptimizerKind, momentum: f64) -> bool {
    kind == OptimizerKind::Sgd && momentum > 0.0
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
        self.optimizer.check()?;
        above_zero("--lr", self.lr)?;
        in_range("--label-smoothing", self.label_smoothing, 0.0..=1.0)?;
        above_zero("--step-every", self.step_every)?;
        in_range("--step-factor", self.step_factor, 0.0..=1.0)?;
        if let Some(norm) = self.clip_grad_norm {
            above_zero("--clip-grad-norm", norm)?;
        }
        self.check_averages()?;
        if let Some(limit) = self.limit_batches {
            at_least_one("--limit-batches", limit)?;
        }
        at_least_one("--eval-every", self.eval_every)?;
        if let Some(patience) = self.patience {
            at_least_one("--patience", patience)?;
        }
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
            warmup_steps: self.warmup_steps.unwrap_or_else(|| steps(self.warmup_epochs)),
            total_steps: self.epochs * steps_per_epoch as u64,
            cuts: match &self.milestones {
                Some(milestones) => Cuts::At(milestones.steps(steps_per_epoch)),
                None => Cuts::Every(steps(self.step_every)),
            },
            step_factor: self.step_factor,
        }
    }

    /// The network with the smallest images of the run.
    pub fn at_smallest_size(&self, spec: &Spec) -> Spec {
        let smallest = self.sizes.as_ref().and_then(Sizes::range).map(|(smallest, _)| smallest);
        Spec { size: smallest.unwrap_or(spec.size), ..spec.clone() }
    }

    fn check_averages(&self) -> Result<()> {
        if let Some(decay) = self.ema_decay
            && !(decay > 0.0 && decay < 1.0)
        {
            return Err(usage(format!(
                "--ema-decay {decay}: expected a number above 0 and below 1"
            )));
        }
        let Some(last) = self.swa_epochs else { return Ok(()) };
        above_zero("--swa-epochs", last)?;
        in_range("--swa-epochs", last, 0.0..=self.epochs as f64)?;
        if let Some(decay) = self.ema_decay {
            return Err(usage(format!(
                "--swa-epochs {last}: contradicts --ema-decay {decay}, because a run has one average; remove one of the two flags"
            )));
        }
        Ok(())
    }

    /// Refuses what is not possible with this network.
    ///
    /// # Errors
    /// A usage error that names the flag, its value and the values that are possible.
    pub fn check_network(&self, spec: &Spec) -> Result<()> {
        if let Some(rates) = &self.rates {
            rates.check(spec)?;
        }
        let smallest = self.at_smallest_size(spec);
        if let Some(sizes) = &self.sizes
            && let Some((_, largest)) = sizes.range()
        {
            if largest > spec.size {
                return Err(usage(format!(
                    "--sizes {sizes}: {largest} is larger than --size {}, which the last part of the run has; expected smaller images",
                    spec.size
                )));
            }
            smallest.check().map_err(|error| usage(format!("--sizes {sizes}: {error}")))?;
        }
        if self.micro_batch_size() < smallest.smallest_batch() {
            return Err(usage(format!(
                "--batch-size {}: batch norm needs more than one value per channel, but at --size {} the last stage is 1×1, so a micro-batch of one image has only one; expected micro-batches of at least 2 images, or a larger --size",
                self.batch_size, smallest.size
            )));
        }
        Ok(())
    }

    /// How the weights of the steps are averaged, in a run with `steps_per_epoch` optimizer steps in an epoch; `None` if
    /// they are not.
    pub fn averaging(&self, steps_per_epoch: usize) -> Option<Averaging> {
        let exponential = self.ema_decay.map(|decay| Averaging::Exponential { decay });
        let equal = self.swa_epochs.map(|last| {
            let first = (self.epochs as f64 - last) * steps_per_epoch as f64;
            Averaging::Equal { after: first.round() as u64 }
        });
        exponential.or(equal)
    }

    /// The optimizer's values in a step, counted from 0, of a run with this learning-rate schedule.
    pub fn hyperparameters(&self, schedule: &Schedule, step: u64) -> Hyperparameters {
        let progress = step as f64 / schedule.total_steps.saturating_sub(1).max(1) as f64;
        let between = |from: f64, to: Option<f64>| {
            to.map_or(from, |to| from + (to - from) * progress.min(1.0))
        };
        let optimizer = &self.optimizer;
        Hyperparameters {
            lr: schedule.lr(step),
            momentum: between(optimizer.momentum, optimizer.momentum_end),
            weight_decay: between(optimizer.weight_decay, optimizer.weight_decay_end),
        }
    }

    /// Whether only the learning rate differs from step to step, so that a recorded step can be replayed.
    pub fn repeats_steps(&self) -> bool {
        self.optimizer.momentum_end.is_none() && self.optimizer.weight_decay_end.is_none()
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

impl OptimizerOptions {
    fn check(&self) -> Result<()> {
        let momenta = [("--momentum", Some(self.momentum)), ("--momentum-end", self.momentum_end)];
        for (flag, momentum) in momenta {
            in_range(flag, momentum.unwrap_or_default(), 0.0..=1.0)?;
        }
        let decays = [
            ("--weight-decay", Some(self.weight_decay)),
            ("--weight-decay-end", self.weight_decay_end),
        ];
        for (flag, decay) in decays {
            in_range(flag, decay.unwrap_or_default(), 0.0..=1.0)?;
        }
        if let Some(end) = self.momentum_end
            && (self.momentum == 0.0 || end == 0.0)
        {
            return Err(usage(format!(
                "--momentum-end {end}: expected a number above 0, and --momentum above 0; found --momentum {}",
                self.momentum
            )));
        }
        if self.nesterov && self.momentum == 0.0 {
            return Err(usage("--nesterov true: needs --momentum above 0"));
        }
        if self.kind != OptimizerKind::AdamW {
            return Ok(());
        }
        if self.nesterov {
            return Err(usage(
                "--nesterov true: is not possible with --optimizer adamw; remove one of the two flags",
            ));
        }
        for (flag, beta) in momenta.into_iter().chain([("--beta2", Some(self.beta2))]) {
            if let Some(beta) = beta
                && !(0.0..1.0).contains(&beta)
            {
                return Err(usage(format!(
                    "{flag} {beta}: expected a number from 0 to below 1 with --optimizer adamw"
                )));
            }
        }
        Ok(())
    }
}
