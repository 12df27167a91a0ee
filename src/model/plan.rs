//! The network as plain data, derived from a [`Spec`]. It has no tensors and does not use libtorch.
//!
//! This is the only module that defines the structure of a residual network. The plan is read by the code that builds
//! modules ([`network`](super::network), [`block`](super::block)), by folded inference ([`folded`](super::folded)), by
//! the code for shapes and costs ([`shape`](super::shape)), and by the check of a checkpoint's tensors. A new block,
//! stem or shortcut needs a new variant of an enum in [`spec`](super::spec), and its plan here. A new kind of layer
//! needs a new variant of [`Layer`]; the compiler then names each place that must handle it.

mod tensors;

pub use tensors::{Initial, PlannedTensor, Role, learned_numbers};

use super::spec::{Block, Shortcut, Spec, Stem};
use std::fmt;

/// A residual network: stem, stages and head, in the order of computation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The layers before the first stage.
    pub stem: Vec<Layer>,
    /// The stages.
    pub stages: Vec<Stage>,
    /// The layers after the last stage.
    pub head: Vec<Layer>,
}

/// Blocks that share their width.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// torchvision's name, such as `layer1`.
    pub name: String,
    /// The blocks, in the order of computation.
    pub blocks: Vec<BlockPlan>,
}

/// A residual block: the sum of a main path and a shortcut, both from the block's input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockPlan {
    /// torchvision's name, such as `layer1.0`.
    pub name: String,
    /// The kind of block.
    pub kind: Block,
    /// The main path.
    pub main: Vec<Layer>,
    /// The shortcut; empty for the identity.
    pub shortcut: Vec<Layer>,
    /// Whether a ReLU follows the sum.
    pub relu_after_sum: bool,
}

/// A layer with its name and sizes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layer {
    /// 2-d convolution.
    Conv(Conv),
    /// Batch norm.
    Norm(Norm),
    /// Max pooling.
    MaxPool(MaxPool),
    /// Mean over all pixels of a channel.
    GlobalAvgPool(GlobalAvgPool),
    /// All dimensions except the first become one.
    Flatten(Flatten),
    /// Affine map.
    Linear(Linear),
    /// A shortcut without parameters.
    ZeroPad(ZeroPad),
}

/// 2-d convolution with a square kernel, [N, inputs, H, W] → [N, outputs, H', W'].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conv {
    /// torchvision's name.
    pub name: String,
    /// Channels of the input.
    pub inputs: usize,
    /// Channels of the output.
    pub outputs: usize,
    /// Height and width of the kernel, in pixels.
    pub kernel: usize,
    /// Step between two positions of the kernel, in pixels.
    pub stride: usize,
    /// Zeros at each edge of the input, in pixels.
    pub padding: usize,
    /// Whether a bias is added.
    pub has_bias: bool,
}

/// Batch norm over [N, H, W], with or without a ReLU after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Norm {
    /// torchvision's name.
    pub name: String,
    /// Channels of input and output.
    pub channels: usize,
    /// Whether a ReLU follows.
    pub relu: bool,
    /// Whether it ends a block's main path. `--zero-init-residual` then starts its scale at 0.
    pub ends_main_path: bool,
}

/// Max pooling with a square window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaxPool {
    /// torchvision's name.
    pub name: String,
    /// Height and width of the window, in pixels.
    pub kernel: usize,
    /// Step between two positions of the window, in pixels.
    pub stride: usize,
    /// Padding at each edge of the input, in pixels.
    pub padding: usize,
}

/// Mean over each channel's pixels, [N, C, H, W] → [N, C, 1, 1].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GlobalAvgPool {
    /// torchvision's name.
    pub name: String,
}

/// [N, C, H, W] → [N, C·H·W].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flatten {
    /// Its name. torchvision has no module for this layer.
    pub name: String,
}

/// Affine map with a bias, [N, inputs] → [N, outputs].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Linear {
    /// torchvision's name.
    pub name: String,
    /// Features of the input.
    pub inputs: usize,
    /// Features of the output.
    pub outputs: usize,
}

