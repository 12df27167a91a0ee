//! The layers of a network as modules. Every default of PyTorch that differs in tch is set here or in
//! [`parameters`](super::parameters) (docs/decisions/0004).

use super::module::{Mode, Module, Pass, Sequential};
use super::parameters::Parameters;
use super::plan::{
    self, AvgPool, DropPath, Dropout, Flatten, GlobalAvgPool, Layer, MaxPool, Relu, Scale, ZeroPad,
};
use super::weights::Weight;
use crate::kernels::{self, Geometry, Normalization};
use crate::precision::multiplied_in;
use rand::{Rng, RngExt};
use tch::Tensor;

/// The module of a planned layer; its tensors are created in `parameters`.
pub fn module(layer: &Layer, parameters: &mut Parameters) -> Box<dyn Module> {
    match layer {
        Layer::Conv(conv) => Box::new(Conv2d::new(conv, parameters)),
        Layer::Norm(norm) => Box::new(BatchNorm2d::new(norm, parameters)),
        Layer::Linear(linear) => Box::new(Linear::new(linear, parameters)),
        Layer::SqueezeExcite(gate) => Box::new(SqueezeExcite::new(gate, parameters)),
        Layer::Relu(relu) => Box::new(relu.clone()),
        Layer::MaxPool(pool) => Box::new(pool.clone()),
        Layer::AvgPool(pool) => Box::new(pool.clone()),
        Layer::GlobalAvgPool(pool) => Box::new(pool.clone()),
        Layer::Flatten(flatten) => Box::new(flatten.clone()),
        Layer::ZeroPad(pad) => Box::new(pad.clone()),
        Layer::Scale(scale) => Box::new(scale.clone()),
        Layer::Dropout(dropout) => Box::new(dropout.clone()),
        Layer::DropPath(drop_path) => Box::new(drop_path.clone()),
    }
}

/// The modules of planned layers, one after the other.
pub fn sequential(layers: &[Layer], parameters: &mut Parameters) -> Sequential {
    layers.iter().map(|layer| module(layer, parameters)).collect()
}

/// 2-d convolution, [N, I, H, W] → [N, O, H', W'].
#[derive(Debug)]
pub struct Conv2d {
    weight: Weight,
    bias: Option<Weight>,
    geometry: Geometry,
}

impl Conv2d {
    /// The module of a planned convolution.
    pub fn new(conv: &plan::Conv, parameters: &mut Parameters) -> Self {
        Self {
            weight: parameters.add_weight(conv.weight()),
            bias: conv.bias().map(|bias| parameters.add_weight(bias)),
            geometry: geometry(conv),
        }
    }
}

/// How a planned convolution moves over its input.
pub(super) fn geometry(conv: &plan::Conv) -> Geometry {
    let [stride, padding, groups] =
        [conv.stride, conv.padding, conv.groups].map(|number| number as i64);
    Geometry { stride, padding, groups }
}

impl Module for Conv2d {
    fn forward(&self, xs: &Tensor, pass: Pass) -> Tensor {
        let kind = xs.kind();
        let weight = self.weight.in_kind(kind, pass.copies);
        let bias = self.bias.as_ref().map(|bias| bias.in_kind(kind, pass.copies));
        let multiplied = multiplied_in(kind, xs.device());
        let [xs, weight] = [xs, &weight].map(|tensor| tensor.to_kind(multiplied));
        let bias = bias.map(|bias| bias.to_kind(multiplied));
        let ys = kernels::convolution(&xs, &weight, bias.as_ref(), self.geometry);
        ys.to_kind(kind)
    }
}

/// Batch normalisation over [N, H, W] (Ioffe and Szegedy 2015), with PyTorch's defaults: scale 1, shift 0, momentum
/// 0.1, epsilon 1e-5, and an unbiased running variance.
#[derive(Debug)]
pub struct BatchNorm2d {
    pub(super) weight: Tensor,
    pub(super) bias: Tensor,
    pub(super) running_mean: Tensor,
    pub(super) running_var: Tensor,
    pub(super) relu: bool,
}

impl BatchNorm2d {
    /// The fraction of a batch's statistics in the running statistics after it.
    pub const MOMENTUM: f64 = 0.1;
    /// Added to the variance.
    pub const EPSILON: f64 = 1e-5;

    /// The module of a planned batch norm.
    pub fn new(norm: &plan::Norm, parameters: &mut Parameters) -> Self {
        let [weight, bias, running_mean, running_var] =
            norm.tensors().map(|tensor| parameters.add(tensor));
        Self { weight, bias, running_mean, running_var, relu: norm.relu }
    }

    /// The normalised `xs` plus `other`, if given, followed by the ReLU, if the layer has one. Computing the three
    /// together takes fewer passes over memory than computing one after the other.
    pub fn forward_sum(&self, xs: &Tensor, other: Option<&Tensor>, mode: Mode) -> Tensor {
        let running = (&self.running_mean, &self.running_var);
        let (train, running) = match mode {
            Mode::Train(_) => (true, Some(running)),
            Mode::Recompute(_) => (true, None),
            Mode::Evaluate => (false, Some(running)),
        };
        let normalization = Normalization {
            weight: &self.weight,
            bias: &self.bias,
            running,
            momentum: Self::MOMENTUM,
            epsilon: Self::EPSILON,
        };
        kernels::batch_norm(xs, &normalization, other, self.relu, train)
    }
}

