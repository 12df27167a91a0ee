//! The residual block, and the factories that make one out of a spec.

use super::layers::{BatchNorm2d, Conv2d, ZeroPad};
use super::parameters::Scope;
use super::spec::{Block, Shortcut, Spec};
use tch::Tensor;
use tch::nn::{self, ModuleT, SequentialT};

/// relu(norm(main(x)) + shortcut(x)); one shape for every kind of block.
#[derive(Debug)]
pub struct Residual {
    main: SequentialT,
    /// The batch norm that ends the main branch, with the sum and the ReLU.
    norm: BatchNorm2d,
    shortcut: SequentialT,
}

impl ModuleT for Residual {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let ys = self.main.forward_t(xs, train);
        let shortcut = self.shortcut.forward_t(xs, train);
        self.norm.forward_sum(&ys, Some(&shortcut), train)
    }
}

/// A block of the spec's kind: `inputs` channels in, `width` × the kind's expansion out, the image
/// shrunk by `stride`. Names are torchvision's, below `scope`.
pub fn residual(
    scope: &Scope,
    spec: &Spec,
    inputs: usize,
    width: usize,
    stride: usize,
) -> Residual {
    let (main, norm) = match spec.block {
        Block::Basic => basic(scope, spec, inputs, width, stride),
        Block::Bottleneck => bottleneck(scope, spec, inputs, width, stride),
    };
    Residual {
        main,
        norm: norm.then_relu(),
        shortcut: shortcut(scope, spec, inputs, width * spec.block.expansion(), stride),
    }
}

fn basic(
    scope: &Scope,
    spec: &Spec,
    inputs: usize,
    width: usize,
    stride: usize,
) -> (SequentialT, BatchNorm2d) {
    let bias = spec.conv_bias();
    let main = nn::seq_t()
        .add(Conv2d::new(&scope.sub("conv1"), inputs, width, 3, stride, bias))
        .add(BatchNorm2d::new(&scope.sub("bn1"), width, 1.0).then_relu())
        .add(Conv2d::new(&scope.sub("conv2"), width, width, 3, 1, bias));
    (main, BatchNorm2d::new(&scope.sub("bn2"), width, scope.residual_scale()))
}

fn bottleneck(
    scope: &Scope,
    spec: &Spec,
    inputs: usize,
    width: usize,
    stride: usize,
) -> (SequentialT, BatchNorm2d) {
    let bias = spec.conv_bias();
    let outputs = width * Block::Bottleneck.expansion();
    let main = nn::seq_t()
        .add(Conv2d::new(&scope.sub("conv1"), inputs, width, 1, 1, bias))
        .add(BatchNorm2d::new(&scope.sub("bn1"), width, 1.0).then_relu())
        .add(Conv2d::new(&scope.sub("conv2"), width, width, 3, stride, bias))
        .add(BatchNorm2d::new(&scope.sub("bn2"), width, 1.0).then_relu())
        .add(Conv2d::new(&scope.sub("conv3"), width, outputs, 1, 1, bias));
    (main, BatchNorm2d::new(&scope.sub("bn3"), outputs, scope.residual_scale()))
}

/// The empty sequence, the identity, where input and output have one shape.
fn shortcut(
    scope: &Scope,
    spec: &Spec,
    inputs: usize,
    outputs: usize,
    stride: usize,
) -> SequentialT {
    if inputs == outputs && stride == 1 {
        return nn::seq_t();
    }
    let scope = scope.sub("downsample");
    match spec.shortcut {
        Shortcut::Projection => nn::seq_t()
            .add(Conv2d::new(&scope.sub(0), inputs, outputs, 1, stride, false))
            .add(BatchNorm2d::new(&scope.sub(1), outputs, 1.0)),
        Shortcut::PlainConv => {
            nn::seq_t().add(Conv2d::new(&scope.sub(0), inputs, outputs, 1, stride, true))
        }
        Shortcut::ZeroPad => nn::seq_t().add(ZeroPad { stride, new_channels: outputs - inputs }),
    }
}
