//! The residual block as a module.

use super::layers::{BatchNorm2d, sequential};
use super::module::{Module, Pass, Sequential};
use super::parameters::Parameters;
use super::plan::{BlockPlan, Layer, Norm};
use tch::Tensor;

/// A residual block: a main path and a shortcut from the same input, and their sum. Every kind of block has this
/// structure.
#[derive(Debug)]
pub struct Residual {
    main: Sequential,
    /// The batch norm at the end of the main path, if there is one. With the sum and the ReLU it is computed in fewer
    /// passes over memory than one after the other.
    last_norm: Option<BatchNorm2d>,
    shortcut: Sequential,
    relu_after_sum: bool,
}

impl Residual {
    /// The module of a planned block; its tensors are created in `parameters`.
    pub fn new(block: &BlockPlan, parameters: &mut Parameters) -> Self {
        let relu_after_sum = block.relu_after_sum;
        let (main, last_norm) = match block.main.split_last() {
            Some((Layer::Norm(norm), main)) if !norm.relu => {
                (main, Some(Norm { relu: relu_after_sum, ..norm.clone() }))
            }
            _ => (block.main.as_slice(), None),
        };
        // Struct fields are evaluated in this order, which is the order of torchvision's tensors.
        Self {
            main: sequential(main, parameters),
            last_norm: last_norm.map(|norm| BatchNorm2d::new(&norm, parameters)),
            shortcut: sequential(&block.shortcut, parameters),
            relu_after_sum,
        }
    }
}

impl Module for Residual {
    fn forward(&self, xs: &Tensor, pass: Pass) -> Tensor {
        let main = self.main.forward(xs, pass);
        let shortcut = self.shortcut.forward(xs, pass);
        match &self.last_norm {
            Some(norm) => norm.forward_sum(&main, Some(&shortcut), pass.mode),
            None => sum(&main, &shortcut, self.relu_after_sum),
        }
    }
}

/// The sum of a block's two paths, followed by a ReLU if `relu`.
pub(super) fn sum(main: &Tensor, shortcut: &Tensor, relu: bool) -> Tensor {
    let sum = main + shortcut;
    if relu { sum.relu() } else { sum }
}
