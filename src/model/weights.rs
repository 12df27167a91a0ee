//! The weights of convolutions, and their copies in the dtype of the activations.
//!
//! Weights are 32-bit floats. If a network computes in 16 bits, each pass needs a copy of every weight in 16 bits, and
//! converts the copies' gradients back. For many small tensors one by one, a GPU takes longer to start these
//! conversions than to do them. So all weights of a pass are copied together.

use crate::libtorch;
use tch::{Kind, Tensor};

/// A weight or a bias of a convolution.
#[derive(Debug)]
pub struct Weight {
    values: Tensor,
    /// Its position among all weights of its network.
    position: usize,
}

impl Weight {
    /// The weight with these values, which has this position among all weights of its network.
    pub fn new(values: &Tensor, position: usize) -> Self {
        Self { values: values.shallow_clone(), position }
    }

    /// The weight in this dtype: its copy, or else the result of a conversion.
    pub fn in_kind(&self, kind: Kind, copies: &Copies) -> Tensor {
        let copy = self.position.checked_sub(copies.first).and_then(|at| copies.tensors.get(at));
        // `to_kind` returns the same tensor if it already has this dtype.
        copy.unwrap_or(&self.values).to_kind(kind)
    }
}

/// Copies of weights that follow each other in a network.
#[derive(Debug)]
pub struct Copies {
    /// The position of the first one.
    first: usize,
    tensors: Vec<Tensor>,
}

impl Copies {
    /// No copies.
    pub const NONE: Self = Self { first: 0, tensors: Vec::new() };

    /// Copies of `weights` in the dtype of `activations`, with gradients. There are none if the weights have this dtype
    /// already.
    ///
    /// # Panics
    /// Panics like tch's own operations if an operation of libtorch fails.
    pub fn new(weights: &[Weight], activations: &Tensor) -> Self {
        let Some(first) = weights.first() else { return Self::NONE };
        if first.values.kind() == activations.kind() {
            return Self::NONE;
        }
        let originals: Vec<&Tensor> = weights.iter().map(|weight| &weight.values).collect();
        let tensors = libtorch::or_panic(libtorch::copies(&originals, activations));
        Self { first: first.position, tensors }
    }
}
