//! The network as plain data, derived from a [`Spec`]. It has no tensors and does not use libtorch.
//!
//! This is the only module that defines the structure of a residual network. The plan is read by the code that builds
//! modules ([`network`](super::network), [`block`](super::block)), by folded inference ([`folded`](super::folded)), by
//! the code for shapes and costs ([`shape`](super::shape)), and by the check of a checkpoint's tensors. A new block,
//! stem or shortcut needs a new variant of an enum in [`spec`](super::spec), and its plan here. A new kind of layer
//! needs a new variant of [`Layer`]; the compiler then names each place that must handle it.

mod layer;
mod tensors;

pub use layer::{
    AvgPool, Conv, DropPath, Dropout, Flatten, GlobalAvgPool, Layer, Linear, MaxPool, Norm, Relu,
    Scale, SqueezeExcite, ZeroPad,
};
pub use tensors::{Initial, PlannedTensor, Role, learned_numbers};

use super::spec::{Block, Groups, Placement, SE_REDUCTION, Shortcut, Spec, Stem};

/// A residual network: stem, stages and head, in the order of computation.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The layers before the first stage.
    pub stem: Vec<Layer>,
    /// The stages.
    pub stages: Vec<Stage>,
    /// The layers after the last stage.
    pub head: Vec<Layer>,
}

/// Blocks that share their width.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// torchvision's name, such as `layer1`.
    pub name: String,
    /// The blocks, in the order of computation.
    pub blocks: Vec<BlockPlan>,
}

/// A residual block. Its layers are computed in this order: `before`, then the main path and the shortcut, both from
/// the output of `before`, then their sum, then `after`.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockPlan {
    /// torchvision's name, such as `layer1.0`.
    pub name: String,
    /// The kind of block.
    pub kind: Block,
    /// The layers before the two paths; often none.
    pub before: Vec<Layer>,
    /// The main path.
    pub main: Vec<Layer>,
    /// The shortcut: no layers for the identity, and `None` in a network without shortcuts, which has no sum.
    pub shortcut: Option<Vec<Layer>>,
    /// The layers after the sum.
    pub after: Vec<Layer>,
}

impl Plan {
    /// The network of a spec.
    pub fn new(spec: &Spec) -> Self {
        let mut inputs = spec.width;
        let mut stages = Vec::new();
        let mut place = Place { index: 0, count: spec.blocks.iter().sum() };
        for (stage, &count) in spec.blocks.iter().enumerate() {
            let name = format!("layer{}", stage + 1);
            let width = spec.stage_width() << stage;
            let inner = spec.groups.map_or(width, |groups| (groups.count * groups.width) << stage);
            let outputs = width * spec.block.expansion();
            let mut blocks = Vec::new();
            for block in 0..count {
                // The first block of each later stage halves the image.
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                let size = Size { inputs, inner, outputs, stride };
                blocks.push(plan_block(format!("{name}.{block}"), spec, size, place));
                inputs = outputs;
                place.index += 1;
            }
            stages.push(Stage { name, blocks });
        }
        Self { stem: plan_stem(spec), stages, head: plan_head(spec, inputs) }
    }

    /// The blocks of all stages, in the order of computation.
    pub fn blocks(&self) -> impl Iterator<Item = &BlockPlan> {
        self.stages.iter().flat_map(|stage| &stage.blocks)
    }

    /// Every layer, in the order of [`Plan::tensors`].
    pub fn layers(&self) -> impl Iterator<Item = &Layer> {
        let blocks = self.blocks().flat_map(BlockPlan::layers);
        self.stem.iter().chain(blocks).chain(&self.head)
    }
}

impl BlockPlan {
    /// The main path without its end, the batch norm that ends it, and the layers after the sum. If one ends it, the sum
    /// and the ReLU after it are computed in the same passes over memory (docs/decisions/0016): the ReLU is then part of
    /// this batch norm, and not of the layers after the sum.
    pub fn split_end(&self) -> (&[Layer], Option<Norm>, &[Layer]) {
        match (self.main.split_last(), self.after.split_first()) {
            (Some((Layer::Norm(norm), main)), Some((Layer::Relu(_), after))) if !norm.relu => {
                (main, Some(Norm { relu: true, ..norm.clone() }), after)
            }
            (Some((Layer::Norm(norm), main)), _) if !norm.relu => {
                (main, Some(norm.clone()), &self.after)
            }
            _ => (&self.main, None, &self.after),
        }
    }

    /// Its layers, in the order of torchvision's `state_dict`.
    pub fn layers(&self) -> impl Iterator<Item = &Layer> {
        let shortcut = self.shortcut.iter().flatten();
        self.before.iter().chain(&self.main).chain(shortcut).chain(&self.after)
    }
}

