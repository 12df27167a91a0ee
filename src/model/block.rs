//! The residual block as a module.

use super::layers::{BatchNorm2d, sequential};
use super::module::{Module, Pass, Sequential};
use super::parameters::Parameters;
use super::plan::{BlockPlan, Layer, Norm};
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
        let (main, after, last_norm) = match (block.main.split_last(), block.after.split_first()) {
            (Some((Layer::Norm(norm), main)), Some((Layer::Relu(_), after))) if !norm.relu => {
                (main, after, Some(Norm { relu: true, ..norm.clone() }))
            }
            (Some((Layer::Norm(norm), main)), _) if !norm.relu => {
                (main, block.after.as_slice(), Some(norm.clone()))
            }
            _ => (block.main.as_slice(), block.after.as_slice(), None),
        };
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
