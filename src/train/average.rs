//! An average of a network's weights over the steps of a run. It is often more accurate than the weights of the last
//! step (Polyak and Juditsky 1992).

use crate::libtorch;
use crate::model::Network;
use crate::model::parameters::Creation;
use anyhow::Result;

/// How the weights of the steps are averaged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Averaging {
    /// An exponential moving average (Tarvainen and Valpola 2017, section 2). Each step keeps this fraction of the
    /// average. Early steps keep less, so that the random initial weights lose their influence quickly.
    Exponential {
        /// From 0 to 1.
        decay: f64,
    },
    /// Stochastic weight averaging: all steps after a step count equally (Izmailov et al. 2018). Until then, the average
    /// is the network itself.
    Equal {
        /// The number of steps that do not count.
        after: u64,
    },
}

impl Averaging {
    /// The fraction of the average that is kept after step number `step`, counted from 1.
    fn kept(self, step: u64) -> f64 {
        match self {
            Self::Exponential { decay } => decay.min(step as f64 / (step as f64 + 9.0)),
            Self::Equal { after } => match step.saturating_sub(after) {
                0 => 0.0,
                count => (count - 1) as f64 / count as f64,
            },
        }
    }
}

/// The average of a network in training, as a second network.
#[derive(Debug)]
pub struct Average {
    network: Network,
    averaging: Averaging,
}

impl Average {
    /// An average that equals the network `of`.
    pub fn new(of: &Network, averaging: Averaging) -> Self {
        let network = Network::new(of.spec(), Creation::Empty { device: of.device() });
        let _no_grad = tch::no_grad_guard();
        for (average, first) in network.parameters().iter().zip(of.parameters()) {
            average.tensor.shallow_clone().copy_(&first.tensor);
        }
        Self { network, averaging }
    }

    /// The network with averaged weights.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Whether the running statistics of batch norm must be computed again before the average is evaluated after step
    /// number `step`, counted from 1. Averages of statistics do not fit averages of weights that differ much.
    pub fn needs_statistics(&self, step: u64) -> bool {
        matches!(self.averaging, Averaging::Equal { after } if step > after)
    }

    /// Updates the average with the network `of` after step number `step`, counted from 1.
    ///
    /// # Errors
    /// The operation of libtorch failed.
    pub fn update(&self, of: &Network, step: u64) -> Result<()> {
        let kept = self.averaging.kept(step);
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
        let average = Average::new(&first, Averaging::Exponential { decay: 0.75 });
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

    #[test]
    fn an_equal_average_is_the_network_until_it_begins_and_then_the_mean() {
        let networks = [1, 2, 3, 4].map(network);
        let average = Average::new(&networks[0], Averaging::Equal { after: 2 });
        for (step, network) in (1..).zip(&networks) {
            average.update(network, step).unwrap();
            assert_eq!(average.needs_statistics(step), step > 2);
            if step <= 3 {
                assert_eq!(tensors(average.network()), tensors(network), "step {step}");
            }
        }
        let [_, _, third, fourth] = networks.map(|network| tensors(&network));
        for ((a, b), found) in third.iter().zip(&fourth).zip(tensors(average.network())) {
            let expected = (a + b) / 2.0;
            assert!((expected - found).abs().max().double_value(&[]) < 1e-6);
        }
    }
}
