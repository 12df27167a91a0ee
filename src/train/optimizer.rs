//! Stochastic gradient descent over plain tensors. tch's optimizer does not give access to its state, so a resumed run
//! would differ (docs/decisions/0006).

use super::recipe::SgdOptions;
use super::state::NamedTensors;
use crate::libtorch::{self, SgdUpdate};
use crate::model::parameters::{Parameter, Role};
use anyhow::Result;
use tch::{Device, Kind, Tensor};

/// The optimizer `torch.optim.SGD`: `v ← momentum·v + g`, `w ← w − lr·v`, where g is the gradient plus the weight decay.
/// With Nesterov momentum it is `w ← w − lr·(g + momentum·v)`.
#[derive(Debug)]
pub struct Sgd {
    options: SgdOptions,
    /// All learned parameters, in the network's order.
    learned: Vec<Learned>,
    groups: Vec<Group>,
}

/// A parameter that is learned.
#[derive(Debug)]
struct Learned {
    name: String,
    parameter: Tensor,
    /// The running sum of updates. None without momentum.
    momentum: Option<Tensor>,
}

/// Parameters with the same options.
#[derive(Debug)]
struct Group {
    /// Indices of the group's parameters among all learned parameters.
    indices: Vec<usize>,
    weight_decay: f64,
    /// Multiple of the run's learning rate.
    lr_factor: f64,
    /// The learning rate. It is on the device of the parameters, because a CUDA graph reads it there.
    lr: Tensor,
}

impl Group {
    /// The items of the group's parameters. `items` has one item for each learned parameter.
    fn pick<'a, T>(&self, items: &'a [T]) -> Vec<&'a T> {
        self.indices.iter().filter_map(|&index| items.get(index)).collect()
    }
}

impl Sgd {
    /// An optimizer of all learned tensors among `parameters`.
    pub fn new(parameters: &[Parameter], options: SgdOptions) -> Self {
        let learned: Vec<&Parameter> =
            parameters.iter().filter(|parameter| parameter.role != Role::Buffer).collect();
        let device = parameters.first().map_or(Device::Cpu, |parameter| parameter.tensor.device());
        // libtorch's update expects the learning rate in this dtype.
        let dtype = if device == Device::Cpu { Kind::Double } else { Kind::Float };
        let group = |role: Role, weight_decay: f64| Group {
            indices: (0..).zip(&learned).filter(|(_, p)| p.role == role).map(|(i, _)| i).collect(),
            weight_decay,
            lr_factor: 1.0,
            lr: Tensor::zeros([], (dtype, device)),
        };
        let decay_of_others = if options.decay_all { options.weight_decay } else { 0.0 };
        let groups = vec![
            group(Role::Weight, options.weight_decay),
            group(Role::BiasOrNorm, decay_of_others),
        ];
        let learned = learned.into_iter().map(|parameter| Learned {
            name: parameter.name.clone(),
            parameter: parameter.tensor.shallow_clone(),
            momentum: (options.momentum != 0.0).then(|| parameter.tensor.zeros_like()),
        });
        Self { options, learned: learned.collect(), groups }
    }

    /// Adds the momentum of each parameter to `state`, under the parameter's name.
    pub fn save(&self, state: &mut NamedTensors) {
        for Learned { name, momentum, .. } in &self.learned {
            if let Some(momentum) = momentum {
                state.insert(name, momentum);
            }
        }
    }

    /// Loads the momentum of each parameter from `state`.
    ///
    /// # Errors
    /// A tensor is missing or has another shape.
    pub fn load(&mut self, state: &mut NamedTensors) -> Result<()> {
        for Learned { name, momentum, .. } in &self.learned {
            if let Some(momentum) = momentum {
                state.load(name, momentum)?;
            }
        }
        Ok(())
    }

    /// Sets the learning rate of the next steps.
    pub fn set_lr(&mut self, lr: f64) {
        for group in &mut self.groups {
            let _ = group.lr.fill_(lr * group.lr_factor);
        }
    }