/// Every `stride`-th pixel in both directions, followed by `new_channels` channels of zeros (He et al. 2016,
/// section 3.3, option A).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZeroPad {
    /// Its name. torchvision has no such layer.
    pub name: String,
    /// Distance between two pixels that are kept, in pixels.
    pub stride: usize,
    /// Number of zero channels that are added to the input's channels.
    pub new_channels: usize,
}

impl Plan {
    /// The network of a spec.
    pub fn new(spec: &Spec) -> Self {
        let mut inputs = spec.width;
        let mut stages = Vec::new();
        for (index, &count) in spec.blocks.iter().enumerate() {
            let name = format!("layer{}", index + 1);
            let width = spec.width << index;
            let outputs = width * spec.block.expansion();
            let mut blocks = Vec::new();
            for block in 0..count {
                // The first block of each later stage halves the image.
                let stride = if index > 0 && block == 0 { 2 } else { 1 };
                let channels = Channels { inputs, width, outputs };
                blocks.push(plan_block(format!("{name}.{block}"), spec, channels, stride));
                inputs = outputs;
            }
            stages.push(Stage { name, blocks });
        }
        Self { stem: plan_stem(spec), stages, head: plan_head(inputs, spec.classes) }
    }

    /// The blocks of all stages, in the order of computation.
    pub fn blocks(&self) -> impl Iterator<Item = &BlockPlan> {
        self.stages.iter().flat_map(|stage| &stage.blocks)
    }
}

/// Channels of a block.
#[derive(Debug, Clone, Copy)]
struct Channels {
    inputs: usize,
    width: usize,
    outputs: usize,
}

fn plan_stem(spec: &Spec) -> Vec<Layer> {
    let (kernel, stride) = match spec.stem {
        Stem::Imagenet => (7, 2),
        Stem::Cifar => (3, 1),
    };
    let bias = convs_have_bias(spec);
    let mut stem = vec![
        conv("conv1", (spec.channels, spec.width), kernel, stride, bias),
        norm("bn1", spec.width, true),
    ];
    match spec.stem {
        Stem::Imagenet => {
            let name = "maxpool".to_owned();
            stem.push(Layer::MaxPool(MaxPool { name, kernel: 3, stride: 2, padding: 1 }));
        }
        Stem::Cifar => {}
    }
    stem
}

fn plan_block(name: String, spec: &Spec, channels: Channels, stride: usize) -> BlockPlan {
    let Channels { inputs, width, outputs } = channels;
    let bias = convs_have_bias(spec);
    // Kernel, stride and channels of the main path's convolutions; a batch norm follows each.
    let convs: &[(usize, usize, (usize, usize))] = match spec.block {
        Block::Basic => &[(3, stride, (inputs, width)), (3, 1, (width, outputs))],
        Block::Bottleneck => {
            &[(1, 1, (inputs, width)), (3, stride, (width, width)), (1, 1, (width, outputs))]
        }
    };
    let mut main = Vec::new();
    for (index, &(kernel, stride, channels)) in (1..).zip(convs) {
        main.push(conv(format!("{name}.conv{index}"), channels, kernel, stride, bias));
        // The ReLU of the last norm follows the sum.
        let is_last = index == convs.len();
        main.push(Layer::Norm(Norm {
            name: format!("{name}.bn{index}"),
            channels: channels.1,
            relu: !is_last,
            ends_main_path: is_last,
        }));
    }
    let shortcut = plan_shortcut(&format!("{name}.downsample"), spec.shortcut, channels, stride);
    BlockPlan { name, kind: spec.block, main, shortcut, relu_after_sum: true }
}

fn plan_shortcut(name: &str, kind: Shortcut, channels: Channels, stride: usize) -> Vec<Layer> {
    let Channels { inputs, outputs, .. } = channels;
    if inputs == outputs && stride == 1 {
        return Vec::new();
    }
    let first = format!("{name}.0");
    match kind {
        Shortcut::Projection => vec![
            conv(first, (inputs, outputs), 1, stride, false),
            norm(format!("{name}.1"), outputs, false),
        ],
        Shortcut::PlainConv => vec![conv(first, (inputs, outputs), 1, stride, true)],
        Shortcut::ZeroPad => {
            let new_channels = outputs - inputs;
            vec![Layer::ZeroPad(ZeroPad { name: first, stride, new_channels })]
        }
    }
}

