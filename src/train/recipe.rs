//! How a network is trained, as data.

use super::schedule::{Schedule, ScheduleKind};
use crate::data::augment::Augment;

/// Everything that decides what a training run computes, but for the network and the data.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// Passes over the training images.
    pub epochs: u64,
    /// Images in an optimizer step.
    pub batch_size: usize,
    /// Micro-batches that an optimizer step is computed in, one after the other.
    pub accumulate: usize,
    /// Whether activations inside of a block are computed again in the backward pass, which saves memory
    /// and changes no result.
    pub recompute: bool,
    /// Whether a CUDA device replays a recorded step, which is the same computation.
    pub cuda_graphs: bool,
    /// Peak learning rate.
    pub lr: f64,
    /// The learning rate's course over the run.
    pub schedule_kind: ScheduleKind,
    /// Epochs over which the learning rate first rises.
    pub warmup_epochs: f64,
    /// For [`ScheduleKind::Step`]: epochs from one cut to the next.
    pub step_every: f64,
    /// For [`ScheduleKind::Step`]: the factor of each cut.
    pub step_factor: f64,
    /// Momentum and weight decay.
    pub sgd: SgdOptions,
    /// Fraction of the target that is spread over all classes (Szegedy et al. 2016, section 7).
    pub label_smoothing: f64,
    /// Largest norm of the gradient over all parameters together.
    pub clip_grad_norm: Option<f64>,
    /// Fraction of itself that the average of the weights keeps at a step, where one is taken.
    pub ema_decay: Option<f64>,
    /// Random changes to training images.
    pub augment: Augment,
    /// Seed of every draw.
    pub seed: u64,
    /// Batches after which an epoch or an evaluation ends early, for trials.
    pub limit_batches: Option<usize>,
    /// Epochs from one evaluation to the next; the last epoch is always evaluated.
    pub eval_every: u64,
}

/// What stays the same of the optimizer over a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SgdOptions {
    /// Fraction of the last update that is kept (Sutskever et al. 2013); 0 for plain SGD.
    pub momentum: f64,
    /// Whether the gradient is taken ahead along the momentum.
    pub nesterov: bool,
    /// Multiple of a weight that is added to its gradient.
    pub weight_decay: f64,
    /// Whether biases and batch norm's scales and shifts decay too.
    pub decay_all: bool,
}

impl Recipe {
    /// The learning-rate schedule for a run of `steps_per_epoch` optimizer steps an epoch.
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

    /// Images that go through the network at once in training.
    pub fn micro_batch_size(&self) -> usize {
        self.batch_size.div_ceil(self.accumulate)
    }

    /// Whether an epoch, counted from 1, ends with an evaluation.
    pub fn evaluates(&self, epoch: u64) -> bool {
        epoch.is_multiple_of(self.eval_every) || epoch == self.epochs
    }
}
