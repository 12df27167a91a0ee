//! A whole network: stem, stages and head in sequence.

use super::block::residual;
use super::layers::{BatchNorm2d, Conv2d, Flatten, GlobalAvgPool, Linear, MaxPool};
use super::parameters::{Creation, Layout, Parameter, Parameters, Scope, learned};
use super::spec::{Spec, Stem, value_name};
use std::rc::Rc;
use tch::nn::{self, ModuleT, SequentialT};
use tch::{Device, Tensor};

/// A network that can be run: its layers in their order, and the tensors in them.
#[derive(Debug, Clone)]
pub struct Network(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    spec: Spec,
    layout: Layout,
    segments: Vec<Segment>,
    parameters: Vec<Parameter>,
    device: Device,
}

impl Network {
    /// Builds the network of a spec.
    pub fn new(spec: &Spec, creation: Creation) -> Self {
        let layout = Layout::of(spec);
        let parameters = Parameters::new(creation, layout);
        let mut segments: Vec<Segment> = Vec::new();
        for layer in top_level_layers(spec, &parameters.root()) {
            match (layer.part, segments.last_mut()) {
                // The head keeps too little to be worth a segment for each of its layers.
                (Part::Head, Some(head)) if layer.name != HEAD_START => head.extend(layer.units),
                (Part::Stage, _) => {
                    segments.extend(layer.units.into_iter().map(|block| Segment::new([block])));
                }
                _ => segments.push(Segment::new(layer.units)),
            }
        }
        let (device, parameters) = (parameters.device(), parameters.into_entries());
        Self(Rc::new(Inner { spec: spec.clone(), layout, segments, parameters, device }))
    }

    /// What the network was built from.
    pub fn spec(&self) -> &Spec {
        &self.0.spec
    }

    /// The device that its tensors live on.
    pub fn device(&self) -> Device {
        self.0.device
    }

    /// Every named tensor, in torchvision's order.
    pub fn parameters(&self) -> &[Parameter] {
        &self.0.parameters
    }

    /// Numbers that are learned.
    pub fn parameter_count(&self) -> usize {
        learned(&self.0.parameters)
    }

    /// The order in memory that it computes in.
    pub fn layout(&self) -> Layout {
        self.0.layout
    }

    /// The parts that one after the other make the network: the stem, each block, the head.
    pub fn segments(&self) -> &[Segment] {
        &self.0.segments
    }

    /// Logits of a batch: [N, channels, size, size], in whose kind it computes, → floats [N, classes].
    /// With `train`, batch norm
    /// uses the batch's statistics and updates its running ones.
    pub fn forward(&self, images: &Tensor, train: bool) -> Tensor {
        let images = self.0.layout.apply(images);
        self.0.segments.iter().fold(images, |xs, segment| segment.forward(&xs, train))
    }
}

/// A part of a network: the stem, a block, or the head.
#[derive(Debug)]
pub struct Segment {
    layers: SequentialT,
    /// Names of its units, below which their parameters have theirs.
    names: Vec<String>,
}

impl Segment {
    fn new(units: impl IntoIterator<Item = Unit>) -> Self {
        let mut segment = Self { layers: nn::seq_t(), names: Vec::new() };
        segment.extend(units);
        segment
    }

    fn extend(&mut self, units: impl IntoIterator<Item = Unit>) {
        for unit in units {
            self.names.push(unit.name.clone());
            self.layers = std::mem::replace(&mut self.layers, nn::seq_t()).add(unit);
        }
    }

    /// What comes out of it.
    pub fn forward(&self, xs: &Tensor, train: bool) -> Tensor {
        self.layers.forward_t(xs, train)
    }

    /// Whether a parameter of that name is one of its layers'.
    pub fn owns(&self, parameter: &str) -> bool {
        self.names.iter().any(|name| {
            parameter.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with('.'))
        })
    }
}

/// Where a top-level layer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Stem,
    Stage,
    Head,
}

/// The name of the head's first layer.
const HEAD_START: &str = "avgpool";

