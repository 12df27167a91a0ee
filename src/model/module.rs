//! The interface of a layer of a network, and a sequence of layers.

use super::weights::Copies;
use crate::random::{self, Purpose};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tch::Tensor;

/// What a forward pass is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Training: batch norm uses the batch's statistics and updates its running statistics. Dropout draws this noise.
    Train(Noise),
    /// Training, when activations are computed a second time for the backward pass: batch norm uses the batch's
    /// statistics and does not change its running statistics.
    Recompute(Noise),
    /// Evaluation: batch norm uses its running statistics, and there is no noise.
    Evaluate,
}

impl Mode {
    /// The noise of a pass in training.
    pub fn noise(self) -> Option<Noise> {
        match self {
            Mode::Train(noise) | Mode::Recompute(noise) => Some(noise),
            Mode::Evaluate => None,
        }
    }
}

/// The random numbers that layers draw in a pass of training. They are a pure function of the run's seed, the step, the
/// micro-batch and the layer's name. So a resumed run and a second forward pass draw the same numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Noise(u64);

impl Noise {
    /// The noise of a micro-batch, counted from 0, of an optimizer step.
    pub fn of(seed: u64, step: u64, micro_batch: u64) -> Self {
        let mut generator = random::generator(seed, Purpose::Noise, step);
        generator.set_stream(micro_batch);
        Self(generator.next_u64())
    }

    /// The generator of the layer with this name.
    pub fn generator(self, layer: &str) -> ChaCha8Rng {
        random::generator(self.0, Purpose::Noise, random::name_index(layer))
    }
}

/// A forward pass.
#[derive(Debug, Clone, Copy)]
pub struct Pass<'a> {
    /// What it is for.
    pub mode: Mode,
    /// Copies of weights in the dtype of the activations. A layer converts its weight itself if there is no copy of it.
    pub copies: &'a Copies,
}

impl Pass<'static> {
    /// An evaluation without copies.
    pub const EVALUATION: Self = Self { mode: Mode::Evaluate, copies: &Copies::NONE };
}

/// A part of a network that can be computed. It replaces tch's `ModuleT`, which has only a `bool` and so cannot express
/// [`Mode::Recompute`].
pub trait Module: std::fmt::Debug {
    /// The output for the input `xs`.
    ///
    /// # Panics
    /// Panics like tch's own operations if an operation of libtorch fails.
    fn forward(&self, xs: &Tensor, pass: Pass) -> Tensor;
}

/// Modules that are computed one after the other, like tch's `SequentialT`. A sequence without modules returns its
/// input.
#[derive(Debug)]
pub struct Sequential(Vec<Box<dyn Module>>);

impl FromIterator<Box<dyn Module>> for Sequential {
    fn from_iter<I: IntoIterator<Item = Box<dyn Module>>>(modules: I) -> Self {
        Self(modules.into_iter().collect())
    }
}

impl Module for Sequential {
    fn forward(&self, xs: &Tensor, pass: Pass) -> Tensor {
        match self.0.split_first() {
            None => xs.shallow_clone(),
            Some((first, rest)) => {
                rest.iter().fold(first.forward(xs, pass), |xs, module| module.forward(&xs, pass))
            }
        }
    }
}
