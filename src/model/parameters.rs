//! The named tensors of a network: learned parameters and batch-norm statistics.
//!
//! Used in place of tch's `VarStore`, which renames a duplicate silently, loses the order of
//! creation, and always allocates and draws what it holds (docs/decisions/0003).

use super::spec::{Init, Spec};
use crate::libtorch;
use crate::random::{self, Purpose};
use rand_distr::{Distribution, StandardNormal, Uniform};
use std::cell::RefCell;
use std::fmt::Display;
use tch::{Device, Kind, Tensor};

/// What a tensor is to the optimizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Weight of a convolution or of the linear layer.
    Weight,
    /// Bias, or scale of a batch norm: what weight decay may spare.
    BiasOrNorm,
    /// Running statistic of a batch norm: saved, not learned.
    Buffer,
}

/// A tensor of a network under torchvision's name for it.
#[derive(Debug)]
pub struct Parameter {
    /// Such as `layer1.0.conv1.weight`.
    pub name: String,
    /// What it is to the optimizer.
    pub role: Role,
    /// 32-bit floats; requires a gradient unless it is a buffer.
    pub tensor: Tensor,
}

/// How the tensors of a network come to be.
#[derive(Debug, Clone, Copy)]
pub enum Creation {
    /// Drawn, each as a pure function of the seed and its own name.
    Draw {
        /// The scheme for weights.
        init: Init,
        /// Whether the last batch norm of each block starts at zero, so that each block starts as
        /// the identity (Goyal et al. 2017, section 5.1).
        zero_init_residual: bool,
        /// The run's seed.
        seed: u64,
        /// Where the tensors live.
        device: Device,
    },
    /// Allocated for values that are about to be read from a file.
    Empty {
        /// Where the tensors live.
        device: Device,
    },
    /// Shapes alone: nothing is allocated, nothing can be read.
    Meta,
}

/// The distribution of a weight that [`Creation::Draw`] draws.
#[derive(Debug, Clone, Copy)]
pub enum Fill {
    /// All values the same.
    Constant(f64),
    /// Normal around zero.
    Normal {
        /// Standard deviation.
        std: f64,
    },
    /// Uniform in ±bound.
    Uniform {
        /// Largest absolute value.
        bound: f64,
    },
}

/// The order in memory of a network's images, activations and weights [N, C, H, W]. libtorch
/// computes a convolution in the layout of its operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// C innermost: 1.27 times as fast on a CPU, and what tensor cores want.
    ChannelsLast,
    /// W innermost, the order of the dimensions.
    RowMajor,
}

impl Layout {
    /// The layout to compute a network in. Channels-last is for networks whose channel counts are
    /// multiples of 8, which oneDNN's blocks of channels are too (docs/decisions/0005).
    pub fn of(spec: &Spec) -> Self {
        if spec.width.is_multiple_of(8) { Self::ChannelsLast } else { Self::RowMajor }
    }

    /// The same tensor in this layout; tensors of other than four dimensions have but one.
    pub fn apply(self, tensor: &Tensor) -> Tensor {
        let dims = tensor.size();
        match (self, dims.len()) {
            (Self::ChannelsLast, 4) => {
                tensor.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
            }
            // Through one dimension: where a dimension is 1, a tensor in channels-last order passes
            // for contiguous and would keep its strides, by which libtorch chooses the layout.
            (Self::RowMajor, 4) => tensor.contiguous().view(-1).view(dims.as_slice()),
            _ => tensor.shallow_clone(),
        }
    }
}

/// The tensors of a network in the order of their layers, as torchvision's `state_dict` has them.
#[derive(Debug)]
pub struct Parameters {
    creation: Creation,
    layout: Layout,
    entries: RefCell<Vec<Parameter>>,
}

impl Parameters {
    /// No tensors yet; layers add theirs through [`Parameters::root`].
    pub fn new(creation: Creation, layout: Layout) -> Self {
        Self { creation, layout, entries: RefCell::default() }
    }

    /// The scope without a prefix.
    pub fn root(&self) -> Scope<'_> {
        Scope { parameters: self, prefix: String::new() }
    }

    /// The device that the tensors live on; for [`Creation::Meta`] the CPU.
    pub fn device(&self) -> Device {
        match self.creation {
            Creation::Draw { device, .. } | Creation::Empty { device } => device,
            Creation::Meta => Device::Cpu,
        }
    }

    /// Numbers that are learned so far, over all layers.
    pub fn count(&self) -> usize {
        learned(&self.entries.borrow())
    }

    /// All tensors, once every layer has added its own.
    pub fn into_entries(self) -> Vec<Parameter> {
        self.entries.into_inner()
    }

    fn add(&self, name: String, role: Role, dims: &[i64], fill: Fill) -> Tensor {
        let tensor = match self.creation {
            Creation::Draw { seed, device, .. } => draw(seed, &name, dims, fill).to_device(device),
            Creation::Empty { device } => Tensor::empty(dims, (Kind::Float, device)),
            Creation::Meta => libtorch::meta(dims),
        };
        let tensor = match self.creation {
            Creation::Meta => tensor,
            _ => self.layout.apply(&tensor).set_requires_grad(role != Role::Buffer),
        };
        let mut entries = self.entries.borrow_mut();
        debug_assert!(entries.iter().all(|p| p.name != name), "two tensors named {name}");
        entries.push(Parameter { name, role, tensor: tensor.shallow_clone() });
        tensor
    }
}

/// Numbers that are learned in some tensors.
pub fn learned(parameters: &[Parameter]) -> usize {
    parameters.iter().filter(|p| p.role != Role::Buffer).map(|p| p.tensor.numel()).sum()
}

/// A prefix of names, such as `layer1.0`; mirrors tch's `nn::Path`.
#[derive(Debug, Clone)]
pub struct Scope<'a> {
    parameters: &'a Parameters,
    prefix: String,
}

impl Scope<'_> {
    /// The scope below this one.
    pub fn sub(&self, name: impl Display) -> Self {
        Scope { parameters: self.parameters, prefix: self.path(name) }
    }

    /// How weights are drawn: [`Init::He`] where nothing is drawn.
    pub fn init(&self) -> Init {
        match self.parameters.creation {
            Creation::Draw { init, .. } => init,
            _ => Init::He,
        }
    }

    /// The starting scale of a block's last batch norm.
    pub fn residual_scale(&self) -> f64 {
        match self.parameters.creation {
            Creation::Draw { zero_init_residual: true, .. } => 0.0,
            _ => 1.0,
        }
    }

    /// Adds a weight.
    pub fn weight(&self, name: &str, dims: &[i64], fill: Fill) -> Tensor {
        self.parameters.add(self.path(name), Role::Weight, dims, fill)
    }

    /// Adds a bias, or a scale or shift of a batch norm.
    pub fn bias_or_norm(&self, name: &str, dims: &[i64], fill: Fill) -> Tensor {
        self.parameters.add(self.path(name), Role::BiasOrNorm, dims, fill)
    }

    /// Adds a running statistic.
    pub fn buffer(&self, name: &str, dims: &[i64], fill: Fill) -> Tensor {
        self.parameters.add(self.path(name), Role::Buffer, dims, fill)
    }

    /// Numbers that are learned so far, over all scopes.
    pub fn count(&self) -> usize {
        self.parameters.count()
    }

    fn path(&self, name: impl Display) -> String {
        if self.prefix.is_empty() { name.to_string() } else { format!("{}.{name}", self.prefix) }
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
