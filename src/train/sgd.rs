//! Stochastic gradient descent over plain tensors. tch's optimizer cannot give its state back, so a
//! run resumed with it would differ (docs/decisions/0006).

use super::recipe::SgdOptions;
use crate::libtorch;
use crate::libtorch::SgdUpdate;
use crate::model::parameters::{Parameter, Role};
use anyhow::Result;
use tch::{Device, Kind, Tensor};

/// Parameters that share their options.
#[derive(Debug)]
struct Group {
    weight_decay: f64,
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    name: String,
    parameter: Tensor,
    /// The running sum of updates; kept from the first step on, and only with momentum.
    momentum: Option<Tensor>,
}

/// The optimizer: `v ← momentum·v + g`, `w ← w − lr·v`, with g the gradient and the weight decay,
/// as `torch.optim.SGD` has it.
#[derive(Debug)]
pub struct Sgd {
    options: SgdOptions,
    /// The learning rate, on the parameters' device, where a recorded step reads it.
    rate: Tensor,
    groups: Vec<Group>,
}

impl Sgd {
    /// An optimizer of all that is learned among `parameters`.
    pub fn new(parameters: &[Parameter], options: SgdOptions) -> Self {
        let group = |role: Role, weight_decay: f64| Group {
            weight_decay,
            members: parameters
                .iter()
                .filter(|parameter| parameter.role == role)
                .map(|parameter| Member {
                    name: parameter.name.clone(),
                    parameter: parameter.tensor.shallow_clone(),
                    momentum: (options.momentum != 0.0).then(|| parameter.tensor.zeros_like()),
                })
                .collect(),
        };
        let spared_decay = if options.decay_all { options.weight_decay } else { 0.0 };
        let groups =
            vec![group(Role::Weight, options.weight_decay), group(Role::BiasOrNorm, spared_decay)];
        let device = parameters.first().map_or(Device::Cpu, |parameter| parameter.tensor.device());
        // What libtorch's update reads it as.
        let kind = if device == Device::Cpu { Kind::Double } else { Kind::Float };
        Self { options, rate: Tensor::zeros([], (kind, device)), groups }
    }

    /// The tensors that it learns, in the order in which [`Sgd::step`] takes their gradients.
    pub fn parameters(&self) -> Vec<Tensor> {
        self.members().map(|member| member.parameter.shallow_clone()).collect()
    }

    /// The momentum of each parameter by the parameter's name; empty without momentum.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        self.members()
            .filter_map(|member| {
                let momentum = member.momentum.as_ref()?;
                Some((member.name.clone(), momentum.shallow_clone()))
            })
            .collect()
    }

    /// Sets the learning rate of the steps from here on.
    pub fn set_rate(&mut self, rate: f64) {
        let _ = self.rate.fill_(rate);
    }

    /// Updates every parameter with its gradient, which may be overwritten; none if `found_inf`, of one
    /// element, holds 1.
    ///
    /// # Errors
    /// What libtorch could not do.
    pub fn step(&mut self, gradients: &[Tensor], found_inf: Option<&Tensor>) -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        let mut gradients = gradients.iter();
        for group in &self.groups {
            let members = &group.members;
            let parameters: Vec<_> = members.iter().map(|member| &member.parameter).collect();
            let momenta: Vec<_> = members.iter().filter_map(|m| m.momentum.as_ref()).collect();
            let gradients: Vec<_> = gradients.by_ref().take(members.len()).collect();
            let update = SgdUpdate {
                lr: &self.rate,
                momentum: self.options.momentum,
                weight_decay: group.weight_decay,
                nesterov: self.options.nesterov,
            };
            libtorch::sgd(&parameters, &gradients, &momenta, update, found_inf)?;
        }
        Ok(())
    }

    fn members(&self) -> impl Iterator<Item = &Member> {
        self.groups.iter().flat_map(|group| &group.members)
    }
}

/// Scales gradients down where their norm over all parameters together exceeds `max_norm`
/// (Pascanu et al. 2013), without waiting for the device.
pub fn clip_gradient_norm(gradients: &mut [Tensor], max_norm: f64) {
    let norms: Vec<Tensor> = gradients.iter().map(Tensor::norm).collect();
    let factor = (max_norm / (Tensor::stack(&norms, 0).norm() + 1e-6)).clamp_max(1.0);
    for gradient in gradients {
        let _ = gradient.g_mul_(&factor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameter(name: &str, role: Role, values: &[f32]) -> Parameter {
        Parameter {
            name: name.to_owned(),
            role,
            tensor: Tensor::from_slice(values).set_requires_grad(true),
        }
    }

    fn values(tensor: &Tensor) -> Vec<f32> {
        Vec::try_from(tensor.detach()).unwrap()
    }

    // By hand, lr 0.1, momentum 0.5, decay 0.1, gradient 1 twice, from 2.
    #[test]
    fn momentum_and_decay_follow_the_formula() {
        let parameters =
            [parameter("w", Role::Weight, &[2.0]), parameter("b", Role::BiasOrNorm, &[2.0])];
        let options =
            SgdOptions { momentum: 0.5, nesterov: false, weight_decay: 0.1, decay_all: false };
        let mut sgd = Sgd::new(&parameters, options);
        let gradients = [Tensor::from_slice(&[1f32]), Tensor::from_slice(&[1f32])];
        sgd.set_rate(0.1);
        sgd.step(&gradients, None).unwrap();
        // v = 1 + 0.1·2 = 1.2; w = 2 − 0.12.
        assert!((values(&parameters[0].tensor)[0] - 1.88).abs() < 1e-6);
        assert!((values(&parameters[1].tensor)[0] - 1.90).abs() < 1e-6);
        sgd.step(&gradients, None).unwrap();
        // v = 0.6 + 1 + 0.188 = 1.788; w = 1.88 − 0.1788.
        assert!((values(&parameters[0].tensor)[0] - 1.7012).abs() < 1e-6);
        assert!((values(&parameters[1].tensor)[0] - 1.75).abs() < 1e-6);
        assert_eq!(sgd.state().len(), 2);
        assert!((values(&sgd.state()[0].1)[0] - 1.788).abs() < 1e-6);
    }

    #[test]
    fn gradients_are_clipped_together_and_only_above_the_norm() {
        let mut gradients = [Tensor::from_slice(&[3f32]), Tensor::from_slice(&[4f32])];
        clip_gradient_norm(&mut gradients, 10.0);
        assert_eq!(values(&gradients[0]), [3.0]);
        clip_gradient_norm(&mut gradients, 1.0);
        assert!((values(&gradients[0])[0] - 0.6).abs() < 1e-5);
        assert!((values(&gradients[1])[0] - 0.8).abs() < 1e-5);
    }
}
