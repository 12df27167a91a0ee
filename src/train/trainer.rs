//! Steps of training.

mod histograms;
mod state;

use super::average::Average;
use super::backward::{Backward, Pass};
use super::epoch::{Epoch, EpochSums, batches};
use super::loss_scale::LossScale;
use super::optimizer::{Hyperparameters, Optimizer};
use super::out_of_memory::{Attempt, attempt};
use super::recipe::{Recipe, micro_batch_size};
use super::replay::{Recorded, Replay};
use super::schedule::Schedule;
use super::statistics::{self, Statistics};
use super::step::{Notice, Phase, StepOutcome};
use crate::data::batch::Batch;
use crate::data::dataset::Dataset;
use crate::data::order::batch_ranges;
use crate::data::preprocess::Preprocess;
use crate::model::{Mode, Network, Noise};
use anyhow::{Context, Result};
use tch::{Kind, Reduction, Tensor};

/// Images from which batch norm's statistics are computed for averaged weights. Wu and Johnson 2021, section 3.2, find
/// that 1,000 to 10,000 are enough.
const STATISTICS_IMAGES: usize = 10_000;

/// A network in training.
#[derive(Debug)]
pub struct Trainer<'a> {
    network: &'a Network,
    dataset: &'a Dataset,
    preprocess: &'a Preprocess,
    recipe: &'a Recipe,
    optimizer: Optimizer,
    /// Only if the network computes in half floats.
    loss_scale: Option<LossScale>,
    backward: Backward,
    average: Option<Average>,
    schedule: Schedule,
    /// Micro-batches in a step: the recipe's number, or more if the device has too little memory.
    accumulate: usize,
    replay: Replay,
    /// Height and width of the images of the current step, in pixels.
    size: i64,
}

/// A batch that went forward and backward through the network.
#[derive(Debug)]
struct BatchPass {
    /// Gradients of the mean loss, one for each learned tensor.
    gradients: Vec<Tensor>,
    outcome: StepOutcome,
}

impl BatchPass {
    /// Adds the results of the batch's next micro-batch.
    fn add(&mut self, part: Self) {
        for (sum, gradient) in self.gradients.iter_mut().zip(&part.gradients) {
            let _ = sum.g_add_(gradient);
        }
        self.outcome.loss += part.outcome.loss;
        self.outcome.correct += part.outcome.correct;
    }
}

impl<'a> Trainer<'a> {
    /// A trainer at the start of a run.
    pub fn new(
        network: &'a Network,
        dataset: &'a Dataset,
        preprocess: &'a Preprocess,
        recipe: &'a Recipe,
    ) -> Self {
        let steps_per_epoch = batches(dataset, recipe).len();
        let average = recipe.averaging(steps_per_epoch);
        let half = preprocess.dtype() == Kind::Half;
        // A recorded step would draw the same noise each time.
        let replays = recipe.cuda_graphs && recipe.repeats_steps() && !network.spec().draws_noise();
        Self {
            network,
            dataset,
            preprocess,
            recipe,
            optimizer: Optimizer::new(network, recipe.optimizer, recipe.rates.as_ref()),
            loss_scale: half.then(|| LossScale::new(network.device())),
            backward: Backward::new(network, recipe.recompute),
            average: average.map(|averaging| Average::new(network, averaging)),
            schedule: recipe.schedule(steps_per_epoch),
            size: preprocess.size(),
            accumulate: recipe.accumulate,
            replay: if replays { Replay::on(network.device()) } else { Replay::Off },
        }
    }

    /// The network to evaluate and to save: the averaged network, or without an average the network in training.
    pub fn result(&self) -> &Network {
        self.average.as_ref().map_or(self.network, Average::network)
    }

