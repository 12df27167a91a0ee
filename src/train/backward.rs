//! Gradients of a loss, in one pass or segment by segment. In the second way, the activations inside a segment are
//! computed again for the backward pass (Chen et al. 2016, "Training deep nets with sublinear memory cost").

use crate::model::{Mode, Network, Noise};
use anyhow::Result;
use tch::Tensor;

/// The result of a forward and a backward pass of a batch.
#[derive(Debug)]
pub struct Pass {
    /// Logits, [N, classes].
    pub logits: Tensor,
    /// The loss, a scalar that is detached from the autograd graph.
    pub loss: Tensor,
    /// The gradient of each learned tensor, in the order of [`Network::learned`].
    pub gradients: Vec<Tensor>,
}

/// Computes the gradients of a network's learned tensors.
#[derive(Debug)]
pub struct Backward {
    learned: Vec<Tensor>,
    recompute: bool,
}

impl Backward {
    /// Computes gradients for the learned tensors of `network`. With `recompute`, only the output of each segment is
    /// kept for the backward pass.
    pub fn new(network: &Network, recompute: bool) -> Self {
        let learned = network.learned().map(|parameter| parameter.tensor.shallow_clone());
        Self { learned: learned.collect(), recompute }
    }

    /// Runs a batch of images [N, channels, size, size] forward and backward through the network, with this noise. If `scale` is given,
    /// the loss is multiplied by it before its gradients are computed. `forward_is_over` is called before the backward
    /// pass.
    ///
    /// # Errors
    /// An operation of libtorch failed in the backward pass.
    ///
    /// # Panics
    /// Panics like tch's own operations if an operation of libtorch fails in the forward pass.
    pub fn pass(
        &self,
        network: &Network,
        (images, noise): (&Tensor, Noise),
        loss_of: &dyn Fn(&Tensor) -> Tensor,
        scale: Option<&Tensor>,
        forward_is_over: &mut dyn FnMut(),
    ) -> Result<Pass> {
        if self.recompute {
            return self.recomputed(network, (images, noise), loss_of, scale, forward_is_over);
        }
        let logits = network.forward(images, Mode::Train(noise));
        let loss = loss_of(&logits);
        forward_is_over();
        // The gradients are new tensors. Gradients that are added up in `grad` would have to be set to zero before each
        // step.
        let gradients =
            Tensor::f_run_backward(&[&scaled(&loss, scale)], &self.learned, false, false)?;
        Ok(Pass { logits, loss: loss.detach(), gradients })
    }

    fn recomputed(
        &self,
        network: &Network,
        (images, noise): (&Tensor, Noise),
        loss_of: &dyn Fn(&Tensor) -> Tensor,
        scale: Option<&Tensor>,
        forward_is_over: &mut dyn FnMut(),
    ) -> Result<Pass> {
        let segments = network.segments();
        let (first_time, again) = (Mode::Train(noise), Mode::Recompute(noise));
        let mut inputs = inputs_of_segments(network, images, first_time);
        // One list for each segment, from the last segment to the first.
        let mut gradients = Vec::new();
        let mut outcome = None;
        // The gradient of the loss with respect to the segment's output; `None` for the last segment.
        let mut gradient: Option<Tensor> = None;
        for (index, segment) in segments.iter().enumerate().rev() {
            let Some(xs) = inputs.pop() else { break };
            let xs = xs.detach().set_requires_grad(index > 0);
            let scalar = match &gradient {
                None => {
                    let logits = network.forward_segment(segment, &xs, first_time);
                    let loss = loss_of(&logits);
                    forward_is_over();
                    outcome = Some((logits.detach(), loss.detach()));
                    scaled(&loss, scale)
                }
                Some(gradient) => towards(&network.forward_segment(segment, &xs, again), gradient),
            };
            let learned = self.learned.get(segment.learned()).unwrap_or_default();
            let mut wanted: Vec<&Tensor> = learned.iter().collect();
            if index > 0 {
                wanted.push(&xs);
            }
            let mut found = Tensor::f_run_backward(&[&scalar], &wanted, false, false)?;
            gradient = if index > 0 { found.pop() } else { None };
            gradients.push(found);
        }
        let no_segments = || anyhow::anyhow!("the network has no segments");
        let (logits, loss) = outcome.ok_or_else(no_segments)?;
        let gradients = gradients.into_iter().rev().flatten().collect();
        Ok(Pass { logits, loss, gradients })
    }
}

/// The input of each segment, in the order of computation, without gradients.
pub(super) fn inputs_of_segments(network: &Network, images: &Tensor, mode: Mode) -> Vec<Tensor> {
    let _no_grad = tch::no_grad_guard();
    let segments = network.segments();
    let mut xs = network.layout().apply(images);
    let mut inputs = vec![xs.shallow_clone()];
    for segment in segments.iter().take(segments.len() - 1) {
        xs = network.forward_segment(segment, &xs, mode);
        inputs.push(xs.shallow_clone());
    }
    inputs
}

/// A scalar whose gradient with respect to `ys` is exactly `gradient`, in the same order in memory. A sum in another
/// dtype would give it another order, and then kernels round differently.
pub(super) fn towards(ys: &Tensor, gradient: &Tensor) -> Tensor {
    let product = ys * gradient;
    product.sum(product.kind())
}

fn scaled(loss: &Tensor, scale: Option<&Tensor>) -> Tensor {
    scale.map_or_else(|| loss.shallow_clone(), |scale| loss * scale)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::parameters::Creation;
    use crate::model::spec::{Choices, Init, Shortcut, Spec, examples};
    use tch::{Device, Kind, Reduction};

    fn network(spec: &Spec) -> Network {
        let device = Device::Cpu;
        let draw = Creation::Draw { init: Init::He, zero_init_residual: false, seed: 3, device };
        Network::new(spec, draw)
    }

    #[test]
    fn recomputed_gradients_and_statistics_are_the_same_bit_for_bit() {
        tch::set_num_threads(1);
        let named =
            [(18, Shortcut::Projection), (50, Shortcut::PlainConv)].map(|(depth, shortcut)| {
                let choices = Choices {
                    depth: Some(depth),
                    width: Some(8),
                    shortcut: Some(shortcut),
                    channels: 3,
                    classes: 7,
                    size: 40,
                    ..Choices::default()
                };
                Spec::resolve(&choices).unwrap()
            });
        let noise = Noise::of(1, 2, 3);
        for spec in named.iter().chain(&examples()) {
            let size = spec.size as i64;
            let images = Tensor::randn([6, 3, size, size], (Kind::Float, Device::Cpu));
            let labels = Tensor::from_slice(&[0i64, 1, 2, 3, 4, 0]);
            let pass = |images: &Tensor, recompute: bool| {
                let network = network(spec);
                let loss_of = |logits: &Tensor| {
                    logits.cross_entropy_loss::<Tensor>(&labels, None, Reduction::Mean, -100, 0.1)
                };
                let backward = Backward::new(&network, recompute);
                let mut calls = 0;
                let pass = backward
                    .pass(&network, (images, noise), &loss_of, None, &mut || calls += 1)
                    .unwrap();
                assert_eq!(calls, 1);
                (network, pass)
            };
            for kind in [Kind::Float, Kind::BFloat16, Kind::Half] {
                let images = images.to_kind(kind);
                let (plain_network, plain) = pass(&images, false);
                let (network, again) = pass(&images, true);
                let what = format!("{spec}, {kind:?}");
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
