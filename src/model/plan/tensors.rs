//! The tensors of a plan: names, shapes, roles and initial values.

use super::{BlockPlan, Conv, Layer, Linear, Norm, Plan, SqueezeExcite};

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
    /// The bias of the convolution that ends a block's main path: as other biases, or zeros with
    /// `--zero-init-residual`.
    ResidualBias {
        /// Number of inputs that one output is computed from.
        fan_in: usize,
    },
    /// The weight of the convolution that ends a block's main path: as other convolutions, or zeros with
    /// `--zero-init-residual`.
    ResidualWeight {
        /// Number of inputs that one output is computed from.
        fan_in: usize,
        /// Number of outputs that use one input.
        fan_out: usize,
    },
}

impl Plan {
    /// Every tensor of the network, in the order of torchvision's `state_dict`.
    pub fn tensors(&self) -> Vec<PlannedTensor> {
        self.layers().flat_map(Layer::tensors).collect()
    }

    /// Number of learned parameters in the whole network.
    pub fn parameter_count(&self) -> usize {
        learned_numbers(&self.tensors())
    }
}

impl BlockPlan {
    /// Its tensors, in the order of torchvision's `state_dict`.
    pub fn tensors(&self) -> Vec<PlannedTensor> {
        self.layers().flat_map(Layer::tensors).collect()
    }
}

impl Layer {
    /// Its tensors, in the order of torchvision's `state_dict`.
    pub fn tensors(&self) -> Vec<PlannedTensor> {
        match self {
            Layer::Conv(conv) => [conv.weight()].into_iter().chain(conv.bias()).collect(),
            Layer::Norm(norm) => norm.tensors().into(),
            Layer::Linear(linear) => linear.tensors().into(),
            Layer::SqueezeExcite(gate) => gate.tensors().into(),
            Layer::Relu(_)
            | Layer::MaxPool(_)
            | Layer::AvgPool(_)
            | Layer::GlobalAvgPool(_)
            | Layer::Flatten(_)
            | Layer::ZeroPad(_)
            | Layer::Scale(_)
            | Layer::Dropout(_)
            | Layer::DropPath(_) => Vec::new(),
        }
    }
}

impl Conv {
    /// Its weight, [outputs, inputs / groups, kernel, kernel].
    pub fn weight(&self) -> PlannedTensor {
        // PyTorch's fan-out does not know of groups.
        let (fan_in, fan_out) = (self.fan_in(), self.outputs * self.kernel * self.kernel);
        let initial = match self.ends_main_path {
            true => Initial::ResidualWeight { fan_in, fan_out },
            false => Initial::ConvWeight { fan_in, fan_out },
        };
        let shape = [self.outputs, self.inputs / self.groups, self.kernel, self.kernel];
        tensor(&self.name, "weight", &shape, Role::Weight, initial)
    }

    /// Its bias, `[outputs]`, if it has one.
    pub fn bias(&self) -> Option<PlannedTensor> {
        let initial = match self.ends_main_path {
            true => Initial::ResidualBias { fan_in: self.fan_in() },
            false => Initial::Bias { fan_in: self.fan_in() },
        };
        let bias = || tensor(&self.name, "bias", &[self.outputs], Role::BiasOrNorm, initial);
        self.has_bias.then(bias)
    }

    /// Number of products that are added up for one element of the output.
    pub fn fan_in(&self) -> usize {
        self.inputs / self.groups * self.kernel * self.kernel
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

impl SqueezeExcite {
    /// Weight and bias of its first layer, which reduces the channels, and of its second layer. They have timm's shapes:
    /// those of 1×1 convolutions.
    pub fn tensors(&self) -> [PlannedTensor; 4] {
        let &Self { channels, reduced, .. } = self;
        let planned = |layer: &str, part: &str, shape: &[usize], role, initial| {
            tensor(&format!("{}.{layer}", self.name), part, shape, role, initial)
        };
        let weight = |fan_in, fan_out| Initial::ConvWeight { fan_in, fan_out };
        let [reduces, restores] = [weight(channels, reduced), weight(reduced, channels)];
        let bias = |fan_in| Initial::Bias { fan_in };
        [
            planned("fc1", "weight", &[reduced, channels, 1, 1], Role::Weight, reduces),
            planned("fc1", "bias", &[reduced], Role::BiasOrNorm, bias(channels)),
            planned("fc2", "weight", &[channels, reduced, 1, 1], Role::Weight, restores),
            planned("fc2", "bias", &[channels], Role::BiasOrNorm, bias(reduced)),
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
    use crate::model::spec::examples;

    #[test]
    fn every_tensor_has_its_own_name() {
        for spec in examples() {
            let tensors = Plan::new(&spec).tensors();
            let names: std::collections::HashSet<_> =
                tensors.iter().map(|tensor| &tensor.name).collect();
            assert_eq!(names.len(), tensors.len(), "{spec}");
        }
    }
}
