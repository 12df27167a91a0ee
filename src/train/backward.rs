//! Gradients of a loss: in one pass, or block by block with the activations inside of a block computed
//! again (Chen et al. 2016, "Training deep nets with sublinear memory cost").

use crate::model::Network;
use crate::model::layers::without_updating_statistics;
use anyhow::Result;
use tch::{Kind, Tensor};

/// What came of a batch.
#[derive(Debug)]
pub struct Pass {
    /// [N, classes].
    pub logits: Tensor,
    /// The loss, without its history.
    pub loss: Tensor,
    /// The loss's gradient for each of the learned tensors.
    pub gradients: Vec<Tensor>,
}

/// Computes gradients of a network's learned tensors.
#[derive(Debug)]
pub struct Backward {
    learned: Vec<Tensor>,
    /// For each segment of the network, which of the learned tensors are its own; none where gradients
    /// are computed in one pass.
    segments: Option<Vec<Vec<usize>>>,
}

impl Backward {
    pub fn new(network: &Network, recompute: bool) -> Self {
        let learned: Vec<Tensor> = network
            .parameters()
            .iter()
            .filter(|p| p.role != crate::model::parameters::Role::Buffer)
            .map(|p| p.tensor.shallow_clone())
            .collect();
        let segments = recompute.then(|| {
            let own = |segment: &crate::model::network::Segment| {
                let parameters = network.parameters().iter().filter(|p| segment.owns(&p.name));
                let pointers: Vec<_> = parameters.map(|p| p.tensor.data_ptr()).collect();
                let is_own = |tensor: &Tensor| pointers.contains(&tensor.data_ptr());
                learned.iter().enumerate().filter(|(_, t)| is_own(t)).map(|(i, _)| i).collect()
            };
            network.segments().iter().map(own).collect()
        });
        Self { learned, segments }
    }

    /// The pass of a batch of images [N, channels, size, size]; gradients are those of the loss times
    /// `scale`, if given. `forward_is_over` is told so before the backward pass begins.
    ///
    /// # Errors
    /// What libtorch could not do.
    pub fn pass(
        &self,
        network: &Network,
        images: &Tensor,
        loss_of: &dyn Fn(&Tensor) -> Tensor,
        scale: Option<&Tensor>,
        forward_is_over: &mut dyn FnMut(),
    ) -> Result<Pass> {
        if let Some(segments) = &self.segments {
            return self.recomputed(network, segments, images, loss_of, scale, forward_is_over);
        }
        let logits = network.forward(images, true);
        let loss = loss_of(&logits);
        forward_is_over();
        // The gradients are new tensors, not sums into `grad` that need zeroing at each step.
        let gradients =
            Tensor::f_run_backward(&[&scaled(&loss, scale)], &self.learned, false, false)?;
        Ok(Pass { logits, loss: loss.detach(), gradients })
    }

