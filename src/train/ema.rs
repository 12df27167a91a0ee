//! An exponential moving average of a network's weights and statistics, which often answers better than
//! the weights of the last step (Polyak and Juditsky 1992; Tarvainen and Valpola 2017, section 2).

use crate::model::Network;
use crate::model::parameters::Creation;

/// The average of a network in training: a network of its own.
#[derive(Debug)]
pub struct Ema {
    network: Network,
    decay: f64,
}

impl Ema {
    /// Begins with the network as it is; `decay` is the fraction of itself that it keeps at a step.
    pub fn new(of: &Network, decay: f64) -> Self {
        let network = Network::new(of.spec(), Creation::Empty { device: of.device() });
        let average = Self { network, decay };
        average.keep(0.0, of);
        average
    }

    /// The network with averaged weights.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Takes in the network after a step, counted from 1. Early steps keep less, so that the first
    /// weights, which are random, are soon forgotten.
    pub fn update(&self, of: &Network, step: u64) {
        let step = step as f64;
        self.keep(self.decay.min(step / (step + 9.0)), of);
    }

    fn keep(&self, kept: f64, of: &Network) {
        let _no_grad = tch::no_grad_guard();
        for (average, new) in self.network.parameters().iter().zip(of.parameters()) {
            let mut average = average.tensor.shallow_clone();
            if kept == 0.0 {
                // What is not a number would stay in a product with 0.
                average.copy_(&new.tensor);
            } else {
                let _ = average.lerp_(&new.tensor, 1.0 - kept);
            }
        }
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
        // Step 1 keeps 1/10, step 9 would keep 9/18, step 1000 keeps the decay.
        for (step, kept) in [(1, 0.1), (9, 0.5), (1000, 0.75)] {
            let before = tensors(average.network());
            average.update(&later, step);
            for ((old, new), found) in
                before.iter().zip(tensors(&later)).zip(tensors(average.network()))
            {
                let expected = old * kept + new * (1.0 - kept);
                assert!((expected - found).abs().max().double_value(&[]) < 1e-6, "step {step}");
            }
        }
    }
}