/// One of the layers that make a network at the top level: the stem, a stage, pooling, flatten or
/// the linear layer.
#[derive(Debug)]
pub struct TopLevelLayer {
    /// torchvision's name for it; `stem` for what comes before `layer1`.
    pub name: String,
    /// What it is, for people.
    pub kind: String,
    /// What it consists of: a stage of blocks, the others of one or a few plain layers.
    pub units: Vec<Unit>,
    part: Part,
}

/// A part of a [`TopLevelLayer`]: a block or a plain layer.
#[derive(Debug)]
pub struct Unit {
    /// torchvision's name for it, such as `layer1.0`.
    pub name: String,
    /// What it is, for people.
    pub kind: String,
    /// Numbers in it that are learned.
    pub parameters: usize,
    module: Box<dyn ModuleT>,
}

impl ModuleT for Unit {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        self.module.forward_t(xs, train)
    }
}

/// The layers of a network in their order.
pub fn top_level_layers(spec: &Spec, scope: &Scope) -> Vec<TopLevelLayer> {
    let mut layers = vec![stem(spec, scope)];
    let mut inputs = spec.width;
    for (index, &blocks) in spec.blocks.iter().enumerate() {
        let width = spec.width << index;
        let stride = if index == 0 { 1 } else { 2 };
        layers.push(stage(
            spec,
            scope,
            &format!("layer{}", index + 1),
            blocks,
            inputs,
            width,
            stride,
        ));
        inputs = width * spec.block.expansion();
    }
    let head = |name: &str, kind: &str, unit| TopLevelLayer {
        name: name.to_owned(),
        kind: kind.to_owned(),
        units: vec![unit],
        part: Part::Head,
    };
    let classes = spec.classes;
    layers.push(head(
        HEAD_START,
        "global average pool",
        unit(scope, HEAD_START, "pool", |_| GlobalAvgPool),
    ));
    layers.push(head("flatten", "flatten", unit(scope, "flatten", "flatten", |_| Flatten)));
    layers.push(head(
        "fc",
        "linear",
        unit(scope, "fc", "linear", |fc| Linear::new(fc, inputs, classes)),
    ));
    layers
}

fn stem(spec: &Spec, scope: &Scope) -> TopLevelLayer {
    let (kernel, stride) = match spec.stem {
        Stem::Imagenet => (7, 2),
        Stem::Cifar => (3, 1),
    };
    let bias = spec.conv_bias();
    let mut units = vec![
        unit(scope, "conv1", &format!("conv {kernel}×{kernel}/{stride}"), |scope| {
            Conv2d::new(scope, spec.channels, spec.width, kernel, stride, bias)
        }),
        unit(scope, "bn1", "batch norm, relu", |scope| {
            BatchNorm2d::new(scope, spec.width, 1.0).then_relu()
        }),
    ];
    let mut kind = format!("conv {kernel}×{kernel}/{stride}, batch norm, relu");
    if spec.stem == Stem::Imagenet {
        units.push(unit(scope, "maxpool", "max pool 3×3/2", |_| MaxPool));
        kind.push_str(", max pool 3×3/2");
    }
    TopLevelLayer { name: "stem".to_owned(), kind, units, part: Part::Stem }
}

fn stage(
    spec: &Spec,
    scope: &Scope,
    name: &str,
    blocks: usize,
    inputs: usize,
    width: usize,
    stride: usize,
) -> TopLevelLayer {
    let block = value_name(spec.block);
    let units = (0..blocks)
        .map(|index| {
            let (inputs, stride) =
                if index == 0 { (inputs, stride) } else { (width * spec.block.expansion(), 1) };
            unit(scope, &format!("{name}.{index}"), &block, |scope| {
                residual(scope, spec, inputs, width, stride)
            })
        })
        .collect();
    let plural = if blocks == 1 { "block" } else { "blocks" };
    let kind = format!("{blocks} {block} {plural}");
    TopLevelLayer { name: name.to_owned(), kind, units, part: Part::Stage }
}

fn unit<M: ModuleT + 'static>(
    scope: &Scope,
    name: &str,
    kind: &str,
    make: impl FnOnce(&Scope) -> M,
) -> Unit {
    let before = scope.count();
    let module = Box::new(make(&scope.sub(name)));
    let parameters = scope.count() - before;
    Unit { name: name.to_owned(), kind: kind.to_owned(), parameters, module }
}