    fn recomputed(
        &self,
        network: &Network,
        own: &[Vec<usize>],
        images: &Tensor,
        loss_of: &dyn Fn(&Tensor) -> Tensor,
        scale: Option<&Tensor>,
        forward_is_over: &mut dyn FnMut(),
    ) -> Result<Pass> {
        let segments = network.segments();
        let mut inputs = vec![network.layout().apply(images)];
        {
            let _no_grad = tch::no_grad_guard();
            for segment in segments.iter().take(segments.len() - 1) {
                if let Some(ys) = inputs.last().map(|xs| segment.forward(xs, true)) {
                    inputs.push(ys);
                }
            }
        }
        let mut gradients: Vec<Option<Tensor>> = self.learned.iter().map(|_| None).collect();
        let mut outcome = None;
        // Of the loss for what the segment under way puts out; none at the end of the network.
        let mut gradient: Option<Tensor> = None;
        for (index, (segment, own)) in segments.iter().zip(own).enumerate().rev() {
            let Some(xs) = inputs.pop() else { break };
            let xs = xs.detach().set_requires_grad(index > 0);
            let scalar = match &gradient {
                None => {
                    let logits = segment.forward(&xs, true);
                    let loss = loss_of(&logits);
                    forward_is_over();
                    outcome = Some((logits.detach(), loss.detach()));
                    scaled(&loss, scale)
                }
                // Its gradient for `ys` is `gradient`, to the last bit.
                Some(gradient) => {
                    let ys = without_updating_statistics(|| segment.forward(&xs, true));
                    (ys * gradient).sum(Kind::Float)
                }
            };
            let parameters = own.iter().filter_map(|&index| self.learned.get(index));
            let mut wanted: Vec<&Tensor> = parameters.collect();
            if index > 0 {
                wanted.push(&xs);
            }
            let mut found = Tensor::f_run_backward(&[&scalar], &wanted, false, false)?;
            gradient = if index > 0 { found.pop() } else { None };
            for (&index, found) in own.iter().zip(found) {
                if let Some(place) = gradients.get_mut(index) {
                    *place = Some(found);
                }
            }
        }
        let missing = || anyhow::anyhow!("a parameter belongs to no segment of the network");
        let (logits, loss) = outcome.ok_or_else(missing)?;
        let gradients = gradients.into_iter().collect::<Option<_>>().ok_or_else(missing)?;
        Ok(Pass { logits, loss, gradients })
    }
}

fn scaled(loss: &Tensor, scale: Option<&Tensor>) -> Tensor {
    scale.map_or_else(|| loss.shallow_clone(), |scale| loss * scale)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::parameters::Creation;
    use crate::model::spec::{Choices, Init, Shortcut, Spec};
    use tch::{Device, Reduction};

    fn network(choices: &Choices) -> Network {
        let device = Device::Cpu;
        let draw = Creation::Draw { init: Init::He, zero_init_residual: false, seed: 3, device };
        Network::new(&Spec::resolve(choices).unwrap(), draw)
    }

    #[test]
    fn recomputed_gradients_and_statistics_are_the_same_to_the_last_bit() {
        tch::set_num_threads(1);
        for (depth, shortcut) in
            [(18, Shortcut::Projection), (50, Shortcut::PlainConv), (20, Shortcut::ZeroPad)]
        {
            let choices = Choices {
                depth: Some(depth),
                width: Some(8),
                shortcut: Some(shortcut),
                channels: 2,
                classes: 5,
                size: 40,
                ..Choices::default()
            };
            let images = Tensor::randn([6, 2, 40, 40], (Kind::Float, Device::Cpu));
            let labels = Tensor::from_slice(&[0i64, 1, 2, 3, 4, 0]);
            let pass = |images: &Tensor, recompute: bool| {
                let network = network(&choices);
                let loss_of = |logits: &Tensor| {
                    logits.cross_entropy_loss::<Tensor>(&labels, None, Reduction::Mean, -100, 0.1)
                };
                let backward = Backward::new(&network, recompute);
                let mut told = 0;
                let pass =
                    backward.pass(&network, images, &loss_of, None, &mut || told += 1).unwrap();
                assert_eq!(told, 1);
                (network, pass)
            };
            for kind in [Kind::Float, Kind::BFloat16, Kind::Half] {
                let images = images.to_kind(kind);
                let (plain_network, plain) = pass(&images, false);
                let (network, again) = pass(&images, true);
                let what = format!("depth {depth}, {kind:?}");
                assert_eq!(plain.logits, again.logits, "{what}");
                assert_eq!(plain.loss, again.loss, "{what}");
                assert_eq!(plain.gradients.len(), again.gradients.len());
                for (a, b) in plain.gradients.iter().zip(&again.gradients) {
                    assert_eq!(a.kind(), Kind::Float, "{what}");
                    assert_eq!(a, b, "{what}");
                }
                for (a, b) in plain_network.parameters().iter().zip(network.parameters()) {
                    assert_eq!(a.tensor, b.tensor, "{what}: {}", a.name);
                }
            }
        }
    }
}
