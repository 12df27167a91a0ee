//! An epoch under way: its batches, and the sums of its steps.

use super::recipe::Recipe;
use super::step::StepOutcome;
use crate::data::augment::{Augmentation, EpochImages};
use crate::data::batch::Batch;
use crate::data::dataset::Dataset;
use crate::data::order::{batch_ranges, epoch_order};
use crate::data::preprocess::Preprocess;
use crate::data::range_of;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::time::Instant;
use tch::{Device, Kind, Tensor};

/// Sums over the steps of an epoch that are done. Together with the weights and the optimizer state, they are all that
/// is needed to resume in the middle of an epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochSums {
    /// Optimizer steps.
    pub steps: usize,
    /// Training images in those steps.
    pub images: usize,
    /// Sum of the images' losses in nats, with label smoothing.
    pub loss: f64,
    /// Images that were classified correctly. Each image is classified before the step that trains on it.
    pub correct: i64,
    /// Seconds that the steps took.
    pub seconds: f64,
}

impl EpochSums {
    /// Mean loss of an image.
    pub fn mean_loss(&self) -> f64 {
        self.loss / self.images as f64
    }

    /// Fraction of the images that were classified correctly.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.images as f64
    }

    /// Images per second.
    pub fn images_per_second(&self) -> f64 {
        self.images as f64 / self.seconds
    }
}

/// An epoch under way.
#[derive(Debug)]
pub struct Epoch {
    /// Counted from 1.
    number: u64,
    /// Steps of the run before this epoch.
    first_step: u64,
    /// The training images in the order of this epoch, 64-bit integers `[N]`.
    order: Tensor,
    batches: Vec<Range<usize>>,
    augmentation: Augmentation,
    /// Steps that are done. `sums` covers only those that are also synced.
    steps: usize,
    sums: EpochSums,
    clock: Clock,
    pending: Pending,
}

/// Measures the seconds of an epoch's steps.
#[derive(Debug)]
struct Clock {
    /// When the clock started. Time during which it was stopped moves this instant forward.
    start: Instant,
    /// When the clock was stopped; `None` while it runs.
    stopped: Option<Instant>,
    /// Seconds of the epoch in an earlier process.
    earlier: f64,
}

/// Results of steps that the host has not read yet.
#[derive(Debug)]
struct Pending {
    /// For each step, the mean loss of its images, and the number of images.
    losses: Vec<(Tensor, usize)>,
    correct: Tensor,
}

impl Epoch {
    /// The epoch with this number, counted from 1. It trains on the images of `dataset`, and continues after the steps
    /// in `sums`.
    pub fn new(
        number: u64,
        (dataset, preprocess): (&Dataset, &Preprocess),
        recipe: &Recipe,
        sums: EpochSums,
    ) -> Self {
        let batches = batches(dataset, recipe);
        let first_step = (number - 1) * batches.len() as u64;
        let counts: Vec<_> = (first_step..).zip(batches.iter().map(Range::len)).collect();
        let order = epoch_order(recipe.seed, number, dataset.len());
        let images = EpochImages {
            seed: recipe.seed,
            epoch: number,
            order: &order,
            batches: &counts,
            size: dataset.size(),
            blank: &preprocess.blank(),
        };
        let device = dataset.device();
        Self {
            number,
            first_step,
            augmentation: Augmentation::new(&recipe.augment, recipe.mix_epochs, &images),
            order: Tensor::from_slice(&order).to_device(device),
            batches,
            steps: sums.steps,
            sums,
            clock: Clock { start: Instant::now(), stopped: None, earlier: sums.seconds },
            pending: Pending::new(device),
        }
    }

    /// Counted from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Steps since the start of the run.
    pub fn step(&self) -> u64 {
        self.first_step + self.steps as u64
    }

    /// Steps that are still to do.
    pub fn steps_left(&self) -> usize {
        self.batches.len().saturating_sub(self.steps)
    }

    /// Whether every step is done.
    pub fn is_over(&self) -> bool {
        self.steps_left() == 0
    }

