//! The named tensors of a network: learned parameters and batch-norm statistics.
//!
//! They replace tch's `VarStore`. It silently renames a tensor whose name exists already, loses the order of creation,
//! and always allocates its tensors and draws random values (docs/decisions/0003).

pub use super::plan::Role;
use super::plan::{Initial, Layer, Plan, PlannedTensor};
use super::spec::Init;
use super::weights::Weight;
use crate::libtorch;
use crate::random::{self, Purpose};
use rand_distr::{Distribution, StandardNormal, Uniform};
use tch::{Device, Kind, Tensor};

/// A tensor of a network, with torchvision's name.
#[derive(Debug)]
pub struct Parameter {
    /// The name, such as `layer1.0.conv1.weight`.
    pub name: String,
    /// How the optimizer treats it.
    pub role: Role,
    /// Its values, 32-bit floats. It requires a gradient unless it is a buffer.
    pub tensor: Tensor,
}

/// How the tensors of a network are created.
#[derive(Debug, Clone, Copy)]
pub enum Creation {
    /// Drawn at random. Each tensor depends only on the seed and on its own name.
    Draw {
        /// The distribution of weights.
        init: Init,
        /// Whether the main path of each block starts as zero, because the batch norm or convolution that ends it does.
        /// Each block then starts as the identity (Goyal et al. 2017, section 5.1).
        zero_init_residual: bool,
        /// The run's seed.
        seed: u64,
        /// The device of the tensors.
        device: Device,
    },
    /// Allocated, but not initialised. The caller writes the values afterwards.
    Empty {
        /// The device of the tensors.
        device: Device,
    },
    /// Only shapes. No memory is allocated, and no value can be read.
    Meta,
}

/// The distribution of a tensor's initial values.
#[derive(Debug, Clone, Copy)]
enum Fill {
    /// One value.
    Constant(f64),
    /// Normal with mean 0.
    Normal { std: f64 },
    /// Uniform in ±bound.
    Uniform { bound: f64 },
}

impl Fill {
    /// Weights follow [`Init`]. Biases are uniform in ±1/√fan-in, and batch norm has the initial values of PyTorch. tch
    /// has other defaults (docs/decisions/0004).
    fn new(initial: Initial, init: Init, zero_init_residual: bool) -> Self {
        match (initial, init) {
            (
                Initial::ResidualScale
                | Initial::ResidualWeight { .. }
                | Initial::ResidualBias { .. },
                _,
            ) if zero_init_residual => Self::Constant(0.0),
            (
                Initial::ConvWeight { fan_out, .. } | Initial::ResidualWeight { fan_out, .. },
                Init::He,
            ) => Self::Normal { std: (2.0 / fan_out as f64).sqrt() },
            (
                Initial::ConvWeight { fan_in, fan_out }
                | Initial::ResidualWeight { fan_in, fan_out }
                | Initial::LinearWeight { fan_in, fan_out },
                Init::Xavier,
            ) => Self::Uniform { bound: (6.0 / (fan_in as f64 + fan_out as f64)).sqrt() },
            (Initial::LinearWeight { fan_in, .. }, Init::He)
            | (Initial::Bias { fan_in } | Initial::ResidualBias { fan_in }, _) => {
                Self::Uniform { bound: 1.0 / (fan_in as f64).sqrt() }
            }
            (Initial::Zeros, _) => Self::Constant(0.0),
            (Initial::Ones | Initial::ResidualScale, _) => Self::Constant(1.0),
        }
    }
}

/// The order in memory of a network's images, activations and weights [N, C, H, W]. libtorch
/// computes a convolution in the layout of its inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// C is innermost. This is 1.27 times as fast on a CPU, and tensor cores use this order too.
    ChannelsLast,
    /// W is innermost, as in the order of the dimensions.
    RowMajor,
}

impl Layout {
    /// The layout in which a network is computed: channels-last if its channel counts are multiples of 8, because
    /// oneDNN computes in blocks of channels (docs/decisions/0005).
    pub fn of(plan: &Plan) -> Self {
        let fits = |layer: &Layer| match layer {
            Layer::Conv(conv) => conv.outputs.is_multiple_of(8),
            _ => true,
        };
        if plan.layers().all(fits) { Self::ChannelsLast } else { Self::RowMajor }
    }