/// Channels of a block, and the stride of its 3×3 convolution.
#[derive(Debug, Clone, Copy)]
struct Size {
    inputs: usize,
    /// Between the convolutions of the main path.
    inner: usize,
    outputs: usize,
    stride: usize,
}

impl Size {
    fn changes_shape(self) -> bool {
        self.inputs != self.outputs || self.stride > 1
    }
}

/// Where a block stands among all blocks of its network.
#[derive(Debug, Clone, Copy)]
struct Place {
    index: usize,
    count: usize,
}

fn plan_stem(spec: &Spec) -> Vec<Layer> {
    let (channels, width, bias) = (spec.channels, spec.width, spec.conv_bias);
    let half = width / 2;
    // The names are timm's.
    let three = |first: usize| {
        vec![
            conv("conv1.0", (channels, first), (3, 2), bias),
            norm("conv1.1", first, true),
            conv("conv1.3", (first, half), (3, 1), bias),
            norm("conv1.4", half, true),
            conv("conv1.6", (half, width), (3, 1), bias),
        ]
    };
    let mut stem = match spec.stem {
        Stem::Imagenet => vec![conv("conv1", (channels, width), (7, 2), bias)],
        Stem::Cifar => vec![conv("conv1", (channels, width), (3, 1), bias)],
        Stem::Deep => three(half),
        Stem::Tiered => three(half / 4 * 3),
    };
    // With pre-activation, the first block begins with them.
    if spec.placement != Placement::PreActivation {
        stem.push(norm("bn1", width, true));
    }
    match spec.stem {
        Stem::Imagenet | Stem::Deep | Stem::Tiered => {
            let name = "maxpool".to_owned();
            stem.push(Layer::MaxPool(MaxPool { name, kernel: 3, stride: 2, padding: 1 }));
        }
        Stem::Cifar => {}
    }
    stem
}

fn plan_block(name: String, spec: &Spec, size: Size, place: Place) -> BlockPlan {
    let Size { inputs, inner, outputs, stride } = size;
    let groups = spec.groups.map_or(1, |groups: Groups| groups.count);
    // Channels, kernel and stride, and groups of the main path's convolutions.
    let convs: &[_] = match spec.block {
        Block::Basic => &[((inputs, inner), (3, stride), 1), ((inner, outputs), (3, 1), 1)],
        Block::Bottleneck => &[
            ((inputs, inner), (1, 1), 1),
            ((inner, inner), (3, stride), groups),
            ((inner, outputs), (1, 1), 1),
        ],
    };
    let (mut before, mut main, mut after) = (Vec::new(), Vec::new(), Vec::new());
    for (index, &((inputs, outputs), kernel_and_stride, groups)) in convs.iter().enumerate() {
        let (is_first, is_last) = (index == 0, index + 1 == convs.len());
        let layer = |kind: &str| format!("{name}.{kind}{}", index + 1);
        match spec.placement {
            Placement::PreActivation => {
                // He et al. 2016b, appendix: the first block's activation comes before the two paths split. So does
                // that of a block that changes the shape, as in the networks of the paper and in timm.
                let shared = is_first && (place.index == 0 || size.changes_shape());
                let path = if shared { &mut before } else { &mut main };
                path.push(norm(layer("bn"), inputs, true));
            }
            Placement::ReluOnlyPreActivation if is_first => main.push(relu(layer("relu"))),
            _ => {}
        }
        if is_last && spec.dropout > 0.0 {
            let name = format!("{name}.dropout");
            main.push(Layer::Dropout(Dropout { name, rate: spec.dropout }));
        }
        let mut planned = Conv {
            groups,
            ..new_conv(layer("conv"), (inputs, outputs), kernel_and_stride, spec.conv_bias)
        };
        let norm = |relu, ends_main_path| {
            let (name, channels) = (layer("bn"), outputs);
            Layer::Norm(Norm { name, channels, relu, ends_main_path })
        };
        let norm_after = match spec.placement {
            Placement::Original | Placement::ReluOnlyPreActivation => Some(norm(!is_last, is_last)),
            Placement::ReluBeforeAdd => Some(norm(true, is_last)),
            Placement::NormAfterAdd if is_last => {
                after.push(norm(true, false));
                None
            }
            Placement::NormAfterAdd => Some(norm(true, false)),
            Placement::PreActivation => None,
        };
        planned.ends_main_path = is_last && norm_after.is_none();
        main.push(Layer::Conv(planned));
        main.extend(norm_after);
    }
    if spec.placement == Placement::Original {
        after.push(relu(format!("{name}.relu")));
    }
    main.extend(plan_end_of_main_path(&name, spec, outputs, place));
    let shortcut = spec.residual.then(|| plan_shortcut(&format!("{name}.downsample"), spec, size));
    BlockPlan { name, kind: spec.block, before, main, shortcut, after }
}

