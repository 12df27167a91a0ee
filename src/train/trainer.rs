//! Steps of training, and where a run stands between them.

use super::average::Average;
use super::backward::{Backward, Pass};
use super::loss_scale::LossScale;
use super::out_of_memory::{Attempt, attempt};
use super::recipe::Recipe;
use super::schedule::Schedule;
use super::sgd::{Sgd, clip_gradient_norm};
use crate::data::batches::{DeviceImages, Preprocess, batch_ranges, epoch_order};
use crate::model::Network;
use crate::model::parameters::Role;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::time::{Duration, Instant};
use tch::{Device, Kind, Reduction, Tensor};

/// A network in training.
#[derive(Debug)]
pub struct Trainer<'a> {
    network: &'a Network,
    images: &'a DeviceImages,
    preprocess: &'a Preprocess,
    recipe: &'a Recipe,
    sgd: Sgd,
    /// Where the network computes in half floats.
    loss_scale: Option<LossScale>,
    backward: Backward,
    average: Option<Average>,
    schedule: Schedule,
    /// Micro-batches of a step: the recipe's, or more where the device has too little memory for those.
    accumulate: usize,
}

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
    /// Steps that were taken; `sums` has those that were looked at.
    steps: usize,
    sums: EpochSums,
    /// When it began in this process, moved by the time that does not count.
    start: Instant,
    earlier_seconds: f64,
    pending: Pending,
}

impl Epoch {
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

    /// What the steps came to by the last [`Trainer::look`].
    pub fn sums(&self) -> &EpochSums {
        &self.sums
    }
}

/// A part of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Images are gathered, augmented, resized and normalised.
    Data,
    /// Logits and loss.
    Forward,
    /// Gradients.
    Backward,
    /// The gradients' norm and the update.
    Optimizer,
}

/// A batch that went through the network and back.
#[derive(Debug)]
struct BatchPass {
    /// Of the mean loss, for each learned tensor.
    gradients: Vec<Tensor>,
    /// The mean loss.
    loss: Tensor,
    /// Images that were classified right.
    correct: Tensor,
}

/// Losses and right answers of the steps that the host has not looked at yet.
#[derive(Debug)]
struct Pending {
    /// Mean loss of each step's images, and how many they are.
    losses: Vec<(Tensor, usize)>,
    correct: Tensor,
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

impl<'a> Trainer<'a> {
    /// A trainer at the start of a run.
    pub fn new(
        network: &'a Network,
        images: &'a DeviceImages,
        preprocess: &'a Preprocess,
        recipe: &'a Recipe,
    ) -> Self {
        let sgd = Sgd::new(network.parameters(), recipe.sgd);
        let backward = Backward::new(network, sgd.parameters(), recipe.recompute);
        let schedule = recipe.schedule(batches(images, recipe).len());
        let average = recipe.ema_decay.map(|decay| Average::new(network, decay));
        let half = preprocess.kind() == Kind::Half;
        Self {
            network,
            images,
            preprocess,
            recipe,
            sgd,
            loss_scale: half.then(|| LossScale::new(network.device())),
            backward,
            average,
            schedule,
            accumulate: recipe.accumulate,
        }
    }

    /// What the training has come to: the average of the network's weights where the recipe asks for
    /// one, else the network as it is.
    pub fn result(&self) -> &Network {
        self.average.as_ref().map_or(self.network, Average::network)
    }

    /// What the images go through before the network.
    pub fn preprocess(&self) -> &'a Preprocess {
        self.preprocess
    }