    /// Stops the clock. Time from now on, such as the time to save a checkpoint, does not count as time of the steps.
    pub(super) fn stop_clock(&mut self) {
        self.clock.stopped.get_or_insert_with(Instant::now);
    }

    /// Starts the clock again, if it is stopped.
    pub(super) fn start_clock(&mut self) {
        if let Some(since) = self.clock.stopped.take() {
            self.clock.start += since.elapsed();
        }
    }

    /// The sums up to the last step that was synced.
    pub fn sums(&self) -> &EpochSums {
        &self.sums
    }

    /// The batch of the next step, augmented. None if every step is done.
    pub(super) fn next_batch(&self, dataset: &Dataset) -> Result<Option<Batch>> {
        self.batch(self.steps, dataset)
    }

    /// The epoch's batch with this index, counted from 0, augmented. None if there are fewer batches.
    ///
    /// # Errors
    /// An operation of libtorch failed.
    pub fn batch(&self, index: usize, dataset: &Dataset) -> Result<Option<Batch>> {
        let Some(range) = self.batches.get(index) else { return Ok(None) };
        let original = self.original(range, dataset)?;
        Ok(Some(self.augmentation.apply(original, range)))
    }

    /// The batch with this index as [`Epoch::batch`] gets it from the data set, and augmented. None if there are fewer
    /// batches.
    ///
    /// # Errors
    /// An operation of libtorch failed.
    pub fn batch_before_and_after(
        &self,
        index: usize,
        dataset: &Dataset,
    ) -> Result<Option<(Batch, Batch)>> {
        let Some(range) = self.batches.get(index) else { return Ok(None) };
        let original = self.original(range, dataset)?;
        Ok(self.batch(index, dataset)?.map(|augmented| (original, augmented)))
    }

    fn original(&self, range: &Range<usize>, dataset: &Dataset) -> Result<Batch> {
        dataset.batch(&range_of(&self.order, range))
    }

    /// Adds the results of the next step.
    pub(super) fn add(&mut self, outcome: StepOutcome) {
        let images = self.batches.get(self.steps).map_or(0, Range::len);
        self.pending.correct += outcome.correct;
        self.pending.losses.push((outcome.loss, images));
        self.steps += 1;
    }

    /// Whether it is time to sync. On a GPU, a sync makes the host wait for all queued work, so syncs are rare there.
    /// On a CPU, a sync costs nothing.
    pub fn sync_is_due(&self) -> bool {
        let steps_between = if self.order.device() == Device::Cpu { 1 } else { 20 };
        self.steps.is_multiple_of(steps_between) || self.is_over()
    }

    /// Reads the results of all steps into the sums. Stops at the first loss that is not finite, and returns its step,
    /// counted from 0 over the run, and the loss.
    pub(super) fn sync(&mut self) -> Result<Option<(u64, f64)>> {
        let pending = self.pending.losses.len() as u64;
        for (step, (loss, images)) in (self.step() - pending..).zip(self.pending.take_losses()?) {
            if !loss.is_finite() {
                return Ok(Some((step, loss)));
            }
            self.sums.loss += loss * images as f64;
            self.sums.images += images;
        }
        self.sums.correct += self.pending.take_correct();
        self.sums.steps = self.steps;
        self.sums.seconds = self.clock.earlier + self.clock.start.elapsed().as_secs_f64();
        Ok(None)
    }
}

/// The places of each step's images in the order of an epoch.
pub(super) fn batches(dataset: &Dataset, recipe: &Recipe) -> Vec<Range<usize>> {
    let mut batches = batch_ranges(dataset.len(), recipe.batch_size);
    batches.truncate(recipe.limit_batches.unwrap_or(usize::MAX));
    batches
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
        // The losses are copied to the host first, because not every device has 64-bit floats.
        let losses = Tensor::stack(&losses, 0).to_device(Device::Cpu).to_kind(Kind::Double);
        Ok(Vec::<f64>::try_from(losses)?.into_iter().zip(counts).collect())
    }

    fn take_correct(&mut self) -> i64 {
        let correct = self.correct.int64_value(&[]);
        let _ = self.correct.zero_();
        correct
    }
}