    /// Updates every parameter with its gradient. Gradients are in the order of the network's learned parameters, and
    /// may be overwritten. If `found_inf`, a tensor of one element, is 1, nothing changes.
    ///
    /// # Errors
    /// An operation of libtorch failed.
    pub fn step(&mut self, gradients: &[Tensor], found_inf: Option<&Tensor>) -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        for group in &self.groups {
            let learned = group.pick(&self.learned);
            let parameters: Vec<_> = learned.iter().map(|learned| &learned.parameter).collect();
            let momenta: Vec<_> = learned.iter().filter_map(|l| l.momentum.as_ref()).collect();
            let update = SgdUpdate {
                lr: &group.lr,
                momentum: self.options.momentum,
                weight_decay: group.weight_decay,
                nesterov: self.options.nesterov,
            };
            libtorch::sgd(&parameters, &group.pick(gradients), &momenta, update, found_inf)?;
        }
        Ok(())
    }

    /// Scales gradients down if their norm over all parameters together exceeds `max_norm` (Pascanu et al. 2013). The
    /// host does not wait for the device.
    pub fn clip(&self, gradients: &mut [Tensor], max_norm: f64) {
        // The sum goes group by group. Another order would round differently, and a seed would give other results.
        let grouped = self.groups.iter().flat_map(|group| group.pick(gradients));
        let norms: Vec<Tensor> = grouped.map(Tensor::norm).collect();
        let factor = (max_norm / (Tensor::stack(&norms, 0).norm() + 1e-6)).clamp_max(1.0);
        for gradient in gradients {
            let _ = gradient.g_mul_(&factor);
        }
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

    // The expected values were computed by hand: start 2, lr 0.1, momentum 0.5, weight decay 0.1, gradient 1 in both
    // steps.
    #[test]
    fn momentum_and_decay_follow_the_formula() {
        let parameters =
            [parameter("w", Role::Weight, &[2.0]), parameter("b", Role::BiasOrNorm, &[2.0])];
        let options =
            SgdOptions { momentum: 0.5, nesterov: false, weight_decay: 0.1, decay_all: false };
        let mut sgd = Sgd::new(&parameters, options);
        let gradients = [Tensor::from_slice(&[1f32]), Tensor::from_slice(&[1f32])];
        sgd.set_lr(0.1);
        sgd.step(&gradients, None).unwrap();
        // v = 1 + 0.1·2 = 1.2; w = 2 − 0.12.
        assert!((values(&parameters[0].tensor)[0] - 1.88).abs() < 1e-6);
        assert!((values(&parameters[1].tensor)[0] - 1.90).abs() < 1e-6);
        sgd.step(&gradients, None).unwrap();
        // v = 0.6 + 1 + 0.188 = 1.788; w = 1.88 − 0.1788.
        assert!((values(&parameters[0].tensor)[0] - 1.7012).abs() < 1e-6);
        assert!((values(&parameters[1].tensor)[0] - 1.75).abs() < 1e-6);
        let mut state = NamedTensors::default();
        sgd.save(&mut state);
        let momenta: Vec<_> = state.iter().collect();
        assert_eq!(momenta.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["b", "w"]);
        assert!((values(momenta[1].1)[0] - 1.788).abs() < 1e-6);
    }

    #[test]
    fn gradients_are_clipped_together_and_only_above_the_norm() {
        let parameters =
            [parameter("w", Role::Weight, &[2.0]), parameter("b", Role::BiasOrNorm, &[2.0])];
        let options =
            SgdOptions { momentum: 0.0, nesterov: false, weight_decay: 0.0, decay_all: false };
        let sgd = Sgd::new(&parameters, options);
        let mut gradients = [Tensor::from_slice(&[3f32]), Tensor::from_slice(&[4f32])];
        sgd.clip(&mut gradients, 10.0);
        assert_eq!(values(&gradients[0]), [3.0]);
        sgd.clip(&mut gradients, 1.0);
        assert!((values(&gradients[0])[0] - 0.6).abs() < 1e-5);
        assert!((values(&gradients[1])[0] - 0.8).abs() < 1e-5);
    }
}
