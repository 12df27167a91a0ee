//! The residual block as a module.

use super::layers::{BatchNorm2d, sequential};
use super::module::{Mode, Module, Sequential};
use super::parameters::Parameters;
use super::plan::{self, BlockPlan};
use tch::Tensor;

/// A residual block: a main path and a shortcut from the same input, and their join. Every kind of block has this
/// structure.
#[derive(Debug)]
pub struct Residual {
    main: Sequential,
    join: Join,
    shortcut: Sequential,
}

impl Residual {
    /// The module of a planned block; its tensors are created in `parameters`.
    pub fn new(block: &BlockPlan, parameters: &mut Parameters) -> Self {
        // Struct fields are evaluated in this order, which is the order of torchvision's tensors.
        Self {
            main: sequential(&block.main, parameters),
            join: Join::new(&block.join, parameters),
            shortcut: sequential(&block.shortcut, parameters),
        }
    }
}

impl Module for Residual {
    fn forward(&self, xs: &Tensor, mode: Mode) -> Tensor {
        let main = self.main.forward(xs, mode);
        let shortcut = self.shortcut.forward(xs, mode);
        self.join.forward(&main, &shortcut, mode)
    }
}

/// How a block joins its main path and its shortcut.
#[derive(Debug)]
pub enum Join {
    /// norm(main) + shortcut, then the norm's ReLU.
    NormAdd(BatchNorm2d),
}

impl Join {
    /// The module of a planned join.
    pub fn new(join: &plan::Join, parameters: &mut Parameters) -> Self {
        match join {
            plan::Join::NormAdd(norm) => Self::NormAdd(BatchNorm2d::new(norm, parameters)),
        }
    }

    /// Computes the block's output from the outputs of its two paths.
    pub fn forward(&self, main: &Tensor, shortcut: &Tensor, mode: Mode) -> Tensor {
        match self {
            Self::NormAdd(norm) => norm.forward_sum(main, Some(shortcut), mode),
        }
    }
}
