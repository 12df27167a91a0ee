//! Deepens a trained network. The new blocks start as the identity, so the deeper network computes the same function:
//! its function class contains that of the network before (the ResNet chapter's nested function classes).

use super::network::Network;
use super::parameters::Creation;
use super::spec::{Init, Placement, Spec, join, value_name};
use crate::error::usage;
use anyhow::{Context, Result};
use std::collections::HashMap;

/// The spec of the network with this number of blocks in each stage.
///
/// # Errors
/// A usage error if the network would not be deeper, or a new block of this network cannot be the identity.
pub fn deeper(spec: &Spec, blocks: &[usize]) -> Result<Spec> {
    let wrong = |reason: &str| {
        usage(format!(
            "--blocks {}: {reason}; expected at least {}, and more in at least one stage",
            join(blocks, ","),
            join(&spec.blocks, ",")
        ))
    };
    if blocks.len() != spec.blocks.len() {
        return Err(wrong(&format!(
            "{} stages, but the network has {}",
            blocks.len(),
            spec.blocks.len()
        )));
    }
    if blocks.iter().zip(&spec.blocks).any(|(new, old)| new < old) {
        return Err(wrong("a network can only become deeper"));
    }
    if blocks == spec.blocks {
        return Err(wrong("the network has these blocks already"));
    }
    let reason = match spec.placement {
        _ if !spec.residual => "--residual false: without a shortcut, a block",
        Placement::NormAfterAdd | Placement::ReluBeforeAdd => "its placement: its blocks",
        Placement::Original | Placement::PreActivation | Placement::ReluOnlyPreActivation => {
            let spec = Spec { blocks: blocks.to_vec(), ..spec.clone() };
            return spec.check().map(|()| spec);
        }
    };
    Err(usage(format!(
        "cannot grow a network with {reason} cannot start as the identity and learn (its placement is {}); expected a network with shortcuts and the placement original, pre-activation or relu-only-pre-activation",
        value_name(spec.placement)
    )))
}

/// The network of `spec`, which comes from [`deeper`], with the tensors of `network`. The new blocks come last in their
/// stage. Their weights are drawn from `seed`, and their main path starts as zero.
///
/// # Errors
/// A tensor of `network` has no place in the deeper network.
pub fn grow(network: &Network, spec: &Spec, init: Init, seed: u64) -> Result<Network> {
    let device = network.device();
    let draw = Creation::Draw { init, zero_init_residual: true, seed, device };
    let grown = Network::new(spec, draw);
    let mut places: HashMap<&str, _> =
        grown.parameters().iter().map(|place| (place.name.as_str(), &place.tensor)).collect();
    for parameter in network.parameters() {
        let place = places
            .remove(parameter.name.as_str())
            .with_context(|| format!("the deeper network has no {}", parameter.name))?;
        tch::no_grad(|| place.shallow_clone().f_copy_(&parameter.tensor))?;
    }
    Ok(grown)
}

#[cfg(test)]
mod tests {
    use super::super::module::Mode;
    use super::super::plan::Role;
    use super::super::spec::examples;
    use super::*;
    use tch::{Device, Kind, Tensor};

    #[test]
    fn a_grown_network_gives_the_same_logits_and_its_new_blocks_learn() {
        let mut grown_networks = 0;
        for spec in examples() {
            let mut blocks = spec.blocks.clone();
            blocks[0] += 1;
            blocks[2] += 2;
            let Ok(deep) = deeper(&spec, &blocks) else {
                let text = deeper(&spec, &blocks).unwrap_err().to_string();
                assert!(text.starts_with("cannot grow"), "{text}");
                continue;
            };
            grown_networks += 1;
            let device = Device::Cpu;
            let draw =
                Creation::Draw { init: Init::He, zero_init_residual: false, seed: 1, device };
            let network = Network::new(&spec, draw);
            // As after training: no bias is zero, no scale is one.
            for parameter in network.parameters() {
                if parameter.role != Role::Weight {
                    let values = Tensor::rand_like(&parameter.tensor) + 0.5;
                    tch::no_grad(|| parameter.tensor.shallow_clone().copy_(&values));
                }
            }
            let grown = grow(&network, &deep, Init::He, 2).unwrap();
            let size = spec.size as i64;
            let images = Tensor::randn([4, 3, size, size], (Kind::Float, device));
            let logits =
                |network: &Network| tch::no_grad(|| network.forward(&images, Mode::Evaluate));
            let (before, after) = (logits(&network), logits(&grown));
            let error = (&after - &before).abs().max() / before.abs().max();
            assert!(error.double_value(&[]) < 1e-5, "{spec}: {error}");
            // Something in each new block has a gradient, so the block learns.
            let loss = grown.forward(&images, Mode::Evaluate).square().mean(Kind::Float);
            for stage in [0, 2] {
                let name = format!("layer{}.{}.", stage + 1, spec.blocks[stage]);
                let of_block = grown.learned().filter(|p| p.name.starts_with(&name));
                let tensors: Vec<&Tensor> = of_block.map(|p| &p.tensor).collect();
                let found = Tensor::run_backward(&[&loss], &tensors, true, false);
                let largest = found.iter().map(|t| t.abs().max().double_value(&[]));
                assert!(largest.fold(0.0, f64::max) > 0.0, "{spec}: {name}");
            }
        }
        assert!(grown_networks > 20, "{grown_networks}");
    }

    #[test]
    fn only_deeper_networks_are_possible() {
        let spec = &examples()[0];
        for (blocks, words) in [
            (vec![1, 2, 1], "has these blocks already"),
            (vec![1, 1, 4], "only become deeper"),
            (vec![2, 2, 2, 2], "4 stages, but the network has 3"),
            (vec![1, 2, 5000], "--blocks 5000"),
        ] {
            let text = deeper(spec, &blocks).unwrap_err().to_string();
            assert!(text.contains(words) && text.starts_with("--blocks"), "{text}");
        }
    }
}
