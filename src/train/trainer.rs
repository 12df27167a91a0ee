//! One epoch of training, and the step in it.

use super::recipe::Recipe;
use super::schedule::Schedule;
use super::sgd::{Sgd, clip_gradient_norm};
use crate::data::batches::{DeviceImages, Preprocess, batch_ranges, epoch_order};
use crate::model::Network;
use anyhow::{Result, anyhow};
use std::time::Instant;
use tch::{Device, Kind, Reduction, Tensor};

/// A network in training.
#[derive(Debug)]
pub struct Trainer<'a> {
    network: &'a Network,
    images: &'a DeviceImages,
    preprocess: &'a Preprocess,
    recipe: &'a Recipe,
    sgd: Sgd,
    learned: Vec<Tensor>,
    schedule: Schedule,
}

/// What an epoch of training came to so far.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Optimizer steps done in this epoch.
    pub steps: usize,
    /// Mean training loss of an image, with label smoothing.
    pub loss: f64,
    /// Fraction of the training images that were classified right, each before its step.
    pub accuracy: f64,
    /// Learning rate of the last step.
    pub lr: f64,
    /// Seconds since the epoch's start.
    pub seconds: f64,
    /// Training images that went through in one of them.
    pub images_per_second: f64,
}

/// A step led to a loss or to weights that are no numbers, or infinite.
#[derive(Debug, thiserror::Error)]
#[error(
    "{what} at step {step} (epoch {epoch}, learning rate {lr}): the run has diverged; try a lower --lr, a longer --warmup-epochs or --clip-grad-norm 1"
)]
pub struct Diverged {
    what: String,
    /// Counted from 1 over the run.
    step: u64,
    epoch: u64,
    lr: f64,
}

/// Losses and right answers of the steps that the host has not looked at yet.
#[derive(Debug)]
struct Pending {
    /// Mean loss of each step's images, and how many they are.
    losses: Vec<(Tensor, usize)>,
    correct: Tensor,
}

impl<'a> Trainer<'a> {
    /// A trainer at the start of a run.
    pub fn new(
        network: &'a Network,
        images: &'a DeviceImages,
        preprocess: &'a Preprocess,
        recipe: &'a Recipe,
    ) -> Self {
        let sgd = Sgd::new(network.parameters(), recipe.sgd);
        let learned = sgd.parameters();
        let steps = steps_per_epoch(images.len(), recipe);
        Self { network, images, preprocess, recipe, sgd, learned, schedule: recipe.schedule(steps) }
    }

