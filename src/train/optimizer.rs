//! The optimizers: SGD, AdamW and LARS over plain tensors. tch's optimizer does not give access to its state, so a
//! resumed run would differ (docs/decisions/0006).

use super::rates::Rates;
use super::recipe::{OptimizerKind, OptimizerOptions};
use super::state::NamedTensors;
use crate::libtorch::{self, AdamWUpdate, SgdUpdate};
use crate::model::Network;
use crate::model::parameters::{Parameter, Role};
use anyhow::Result;
use tch::{Device, Kind, Tensor};

/// The factor of LARS: the update of a weight has at most this multiple of the weight's norm, times the learning rate
/// (You et al. 2017, section 4; the value is that of its table 2).
const LARS_TRUST: f64 = 0.001;
/// Keeps AdamW's update finite (`eps` of `torch.optim.AdamW`).
const ADAMW_EPSILON: f64 = 1e-8;

/// An optimizer of all learned tensors of a network.
///
/// - SGD is `torch.optim.SGD`: `v ← momentum·v + g`, `w ← w − lr·v`, where g is the gradient plus the weight decay.
///   With Nesterov momentum it is `w ← w − lr·(g + momentum·v)`.
/// - AdamW is `torch.optim.AdamW` (Loshchilov and Hutter 2019), with the momentum as β₁.
/// - LARS is SGD in which the gradient of each weight, with its weight decay, is first multiplied by
///   `0.001·‖w‖ / (‖g‖ + decay·‖w‖)` (You et al. 2017). Biases and batch norm follow SGD.
#[derive(Debug)]
pub struct Optimizer {
    options: OptimizerOptions,
    /// All learned parameters, in the network's order.
    learned: Vec<Learned>,
    groups: Vec<Group>,
    /// AdamW's count of steps, on the device of the parameters.
    steps: Option<Tensor>,
    /// Values that change during the run.
    now: Hyperparameters,
}

/// The values of a step that may follow a schedule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hyperparameters {
    /// The learning rate.
    pub lr: f64,
    /// The momentum; β₁ of AdamW.
    pub momentum: f64,
    /// The weight decay.
    pub weight_decay: f64,
}

/// A parameter that is learned.
#[derive(Debug)]
struct Learned {
    name: String,
    parameter: Tensor,
    /// The running sum of updates of SGD and LARS; none without momentum. The two running means of AdamW.
    averages: Vec<Average>,
}

/// A running sum or mean of a parameter's gradients.
#[derive(Debug)]
struct Average {
    /// What follows the parameter's name in the name of this tensor.
    suffix: &'static str,
    tensor: Tensor,
}

/// Parameters with the same options.
#[derive(Debug)]
struct Group {
    /// Indices of the group's parameters among all learned parameters.
    indices: Vec<usize>,
    /// Whether the weight decay applies to them.
    decays: bool,
    /// Whether LARS adapts the learning rate of each of them.
    adapts: bool,
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

impl Optimizer {
    /// An optimizer of the learned tensors of `network`. `rates` are the factors of the learning rate by part of the
    /// network.
    pub fn new(network: &Network, options: OptimizerOptions, rates: Option<&Rates>) -> Self {
        let stages = network.spec().blocks.len();
        let factor = |name: &str| rates.map_or(1.0, |rates| rates.factor(name, stages));
        Self::of(network.parameters(), options, &factor)
    }

