//! The tensors of a plan: names, shapes, roles and initial values.

use super::{BlockPlan, Conv, Layer, Linear, Norm, Plan};

/// A tensor of the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedTensor {
    /// torchvision's name, such as `layer1.0.conv1.weight`.
    pub name: String,
    /// Its dimensions.
    pub shape: Vec<i64>,
    /// How the optimizer treats it.
    pub role: Role,
    /// Its values before training.
    pub initial: Initial,
}

/// How the optimizer treats a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Weight of a convolution or of the linear layer.
    Weight,
    /// A bias, or the scale or shift of a batch norm. Weight decay applies to these only with `--decay-all`.
    BiasOrNorm,
    /// Running statistic of a batch norm. It is saved, but not learned.
    Buffer,
}

/// The values of a tensor before training. [`Init`](crate::model::spec::Init) is the distribution of random weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Initial {
    /// The weight of a convolution.
    ConvWeight {
        /// Number of inputs that one output is computed from.
        fan_in: usize,
        /// Number of outputs that use one input.
        fan_out: usize,
    },
    /// The weight of a linear layer.
    LinearWeight {
        /// Number of inputs that one output is computed from.
        fan_in: usize,
        /// Number of outputs that use one input.
        fan_out: usize,
    },
    /// A bias of a convolution or a linear layer.
    Bias {
        /// Number of inputs that one output is computed from.
        fan_in: usize,
    },
    /// Zeros.
    Zeros,
    /// Ones.
    Ones,
    /// The scale of the batch norm that ends a block's main path: ones, or zeros with
    /// `--zero-init-residual`.
    ResidualScale,
}

impl Plan {
    /// Every tensor of the network, in the order of torchvision's `state_dict`.
    pub fn tensors(&self) -> Vec<PlannedTensor> {
        let mut tensors: Vec<_> = self.stem.iter().flat_map(Layer::tensors).collect();
        tensors.extend(self.blocks().flat_map(BlockPlan::tensors));
        tensors.extend(self.head.iter().flat_map(Layer::tensors));
        tensors
    }

    /// Number of learned parameters in the whole network.
    pub fn parameter_count(&self) -> usize {
        learned_numbers(&self.tensors())
    }
}

impl BlockPlan {
    /// Its tensors, in the order of torchvision's `state_dict`.
    pub fn tensors(&self) -> Vec<PlannedTensor> {
        self.main.iter().chain(&self.shortcut).flat_map(Layer::tensors).collect()
    }
}

impl Layer {
    /// Its tensors, in the order of torchvision's `state_dict`.
    pub fn tensors(&self) -> Vec<PlannedTensor> {
        match self {
            Layer::Conv(conv) => [conv.weight()].into_iter().chain(conv.bias()).collect(),
            Layer::Norm(norm) => norm.tensors().into(),
            Layer::Linear(linear) => linear.tensors().into(),
            Layer::MaxPool(_) | Layer::GlobalAvgPool(_) | Layer::Flatten(_) | Layer::ZeroPad(_) => {
                Vec::new()
            }
        }
    }
}

impl Conv {
    /// Its weight, [outputs, inputs, kernel, kernel].
    pub fn weight(&self) -> PlannedTensor {
        let pixels = self.kernel * self.kernel;
        let initial = Initial::ConvWeight { fan_in: self.fan_in(), fan_out: self.outputs * pixels };
        let shape = [self.outputs, self.inputs, self.kernel, self.kernel];
        tensor(&self.name, "weight", &shape, Role::Weight, initial)
    }

    /// Its bias, `[outputs]`, if it has one.
    pub fn bias(&self) -> Option<PlannedTensor> {
        let initial = Initial::Bias { fan_in: self.fan_in() };
        let bias = || tensor(&self.name, "bias", &[self.outputs], Role::BiasOrNorm, initial);
        self.has_bias.then(bias)
    }

    /// Number of products that are added up for one element of the output.
    pub fn fan_in(&self) -> usize {
        self.inputs * self.kernel * self.kernel
    }
}

impl Norm {
    /// Its scale, shift, running mean and running variance, each `[channels]`.
    pub fn tensors(&self) -> [PlannedTensor; 4] {
        let scale = if self.ends_main_path { Initial::ResidualScale } else { Initial::Ones };
        [
            ("weight", Role::BiasOrNorm, scale),
            ("bias", Role::BiasOrNorm, Initial::Zeros),
            ("running_mean", Role::Buffer, Initial::Zeros),
            ("running_var", Role::Buffer, Initial::Ones),
        ]
        .map(|(name, role, initial)| tensor(&self.name, name, &[self.channels], role, initial))
    }
}

impl Linear {
    /// Its weight, `[outputs, inputs]`, and its bias, `[outputs]`.
    pub fn tensors(&self) -> [PlannedTensor; 2] {
        let (fan_in, fan_out) = (self.inputs, self.outputs);
        let weight = Initial::LinearWeight { fan_in, fan_out };
        [
            tensor(&self.name, "weight", &[fan_out, fan_in], Role::Weight, weight),
            tensor(&self.name, "bias", &[fan_out], Role::BiasOrNorm, Initial::Bias { fan_in }),
        ]
    }
}

fn tensor(layer: &str, name: &str, shape: &[usize], role: Role, initial: Initial) -> PlannedTensor {
    let shape = shape.iter().map(|&length| length as i64).collect();
    PlannedTensor { name: format!("{layer}.{name}"), shape, role, initial }
}

/// Number of learned parameters in these tensors.
pub fn learned_numbers(tensors: &[PlannedTensor]) -> usize {
    let learned = tensors.iter().filter(|tensor| tensor.role != Role::Buffer);
    learned.map(|tensor| tensor.shape.iter().product::<i64>() as usize).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::spec::{Choices, Spec};

    #[test]
    fn every_tensor_has_its_own_name() {
        let choices =
            Choices { depth: Some(50), channels: 3, classes: 10, size: 64, ..Choices::default() };
        let tensors = Plan::new(&Spec::resolve(&choices).unwrap()).tensors();
        let names: std::collections::HashSet<_> =
            tensors.iter().map(|tensor| &tensor.name).collect();
        assert_eq!(names.len(), tensors.len());
    }
}