    /// The same tensor in this layout. A tensor that does not have four dimensions stays as it is.
    pub fn apply(self, tensor: &Tensor) -> Tensor {
        let dims = tensor.size();
        let [n, c, h, w] = *dims else { return tensor.shallow_clone() };
        // The tensor is first flattened to one dimension, so that it gets new strides. If a dimension is 1, libtorch
        // treats a tensor in one layout as contiguous in the other too, and keeps its strides. But it chooses the
        // layout of an operation by the strides.
        match self {
            Self::ChannelsLast => {
                let pixels = tensor.permute([0, 2, 3, 1]).contiguous();
                pixels.view(-1).view([n, h, w, c]).permute([0, 3, 1, 2])
            }
            Self::RowMajor => tensor.contiguous().view(-1).view([n, c, h, w]),
        }
    }
}

/// Creates the tensors of a network and keeps them in the order of creation.
#[derive(Debug)]
pub struct Parameters {
    creation: Creation,
    layout: Layout,
    entries: Vec<Parameter>,
    /// The weights of convolutions among the tensors.
    weights: Vec<Weight>,
}

impl Parameters {
    /// A collection without tensors.
    pub fn new(creation: Creation, layout: Layout) -> Self {
        Self { creation, layout, entries: Vec::new(), weights: Vec::new() }
    }

    /// The device of the tensors. For [`Creation::Meta`], it is the CPU.
    pub fn device(&self) -> Device {
        match self.creation {
            Creation::Draw { device, .. } | Creation::Empty { device } => device,
            Creation::Meta => Device::Cpu,
        }
    }

    /// Creates a planned tensor.
    pub fn add(&mut self, planned: PlannedTensor) -> Tensor {
        let PlannedTensor { name, shape, role, initial } = planned;
        let tensor = match self.creation {
            Creation::Draw { init, zero_init_residual, seed, device } => {
                let fill = Fill::new(initial, init, zero_init_residual);
                draw(seed, &name, &shape, fill).to_device(device)
            }
            Creation::Empty { device } => Tensor::empty(&shape, (Kind::Float, device)),
            Creation::Meta => libtorch::meta(&shape),
        };
        let tensor = match self.creation {
            Creation::Meta => tensor,
            Creation::Draw { .. } | Creation::Empty { .. } => {
                self.layout.apply(&tensor).set_requires_grad(role != Role::Buffer)
            }
        };
        self.entries.push(Parameter { name, role, tensor: tensor.shallow_clone() });
        tensor
    }

    /// Creates a planned tensor that is a weight or a bias of a convolution.
    pub fn add_weight(&mut self, planned: PlannedTensor) -> Weight {
        let (values, position) = (self.add(planned), self.weights.len());
        self.weights.push(Weight::new(&values, position));
        Weight::new(&values, position)
    }

    /// Number of weights of convolutions so far.
    pub fn weight_count(&self) -> usize {
        self.weights.len()
    }

    /// All tensors, and the weights of convolutions among them, both in the order of creation.
    pub fn into_parts(self) -> (Vec<Parameter>, Vec<Weight>) {
        (self.entries, self.weights)
    }
}

fn draw(seed: u64, name: &str, dims: &[i64], fill: Fill) -> Tensor {
    let count = dims.iter().product::<i64>() as usize;
    let mut rng = random::generator(seed, Purpose::Init, random::name_index(name));
    let values: Vec<f32> = match fill {
        Fill::Constant(value) => vec![value as f32; count],
        Fill::Normal { std } => {
            let normal: rand_distr::Iter<_, _, f32> = StandardNormal.sample_iter(&mut rng);
            normal.take(count).map(|value| value * std as f32).collect()
        }
        Fill::Uniform { bound } => match Uniform::new_inclusive(-bound as f32, bound as f32) {
            Ok(uniform) => uniform.sample_iter(&mut rng).take(count).collect(),
            Err(_) => vec![0.0; count],
        },
    };
    Tensor::from_slice(&values).reshape(dims)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strides_tell_the_layout_even_if_a_dimension_is_1() {
        for (dims, last, row_major) in [
            ([2, 3, 4, 5], [60, 1, 15, 3], [60, 20, 5, 1]),
            ([2, 1, 4, 5], [20, 1, 5, 1], [20, 20, 5, 1]),
            ([8, 3, 1, 1], [3, 1, 3, 3], [3, 1, 1, 1]),
        ] {
            let tensor = Tensor::arange(dims.iter().product::<i64>(), (Kind::Float, Device::Cpu));
            let tensor = tensor.view(dims);
            let channels_last = Layout::ChannelsLast.apply(&tensor);
            assert_eq!(channels_last.stride(), last);
            let back = Layout::RowMajor.apply(&channels_last);
            assert_eq!(back.stride(), row_major);
            assert_eq!((&channels_last, &back), (&tensor, &tensor));
        }
    }
}