    /// An optimizer of all learned tensors among `parameters`. `factor` gives the factor of the learning rate of the
    /// parameter with a name.
    fn of(
        parameters: &[Parameter],
        options: OptimizerOptions,
        factor: &dyn Fn(&str) -> f64,
    ) -> Self {
        let learned: Vec<&Parameter> =
            parameters.iter().filter(|parameter| parameter.role != Role::Buffer).collect();
        let device = parameters.first().map_or(Device::Cpu, |parameter| parameter.tensor.device());
        // libtorch's updates expect the learning rate in this dtype.
        let dtype = if device == Device::Cpu { Kind::Double } else { Kind::Float };
        let factors: Vec<f64> = learned.iter().map(|parameter| factor(&parameter.name)).collect();
        let mut different = factors.clone();
        different.sort_by(f64::total_cmp);
        different.dedup();
        let group = |role: Role, lr_factor: f64| {
            let belongs = |(index, (parameter, of)): (usize, (&&Parameter, &f64))| {
                (parameter.role == role && *of == lr_factor).then_some(index)
            };
            Group {
                indices: learned.iter().zip(&factors).enumerate().filter_map(belongs).collect(),
                decays: role == Role::Weight || options.decay_all,
                adapts: role == Role::Weight && options.kind == OptimizerKind::Lars,
                lr_factor,
                lr: Tensor::zeros([], (dtype, device)),
            }
        };
        let roles = [Role::Weight, Role::BiasOrNorm];
        let groups = roles.into_iter().flat_map(|role| different.iter().map(move |&f| (role, f)));
        let groups = groups.map(|(role, factor)| group(role, factor));
        let groups = groups.filter(|group| !group.indices.is_empty()).collect();
        let suffixes: &[&str] = match options.kind {
            OptimizerKind::AdamW => &[".exp_avg", ".exp_avg_sq"],
            OptimizerKind::Sgd | OptimizerKind::Lars if options.momentum != 0.0 => &[""],
            OptimizerKind::Sgd | OptimizerKind::Lars => &[],
        };
        let learned = learned.into_iter().map(|parameter| Learned {
            name: parameter.name.clone(),
            parameter: parameter.tensor.shallow_clone(),
            averages: suffixes
                .iter()
                .map(|suffix| Average { suffix, tensor: parameter.tensor.detach().zeros_like() })
                .collect(),
        });
        let steps = || Tensor::zeros([], (Kind::Float, device));
        let OptimizerOptions { momentum, weight_decay, .. } = options;
        Self {
            options,
            learned: learned.collect(),
            groups,
            steps: (options.kind == OptimizerKind::AdamW).then(steps),
            now: Hyperparameters { lr: 0.0, momentum, weight_decay },
        }
    }

    /// The optimizer's state by name: the momentum of a parameter has the parameter's name.
    fn state(&self) -> impl Iterator<Item = (String, &Tensor)> {
        let averages = self.learned.iter().flat_map(|learned| {
            let named = |average: &'_ Average| format!("{}{}", learned.name, average.suffix);
            learned.averages.iter().map(move |average| (named(average), &average.tensor))
        });
        averages.chain(self.steps.iter().map(|steps| ("optimizer.steps".to_owned(), steps)))
    }

    /// Adds the optimizer's state to `state`.
    pub fn save(&self, state: &mut NamedTensors) {
        for (name, tensor) in self.state() {
            state.insert(name, tensor);
        }
    }

    /// Loads the optimizer's state from `state`.
    ///
    /// # Errors
    /// A tensor is missing or has another shape.
    pub fn load(&mut self, state: &mut NamedTensors) -> Result<()> {
        self.state().try_for_each(|(name, tensor)| state.load(&name, tensor))
    }

    /// Sets the values of the next steps.
    pub fn set(&mut self, now: Hyperparameters) {
        self.now = now;
        for group in &mut self.groups {
            let _ = group.lr.fill_(now.lr * group.lr_factor);
        }
    }

    /// Updates every parameter with its gradient. Gradients are in the order of the network's learned parameters, and
    /// may be overwritten. If `found_inf`, a tensor of one element, is 1, nothing changes.
    ///
    /// # Errors
    /// An operation of libtorch failed.
    pub fn step(&mut self, gradients: &[Tensor], found_inf: Option<&Tensor>) -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        if let Some(steps) = &mut self.steps {
            *steps += 1.0;
            if let Some(found_inf) = found_inf {
                let _ = steps.g_sub_(found_inf);
            }
        }
        for group in &self.groups {
            let gradients = group.pick(gradients);
            let parameters: Vec<_> =
                group.pick(&self.learned).iter().map(|l| &l.parameter).collect();
            match &self.steps {
                Some(steps) => self.adamw(group, &parameters, &gradients, (steps, found_inf))?,
                None => self.sgd(group, &parameters, &gradients, found_inf)?,
            }
        }
        Ok(())
    }

    /// The group's averages with this index, one for each parameter; empty if there are none.
    fn averages(&self, group: &Group, index: usize) -> Vec<&Tensor> {
        let learned = group.pick(&self.learned);
        learned.iter().filter_map(|l| Some(&l.averages.get(index)?.tensor)).collect()
    }

