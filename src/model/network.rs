//! A whole network with its tensors, which computes logits.

use super::block::Residual;
use super::layers::sequential;
use super::module::{Mode, Module, Pass, Sequential};
use super::parameters::{Creation, Layout, Parameter, Parameters};
use super::plan::{BlockPlan, Layer, Plan, PlannedTensor, Role};
use super::spec::Spec;
use super::weights::{Copies, Weight};
use std::ops::Range;
use std::rc::Rc;
use tch::{Device, Tensor};

/// A network with its tensors. It is a handle: clones are cheap and share the same tensors.
#[derive(Debug, Clone)]
pub struct Network(Rc<Parts>);

#[derive(Debug)]
struct Parts {
    spec: Spec,
    plan: Plan,
    layout: Layout,
    segments: Vec<Segment>,
    parameters: Vec<Parameter>,
    weights: Vec<Weight>,
    device: Device,
}

impl Network {
    /// Builds the network of a spec.
    pub fn new(spec: &Spec, creation: Creation) -> Self {
        let plan = Plan::new(spec);
        let layout = Layout::of(&plan);
        let mut parameters = Parameters::new(creation, layout);
        let mut segments = Vec::new();
        let (mut learned, mut weights) = (0, 0);
        let mut add = |modules: Sequential, tensors: Vec<PlannedTensor>, weight_count: usize| {
            let (start, first_weight) = (learned, weights);
            learned += tensors.iter().filter(|tensor| tensor.role != Role::Buffer).count();
            weights = weight_count;
            segments.push(Segment {
                modules,
                learned: start..learned,
                weights: first_weight..weights,
            });
        };
        let tensors = |layers: &[Layer]| layers.iter().flat_map(Layer::tensors).collect();
        let stem = sequential(&plan.stem, &mut parameters);
        add(stem, tensors(&plan.stem), parameters.weight_count());
        for block in plan.blocks() {
            let module = residual(block, &mut parameters);
            add(module, block.tensors(), parameters.weight_count());
        }
        // The head is one segment. Its layers keep so few activations that separate segments would save almost nothing.
        let head = sequential(&plan.head, &mut parameters);
        add(head, tensors(&plan.head), parameters.weight_count());
        let device = parameters.device();
        let (parameters, weights) = parameters.into_parts();
        let spec = spec.clone();
        Self(Rc::new(Parts { spec, plan, layout, segments, parameters, weights, device }))
    }

    /// The spec of the network.
    pub fn spec(&self) -> &Spec {
        &self.0.spec
    }

    /// The plan of the network.
    pub fn plan(&self) -> &Plan {
        &self.0.plan
    }

    /// The device of its tensors.
    pub fn device(&self) -> Device {
        self.0.device
    }

    /// Every tensor, in the order of [`Plan::tensors`], which is torchvision's.
    pub fn parameters(&self) -> &[Parameter] {
        &self.0.parameters
    }

    /// The tensors that are learned, in the order of [`Network::parameters`].
    pub fn learned(&self) -> impl Iterator<Item = &Parameter> {
        self.parameters().iter().filter(|parameter| parameter.role != Role::Buffer)
    }

    /// Number of learned parameters in the whole network.
    pub fn parameter_count(&self) -> usize {
        self.plan().parameter_count()
    }

    /// The order in memory of the network's images, activations and weights.
    pub fn layout(&self) -> Layout {
        self.0.layout
    }

    /// The segments of the network, in the order of computation: the stem, each block, the head.
    pub fn segments(&self) -> &[Segment] {
        &self.0.segments
    }

    /// Logits of a batch: [N, channels, size, size] → floats [N, classes]. The network computes in the
    /// dtype of `images`.
    ///
    /// # Panics
    /// Panics like tch's own operations if an operation of libtorch fails.
    pub fn forward(&self, images: &Tensor, mode: Mode) -> Tensor {
        let images = self.layout().apply(images);
        let copies = &Copies::new(&self.0.weights, &images);
        let pass = Pass { mode, copies };
        self.segments().iter().fold(images, |xs, segment| segment.modules.forward(&xs, pass))
    }

    /// The output of one of the [segments](Network::segments) for the input `xs`.
    ///
    /// # Panics
    /// Panics like tch's own operations if an operation of libtorch fails.
    pub fn forward_segment(&self, segment: &Segment, xs: &Tensor, mode: Mode) -> Tensor {
        let weights = self.0.weights.get(segment.weights.clone()).unwrap_or_default();
        segment.modules.forward(xs, Pass { mode, copies: &Copies::new(weights, xs) })
    }
}

fn residual(block: &BlockPlan, parameters: &mut Parameters) -> Sequential {
    let module: Box<dyn Module> = Box::new(Residual::new(block, parameters));
    [module].into_iter().collect()
}

/// A part of a network that can be recomputed by itself: the stem, a block, or the head.
#[derive(Debug)]
pub struct Segment {
    modules: Sequential,
    learned: Range<usize>,
    /// Its weights of convolutions, as positions among all of the network.
    weights: Range<usize>,
}

impl Segment {
    /// The segment's learned tensors, as positions in [`Network::learned`].
    pub fn learned(&self) -> Range<usize> {
        self.learned.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::super::spec::examples;
    use super::*;

    #[test]
    fn a_networks_tensors_are_those_of_its_plan_in_the_same_order() {
        for spec in examples() {
            let network = Network::new(&spec, Creation::Meta);
            let found: Vec<_> = network
                .parameters()
                .iter()
                .map(|parameter| (&parameter.name, parameter.tensor.size(), parameter.role))
                .collect();
            let planned = network.plan().tensors();
            let planned =
                planned.iter().map(|planned| (&planned.name, planned.shape.clone(), planned.role));
            assert_eq!(found, planned.collect::<Vec<_>>(), "{spec}");
            let ends = network.segments().last().unwrap().learned().end;
            assert_eq!(ends, network.learned().count());
        }
    }
}
