//! How gradients flow through a network: their norm at each block. The ResNet chapter's claim is that a gradient which
//! would be a product of factors, one for each block, becomes a sum if there are shortcuts (He et al. 2016b, equations 4
//! and 5).

use super::backward::{inputs_of_segments, towards};
use crate::model::{Mode, Network, Noise};
use anyhow::{Result, anyhow};
use serde::Serialize;
use tch::{Kind, Tensor};

/// What flows through a block for one batch. Norms are L2 norms, as base-10 logarithms, because the norm in a deep plain
/// network does not fit in a floating-point number. `None` stands for a norm of zero, or one that is not a number.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BlockFlow {
    /// The block's name, such as `layer1.0`.
    pub name: String,
    /// Norm of the gradient of the loss with respect to what enters the block.
    pub log10_input_gradient: Option<f64>,
    /// Norm of the gradient of the loss with respect to all learned tensors of the block.
    pub log10_weight_gradient: Option<f64>,
    /// Standard deviation of the block's output; `None` if it is not finite.
    pub activation_std: Option<f64>,
}

/// The flow through every block, from the input of the network to its output, for a batch of images [N, channels, size,
/// size] and the loss of its logits. No tensor of the network changes.
///
/// The backward pass goes from segment to segment. Between two segments, the gradient is divided by its norm, so that no
/// number overflows.
///
/// # Errors
/// An operation of libtorch failed.
pub fn measure(
    network: &Network,
    images: &Tensor,
    loss_of: &dyn Fn(&Tensor) -> Tensor,
) -> Result<Vec<BlockFlow>> {
    let mode = Mode::Recompute(Noise::default());
    let segments = network.segments();
    let inputs = inputs_of_segments(network, images, mode);
    let learned: Vec<&Tensor> = network.learned().map(|parameter| &parameter.tensor).collect();
    let names: Vec<&str> = network.plan().blocks().map(|block| block.name.as_str()).collect();
    let mut flows = Vec::new();
    // The gradient of the loss with respect to the segment's output, divided by its norm, and the logarithm of the norm.
    let mut gradient: Option<(Tensor, f64)> = None;
    for (index, (segment, xs)) in segments.iter().zip(&inputs).enumerate().skip(1).rev() {
        let xs = xs.detach().set_requires_grad(true);
        let ys = network.forward_segment(segment, &xs, mode);
        let (scalar, log_scale) = match &gradient {
            None => (loss_of(&ys), 0.0),
            Some((gradient, log_scale)) => (towards(&ys, gradient), *log_scale),
        };
        let mut wanted: Vec<&Tensor> = learned.get(segment.learned()).unwrap_or_default().to_vec();
        wanted.push(&xs);
        let mut found = Tensor::f_run_backward(&[&scalar], &wanted, false, false)?;
        let of_input = found.pop().ok_or_else(|| anyhow!("the input has no gradient"))?;
        let norm = of_input.to_kind(Kind::Double).norm();
        let log_norm = norm.double_value(&[]).log10() + log_scale;
        // The stem and the head are no blocks.
        if let (Some(name), Some(output)) = (names.get(index - 1), inputs.get(index + 1)) {
            let squares = found.iter().map(|t| t.to_kind(Kind::Double).square().sum(Kind::Double));
            let of_weights = squares.map(|sum| sum.double_value(&[])).sum::<f64>().sqrt();
            flows.push(BlockFlow {
                name: (*name).to_owned(),
                log10_input_gradient: finite(log_norm),
                log10_weight_gradient: finite(of_weights.log10() + log_scale),
                activation_std: finite(output.to_kind(Kind::Double).std(true).double_value(&[])),
            });
        }
        gradient = Some(((&of_input / norm.to_kind(of_input.kind())), log_norm));
    }
    flows.reverse();
    Ok(flows)
}

fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

/// The factor by which the gradient's norm changes from a block to the block before it: the geometric mean over all
/// blocks. `None` if there are fewer than two blocks with a gradient.
pub fn factor_per_block(flows: &[BlockFlow]) -> Option<f64> {
    let known: Vec<f64> = flows.iter().filter_map(|flow| flow.log10_input_gradient).collect();
    let (first, last) = (known.first()?, known.last()?);
    (known.len() > 1).then(|| 10f64.powf((first - last) / (known.len() - 1) as f64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::parameters::Creation;
    use crate::model::spec::{Init, examples};
    use tch::{Device, Reduction};

    /// One backward pass through the whole network, with hooks at the blocks' inputs, gives the same norms.
    #[test]
    fn norms_are_those_of_one_backward_pass_through_the_whole_network() {
        for spec in examples().into_iter().filter(|spec| !spec.draws_noise()) {
            let device = Device::Cpu;
            let draw =
                Creation::Draw { init: Init::He, zero_init_residual: false, seed: 3, device };
            let network = Network::new(&spec, draw);
            let size = spec.size as i64;
            let images = Tensor::randn([6, 3, size, size], (Kind::Float, device));
            let labels = Tensor::from_slice(&[0i64, 1, 2, 3, 4, 0]);
            let loss_of = |logits: &Tensor| {
                logits.cross_entropy_loss::<Tensor>(&labels, None, Reduction::Mean, -100, 0.0)
            };
            let flows = measure(&network, &images, &loss_of).unwrap();
            let mode = Mode::Recompute(Noise::default());
            let mut inputs = Vec::new();
            let mut xs = network.layout().apply(&images);
            for segment in network.segments() {
                xs = network.forward_segment(segment, &xs, mode);
                inputs.push(xs.shallow_clone());
            }
            let learned: Vec<&Tensor> = network.learned().map(|p| &p.tensor).collect();
            let blocks = inputs.len() - 2;
            let wanted: Vec<&Tensor> =
                inputs[..blocks].iter().chain(learned.iter().copied()).collect();
            let found = Tensor::f_run_backward(&[&loss_of(&xs)], &wanted, false, false).unwrap();
            assert_eq!(flows.len(), blocks);
            for (index, flow) in flows.iter().enumerate() {
                let norm = |t: &Tensor| t.to_kind(Kind::Double).norm().double_value(&[]);
                let close = |found: Option<f64>, expected: f64| {
                    (10f64.powf(found.unwrap()) / expected - 1.0).abs() < 1e-3
                };
                assert!(close(flow.log10_input_gradient, norm(&found[index])), "{spec}: {flow:?}");
                let range = network.segments()[index + 1].learned();
                let of_weights =
                    found[blocks..][range].iter().map(|t| norm(t).powi(2)).sum::<f64>();
                assert!(close(flow.log10_weight_gradient, of_weights.sqrt()), "{spec}: {flow:?}");
                let std = inputs[index + 1].std(true).double_value(&[]);
                assert!((flow.activation_std.unwrap() / std - 1.0).abs() < 1e-3, "{spec}");
            }
        }
    }

    #[test]
    fn the_factor_is_the_geometric_mean_of_the_change_from_block_to_block() {
        let flow = |log10_input_gradient| BlockFlow {
            name: String::new(),
            log10_input_gradient,
            log10_weight_gradient: None,
            activation_std: None,
        };
        // From the input to the output: 1000, 50, 10.
        let factor = factor_per_block(&[flow(Some(3.0)), flow(Some(1.7)), flow(Some(1.0))]);
        assert!((factor.unwrap() - 10.0).abs() < 1e-12);
        assert_eq!(factor_per_block(&[flow(Some(3.0)), flow(None)]), None);
    }
}
