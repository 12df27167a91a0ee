//! A run as an iterator of events: epochs of training, and the evaluations between them.
//!
//! Between two events, the caller decides whether to save, to stop or to continue.

use super::epoch::{Epoch, EpochSums};
use super::evaluate::{Evaluation, Evaluator};
use super::event::{EpochFigures, Event};
use super::step::Notice;
use super::trainer::Trainer;
use crate::data::dataset::Dataset;
use crate::error::one_line;
use anyhow::{Result, bail};
use std::collections::VecDeque;
use std::time::Instant;

/// Where a run stands between two steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Position {
    /// Epochs that are over.
    pub epoch: u64,
    /// Optimizer steps since the start of the run.
    pub step: u64,
    /// The sums of an epoch that is not over.
    pub in_epoch: Option<EpochSums>,
}

impl Position {
    /// Before the first step.
    pub const START: Self = Self { epoch: 0, step: 0, in_epoch: None };
}

/// The images that a run is evaluated on.
#[derive(Debug, Clone, Copy)]
pub struct EvalSets<'a> {
    /// The test images. They are never used to choose a checkpoint.
    pub test: &'a Dataset,
    /// Training images that are held out, if any.
    pub validation: Option<&'a Dataset>,
}

/// A run under way. It ends after the recipe's last epoch.
#[derive(Debug)]
pub struct Run<'a> {
    trainer: Trainer<'a>,
    sets: EvalSets<'a>,
    activity: Activity<'a>,
    /// The last evaluation of the test images.
    test: Option<Evaluation>,
    /// Events that happened and were not returned yet.
    events: VecDeque<Event>,
    /// Epochs from one [`Event::Histograms`] to the next; 0 for none.
    histograms_every: u64,
}

/// What a run does next.
#[derive(Debug)]
enum Activity<'a> {
    /// It begins or continues the epoch at this position.
    Start(Position),
    /// It takes the steps of an epoch.
    Training(Box<Epoch>),
    /// It evaluates after an epoch.
    Evaluating(Box<Epoch>, Box<Evaluations<'a>>),
    /// Nothing, because an operation failed.
    Failed,
}

/// The evaluations after an epoch: of the held-out images, then of the test images.
#[derive(Debug, Default)]
struct Evaluations<'a> {
    validation: Option<Evaluator<'a>>,
    test: Option<Evaluator<'a>>,
    /// Seconds that the evaluations took so far.
    seconds: f64,
}

/// The results of the evaluations after an epoch.
struct Evaluated {
    validation: Option<Evaluation>,
    test: Option<Evaluation>,
    /// Seconds that they took; `None` if the epoch was not evaluated.
    seconds: Option<f64>,
}

impl Evaluations<'_> {
    /// Evaluates the next batch. Returns (images that are done, all images) of the batch's data set; `None` if all
    /// batches are done.
    fn advance(&mut self) -> Result<Option<(usize, usize)>> {
        let start = Instant::now();
        for evaluator in [&mut self.validation, &mut self.test].into_iter().flatten() {
            if evaluator.advance()? {
                self.seconds += start.elapsed().as_secs_f64();
                return Ok(Some((evaluator.done(), evaluator.count())));
            }
        }
        Ok(None)
    }

    /// The results. This waits until the device is done.
    fn finish(self) -> Result<Evaluated> {
        let start = Instant::now();
        let is_done = self.test.is_some();
        let result = |evaluator: Option<Evaluator>| evaluator.map(Evaluator::finish).transpose();
        let (validation, test) = (result(self.validation)?, result(self.test)?);
        let seconds = self.seconds + start.elapsed().as_secs_f64();
        Ok(Evaluated { validation, test, seconds: is_done.then_some(seconds) })
    }
}