impl Module for BatchNorm2d {
    fn forward(&self, xs: &Tensor, pass: Pass) -> Tensor {
        self.forward_sum(xs, None, pass.mode)
    }
}

/// Affine map, [N, I] → [N, O].
#[derive(Debug)]
pub struct Linear {
    pub(super) weight: Tensor,
    pub(super) bias: Tensor,
}

impl Linear {
    /// The module of a planned linear layer.
    pub fn new(linear: &plan::Linear, parameters: &mut Parameters) -> Self {
        let [weight, bias] = linear.tensors().map(|tensor| parameters.add(tensor));
        Self { weight, bias }
    }
}

impl Module for Linear {
    fn forward(&self, xs: &Tensor, _pass: Pass) -> Tensor {
        xs.to_kind(self.weight.kind()).linear(&self.weight, Some(&self.bias))
    }
}

/// Squeeze-and-excitation (Hu et al. 2018), [N, C, H, W] → the same shape. The factors are computed in 32 bits.
#[derive(Debug)]
pub struct SqueezeExcite {
    /// Weight and bias of the layer that reduces the channels, and of the layer that restores them.
    pub(super) tensors: [Tensor; 4],
}

impl SqueezeExcite {
    /// The module of a planned squeeze-and-excitation.
    pub fn new(gate: &plan::SqueezeExcite, parameters: &mut Parameters) -> Self {
        Self { tensors: gate.tensors().map(|tensor| parameters.add(tensor)) }
    }
}

impl Module for SqueezeExcite {
    fn forward(&self, xs: &Tensor, _pass: Pass) -> Tensor {
        let [weight1, bias1, weight2, bias2] = &self.tensors;
        let means = xs.adaptive_avg_pool2d([1, 1]).flatten(1, -1).to_kind(weight1.kind());
        let reduced = means.linear(&weight1.flatten(1, -1), Some(bias1)).relu();
        let factors = reduced.linear(&weight2.flatten(1, -1), Some(bias2)).sigmoid();
        xs * factors.to_kind(xs.kind()).unsqueeze(-1).unsqueeze(-1)
    }
}

impl Module for Relu {
    fn forward(&self, xs: &Tensor, _pass: Pass) -> Tensor {
        xs.relu()
    }
}

impl Module for AvgPool {
    fn forward(&self, xs: &Tensor, _pass: Pass) -> Tensor {
        let window = [self.window as i64; 2];
        xs.avg_pool2d(window, window, [0, 0], true, false, None)
    }
}

impl Module for Scale {
    fn forward(&self, xs: &Tensor, _pass: Pass) -> Tensor {
        xs * self.factor
    }
}

impl Module for Dropout {
    fn forward(&self, xs: &Tensor, pass: Pass) -> Tensor {
        let Some(noise) = pass.mode.noise() else { return xs.shallow_clone() };
        // libtorch draws a number for each element quickly, from a generator that starts at this seed.
        tch::manual_seed(noise.generator(&self.name).next_u64() as i64);
        xs.dropout(self.rate, true)
    }
}

impl Module for DropPath {
    fn forward(&self, xs: &Tensor, pass: Pass) -> Tensor {
        let Some(noise) = pass.mode.noise() else { return xs.shallow_clone() };
        let mut generator = noise.generator(&self.name);
        let count = xs.size().first().map_or(0, |&count| count as usize);
        let factor = (1.0 / (1.0 - self.rate)) as f32;
        let draw = |_| if generator.random::<f64>() < self.rate { 0.0 } else { factor };
        let factors: Vec<f32> = (0..count).map(draw).collect();
        let factors = Tensor::from_slice(&factors).view([-1, 1, 1, 1]);
        xs * factors.to_device(xs.device()).to_kind(xs.kind())
    }
}

impl Module for MaxPool {
    fn forward(&self, xs: &Tensor, _pass: Pass) -> Tensor {
        let [kernel, stride, padding] =
            [self.kernel, self.stride, self.padding].map(|pixels| pixels as i64);
        kernels::max_pool(xs, kernel, stride, padding)
    }
}

impl Module for GlobalAvgPool {
    fn forward(&self, xs: &Tensor, _pass: Pass) -> Tensor {
        xs.adaptive_avg_pool2d([1, 1])
    }
}

impl Module for Flatten {
    fn forward(&self, xs: &Tensor, _pass: Pass) -> Tensor {
        xs.flatten(1, -1)
    }
}

impl Module for ZeroPad {
    fn forward(&self, xs: &Tensor, _pass: Pass) -> Tensor {
        let stride = self.stride as i64;
        let kept = xs.slice(2, None, None, stride).slice(3, None, None, stride);
        kept.constant_pad_nd([0, 0, 0, 0, 0, self.new_channels as i64])
    }
}