fn plan_head(features: usize, classes: usize) -> Vec<Layer> {
    vec![
        Layer::GlobalAvgPool(GlobalAvgPool { name: "avgpool".to_owned() }),
        Layer::Flatten(Flatten { name: "flatten".to_owned() }),
        Layer::Linear(Linear { name: "fc".to_owned(), inputs: features, outputs: classes }),
    ]
}

/// The network of Dive into Deep Learning has biases, although the batch norm after most of them cancels them.
fn convs_have_bias(spec: &Spec) -> bool {
    spec.shortcut == Shortcut::PlainConv
}

/// A convolution whose padding keeps the image's size at a stride of 1.
fn conv(
    name: impl Into<String>,
    (inputs, outputs): (usize, usize),
    kernel: usize,
    stride: usize,
    has_bias: bool,
) -> Layer {
    let padding = kernel / 2;
    Layer::Conv(Conv { name: name.into(), inputs, outputs, kernel, stride, padding, has_bias })
}

fn norm(name: impl Into<String>, channels: usize, relu: bool) -> Layer {
    Layer::Norm(Norm { name: name.into(), channels, relu, ends_main_path: false })
}

impl Layer {
    /// Its name: torchvision's, if torchvision has such a module.
    pub fn name(&self) -> &str {
        match self {
            Layer::Conv(Conv { name, .. })
            | Layer::Norm(Norm { name, .. })
            | Layer::MaxPool(MaxPool { name, .. })
            | Layer::GlobalAvgPool(GlobalAvgPool { name })
            | Layer::Flatten(Flatten { name })
            | Layer::Linear(Linear { name, .. })
            | Layer::ZeroPad(ZeroPad { name, .. }) => name,
        }
    }
}

impl fmt::Display for Layer {
    /// A short description for users, such as `conv 7×7/2`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Layer::Conv(Conv { kernel, stride, .. }) => {
                write!(f, "conv {kernel}×{kernel}/{stride}")
            }
            Layer::Norm(Norm { relu: true, .. }) => write!(f, "batch norm, relu"),
            Layer::Norm(Norm { relu: false, .. }) => write!(f, "batch norm"),
            Layer::MaxPool(MaxPool { kernel, stride, .. }) => {
                write!(f, "max pool {kernel}×{kernel}/{stride}")
            }
            Layer::GlobalAvgPool(_) => write!(f, "pool"),
            Layer::Flatten(_) => write!(f, "flatten"),
            Layer::Linear(_) => write!(f, "linear"),
            Layer::ZeroPad(ZeroPad { stride, .. }) => write!(f, "zero pad/{stride}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::shape::measure;
    use super::super::spec::Choices;
    use super::*;

    /// The spec computes depth and sizes before a plan exists, so that errors about impossible networks can name the
    /// flag.
    #[test]
    fn the_depth_and_the_last_size_of_a_spec_are_those_of_its_plan() {
        for (depth, size) in [(18, 33), (50, 96), (20, 13), (56, 8)] {
            let choices = Choices {
                depth: Some(depth),
                channels: 3,
                classes: 10,
                size,
                ..Choices::default()
            };
            let spec = Spec::resolve(&choices).unwrap();
            let plan = Plan::new(&spec);
            let blocks = plan.blocks().flat_map(|block| &block.main);
            let layers = plan.stem.iter().chain(blocks).chain(&plan.head);
            let has_weight =
                |layer: &&Layer| layer.tensors().iter().any(|tensor| tensor.role == Role::Weight);
            assert_eq!(layers.filter(has_weight).count(), spec.depth());
            let stages = measure(&spec, 1);
            let last = &stages[plan.stages.len()].layer.output;
            assert_eq!(last[2..], [spec.last_size() as i64; 2], "depth {depth}");
        }
    }
}