    /// The network in training.
    pub fn network(&self) -> &'a Network {
        self.network
    }

    /// What the images go through before the network.
    pub fn preprocess(&self) -> &'a Preprocess {
        self.preprocess
    }

    /// How the network is trained.
    pub fn recipe(&self) -> &'a Recipe {
        self.recipe
    }

    /// The optimizer, whose state belongs into a checkpoint.
    pub fn sgd(&self) -> &Sgd {
        &self.sgd
    }

    /// Optimizer steps in an epoch.
    pub fn steps_per_epoch(&self) -> usize {
        steps_per_epoch(self.images.len(), self.recipe)
    }

    /// Trains for an epoch, counted from 1, and tells `report` how it goes.
    ///
    /// # Errors
    /// [`Diverged`], or what libtorch could not do.
    pub fn epoch(&mut self, epoch: u64, report: &mut dyn FnMut(&Progress)) -> Result<Progress> {
        let start = Instant::now();
        let device = self.network.device();
        let order = epoch_order(self.recipe.seed, epoch, self.images.len(), device);
        let ranges = batch_ranges(self.images.len(), self.recipe.batch_size);
        let steps = self.steps_per_epoch();
        let first_step = (epoch - 1) * steps as u64;
        let mut pending = Pending::new(device);
        let (mut loss_sum, mut correct, mut images) = (0.0, 0, 0usize);
        let mut progress = None;
        for (index, range) in ranges.iter().take(steps).enumerate() {
            let step = first_step + index as u64;
            let lr = self.schedule.rate(step);
            let indices = order.narrow(0, range.start as i64, range.len() as i64);
            self.step(step, self.images.select(&indices), lr, &mut pending)?;
            if (index + 1).is_multiple_of(steps_between_looks(device)) || index + 1 == steps {
                let looked = pending.losses.len() as u64;
                for (step, (loss, count)) in (step + 1 - looked..).zip(pending.take_losses()?) {
                    if !loss.is_finite() {
                        return Err(self.diverged(format!("the loss became {loss}"), epoch, step));
                    }
                    loss_sum += loss * count as f64;
                    images += count;
                }
                correct += pending.take_correct();
                let seconds = start.elapsed().as_secs_f64();
                let now = Progress {
                    steps: index + 1,
                    loss: loss_sum / images as f64,
                    accuracy: correct as f64 / images as f64,
                    lr,
                    seconds,
                    images_per_second: images as f64 / seconds,
                };
                report(&now);
                progress = Some(now);
            }
        }
        progress.ok_or_else(|| anyhow!("there are no images to train on"))
    }

    /// Makes sure that what a checkpoint would keep after an epoch is finite, and its losses on other
    /// images too: the last step's update shows in no training loss.
    ///
    /// # Errors
    /// [`Diverged`].
    pub fn check_finite(&self, epoch: u64, mut losses: impl Iterator<Item = f64>) -> Result<()> {
        let last = epoch * self.steps_per_epoch() as u64 - 1;
        if let Some(loss) = losses.find(|loss| !loss.is_finite()) {
            return Err(self.diverged(format!("the evaluation's loss became {loss}"), epoch, last));
        }
        let momentum = self.sgd.state().into_iter().map(|(_, tensor)| tensor);
        let kept = self.network.parameters().iter().map(|p| p.tensor.shallow_clone());
        let finite: Vec<Tensor> = kept.chain(momentum).map(|t| t.isfinite().all()).collect();
        if Tensor::stack(&finite, 0).all().int64_value(&[]) == 1 {
            return Ok(());
        }
        Err(self.diverged("the weights became infinite or no numbers".to_owned(), epoch, last))
    }

    fn diverged(&self, what: String, epoch: u64, step: u64) -> anyhow::Error {
        Diverged { what, step: step + 1, epoch, lr: self.schedule.rate(step) }.into()
    }

    /// One optimizer step: the gradient of the mean loss over the batch, computed in as many
    /// micro-batches as the recipe says, and the update.
    fn step(
        &mut self,
        step: u64,
        batch: DeviceImages,
        lr: f64,
        pending: &mut Pending,
    ) -> Result<()> {
        // Before the split, so that the draws don't depend on how a batch is split.
        let batch = batch.augmented(self.recipe.augment, self.recipe.seed, step);
        let micro_batches = batch_ranges(batch.len(), self.recipe.micro_batch_size());
        let mut gradients: Vec<Tensor> = Vec::new();
        let mut batch_loss = Tensor::zeros([], (Kind::Float, self.network.device()));
        for range in &micro_batches {
            let micro = batch.range(range);
            let share = range.len() as f64 / batch.len() as f64;
            let logits = self.network.forward(&self.preprocess.apply(&micro), true);
            let smoothing = self.recipe.label_smoothing;
            let loss = share
                * logits.cross_entropy_loss::<Tensor>(
                    micro.labels(),
                    None,
                    Reduction::Mean,
                    -100,
                    smoothing,
                );
            // The gradients are new tensors, not sums into `grad` that need zeroing at each step.
            let new = Tensor::f_run_backward(&[&loss], &self.learned, false, false)?;
            if gradients.is_empty() {
                gradients = new;
            } else {
                for (sum, gradient) in gradients.iter_mut().zip(new) {
                    let _ = sum.g_add_(&gradient);
                }
            }
            batch_loss += loss.detach();
            pending.correct += logits.argmax(1, false).eq_tensor(micro.labels()).sum(Kind::Int64);
        }
        if let Some(max_norm) = self.recipe.clip_grad_norm {
            tch::no_grad(|| clip_gradient_norm(&mut gradients, max_norm));
        }
        self.sgd.step(&gradients, lr);
        pending.losses.push((batch_loss, batch.len()));
        Ok(())
    }
}

impl Pending {
    fn new(device: Device) -> Self {
        Self { losses: Vec::new(), correct: Tensor::zeros([], (Kind::Int64, device)) }
    }

    fn take_losses(&mut self) -> Result<Vec<(f64, usize)>> {
        let (losses, counts): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.losses).into_iter().unzip();
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

fn steps_per_epoch(images: usize, recipe: &Recipe) -> usize {
    let batches = batch_ranges(images, recipe.batch_size).len();
    batches.min(recipe.limit_batches.unwrap_or(usize::MAX))
}

/// Steps after which the host looks at the losses. On a GPU a look waits for all queued work, so
/// looks are rare there; on a CPU they cost nothing.
fn steps_between_looks(device: Device) -> usize {
    if device == Device::Cpu { 1 } else { 20 }
}
