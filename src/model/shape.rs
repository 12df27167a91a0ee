//! The output shape of every layer, measured by passing a tensor through the network.

use super::layers::{Convolution, Cost, counting_cost, listing_convolutions};
use super::network::top_level_layers;
use super::parameters::{Creation, Layout, Parameters};
use super::spec::Spec;
use crate::libtorch;
use serde::Serialize;
use tch::nn::ModuleT;

/// What came out of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LayerShape {
    /// torchvision's name.
    pub name: String,
    /// What it is, for people.
    pub kind: String,
    /// [N, C, H, W] or [N, features].
    pub output: Vec<i64>,
    /// Numbers that are learned.
    pub parameters: usize,
    /// What it takes for the whole batch.
    #[serde(flatten)]
    pub cost: Cost,
}

/// A layer of the top level and the blocks or plain layers in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopLevelShape {
    /// The layer as a whole.
    pub layer: LayerShape,
    /// Its parts.
    pub units: Vec<LayerShape>,
}

/// Passes a batch of `batch_size` images through the network layer by layer, on libtorch's meta
/// device: every operator runs, and none allocates or computes.
pub fn measure(spec: &Spec, batch_size: usize) -> Vec<TopLevelShape> {
    tch::no_grad(|| {
        let parameters = Parameters::new(Creation::Meta, Layout::of(spec));
        let layers = top_level_layers(spec, &parameters.root());
        let size = spec.size as i64;
        let mut activation = libtorch::meta(&[batch_size as i64, spec.channels as i64, size, size]);
        let mut shapes = Vec::with_capacity(layers.len());
        for layer in layers {
            let mut units = Vec::with_capacity(layer.units.len());
            for unit in &layer.units {
                let (output, cost) = counting_cost(|| unit.forward_t(&activation, false));
                units.push(LayerShape {
                    name: unit.name.clone(),
                    kind: unit.kind.clone(),
                    output: output.size(),
                    parameters: unit.parameters,
                    cost,
                });
                activation = output;
            }
            shapes.push(TopLevelShape {
                layer: LayerShape {
                    name: layer.name,
                    kind: layer.kind,
                    output: activation.size(),
                    parameters: units.iter().map(|unit| unit.parameters).sum(),
                    cost: units.iter().fold(Cost::default(), |sum, unit| sum.plus(unit.cost)),
                },
                units,
            });
        }
        shapes
    })
}

/// The convolutions of a network on a batch, in their order.
pub fn convolutions(spec: &Spec, batch_size: usize) -> Vec<Convolution> {
    listing_convolutions(|| drop(measure(spec, batch_size)))
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
            stride: 2,
            padding: 3,
        };
        assert_eq!(all[0], first);
        let macs = |c: &Convolution| {
            let side = c.input[2] / c.stride;
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
