//! An exponential moving average of a network's weights and running statistics. It is often more accurate
//! than the weights of the last step (Polyak and Juditsky 1992; Tarvainen and Valpola 2017, section 2).

use crate::libtorch;
use crate::model::Network;
use crate::model::parameters::Creation;
use anyhow::Result;

/// The average of a network in training, as a second network.
#[derive(Debug)]
pub struct Ema {
    network: Network,
    decay: f64,
}

impl Ema {
    /// An average that equals the network `of`. `decay`, from 0 to 1, is the fraction of the average that each step
    /// keeps.
    pub fn new(of: &Network, decay: f64) -> Self {
        let network = Network::new(of.spec(), Creation::Empty { device: of.device() });
        let _no_grad = tch::no_grad_guard();
        for (average, first) in network.parameters().iter().zip(of.parameters()) {
            average.tensor.shallow_clone().copy_(&first.tensor);
        }
        Self { network, decay }
    }

    /// The network with averaged weights.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Updates the average with the network `of` after step number `step`, counted from 1. Early steps keep a smaller
    /// fraction, so that the random initial weights lose their influence quickly.
    ///
    /// # Errors
    /// The operation of libtorch failed.
    pub fn update(&self, of: &Network, step: u64) -> Result<()> {
        let step = step as f64;
        let kept = self.decay.min(step / (step + 9.0));
        let _no_grad = tch::no_grad_guard();
        let [averages, new] = [&self.network, of]
            .map(|network| network.parameters().iter().map(|p| &p.tensor).collect::<Vec<_>>());
        libtorch::lerp(&averages, &new, 1.0 - kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::spec::{Choices, Init, Spec};
    use tch::{Device, Tensor};

    fn network(seed: u64) -> Network {
        let choices = Choices {
            depth: Some(20),
            width: Some(8),
            channels: 1,
            classes: 3,
            size: 8,
            ..Choices::default()
        };
        let device = Device::Cpu;
        let draw = Creation::Draw { init: Init::He, zero_init_residual: false, seed, device };
        Network::new(&Spec::resolve(&choices).unwrap(), draw)
    }

    fn tensors(network: &Network) -> Vec<Tensor> {
        network.parameters().iter().map(|p| p.tensor.detach().copy()).collect()
    }

    #[test]
    fn an_average_begins_with_the_network_and_follows_it() {
        let (first, later) = (network(1), network(2));
        let average = Ema::new(&first, 0.75);
        assert_eq!(tensors(average.network()), tensors(&first));
        // Step 1 keeps 1/10 of the average, step 9 keeps 9/18, and step 1000 keeps the full decay.
        for (step, kept) in [(1, 0.1), (9, 0.5), (1000, 0.75)] {
            let before = tensors(average.network());
            average.update(&later, step).unwrap();
            for ((old, new), found) in
                before.iter().zip(tensors(&later)).zip(tensors(average.network()))
            {
                let expected = old * kept + new * (1.0 - kept);
                assert!((expected - found).abs().max().double_value(&[]) < 1e-6, "step {step}");
            }
        }
    }
}
