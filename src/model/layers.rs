//! The leaves of a network. Every default of PyTorch that tch does not share is set here
//! (docs/decisions/0004).

use super::parameters::{Fill, Scope};
use super::spec::Init;
use crate::kernels;
use crate::kernels::Normalization;
use crate::precision::multiplied_in;
use serde::Serialize;
use std::cell::{Cell, RefCell};
use tch::Tensor;
use tch::nn::ModuleT;

/// What layers take, for the whole batch; `u64::MAX` stands for all that is more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// Multiply-adds of convolutions and linear layers. Batch norm, pooling and additions are left
    /// out, as is usual.
    pub macs: u64,
    /// Numbers that training keeps from the forward pass for the backward pass.
    #[serde(skip)]
    pub activations: u64,
    /// The most of them that one layer keeps.
    #[serde(skip)]
    pub largest: u64,
}

impl Cost {
    /// Of these layers and others.
    pub fn plus(self, other: Self) -> Self {
        Self {
            macs: self.macs.saturating_add(other.macs),
            activations: self.activations.saturating_add(other.activations),
            largest: self.largest.max(other.largest),
        }
    }
}

thread_local! {
    static COST: Cell<Cost> = const { Cell::new(Cost { macs: 0, activations: 0, largest: 0 }) };
}

/// Runs `forward` and counts the cost of the layers in it.
pub fn counting_cost<T>(forward: impl FnOnce() -> T) -> (T, Cost) {
    COST.set(Cost::default());
    let result = forward();
    (result, COST.get())
}

/// A convolution as it was computed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Convolution {
    /// [N, I, H, W].
    pub input: Vec<i64>,
    /// [O, I, k, k].
    pub weight: Vec<i64>,
    /// Pixels from one output to the next.
    pub stride: i64,
    /// Pixels of zeros at each edge.
    pub padding: i64,
}

thread_local! {
    static CONVOLUTIONS: RefCell<Option<Vec<Convolution>>> = const { RefCell::new(None) };
}

/// Runs `forward` and lists the convolutions in it, in their order.
pub fn listing_convolutions(forward: impl FnOnce()) -> Vec<Convolution> {
    CONVOLUTIONS.set(Some(Vec::new()));
    forward();
    CONVOLUTIONS.take().unwrap_or_default()
}

thread_local! {
    static STATISTICS_STAY: Cell<bool> = const { Cell::new(false) };
}

/// Runs `forward` in training mode a second time: batch norm uses the batch's statistics as before, and
/// does not update its running ones again.
pub fn without_updating_statistics<T>(forward: impl FnOnce() -> T) -> T {
    /// Whatever becomes of `forward`.
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            STATISTICS_STAY.set(false);
        }
    }
    let _reset = Reset;
    STATISTICS_STAY.set(true);
    forward()
}

/// A layer keeps `outputs` numbers, each of which is the sum of `terms` products.
fn count(outputs: usize, terms: i64) {
    let outputs = outputs as u64;
    let macs = outputs.saturating_mul(terms as u64);
    COST.set(COST.get().plus(Cost { macs, activations: outputs, largest: outputs }));
}

/// 2-d convolution, [N, I, H, W] → [N, O, H', W'].
#[derive(Debug)]
pub struct Conv2d {
    weight: Tensor,
    bias: Option<Tensor>,
    stride: i64,
    padding: i64,
}

impl Conv2d {
    /// A square kernel of `kernel` pixels, padded so that a stride of 1 keeps the image's size.
    /// The weight is drawn as [`Init`] says; a bias as PyTorch draws it, uniform in ±1/√fan-in.
    pub fn new(
        scope: &Scope,
        inputs: usize,
        outputs: usize,
        kernel: usize,
        stride: usize,
        bias: bool,
    ) -> Self {
        let (inputs, outputs, kernel) = (inputs as i64, outputs as i64, kernel as i64);
        let fan_in = (inputs * kernel * kernel) as f64;
        let fan_out = (outputs * kernel * kernel) as f64;
        let fill = match scope.init() {
            Init::He => Fill::Normal { std: (2.0 / fan_out).sqrt() },
            Init::Xavier => xavier(fan_in, fan_out),
        };
        let weight = scope.weight("weight", &[outputs, inputs, kernel, kernel], fill);
        let bias = bias.then(|| {
            scope.bias_or_norm("bias", &[outputs], Fill::Uniform { bound: 1.0 / fan_in.sqrt() })
        });
        Self { weight, bias, stride: stride as i64, padding: kernel / 2 }
    }
}

impl ModuleT for Conv2d {
    fn forward_t(&self, xs: &Tensor, _train: bool) -> Tensor {
        // In the kind of the activations; the same tensors where that is theirs.
        let kind = xs.kind();
        let (weight, bias) =
            (self.weight.to_kind(kind), self.bias.as_ref().map(|bias| bias.to_kind(kind)));
        let multiplied = multiplied_in(kind, xs.device());
        let [xs, weight] = [xs, &weight].map(|tensor| tensor.to_kind(multiplied));
        let bias = bias.map(|bias| bias.to_kind(multiplied));
        let ys = kernels::convolution(&xs, &weight, bias.as_ref(), self.stride, self.padding);
        let ys = ys.to_kind(kind);
        count(ys.numel(), self.weight.size().iter().skip(1).product());
        CONVOLUTIONS.with_borrow_mut(|list| {
            if let Some(list) = list {
                list.push(Convolution {
                    input: xs.size(),
                    weight: weight.size(),
                    stride: self.stride,
                    padding: self.padding,
                });
            }
        });
        ys
    }
}