    /// How the network is trained.
    pub fn recipe(&self) -> &'a Recipe {
        self.recipe
    }

    /// What a run needs to go on besides [`Trainer::result`], by name: momentum; with half floats the loss
    /// scale; where the result is an average, the weights in training.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = self.sgd.state();
        state.extend(self.loss_scale.iter().flat_map(LossScale::state));
        if self.average.is_some() {
            let parameters = self.network.parameters().iter();
            state.extend(
                parameters.map(|p| (format!("training.{}", p.name), p.tensor.shallow_clone())),
            );
        }
        state
    }

    /// Optimizer steps in an epoch.
    pub fn steps_per_epoch(&self) -> usize {
        batches(self.images, self.recipe).len()
    }

    /// Micro-batches of an optimizer step: as many as the recipe says until the device runs out of
    /// memory, then more.
    pub fn accumulate(&self) -> usize {
        self.accumulate
    }

    /// Images that go through the network at once.
    pub fn micro_batch_size(&self) -> usize {
        self.recipe.batch_size.div_ceil(self.accumulate)
    }

    /// Learning rate of the epoch's last step.
    pub fn lr(&self, epoch: &Epoch) -> f64 {
        self.schedule.rate(epoch.step().saturating_sub(1))
    }

    /// The epoch of that number, counted from 1, after the steps that `sums` tells of.
    pub fn epoch(&self, number: u64, sums: EpochSums) -> Epoch {
        let device = self.network.device();
        let batches = batches(self.images, self.recipe);
        Epoch {
            number,
            first_step: (number - 1) * batches.len() as u64,
            order: epoch_order(self.recipe.seed, number, self.images.len(), device),
            batches,
            steps: sums.steps,
            sums,
            start: Instant::now(),
            earlier_seconds: sums.seconds,
            pending: Pending::new(device),
        }
    }

    /// Takes the epoch's next optimizer step: the gradient of the mean loss over the batch, computed
    /// in as many micro-batches as the recipe says, and the update. Where the device has too little
    /// memory for one, it is halved, and the step begins again from the same state.
    ///
    /// # Errors
    /// What libtorch could not do.
    pub fn step(&mut self, epoch: &mut Epoch) -> Result<()> {
        self.step_in_phases(epoch, &mut |_| {})
    }

    /// The same, and tells `phase_ends` when a part of it is over. On a GPU it is only queued then.
    ///
    /// # Errors
    /// What libtorch could not do.
    pub fn step_in_phases(
        &mut self,
        epoch: &mut Epoch,
        phase_ends: &mut dyn FnMut(Phase),
    ) -> Result<()> {
        let Some(range) = epoch.batches.get(epoch.steps).cloned() else { return Ok(()) };
        let step = epoch.step();
        let indices = epoch.order.narrow(0, range.start as i64, range.len() as i64);
        let statistics = self.statistics();
        let mut batch = loop {
            match attempt(|| self.pass(&indices, step, phase_ends))? {
                Attempt::Done(batch) => break batch,
                Attempt::OutOfMemory(error) => {
                    self.set_statistics(&statistics);
                    self.halve_micro_batches(error)?;
                }
            }
        };
        let scale = self.loss_scale.as_mut();
        let found_inf = scale.map(|scale| scale.unscale(&batch.gradients)).transpose()?;
        if let Some(max_norm) = self.recipe.clip_grad_norm {
            tch::no_grad(|| clip_gradient_norm(&mut batch.gradients, max_norm));
        }
        self.sgd.step(&batch.gradients, self.schedule.rate(step), found_inf.as_ref())?;
        if let Some(average) = &self.average {
            average.update(self.network, step + 1);
        }
        phase_ends(Phase::Optimizer);
        epoch.pending.correct += batch.correct;
        epoch.pending.losses.push((batch.loss, range.len()));
        epoch.steps += 1;
        Ok(())
    }

    /// The images at `indices` through the network and back, a micro-batch at a time. It changes batch
    /// norm's running statistics and nothing else.
    fn pass(
        &self,
        indices: &Tensor,
        step: u64,
        phase_ends: &mut dyn FnMut(Phase),
    ) -> Result<BatchPass> {
        // Before the split, so that the draws don't depend on how a batch is split.
        let (recipe, images) = (self.recipe, self.images.select(indices));
        let batch = images.augmented(recipe.augment, recipe.seed, step);
        let device = self.network.device();
        let mut whole = BatchPass {
            gradients: Vec::new(),
            loss: Tensor::zeros([], (Kind::Float, device)),
            correct: Tensor::zeros([], (Kind::Int64, device)),
        };
        for range in &batch_ranges(batch.len(), self.micro_batch_size()) {
            let micro = batch.range(range);
            let share = range.len() as f64 / batch.len() as f64;
            let inputs = self.preprocess.apply(&micro);
            phase_ends(Phase::Data);
            let smoothing = recipe.label_smoothing;
            let loss_of = |logits: &Tensor| {
                share
                    * logits.cross_entropy_loss::<Tensor>(
                        micro.labels(),
                        None,
                        Reduction::Mean,
                        -100,
                        smoothing,
                    )
            };
            let scale = self.loss_scale.as_ref().map(LossScale::scale);
            let Pass { logits, loss, gradients } =
                self.backward.pass(self.network, &inputs, &loss_of, scale, &mut || {
                    phase_ends(Phase::Forward);
                })?;
            if whole.gradients.is_empty() {
                whole.gradients = gradients;
            } else {
                for (sum, gradient) in whole.gradients.iter_mut().zip(gradients) {
                    let _ = sum.g_add_(&gradient);
                }
            }
            phase_ends(Phase::Backward);
            whole.loss += loss;
            whole.correct += logits.argmax(1, false).eq_tensor(micro.labels()).sum(Kind::Int64);
        }
        Ok(whole)
    }

    /// Batch norm's running statistics, one after the other.
    fn statistics(&self) -> Tensor {
        let flat: Vec<Tensor> = self.buffers().map(|buffer| buffer.view([-1])).collect();
        Tensor::cat(&flat, 0)
    }

    fn set_statistics(&self, flat: &Tensor) {
        let sizes: Vec<i64> = self.buffers().map(|buffer| buffer.numel() as i64).collect();
        for (buffer, values) in self.buffers().zip(flat.split_with_sizes(sizes, 0)) {
            buffer.shallow_clone().copy_(&values.view_as(buffer));
        }
    }

    fn buffers(&self) -> impl Iterator<Item = &Tensor> {
        let parameters = self.network.parameters().iter();
        parameters.filter(|p| p.role == Role::Buffer).map(|parameter| &parameter.tensor)
    }

    /// Goes on with micro-batches of half the size, if there is a smaller one.
    fn halve_micro_batches(&mut self, reason: anyhow::Error) -> Result<()> {
        let size = self.micro_batch_size();
        if size <= self.network.spec().smallest_batch() {
            return Err(reason.context(format!(
                "the device has too little memory for a micro-batch of {size}, and a smaller one is not possible; {} take less",
                if self.recipe.recompute {
                    "a smaller --size or a narrower or less deep network"
                } else {
                    "--recompute, a smaller --size, or a narrower or less deep network"
                }
            )));
        }
        self.accumulate = (2 * self.accumulate).min(self.recipe.batch_size);
        Ok(())
    }

    /// Whether it is time for [`Trainer::look`]. On a GPU a look waits for all queued work, so looks
    /// are rare there; on a CPU they cost nothing.
    pub fn look_is_due(&self, epoch: &Epoch) -> bool {
        let steps_between = if self.network.device() == Device::Cpu { 1 } else { 20 };
        epoch.steps.is_multiple_of(steps_between) || epoch.is_over()
    }

    /// Brings the epoch's sums up to its last step.
    ///
    /// # Errors
    /// [`Diverged`].
    pub fn look(&self, epoch: &mut Epoch) -> Result<()> {
        let looked = epoch.pending.losses.len() as u64;
        for (step, (loss, count)) in (epoch.step() - looked..).zip(epoch.pending.take_losses()?) {
            if !loss.is_finite() {
                let what = format!("the loss became {loss}");
                return Err(self.diverged(what, epoch.number, step));
            }
            epoch.sums.loss += loss * count as f64;
            epoch.sums.images += count;
        }
        epoch.sums.correct += epoch.pending.take_correct();
        epoch.sums.steps = epoch.steps;
        epoch.sums.seconds = epoch.earlier_seconds + epoch.start.elapsed().as_secs_f64();
        Ok(())
    }

    /// Makes sure that what a checkpoint would keep is finite, and its losses on other images too:
    /// the last step's update shows in no training loss.
    ///
    /// # Errors
    /// [`Diverged`].
    pub fn check_finite(&self, epoch: &Epoch, mut losses: impl Iterator<Item = f64>) -> Result<()> {
        let last = epoch.step().saturating_sub(1);
        if let Some(loss) = losses.find(|loss| !loss.is_finite()) {
            let what = format!("the evaluation's loss became {loss}");
            return Err(self.diverged(what, epoch.number, last));
        }
        if self.loss_scale.as_ref().is_some_and(LossScale::is_lost) {
            let what = "the gradients overflowed half floats at any scale of the loss".to_owned();
            return Err(self.diverged(what, epoch.number, last));
        }
        let state = self.state().into_iter().map(|(_, tensor)| tensor);
        let result = self.result().parameters().iter().map(|p| p.tensor.shallow_clone());
        let finite: Vec<Tensor> = result.chain(state).map(|t| t.isfinite().all()).collect();
        if Tensor::stack(&finite, 0).all().int64_value(&[]) == 1 {
            return Ok(());
        }
        let what = "the weights became infinite or no numbers".to_owned();
        Err(self.diverged(what, epoch.number, last))
    }

    fn diverged(&self, what: String, epoch: u64, step: u64) -> anyhow::Error {
        Diverged { what, step: step + 1, epoch, lr: self.schedule.rate(step) }.into()
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

/// The batches of an epoch.
fn batches(images: &DeviceImages, recipe: &Recipe) -> Vec<Range<usize>> {
    let mut batches = batch_ranges(images.len(), recipe.batch_size);
    batches.truncate(recipe.limit_batches.unwrap_or(usize::MAX));
    batches
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Options;
    use crate::config::Config;
    use crate::data::Images;
    use crate::model::parameters::Creation;
    use crate::model::spec::{Choices, Init, Spec};

    const COUNT: usize = 18;

    fn images() -> DeviceImages {
        let images = Images {
            pixels: (0..COUNT * 64).map(|i| (i * i % 251) as u8).collect(),
            labels: (0..COUNT).map(|i| (i % 10) as u8).collect(),
            count: COUNT,
            channels: 1,
            height: 8,
            width: 8,
        };
        DeviceImages::new(&images, Device::Cpu)
    }

    fn network(size: usize) -> Network {
        let choices = Choices {
            depth: Some(20),
            width: Some(4),
            channels: 1,
            classes: 10,
            size,
            ..Choices::default()
        };
        let device = Device::Cpu;
        let draw = Creation::Draw { init: Init::He, zero_init_residual: false, seed: 0, device };
        Network::new(&Spec::resolve(&choices).unwrap(), draw)
    }

    /// Trains an epoch of three steps, in the second of which the device runs out of memory `failures`
    /// times, and `before` that step.
    fn train(
        size: usize,
        recompute: bool,
        failures: usize,
        before: impl FnOnce(&mut Trainer),
    ) -> Result<(Vec<Tensor>, EpochSums, usize)> {
        tch::set_num_threads(1);
        let mut recipe = Config::load(None, &Options::default())?.recipe;
        recipe.batch_size = 6;
        recipe.recompute = recompute;
        let (network, images) = (network(size), images());
        let preprocess = Preprocess::new(&[0.5], &[0.5], size, (Kind::Float, Device::Cpu));
        let mut trainer = Trainer::new(&network, &images, &preprocess, &recipe);
        let mut epoch = trainer.epoch(1, EpochSums::default());
        trainer.step(&mut epoch)?;
        before(&mut trainer);
        let mut failures_left = failures;
        trainer.step_in_phases(&mut epoch, &mut |phase| {
            // Batch norm's statistics are already another batch's then.
            if phase == Phase::Forward && failures_left > 0 {
                failures_left -= 1;
                panic!("{}", "Torch(\"CUDA out of memory. Tried to allocate 1 GiB\")");
            }
        })?;
        trainer.step(&mut epoch)?;
        trainer.look(&mut epoch)?;
        assert!(epoch.is_over());
        let state = network.parameters().iter().map(|p| p.tensor.detach().copy());
        let state = state.chain(trainer.state().into_iter().map(|(_, tensor)| tensor));
        Ok((state.collect(), *epoch.sums(), trainer.accumulate()))
    }

    #[test]
    fn a_step_without_enough_memory_is_taken_in_smaller_parts_from_the_same_state() {
        // No more parts than images: a run to resume is refused otherwise.
        for (recompute, failures, parts) in [(false, 2, 4), (true, 2, 4), (false, 3, 6)] {
            let (state, sums, accumulate) = train(8, recompute, failures, |_| {}).unwrap();
            assert_eq!(accumulate, parts);
            let asked = |trainer: &mut Trainer| trainer.accumulate = parts;
            let (expected, expected_sums, _) = train(8, recompute, 0, asked).unwrap();
            assert_eq!(state, expected);
            assert_eq!(
                (sums.steps, sums.images, sums.loss, sums.correct),
                (expected_sums.steps, COUNT, expected_sums.loss, expected_sums.correct)
            );
        }
    }

    #[test]
    fn too_little_memory_for_the_smallest_part_is_an_error_that_says_what_takes_less() {
        for (size, smallest) in [(8, "micro-batch of 1"), (4, "micro-batch of 2")] {
            let error = format!("{:#}", train(size, false, 99, |_| {}).unwrap_err());
            assert!(error.contains(smallest) && error.contains("--recompute"), "{error}");
            assert!(error.contains("CUDA out of memory"), "{error}");
        }
    }
}
