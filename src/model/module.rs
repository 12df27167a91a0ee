//! The interface of a layer of a network, and a sequence of layers.

use super::weights::Copies;
use tch::Tensor;

/// What a forward pass is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Training: batch norm uses the batch's statistics and updates its running statistics.
    Train,
    /// Training, when activations are computed a second time for the backward pass: batch norm uses the batch's
    /// statistics and does not change its running statistics.
    Recompute,
    /// Evaluation: batch norm uses its running statistics.
    Evaluate,
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
