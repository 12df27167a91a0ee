//! The residual block as a module.

use super::layers::{BatchNorm2d, sequential};
use super::module::{Module, Pass, Sequential};
use super::parameters::Parameters;
use super::plan::BlockPlan;
use tch::Tensor;

/// A residual block: layers before its two paths, a main path, a shortcut, their sum, and layers after it. Every kind of
/// block has this structure.
#[derive(Debug)]
pub struct Residual {
    before: Sequential,
    main: Sequential,
    /// The batch norm at the end of the main path, if there is one. With the sum and a ReLU after it, it is computed in
    /// fewer passes over memory than one after the other.
    last_norm: Option<BatchNorm2d>,
    /// `None` in a network without shortcuts.
    shortcut: Option<Sequential>,
    after: Sequential,
}

impl Residual {
    /// The module of a planned block; its tensors are created in `parameters`.
    pub fn new(block: &BlockPlan, parameters: &mut Parameters) -> Self {
        let (main, last_norm, after) = block.split_end();
        // Struct fields are evaluated in this order, which is the order of torchvision's tensors.
        Self {
            before: sequential(&block.before, parameters),
            main: sequential(main, parameters),
            last_norm: last_norm.map(|norm| BatchNorm2d::new(&norm, parameters)),
            shortcut: block.shortcut.as_ref().map(|layers| sequential(layers, parameters)),
            after: sequential(after, parameters),
        }
    }
}

impl Module for Residual {
    fn forward(&self, xs: &Tensor, pass: Pass) -> Tensor {
        let xs = self.before.forward(xs, pass);
        let main = self.main.forward(&xs, pass);
        let shortcut = self.shortcut.as_ref().map(|shortcut| shortcut.forward(&xs, pass));
        let sum = match (&self.last_norm, shortcut) {
            (Some(norm), shortcut) => norm.forward_sum(&main, shortcut.as_ref(), pass.mode),
            (None, Some(shortcut)) => main + shortcut,
            (None, None) => main,
        };
        self.after.forward(&sum, pass)
    }
}