    fn sgd(
        &self,
        group: &Group,
        parameters: &[&Tensor],
        gradients: &[&Tensor],
        found_inf: Option<&Tensor>,
    ) -> Result<()> {
        let decay = if group.decays { self.now.weight_decay } else { 0.0 };
        if group.adapts {
            for (weight, gradient) in parameters.iter().zip(gradients) {
                adapt(weight, gradient, decay);
            }
        }
        let update = SgdUpdate {
            lr: &group.lr,
            momentum: self.now.momentum,
            // It is part of an adapted gradient already.
            weight_decay: if group.adapts { 0.0 } else { decay },
            nesterov: self.options.nesterov,
        };
        let momenta = self.averages(group, 0);
        libtorch::sgd(parameters, gradients, &momenta, update, found_inf)
    }

    fn adamw(
        &self,
        group: &Group,
        parameters: &[&Tensor],
        gradients: &[&Tensor],
        (steps, found_inf): (&Tensor, Option<&Tensor>),
    ) -> Result<()> {
        let update = AdamWUpdate {
            lr: &group.lr,
            steps,
            betas: (self.now.momentum, self.options.beta2),
            weight_decay: if group.decays { self.now.weight_decay } else { 0.0 },
            epsilon: ADAMW_EPSILON,
        };
        let averages = [0, 1].map(|index| self.averages(group, index));
        libtorch::adamw(parameters, gradients, &averages, update, found_inf)
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

/// Adds the weight decay to a weight's gradient, and multiplies the sum by the weight's own rate of LARS.
fn adapt(weight: &Tensor, gradient: &Tensor, decay: f64) {
    let mut gradient = gradient.shallow_clone();
    let (size, slope) = (weight.norm(), gradient.norm());
    // The small number keeps a weight whose gradient is zero as it is. A weight that is zero could never grow, so its
    // rate is 1.
    let rate = &size * LARS_TRUST / (slope + &size * decay + 1e-12);
    let rate = rate.where_self(&size.gt(0.0), &size.ones_like());
    let _ = gradient.g_add_(&(weight * decay)).g_mul_(&rate);
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

    fn options(kind: OptimizerKind) -> OptimizerOptions {
        OptimizerOptions {
            kind,
            momentum: 0.5,
            nesterov: false,
            weight_decay: 0.1,
            ..OptimizerOptions::default()
        }
    }

    fn at(lr: f64) -> Hyperparameters {
        Hyperparameters { lr, momentum: 0.5, weight_decay: 0.1 }
    }

    fn weight_and_bias() -> [Parameter; 2] {
        [parameter("w", Role::Weight, &[2.0]), parameter("b", Role::BiasOrNorm, &[2.0])]
    }

    fn close(tensor: &Tensor, expected: &[f32]) {
        let found = values(tensor);
        let close = found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(close && found.len() == expected.len(), "{found:?}, expected {expected:?}");
    }

    // The expected values were computed by hand: start 2, lr 0.1, momentum 0.5, weight decay 0.1, gradient 1 in both
    // steps.
    #[test]
    fn momentum_and_decay_follow_the_formula() {
        let parameters = weight_and_bias();
        let mut sgd = Optimizer::of(&parameters, options(OptimizerKind::Sgd), &|_| 1.0);
        let gradients = [Tensor::from_slice(&[1f32]), Tensor::from_slice(&[1f32])];
        sgd.set(at(0.1));
        sgd.step(&gradients, None).unwrap();
        // v = 1 + 0.1·2 = 1.2; w = 2 − 0.12.
        close(&parameters[0].tensor, &[1.88]);
        close(&parameters[1].tensor, &[1.9]);
        sgd.step(&gradients, None).unwrap();
        // v = 0.6 + 1 + 0.188 = 1.788; w = 1.88 − 0.1788.
        close(&parameters[0].tensor, &[1.7012]);
        close(&parameters[1].tensor, &[1.75]);
        let mut state = NamedTensors::default();
        sgd.save(&mut state);
        let momenta: Vec<_> = state.iter().collect();
        assert_eq!(momenta.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["b", "w"]);
        close(momenta[1].1, &[1.788]);
        // Momentum and weight decay may follow a schedule.
        // v = 0.25·1.788 + 1 = 1.447; w = 1.7012 − 0.1447.
        sgd.set(Hyperparameters { lr: 0.1, momentum: 0.25, weight_decay: 0.0 });
        sgd.step(&gradients, None).unwrap();
        close(&parameters[0].tensor, &[1.5565]);
    }

    #[test]
    fn a_part_has_its_factor_of_the_learning_rate() {
        let parameters = [
            parameter("conv1.weight", Role::Weight, &[2.0]),
            parameter("fc.weight", Role::Weight, &[2.0]),
            parameter("fc.bias", Role::BiasOrNorm, &[2.0]),
        ];
        let factor = |name: &str| if name.starts_with("conv1") { 0.5 } else { 2.0 };
        let mut sgd = Optimizer::of(&parameters, options(OptimizerKind::Sgd), &factor);
        sgd.set(at(0.1));
        let gradients = [0; 3].map(|_| Tensor::from_slice(&[1f32]));
        sgd.step(&gradients, None).unwrap();
        for (parameter, expected) in parameters.iter().zip([2.0 - 0.06, 2.0 - 0.24, 2.0 - 0.2]) {
            close(&parameter.tensor, &[expected]);
        }
    }

    /// Values of `torch.optim.AdamW(lr=0.1, betas=(0.5, 0.999), weight_decay=0.1)` of PyTorch 2.11, with the gradients
    /// 1 and 3 for a weight of 2 and −1.
    #[test]
    fn adamw_is_pytorchs_and_does_not_count_skipped_steps() {
        let parameters = [parameter("w", Role::Weight, &[2.0, -1.0])];
        let mut adamw = Optimizer::of(&parameters, options(OptimizerKind::AdamW), &|_| 1.0);
        adamw.set(at(0.1));
        let gradient = || [Tensor::from_slice(&[1f32, -3.0])];
        let overflow = Tensor::from_slice(&[1f32]).view([]);
        adamw.step(&gradient(), Some(&overflow)).unwrap();
        close(&parameters[0].tensor, &[2.0, -1.0]);
        adamw.step(&gradient(), None).unwrap();
        close(&parameters[0].tensor, &[1.88, -0.89]);
        adamw.step(&[Tensor::from_slice(&[3f32, 1.0])], None).unwrap();
        close(&parameters[0].tensor, &ADAMW_SECOND);
        let mut state = NamedTensors::default();
        adamw.save(&mut state);
        let names: Vec<_> = state.iter().map(|(name, _)| name.to_owned()).collect();
        assert_eq!(names, ["optimizer.steps", "w.exp_avg", "w.exp_avg_sq"]);
        let mut other = Optimizer::of(&parameters, options(OptimizerKind::AdamW), &|_| 1.0);
        other.load(&mut state).unwrap();
        assert_eq!(other.steps.unwrap().double_value(&[]), 2.0);
    }

    const ADAMW_SECOND: [f32; 2] = [1.756_871, -0.866_189_9];

    // By hand: ‖w‖ = 5, ‖g‖ = 10, decay 0.1: the rate is 0.001·5 / 10.5, and the gradient with its decay (6.3, 8.4).
    #[test]
    fn lars_adapts_the_rate_of_each_weight() {
        let parameters =
            [parameter("w", Role::Weight, &[3.0, 4.0]), parameter("b", Role::BiasOrNorm, &[2.0])];
        let mut lars = Optimizer::of(&parameters, options(OptimizerKind::Lars), &|_| 1.0);
        lars.set(at(10.0));
        lars.step(&[Tensor::from_slice(&[6f32, 8.0]), Tensor::from_slice(&[1f32])], None).unwrap();
        let rate = 10.0 * 0.005 / 10.5;
        close(&parameters[0].tensor, &[3.0 - 6.3 * rate, 4.0 - 8.4 * rate]);
        close(&parameters[1].tensor, &[-8.0]);
    }

    #[test]
    fn gradients_are_clipped_together_and_only_above_the_norm() {
        let parameters = weight_and_bias();
        let sgd = Optimizer::of(&parameters, options(OptimizerKind::Sgd), &|_| 1.0);
        let mut gradients = [Tensor::from_slice(&[3f32]), Tensor::from_slice(&[4f32])];
        sgd.clip(&mut gradients, 10.0);
        assert_eq!(values(&gradients[0]), [3.0]);
        sgd.clip(&mut gradients, 1.0);
        assert!((values(&gradients[0])[0] - 0.6).abs() < 1e-5);
        assert!((values(&gradients[1])[0] - 0.8).abs() < 1e-5);
    }
}
