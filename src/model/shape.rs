//! The output shape and the cost of every layer, measured by passing a tensor through the network.

use super::layers::{geometry, module};
use super::module::Pass;
use super::parameters::{Creation, Layout, Parameters};
use super::plan::{BlockPlan, Conv, Layer, Plan, Stage, learned_numbers};
use super::spec::{Spec, value_name};
use crate::kernels::Geometry;
use crate::libtorch;
use serde::Serialize;
use tch::Tensor;

/// The cost of layers for a whole batch. A number that is too large is stored as `u64::MAX`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// Multiply-adds of convolutions and linear layers. As usual, batch norm, pooling and additions are not counted.
    pub macs: u64,
    /// Number of activations that training keeps from the forward pass for the backward pass.
    #[serde(skip)]
    pub activations: u64,
    /// The largest number of activations that one layer keeps.
    #[serde(skip)]
    pub largest: u64,
}

impl Cost {
    /// The cost of these layers and others together.
    pub fn plus(self, other: Self) -> Self {
        Self {
            macs: self.macs.saturating_add(other.macs),
            activations: self.activations.saturating_add(other.activations),
            largest: self.largest.max(other.largest),
        }
    }

    /// The cost of a layer with an output of this shape.
    fn of(layer: &Layer, shape: &[i64]) -> Self {
        let outputs = shape.iter().product::<i64>() as u64;
        let images = shape.first().map_or(0, |&images| images as u64);
        let (kept, terms) = match layer {
            Layer::Conv(conv) => (outputs, conv.fan_in()),
            Layer::Linear(linear) => (outputs, linear.inputs),
            Layer::Norm(_) => (outputs, 0),
            // Max pooling also keeps the position of each maximum, in 64 bits.
            Layer::MaxPool(_) => (outputs.saturating_mul(3), 0),
            Layer::Relu(_) => (outputs, 0),
            // Its output, and which numbers were kept.
            Layer::Dropout(_) => (outputs.saturating_mul(2), 0),
            // The activations of its two layers are few.
            Layer::SqueezeExcite(_) => (outputs, 0),
            Layer::Scale(_) | Layer::DropPath(_) => (outputs, 0),
            Layer::AvgPool(_) | Layer::GlobalAvgPool(_) | Layer::Flatten(_) | Layer::ZeroPad(_) => {
                (0, 0)
            }
        };
        let macs = match layer {
            Layer::SqueezeExcite(gate) => images * 2 * (gate.channels * gate.reduced) as u64,
            _ => outputs.saturating_mul(terms as u64),
        };
        Self { macs, activations: kept, largest: kept }
    }

    /// The cost of a sum of two tensors of `outputs` elements.
    fn of_sum(outputs: usize) -> Self {
        let kept = outputs as u64;
        Self { macs: 0, activations: kept, largest: kept }
    }
}

/// A layer or block: its output and its cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LayerShape {
    /// torchvision's name.
    pub name: String,
    /// A description for users.
    pub kind: String,
    /// Shape of the output, [N, C, H, W] or [N, features].
    pub output: Vec<i64>,
    /// Number of learned parameters.
    pub parameters: usize,
    /// Its cost for the whole batch.
    #[serde(flatten)]
    pub cost: Cost,
}

/// A row of `resnet shapes`: the stem, a stage or a layer of the head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopLevelShape {
    /// The row as a whole.
    pub layer: LayerShape,
    /// The blocks or layers in it.
    pub units: Vec<LayerShape>,
}

/// A convolution of a network on a batch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Convolution {
    /// Shape of the input, [N, I, H, W].
    pub input: Vec<i64>,
    /// Shape of the weight, [O, I, k, k].
    pub weight: Vec<i64>,
    /// How it moves over its input.
    pub geometry: Geometry,
}

/// The shapes and costs of a network on a batch of `batch_size` images. A tensor passes through the modules of the
/// plan's layers on libtorch's meta device. There, operations compute only shapes, and allocate no memory.
pub fn measure(spec: &Spec, batch_size: usize) -> Vec<TopLevelShape> {
    tch::no_grad(|| Walk::through(spec, batch_size).0)
}

/// The learned parameters and the cost of these rows together.
pub fn totals(rows: &[TopLevelShape]) -> (usize, Cost) {
    let start = (0, Cost::default());
    rows.iter().map(|row| &row.layer).fold(start, |(parameters, cost), layer| {
        (parameters + layer.parameters, cost.plus(layer.cost))
    })
}

