//! An epoch under way, and what its steps came to.

use super::recipe::Recipe;
use crate::data::augment::Draws;
use crate::data::batches::{DeviceImages, epoch_order};
use crate::data::range_of;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::time::{Duration, Instant};
use tch::{Device, Kind, Tensor};

/// What the steps of an epoch that are done came to. With the weights and the optimizer, it is all
/// that a run needs to go on in the middle of an epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochSums {
    /// Optimizer steps.
    pub steps: usize,
    /// Training images in them.
    pub images: usize,
    /// Sum of their losses in nats, with label smoothing.
    pub loss: f64,
    /// Images that were classified right, each before its step.
    pub correct: i64,
    /// Seconds that the steps took.
    pub seconds: f64,
}

impl EpochSums {
    /// Mean loss of an image.
    pub fn mean_loss(&self) -> f64 {
        self.loss / self.images as f64
    }

    /// Fraction of the images that were classified right.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.images as f64
    }

    /// Images a second.
    pub fn images_per_second(&self) -> f64 {
        self.images as f64 / self.seconds
    }
}

/// What a step of training came to, on its device.
#[derive(Debug)]
pub struct StepOutcome {
    /// The mean loss of its images.
    pub loss: Tensor,
    /// How many of them were classified right.
    pub correct: Tensor,
}

/// An epoch under way.
#[derive(Debug)]
pub struct Epoch {
    /// Counted from 1.
    number: u64,
    /// Steps of the run before this epoch.
    first_step: u64,
    /// The training images in this epoch's order, 64-bit integers [N].
    order: Tensor,
    batches: Vec<Range<usize>>,
    /// How the images are augmented, in the same order; none where they are not.
    draws: Option<Draws>,
    /// Steps that were taken; `sums` has those that were looked at.
    steps: usize,
    sums: EpochSums,
    /// When it began in this process, moved by the time that does not count.
    start: Instant,
    earlier_seconds: f64,
    pending: Pending,
}

/// Losses and right answers of the steps that the host has not looked at yet.
#[derive(Debug)]
struct Pending {
    /// Mean loss of each step's images, and how many they are.
    losses: Vec<(Tensor, usize)>,
    correct: Tensor,
}

impl Epoch {
    /// The epoch of that number, counted from 1, which takes as many images in these `batches`, and goes on
    /// after the steps that `sums` tells of.
    pub(super) fn new(
        number: u64,
        images: usize,
        batches: Vec<Range<usize>>,
        recipe: &Recipe,
        device: Device,
        sums: EpochSums,
    ) -> Self {
        let first_step = (number - 1) * batches.len() as u64;
        let counts = (first_step..).zip(batches.iter().map(Range::len));
        Self {
            number,
            first_step,
            order: epoch_order(recipe.seed, number, images, device),
            draws: Draws::new(recipe.augment, recipe.seed, counts, device),
            batches,
            steps: sums.steps,
            sums,
            start: Instant::now(),
            earlier_seconds: sums.seconds,
            pending: Pending::new(device),
        }
    }

    /// Counted from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Steps taken since the run's start.
    pub fn step(&self) -> u64 {
        self.first_step + self.steps as u64
    }

    /// Whether every step is taken.
    pub fn is_over(&self) -> bool {
        self.steps >= self.batches.len()
    }

    /// Time that does not count as the epoch's, such as for a checkpoint.
    pub fn leave_out(&mut self, time: Duration) {
        self.start += time;
    }

    /// What the steps came to by the last look at them.
    pub fn sums(&self) -> &EpochSums {
        &self.sums
    }

    /// The next step's images, augmented; none where every step is taken.
    pub(super) fn next_batch(&self, images: &DeviceImages) -> Option<DeviceImages> {
        let range = self.batches.get(self.steps)?;
        let batch = images.select(&range_of(&self.order, range));
        Some(match &self.draws {
            Some(draws) => batch.augmented(&draws.range(range)),
            None => batch,
        })
    }

    /// The next step is taken.
    pub(super) fn add(&mut self, outcome: StepOutcome) {
        let images = self.batches.get(self.steps).map_or(0, Range::len);
        self.pending.correct += outcome.correct;
        self.pending.losses.push((outcome.loss, images));
        self.steps += 1;
    }

    /// Whether it is time to look at the sums. On a GPU that waits for all queued work, so that it is rare
    /// there; on a CPU it costs nothing.
    pub fn look_is_due(&self) -> bool {
        let steps_between = if self.order.device() == Device::Cpu { 1 } else { 20 };
        self.steps.is_multiple_of(steps_between) || self.is_over()
    }

    /// Brings the sums up to the last step; or to the first whose loss is not finite, which it returns with
    /// that step's index in the run.
    pub(super) fn look(&mut self) -> Result<Option<(u64, f64)>> {
        let looked = self.pending.losses.len() as u64;
        for (step, (loss, images)) in (self.step() - looked..).zip(self.pending.take_losses()?) {
            if !loss.is_finite() {
                return Ok(Some((step, loss)));
            }
            self.sums.loss += loss * images as f64;
            self.sums.images += images;
        }
        self.sums.correct += self.pending.take_correct();
        self.sums.steps = self.steps;
        self.sums.seconds = self.earlier_seconds + self.start.elapsed().as_secs_f64();
        Ok(None)
    }
}

impl Pending {
    fn new(device: Device) -> Self {
        Self { losses: Vec::new(), correct: Tensor::zeros([], (Kind::Int64, device)) }
    }

    fn take_losses(&mut self) -> Result<Vec<(f64, usize)>> {
        let (losses, counts): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.losses).into_iter().unzip();
        if losses.is_empty() {
            return Ok(Vec::new());
        }
        // To the host first: not every device has 64-bit floats.
        let losses = Tensor::stack(&losses, 0).to_device(Device::Cpu).to_kind(Kind::Double);
        Ok(Vec::<f64>::try_from(losses)?.into_iter().zip(counts).collect())
    }

    fn take_correct(&mut self) -> i64 {
        let correct = self.correct.int64_value(&[]);
        let _ = self.correct.zero_();
        correct
    }
}