/// The layers of the main path after its convolutions and their batch norms.
fn plan_end_of_main_path(name: &str, spec: &Spec, channels: usize, place: Place) -> Vec<Layer> {
    let mut end = Vec::new();
    if spec.se {
        let (name, reduced) = (format!("{name}.se"), squeezed(channels));
        end.push(Layer::SqueezeExcite(SqueezeExcite { name, channels, reduced }));
    }
    if spec.residual_scale != 1.0 {
        let (name, factor) = (format!("{name}.scale"), spec.residual_scale);
        end.push(Layer::Scale(Scale { name, factor }));
    }
    if spec.stochastic_depth > 0.0 {
        // Huang et al. 2016, section 3: the rate of block l of L is l / L times that of the last block.
        let rate = spec.stochastic_depth * (place.index + 1) as f64 / place.count as f64;
        end.push(Layer::DropPath(DropPath { name: format!("{name}.drop_path"), rate }));
    }
    end
}

/// A sixteenth of the channels, rounded to a multiple of 8, as in timm.
fn squeezed(channels: usize) -> usize {
    const MULTIPLE: usize = 8;
    let reduced = channels as f64 / SE_REDUCTION as f64;
    let rounded = (reduced + MULTIPLE as f64 / 2.0) as usize / MULTIPLE * MULTIPLE;
    rounded.max(MULTIPLE)
}

fn plan_shortcut(name: &str, spec: &Spec, size: Size) -> Vec<Layer> {
    if !size.changes_shape() {
        return Vec::new();
    }
    let Size { inputs, outputs, stride, .. } = size;
    let layer = |index: usize| format!("{name}.{index}");
    // With pre-activation, a batch norm comes before the convolution.
    let norm = |index| {
        let follows = spec.placement != Placement::PreActivation;
        follows.then(|| norm(layer(index), outputs, false))
    };
    let conv = |index, stride, bias| conv(layer(index), (inputs, outputs), (1, stride), bias);
    match spec.shortcut {
        Shortcut::Projection => {
            [conv(0, stride, spec.conv_bias)].into_iter().chain(norm(1)).collect()
        }
        Shortcut::PlainConv => vec![conv(0, stride, true)],
        Shortcut::ZeroPad => {
            let (name, new_channels) = (layer(0), outputs - inputs);
            vec![Layer::ZeroPad(ZeroPad { name, stride, new_channels })]
        }
        Shortcut::AvgPool => {
            let pool = || Layer::AvgPool(AvgPool { name: layer(0), window: stride });
            let layers = (stride > 1).then(pool).into_iter().chain([conv(1, 1, spec.conv_bias)]);
            layers.chain(norm(2)).collect()
        }
    }
}

fn plan_head(spec: &Spec, features: usize) -> Vec<Layer> {
    // He et al. 2016b, appendix: an activation after the last sum.
    let activation = match spec.placement {
        Placement::PreActivation => Some(norm("norm", features, true)),
        Placement::ReluOnlyPreActivation => Some(relu("relu")),
        Placement::Original | Placement::NormAfterAdd | Placement::ReluBeforeAdd => None,
    };
    let dropout = (spec.head_dropout > 0.0)
        .then(|| Layer::Dropout(Dropout { name: "dropout".to_owned(), rate: spec.head_dropout }));
    let (name, outputs) = ("fc".to_owned(), spec.classes);
    activation
        .into_iter()
        .chain([
            Layer::GlobalAvgPool(GlobalAvgPool { name: "avgpool".to_owned() }),
            Layer::Flatten(Flatten { name: "flatten".to_owned() }),
        ])
        .chain(dropout)
        .chain([Layer::Linear(Linear { name, inputs: features, outputs })])
        .collect()
}

/// A convolution whose padding keeps the image's size at a stride of 1.
fn new_conv(
    name: impl Into<String>,
    (inputs, outputs): (usize, usize),
    (kernel, stride): (usize, usize),
    has_bias: bool,
) -> Conv {
    let (name, padding) = (name.into(), kernel / 2);
    let (groups, ends_main_path) = (1, false);
    Conv { name, inputs, outputs, kernel, stride, padding, groups, has_bias, ends_main_path }
}

fn conv(
    name: impl Into<String>,
    channels: (usize, usize),
    kernel_and_stride: (usize, usize),
    has_bias: bool,
) -> Layer {
    Layer::Conv(new_conv(name, channels, kernel_and_stride, has_bias))
}

fn norm(name: impl Into<String>, channels: usize, relu: bool) -> Layer {
    Layer::Norm(Norm { name: name.into(), channels, relu, ends_main_path: false })
}

fn relu(name: impl Into<String>) -> Layer {
    Layer::Relu(Relu { name: name.into() })
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