/// Batch normalisation over [N, H, W] (Ioffe and Szegedy 2015), with PyTorch's defaults: scale 1,
/// shift 0, momentum 0.1, epsilon 1e-5, running variance unbiased.
#[derive(Debug)]
pub struct BatchNorm2d {
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    relu: bool,
}

impl BatchNorm2d {
    const MOMENTUM: f64 = 0.1;
    /// Added to the variance.
    pub const EPSILON: f64 = 1e-5;

    /// Over `channels` channels, with the scale starting at `scale`.
    pub fn new(scope: &Scope, channels: usize, scale: f64) -> Self {
        let dims = [channels as i64];
        Self {
            weight: scope.bias_or_norm("weight", &dims, Fill::Constant(scale)),
            bias: scope.bias_or_norm("bias", &dims, Fill::Constant(0.0)),
            running_mean: scope.buffer("running_mean", &dims, Fill::Constant(0.0)),
            running_var: scope.buffer("running_var", &dims, Fill::Constant(1.0)),
            relu: false,
        }
    }

    /// The same with a ReLU behind it, for less than the two would take.
    #[must_use]
    pub fn then_relu(self) -> Self {
        Self { relu: true, ..self }
    }

    /// What it makes of `xs`, plus `other` if given, and then the ReLU, if it has one.
    pub fn forward_sum(&self, xs: &Tensor, other: Option<&Tensor>, train: bool) -> Tensor {
        count(xs.numel(), 0);
        let stay = train && STATISTICS_STAY.get();
        let normalization = Normalization {
            weight: &self.weight,
            bias: &self.bias,
            running: (!stay).then_some((&self.running_mean, &self.running_var)),
            momentum: Self::MOMENTUM,
            epsilon: Self::EPSILON,
        };
        kernels::batch_norm(xs, &normalization, other, self.relu, train)
    }
}

impl ModuleT for BatchNorm2d {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        self.forward_sum(xs, None, train)
    }
}

/// Affine map, [N, I] → [N, O].
#[derive(Debug)]
pub struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    /// Weight and bias uniform in ±1/√inputs, as PyTorch draws them; with [`Init::Xavier`] the
    /// weight as that says.
    pub fn new(scope: &Scope, inputs: usize, outputs: usize) -> Self {
        let (fan_in, fan_out) = (inputs as f64, outputs as f64);
        let default = Fill::Uniform { bound: 1.0 / fan_in.sqrt() };
        let fill = match scope.init() {
            Init::He => default,
            Init::Xavier => xavier(fan_in, fan_out),
        };
        let weight = scope.weight("weight", &[outputs as i64, inputs as i64], fill);
        Self { weight, bias: scope.bias_or_norm("bias", &[outputs as i64], default) }
    }
}

impl ModuleT for Linear {
    fn forward_t(&self, xs: &Tensor, _train: bool) -> Tensor {
        let ys = xs.to_kind(self.weight.kind()).linear(&self.weight, Some(&self.bias));
        count(ys.numel(), self.weight.size().iter().skip(1).product());
        ys
    }
}

/// 3×3 max pooling of stride 2 and padding 1.
#[derive(Debug)]
pub struct MaxPool;

impl ModuleT for MaxPool {
    fn forward_t(&self, xs: &Tensor, _train: bool) -> Tensor {
        let ys = xs.max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false);
        // Beside each maximum it keeps where that was, in 64 bits.
        count(3 * ys.numel(), 0);
        ys
    }
}

/// Mean over each channel's pixels, [N, C, H, W] → [N, C, 1, 1].
#[derive(Debug)]
pub struct GlobalAvgPool;

impl ModuleT for GlobalAvgPool {
    fn forward_t(&self, xs: &Tensor, _train: bool) -> Tensor {
        xs.adaptive_avg_pool2d([1, 1])
    }
}

/// [N, C, H, W] → [N, C·H·W].
#[derive(Debug)]
pub struct Flatten;

impl ModuleT for Flatten {
    fn forward_t(&self, xs: &Tensor, _train: bool) -> Tensor {
        xs.flatten(1, -1)
    }
}

/// Parameter-free shortcut: every `stride`-th pixel, and `new_channels` channels of zeros behind
/// those that are there (He et al. 2016, section 3.3, option A).
#[derive(Debug)]
pub struct ZeroPad {
    /// Pixels from one that is kept to the next.
    pub stride: usize,
    /// Channels that the input lacks.
    pub new_channels: usize,
}

impl ModuleT for ZeroPad {
    fn forward_t(&self, xs: &Tensor, _train: bool) -> Tensor {
        let stride = self.stride as i64;
        let kept = xs.slice(2, None, None, stride).slice(3, None, None, stride);
        kept.constant_pad_nd([0, 0, 0, 0, 0, self.new_channels as i64])
    }
}

/// Uniform in ±√(6 / (fan-in + fan-out)).
fn xavier(fan_in: f64, fan_out: f64) -> Fill {
    Fill::Uniform { bound: (6.0 / (fan_in + fan_out)).sqrt() }
}