/// The convolutions of a network on a batch of `batch_size` images, in the order of the plan.
pub fn convolutions(spec: &Spec, batch_size: usize) -> Vec<Convolution> {
    tch::no_grad(|| Walk::through(spec, batch_size).1)
}

/// A tensor on its way through a network.
#[derive(Debug)]
struct Walk {
    parameters: Parameters,
    xs: Tensor,
    convolutions: Vec<Convolution>,
}

impl Walk {
    /// Returns the rows, and the convolutions that the tensor passed.
    fn through(spec: &Spec, batch_size: usize) -> (Vec<TopLevelShape>, Vec<Convolution>) {
        let plan = Plan::new(spec);
        let layout = Layout::of(&plan);
        let size = spec.size as i64;
        let mut walk = Self {
            parameters: Parameters::new(Creation::Meta, layout),
            xs: libtorch::meta(&[batch_size as i64, spec.channels as i64, size, size]),
            convolutions: Vec::new(),
        };
        let units: Vec<_> = plan.stem.iter().map(|layer| walk.layer(layer)).collect();
        let kinds: Vec<_> = units.iter().map(|unit| unit.kind.as_str()).collect();
        let mut rows = vec![row("stem", kinds.join(", "), units)];
        for stage in &plan.stages {
            let units = stage.blocks.iter().map(|block| walk.block(block)).collect();
            rows.push(row(&stage.name, describe(stage), units));
        }
        for layer in &plan.head {
            let kind = match layer {
                Layer::GlobalAvgPool(_) => "global average pool".to_owned(),
                other => other.to_string(),
            };
            rows.push(row(layer.name(), kind, vec![walk.layer(layer)]));
        }
        (rows, walk.convolutions)
    }

    fn layer(&mut self, layer: &Layer) -> LayerShape {
        let (output, cost) = self.pass(layer, &self.xs.shallow_clone());
        self.xs = output;
        let parameters = learned_numbers(&layer.tensors());
        self.arrive(layer.name(), layer.to_string(), parameters, cost)
    }

    fn block(&mut self, block: &BlockPlan) -> LayerShape {
        let (before, before_cost) = self.path(&block.before);
        self.xs = before;
        let (main, last_norm, after) = block.split_end();
        let sum_alone = last_norm.is_none();
        let main: Vec<Layer> = main.iter().cloned().chain(last_norm.map(Layer::Norm)).collect();
        let (main, main_cost) = self.path(&main);
        let mut cost = before_cost.plus(main_cost);
        self.xs = match &block.shortcut {
            None => main,
            Some(layers) => {
                let (shortcut, shortcut_cost) = self.path(layers);
                cost = cost.plus(shortcut_cost);
                if sum_alone {
                    cost = cost.plus(Cost::of_sum(main.numel()));
                }
                main + shortcut
            }
        };
        let (output, after_cost) = self.path(after);
        self.xs = output;
        cost = cost.plus(after_cost);
        let parameters = learned_numbers(&block.tensors());
        self.arrive(&block.name, value_name(block.kind), parameters, cost)
    }

    /// Passes the tensor through the layers of a block's path. Returns the output and the cost.
    fn path(&mut self, layers: &[Layer]) -> (Tensor, Cost) {
        let start = (self.xs.shallow_clone(), Cost::default());
        layers.iter().fold(start, |(xs, sum), layer| {
            let (ys, cost) = self.pass(layer, &xs);
            (ys, sum.plus(cost))
        })
    }

    fn pass(&mut self, layer: &Layer, xs: &Tensor) -> (Tensor, Cost) {
        if let Layer::Conv(conv) = layer {
            self.convolutions.push(convolution(conv, xs));
        }
        let ys = module(layer, &mut self.parameters).forward(xs, Pass::EVALUATION);
        let cost = Cost::of(layer, &ys.size());
        (ys, cost)
    }

    fn arrive(&self, name: &str, kind: String, parameters: usize, cost: Cost) -> LayerShape {
        LayerShape { name: name.to_owned(), kind, output: self.xs.size(), parameters, cost }
    }
}

fn convolution(conv: &Conv, xs: &Tensor) -> Convolution {
    Convolution { input: xs.size(), weight: conv.weight().shape, geometry: geometry(conv) }
}

fn row(name: &str, kind: String, units: Vec<LayerShape>) -> TopLevelShape {
    let layer = LayerShape {
        name: name.to_owned(),
        kind,
        output: units.last().map(|unit| unit.output.clone()).unwrap_or_default(),
        parameters: units.iter().map(|unit| unit.parameters).sum(),
        cost: units.iter().fold(Cost::default(), |sum, unit| sum.plus(unit.cost)),
    };
    TopLevelShape { layer, units }
}

