//! A whole network: stem, stages and head in sequence.

use super::block::residual;
use super::layers::{BatchNorm2d, Conv2d, Flatten, GlobalAvgPool, Linear, MaxPool, Relu};
use super::parameters::{Creation, Layout, Parameter, Parameters, Scope, learned};
use super::spec::{Spec, Stem, value_name};
use tch::nn::{self, ModuleT, SequentialT};
use tch::{Device, Tensor};

/// A network that can be run: its layers and the tensors that they share.
#[derive(Debug)]
pub struct Network {
    spec: Spec,
    layout: Layout,
    layers: SequentialT,
    parameters: Vec<Parameter>,
    device: Device,
}

impl Network {
    /// Builds the network of a spec.
    pub fn new(spec: &Spec, creation: Creation) -> Self {
        let layout = Layout::of(spec);
        let parameters = Parameters::new(creation, layout);
        let layers = top_level_layers(spec, &parameters.root()).into_iter().fold(
            nn::seq_t(),
            |layers, layer| {
                let units = layer.units.into_iter().fold(nn::seq_t(), SequentialT::add);
                layers.add(units)
            },
        );
        let device = parameters.device();
        Self { spec: spec.clone(), layout, layers, parameters: parameters.into_entries(), device }
    }

    /// What the network was built from.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The device that its tensors live on.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Every named tensor, in torchvision's order.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Numbers that are learned.
    pub fn parameter_count(&self) -> usize {
        learned(&self.parameters)
    }

    /// The order in memory that it computes in.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Logits of a batch: floats [N, channels, size, size] → [N, classes]. With `train`, batch norm
    /// uses the batch's statistics and updates its running ones.
    pub fn forward(&self, images: &Tensor, train: bool) -> Tensor {
        self.layers.forward_t(&self.layout.apply(images), train)
    }
}

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
    };
    let classes = spec.classes;
    layers.push(head(
        "avgpool",
        "global average pool",
        unit(scope, "avgpool", "pool", |_| GlobalAvgPool),
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
        unit(scope, "bn1", "batch norm", |scope| BatchNorm2d::new(scope, spec.width, 1.0)),
        unit(scope, "relu", "relu", |_| Relu),
    ];
    let mut kind = format!("conv {kernel}×{kernel}/{stride}, batch norm, relu");
    if spec.stem == Stem::Imagenet {
        units.push(unit(scope, "maxpool", "max pool 3×3/2", |_| MaxPool));
        kind.push_str(", max pool 3×3/2");
    }
    TopLevelLayer { name: "stem".to_owned(), kind, units }
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
    TopLevelLayer { name: name.to_owned(), kind: format!("{blocks} {block} {plural}"), units }
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