    /// How images are prepared for the network.
    pub fn preprocess(&self) -> &'a Preprocess {
        self.preprocess
    }

    /// How the network is trained.
    pub fn recipe(&self) -> &'a Recipe {
        self.recipe
    }

    /// Optimizer steps in an epoch.
    pub fn steps_per_epoch(&self) -> usize {
        batches(self.dataset, self.recipe).len()
    }

    /// Images that go through the network at once.
    pub fn micro_batch_size(&self) -> usize {
        micro_batch_size(self.recipe.batch_size, self.accumulate)
    }

    /// Learning rate of the last step that is done.
    pub fn lr(&self, epoch: &Epoch) -> f64 {
        self.schedule.lr(epoch.step().saturating_sub(1))
    }

    /// The epoch with this number, counted from 1. It continues after the steps in `sums`.
    pub fn epoch(&self, number: u64, sums: EpochSums) -> Epoch {
        let images = (self.dataset, self.preprocess);
        Epoch::new(number, images, self.recipe, sums)
    }

    /// Takes the epoch's next optimizer step, if one is left: the gradient of the batch's mean loss, and the update.
    ///
    /// If the device has too little memory, micro-batches are halved, and the step begins again from the same state. If
    /// the recipe allows it, a CUDA device records a step after a few steps, and replays it for each whole batch.
    ///
    /// # Errors
    /// An operation of libtorch failed.
    pub fn step(&mut self, epoch: &mut Epoch) -> Result<Vec<Notice>> {
        let mut notices = Vec::new();
        if let Some(batch) = self.begin_step(epoch, None)? {
            let outcome = match self.replayed(&batch, &mut notices)? {
                Some(outcome) => outcome,
                None => self.computed(&batch, epoch.step(), &mut |_| {}, &mut notices)?,
            };
            self.end_step(epoch, outcome)?;
        }
        Ok(notices)
    }

    /// Like [`Trainer::step`], with this learning rate in place of the schedule's, and never a replay.
    ///
    /// # Errors
    /// An operation of libtorch failed.
    pub fn step_at(&mut self, epoch: &mut Epoch, lr: f64) -> Result<Vec<Notice>> {
        self.step_computed(epoch, Some(lr), &mut |_| {})
    }

    /// Like [`Trainer::step`], but never a replay. `phase_ends` is called after each part of the step. On a GPU, the
    /// part is then only queued, not finished.
    ///
    /// # Errors
    /// An operation of libtorch failed.
    pub fn step_in_phases(
        &mut self,
        epoch: &mut Epoch,
        phase_ends: &mut dyn FnMut(Phase),
    ) -> Result<Vec<Notice>> {
        self.step_computed(epoch, None, phase_ends)
    }

    /// A step that is never a replay, with the learning rate `lr` or that of the schedule.
    fn step_computed(
        &mut self,
        epoch: &mut Epoch,
        lr: Option<f64>,
        phase_ends: &mut dyn FnMut(Phase),
    ) -> Result<Vec<Notice>> {
        let mut notices = Vec::new();
        if let Some(batch) = self.begin_step(epoch, lr)? {
            let outcome = self.computed(&batch, epoch.step(), phase_ends, &mut notices)?;
            self.end_step(epoch, outcome)?;
            phase_ends(Phase::Optimizer);
        }
        Ok(notices)
    }

    /// Sets the values of the epoch's next step, with the learning rate `lr` or that of the schedule, and returns its
    /// batch. None if every step is done.
    fn begin_step(&mut self, epoch: &Epoch, lr: Option<f64>) -> Result<Option<Batch>> {
        let step = epoch.step();
        let now = self.recipe.hyperparameters(&self.schedule, step);
        self.optimizer.set(Hyperparameters { lr: lr.unwrap_or(now.lr), ..now });
        let sizes = self.recipe.sizes.as_ref();
        let size = sizes.and_then(|sizes| sizes.at(step, self.schedule.total_steps));
        let size = size.map_or(self.preprocess.size(), |size| size as i64);
        if size != self.size {
            self.size = size;
            self.replay.record_again();
        }
        epoch.next_batch(self.dataset)
    }

    fn end_step(&self, epoch: &mut Epoch, outcome: StepOutcome) -> Result<()> {
        if let Some(average) = &self.average {
            average.update(self.network, epoch.step() + 1)?;
        }
        epoch.add(outcome);
        Ok(())
    }

    /// Replays the recorded step with this batch, or records a step first. None if the step must be computed.
    fn replayed(
        &mut self,
        batch: &Batch,
        notices: &mut Vec<Notice>,
    ) -> Result<Option<StepOutcome>> {
        if batch.len() != self.recipe.batch_size {
            return Ok(None);
        }
        if let Some(index) = self.replay.record_now() {
            let recorded = Recorded::new(index, batch, |batch| {
                // A network that draws noise is never recorded.
                let pass = self.pass(batch, 0, &mut |_| {})?;
                self.update(pass)
            });
            self.replay = match recorded {
                Ok(recorded) => Replay::Recorded(Box::new(recorded)),
                Err(reason) => {
                    notices.push(Notice::GraphsOff(reason));
                    Replay::Off
                }
            };
        }
        match &self.replay {
            Replay::Recorded(recorded) => recorded.replay(batch).map(Some),
            Replay::Off | Replay::After { .. } => Ok(None),
        }
    }

    /// Whole batches before every step is a replay, including the recorded one; 0 if steps are never replayed.
    pub fn steps_before_replays(&self) -> usize {
        self.replay.steps_before()
    }

    /// Whether whole batches are replayed from a recorded step.
    pub fn replays(&self) -> bool {
        matches!(self.replay, Replay::Recorded(_))
    }

    /// Computes a step of the run, in smaller micro-batches if the device has too little memory.
    fn computed(
        &mut self,
        batch: &Batch,
        step: u64,
        phase_ends: &mut dyn FnMut(Phase),
        notices: &mut Vec<Notice>,
    ) -> Result<StepOutcome> {
        let statistics = Statistics::of(self.network);
        let accumulate = self.accumulate;
        let pass = loop {
            match attempt(|| self.pass(batch, step, phase_ends))? {
                Attempt::Done(pass) => break pass,
                Attempt::OutOfMemory(error) => {
                    statistics.restore(self.network);
                    // A recorded step holds memory, so it is given up first.
                    if self.replays() {
                        self.replay = Replay::Off;
                        notices.push(Notice::GraphsOff(error));
                    } else {
                        self.halve_micro_batches(error)?;
                    }
                }
            }
        };
        if self.accumulate != accumulate {
            notices.push(Notice::Accumulates(self.accumulate));
        }
        self.update(pass)
    }

    /// Runs a batch forward and backward in micro-batches. It changes only batch norm's running statistics.
    fn pass(
        &self,
        batch: &Batch,
        step: u64,
        phase_ends: &mut dyn FnMut(Phase),
    ) -> Result<BatchPass> {
        let mut whole: Option<BatchPass> = None;
        for (index, range) in (0..).zip(&batch_ranges(batch.len(), self.micro_batch_size())) {
            let noise = Noise::of(self.recipe.seed, step, index);
            let micro = batch.range(range);
            let inputs = self.preprocess.apply_at(&micro, self.size);
            phase_ends(Phase::Data);
            let smoothing = self.recipe.label_smoothing;
            let loss_of = |logits: &Tensor| {
                let loss = micro.targets().loss(logits, smoothing, Reduction::Mean);
                match range.len() == batch.len() {
                    true => loss,
                    false => range.len() as f64 / batch.len() as f64 * loss,
                }
            };
            let scale = self.loss_scale.as_ref().map(LossScale::scale);
            let Pass { logits, loss, gradients } =
                self.backward.pass(self.network, (&inputs, noise), &loss_of, scale, &mut || {
                    phase_ends(Phase::Forward);
                })?;
            let correct = micro.targets().correct(&logits);
            phase_ends(Phase::Backward);
            let part = BatchPass { gradients, outcome: StepOutcome { loss, correct } };
            match &mut whole {
                None => whole = Some(part),
                Some(whole) => whole.add(part),
            }
        }
        whole.context("a batch has no images")
    }

    fn update(&mut self, pass: BatchPass) -> Result<StepOutcome> {
        let BatchPass { mut gradients, outcome } = pass;
        let scale = self.loss_scale.as_mut();
        let found_inf = scale.map(|scale| scale.unscale(&gradients)).transpose()?;
        if let Some(max_norm) = self.recipe.clip_grad_norm {
            tch::no_grad(|| self.optimizer.clip(&mut gradients, max_norm));
        }
        self.optimizer.step(&gradients, found_inf.as_ref())?;
        Ok(outcome)
    }

    fn halve_micro_batches(&mut self, reason: anyhow::Error) -> Result<()> {
        let size = self.micro_batch_size();
        if size <= self.recipe.at_smallest_size(self.network.spec()).smallest_batch() {
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
        self.replay.restart();
        Ok(())
    }

    /// Prepares [`Trainer::result`] for an evaluation after the last step of an epoch: computes batch norm's running
    /// statistics for averaged weights, if their average is no good estimate.
    ///
    /// # Errors
    /// An operation of libtorch failed.
    pub fn settle(&self, epoch: &Epoch) -> Result<()> {
        let average =
            self.average.as_ref().filter(|average| average.needs_statistics(epoch.step()));
        let Some(average) = average else { return Ok(()) };
        let mut images = 0;
        statistics::recompute(average.network(), |index| {
            let batch = match images < STATISTICS_IMAGES {
                true => epoch.batch(index, self.dataset)?,
                false => None,
            };
            let Some(batch) = batch else { return Ok(false) };
            let batch = batch.range(&(0..batch.len().min(self.micro_batch_size())));
            images += batch.len();
            let noise = Noise::of(self.recipe.seed, epoch.step(), index as u64);
            let _ = average.network().forward(&self.preprocess.apply(&batch), Mode::Train(noise));
            Ok(true)
        })
    }

    /// Reads the results of all steps of the epoch into its sums.
    ///
    /// # Errors
    /// The run has [diverged](super::divergence::Diverged).
    pub fn sync(&self, epoch: &mut Epoch) -> Result<()> {
        match epoch.sync()? {
            None => Ok(()),
            Some((step, loss)) => {
                Err(self.diverged(format!("the loss became {loss}"), epoch.number(), step))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Images;
    use crate::model::parameters::Creation;
    use crate::model::spec::{Choices, Init, Spec};
    use tch::Device;

    const COUNT: usize = 18;

    fn images() -> Dataset {
        let images = Images {
            pixels: (0..COUNT * 64).map(|i| (i * i % 251) as u8).collect(),
            labels: (0..COUNT).map(|i| (i % 10) as u8).collect(),
            count: COUNT,
            channels: 1,
            height: 8,
            width: 8,
        };
        Dataset::new(&images, Device::Cpu)
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

    /// Trains an epoch of three steps. `before` is called before the second step. In the second step, the device runs
    /// out of memory `failures` times.
    fn train(
        size: usize,
        recompute: bool,
        failures: usize,
        before: impl FnOnce(&mut Trainer),
    ) -> Result<(Vec<Tensor>, EpochSums, usize)> {
        tch::set_num_threads(1);
        let recipe = Recipe { batch_size: 6, recompute, ..Recipe::default() };
        let (network, images) = (network(size), images());
        let preprocess = Preprocess::new(&[0.5], &[0.5], size, (Kind::Float, Device::Cpu));
        let mut trainer = Trainer::new(&network, &images, &preprocess, &recipe);
        let mut epoch = trainer.epoch(1, EpochSums::default());
        trainer.step(&mut epoch)?;
        before(&mut trainer);
        let mut failures_left = failures;
        trainer.step_in_phases(&mut epoch, &mut |phase| {
            // At this point, batch norm's running statistics have already changed.
            if phase == Phase::Forward && failures_left > 0 {
                failures_left -= 1;
                panic!("{}", "Torch(\"CUDA out of memory. Tried to allocate 1 GiB\")");
            }
        })?;
        trainer.step(&mut epoch)?;
        trainer.sync(&mut epoch)?;
        assert!(epoch.is_over());
        let state = network.parameters().iter().map(|p| p.tensor.detach().copy());
        let saved = trainer.save();
        let state = state.chain(saved.iter().map(|(_, tensor)| tensor.copy()));
        Ok((state.collect(), *epoch.sums(), trainer.accumulate))
    }

    #[test]
    fn a_step_without_enough_memory_is_taken_in_smaller_parts_from_the_same_state() {
        // There are never more parts than images. Otherwise the run could not be resumed.
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
    fn steps_are_computed_where_none_can_be_recorded() {
        // With a CUDA device, scripts/gpu-check compares replayed steps with computed steps.
        if !crate::cuda::open_cuda().is_usable() {
            let (expected, expected_sums, _) = train(8, false, 0, |_| {}).unwrap();
            let (state, sums, _) = train(8, false, 0, |trainer| {
                trainer.replay = Replay::After { steps: 0, index: 0 };
            })
            .unwrap();
            assert_eq!(state, expected);
            assert_eq!(sums.loss, expected_sums.loss);
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