/// A description of a stage, such as `2 basic blocks`.
fn describe(stage: &Stage) -> String {
    let kind = stage.blocks.first().map(|block| value_name(block.kind)).unwrap_or_default();
    let plural = if stage.blocks.len() == 1 { "block" } else { "blocks" };
    format!("{} {kind} {plural}", stage.blocks.len())
}

#[cfg(test)]
mod tests {
    use super::super::spec::Choices;
    use super::*;

    #[test]
    fn convolutions_have_all_multiply_adds_but_the_linear_layers() {
        let choices =
            Choices { depth: Some(50), channels: 1, classes: 10, size: 64, ..Choices::default() };
        let spec = Spec::resolve(&choices).unwrap();
        let all = convolutions(&spec, 2);
        assert_eq!(all.len(), 53);
        let first = Convolution {
            input: vec![2, 1, 64, 64],
            weight: vec![64, 1, 7, 7],
            geometry: Geometry { stride: 2, padding: 3, groups: 1 },
        };
        assert_eq!(all[0], first);
        let macs = |c: &Convolution| {
            let side = c.input[2] / c.geometry.stride;
            c.input[0] * side * side * c.weight.iter().product::<i64>()
        };
        let total: u64 = measure(&spec, 2).iter().map(|layer| layer.layer.cost.macs).sum();
        let linear = 2 * 2048 * 10;
        assert_eq!(all.iter().map(macs).sum::<i64>() as u64 + linear, total);
    }

    fn totals(depth: usize, size: usize, channels: usize, classes: usize) -> (usize, u64) {
        let choices = Choices { depth: Some(depth), size, channels, classes, ..Choices::default() };
        let shapes = measure(&Spec::resolve(&choices).unwrap(), 1);
        let sum = |f: fn(&LayerShape) -> u64| shapes.iter().map(|s| f(&s.layer)).sum::<u64>();
        (sum(|layer| layer.parameters as u64) as usize, sum(|layer| layer.cost.macs))
    }

    // Parameters: torchvision 0.26 (`sum(p.numel() for p in resnetN().parameters())`), and the same
    // with one input channel and ten classes. Multiply-adds: torchvision's documentation (GFLOPS).
    #[test]
    fn parameters_and_multiply_adds_are_torchvisions() {
        for (depth, imagenet, fashion, gmacs) in [
            (18, 11_689_512, 11_175_370, 1.814),
            (34, 21_797_672, 21_283_530, 3.664),
            (50, 25_557_032, 23_522_250, 4.089),
            (101, 44_549_160, 42_514_378, 7.801),
            (152, 60_192_808, 58_158_026, 11.51),
        ] {
            let (parameters, macs) = totals(depth, 224, 3, 1000);
            assert_eq!(parameters, imagenet, "depth {depth}");
            assert!((macs as f64 / 1e9 / gmacs - 1.0).abs() < 0.005, "depth {depth}: {macs}");
            assert_eq!(totals(depth, 224, 1, 10).0, fashion, "depth {depth}");
        }
    }

    #[test]
    fn the_chapters_network_keeps_its_biases() {
        let choices = Choices {
            depth: Some(18),
            shortcut: Some(super::super::spec::Shortcut::PlainConv),
            channels: 1,
            classes: 10,
            size: 96,
            ..Choices::default()
        };
        let shapes = measure(&Spec::resolve(&choices).unwrap(), 1);
        assert_eq!(shapes.iter().map(|s| s.layer.parameters).sum::<usize>(), 11_178_378);
    }

    #[test]
    fn depth_18_has_the_chapters_eight_rows() {
        let choices =
            Choices { depth: Some(18), size: 224, channels: 1, classes: 10, ..Choices::default() };
        let shapes = measure(&Spec::resolve(&choices).unwrap(), 1);
        let outputs: Vec<Vec<i64>> = shapes.into_iter().map(|s| s.layer.output).collect();
        let expected: [&[i64]; 8] = [
            &[1, 64, 56, 56],
            &[1, 64, 56, 56],
            &[1, 128, 28, 28],
            &[1, 256, 14, 14],
            &[1, 512, 7, 7],
            &[1, 512, 1, 1],
            &[1, 512],
            &[1, 10],
        ];
        assert_eq!(outputs, expected);
    }
}