impl<'a> Run<'a> {
    /// A run from a position to the last epoch of the trainer's recipe.
    pub fn new(trainer: Trainer<'a>, sets: EvalSets<'a>, from: Position) -> Self {
        Self {
            trainer,
            sets,
            activity: Activity::Start(from),
            test: None,
            events: VecDeque::new(),
            histograms_every: 0,
        }
    }

    /// The run with an [`Event::Histograms`] after each of `every` epochs; 0 for none. Its other events are the same.
    #[must_use]
    pub fn with_histograms(self, every: u64) -> Self {
        Self { histograms_every: every, ..self }
    }

    /// The last evaluation of the test images in this process.
    pub fn test(&self) -> Option<&Evaluation> {
        self.test.as_ref()
    }

    /// The images that the run is evaluated on.
    pub fn sets(&self) -> EvalSets<'a> {
        self.sets
    }

    /// The network in training, its optimizer, and everything else that a checkpoint saves.
    pub fn trainer(&self) -> &Trainer<'a> {
        &self.trainer
    }

    /// Where the run stands, for a checkpoint. This waits until the device is done, and stops the epoch's clock until
    /// the next call of `next`.
    ///
    /// # Errors
    /// The run has [diverged](super::divergence::Diverged), so its state must not be saved.
    pub fn pause(&mut self) -> Result<Position> {
        if let Activity::Training(epoch) = &mut self.activity {
            self.trainer.sync(epoch)?;
            epoch.stop_clock();
        }
        match &self.activity {
            Activity::Start(position) => Ok(*position),
            Activity::Training(epoch) | Activity::Evaluating(epoch, _) => {
                self.trainer.check_finite(epoch, &[])?;
                let in_epoch = Some(*epoch.sums());
                Ok(Position { epoch: epoch.number() - 1, step: epoch.step(), in_epoch })
            }
            Activity::Failed => bail!("the run has failed"),
        }
    }

    /// Continues until there is an event. `None` at the end of the run.
    fn advance(&mut self) -> Result<Option<Event>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            self.activity = match std::mem::replace(&mut self.activity, Activity::Failed) {
                Activity::Start(from) if from.epoch < self.trainer.recipe().epochs => {
                    self.start(from)
                }
                over @ Activity::Start(_) => {
                    self.activity = over;
                    return Ok(None);
                }
                Activity::Failed => return Ok(None),
                Activity::Training(epoch) if epoch.is_over() => {
                    if self.trainer.recipe().evaluates(epoch.number()) {
                        self.trainer.settle(&epoch)?;
                    }
                    let evaluations = self.evaluations(&epoch);
                    Activity::Evaluating(epoch, Box::new(evaluations))
                }
                Activity::Training(epoch) => self.train(epoch)?,
                Activity::Evaluating(epoch, evaluations) => self.evaluate(epoch, evaluations)?,
            };
        }
    }

    /// Begins or continues an epoch.
    fn start(&mut self, from: Position) -> Activity<'a> {
        let epoch = self.trainer.epoch(from.epoch + 1, from.in_epoch.unwrap_or_default());
        let steps = self.trainer.steps_per_epoch();
        self.events.push_back(Event::EpochStart { epoch: epoch.number(), steps });
        Activity::Training(Box::new(epoch))
    }

    /// Takes a step.
    fn train(&mut self, mut epoch: Box<Epoch>) -> Result<Activity<'a>> {
        epoch.start_clock();
        let notices = self.trainer.step(&mut epoch)?;
        let (number, step) = (epoch.number(), epoch.step());
        self.events.extend(notices.into_iter().map(|notice| match notice {
            Notice::Accumulates(accumulate) => {
                Event::OutOfMemory { epoch: number - 1, step, accumulate }
            }
            Notice::GraphsOff(reason) => Event::GraphsOff { step, reason: one_line(&reason) },
        }));
        let is_due = epoch.sync_is_due();
        if is_due {
            self.trainer.sync(&mut epoch)?;
        }
        self.events.push_back(Event::Step {
            epoch: number,
            step,
            lr: self.trainer.lr(&epoch),
            steps_left: epoch.steps_left(),
            sums: is_due.then_some(*epoch.sums()),
        });
        Ok(Activity::Training(epoch))
    }

    /// The evaluations that follow an epoch.
    fn evaluations(&self, epoch: &Epoch) -> Evaluations<'a> {
        let (trainer, recipe) = (&self.trainer, self.trainer.recipe());
        if !recipe.evaluates(epoch.number()) {
            return Evaluations::default();
        }
        let limit =
            recipe.limit_batches.map(|limit| limit.saturating_mul(recipe.micro_batch_size()));
        let evaluator = |images| {
            // A batch that fits in memory in training fits here too. It may not fit while a recorded step holds memory;
            // the evaluator then uses smaller batches.
            let batch_size = trainer.micro_batch_size();
            Evaluator::new(trainer.result(), images, trainer.preprocess(), batch_size, limit)
        };
        Evaluations {
            validation: self.sets.validation.map(evaluator),
            test: Some(evaluator(self.sets.test)),
            seconds: 0.0,
        }
    }

    /// Evaluates a batch, or ends the epoch if none is left.
    fn evaluate(
        &mut self,
        epoch: Box<Epoch>,
        mut evaluations: Box<Evaluations<'a>>,
    ) -> Result<Activity<'a>> {
        if let Some((images, of)) = evaluations.advance()? {
            self.events.push_back(Event::Evaluated { images, of });
            return Ok(Activity::Evaluating(epoch, evaluations));
        }
        let evaluated = evaluations.finish()?;
        let figures = self.figures(&epoch, &evaluated)?;
        self.test = evaluated.test.or(self.test.take());
        let EpochFigures { epoch: number, step, .. } = figures;
        if number.is_multiple_of(self.histograms_every) {
            let tensors = self.trainer.histograms(&epoch)?;
            self.events.push_back(Event::Histograms { epoch: number, step, tensors });
        }
        let position = Position { epoch: figures.epoch, step: figures.step, in_epoch: None };
        self.events.push_back(Event::Epoch(figures));
        Ok(Activity::Start(position))
    }

    /// The figures of an epoch that is over. It fails if a loss or a weight is not finite.
    fn figures(&self, epoch: &Epoch, evaluated: &Evaluated) -> Result<EpochFigures> {
        let Evaluated { validation, test, seconds } = evaluated;
        let losses: Vec<f64> = [validation, test].into_iter().flatten().map(|e| e.loss).collect();
        self.trainer.check_finite(epoch, &losses)?;
        let limited = |evaluation: &Option<Evaluation>, set: Option<&Dataset>| {
            let images = evaluation.as_ref()?.images;
            (images < set?.len()).then_some(images)
        };
        let sums = epoch.sums();
        Ok(EpochFigures {
            epoch: epoch.number(),
            step: epoch.step(),
            lr: self.trainer.lr(epoch),
            train_loss: sums.mean_loss(),
            train_accuracy: sums.accuracy(),
            test_loss: test.as_ref().map(|test| test.loss),
            test_accuracy: test.as_ref().map(Evaluation::accuracy),
            test_images: limited(test, Some(self.sets.test)),
            validation_loss: validation.as_ref().map(|validation| validation.loss),
            validation_accuracy: validation.as_ref().map(Evaluation::accuracy),
            validation_images: limited(validation, self.sets.validation),
            images_per_second: sums.images_per_second(),
            seconds: sums.seconds,
            evaluation_seconds: *seconds,
        })
    }
}

impl Iterator for Run<'_> {
    type Item = Result<Event>;

    /// Continues until there is an event.
    ///
    /// An error means that the run has [diverged](super::divergence::Diverged), or that an operation of libtorch
    /// failed. It ends the run.
    fn next(&mut self) -> Option<Self::Item> {
        self.advance().transpose()
    }
}
