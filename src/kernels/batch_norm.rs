//! Batch normalisation with the sum and the ReLU after it. In training, all three are computed in the same passes over
//! memory (docs/decisions/0016).

use super::tuning::{Tuning, Way};
use crate::libtorch::{address, or_panic, tensor};
use anyhow::Result;
use std::ffi::{c_char, c_void};
use tch::Tensor;

/// The arguments of the C++ functions, as in `batch_norm/arguments.h`.
#[repr(C)]
struct Arguments {
    input: *const c_void,
    weight: *const c_void,
    bias: *const c_void,
    other: *const c_void,
    running_mean: *const c_void,
    running_variance: *const c_void,
    relu: bool,
    momentum: f64,
    epsilon: f64,
}

/// A C++ function that computes batch norm in training.
type Function = unsafe extern "C" fn(*const Arguments, *mut *mut c_void) -> *const c_char;

unsafe extern "C" {
    fn resnet_batch_norm(arguments: *const Arguments, output: *mut *mut c_void) -> *const c_char;
    fn resnet_cuda_batch_norm(
        arguments: *const Arguments,
        output: *mut *mut c_void,
    ) -> *const c_char;
}

/// The parameters and the running statistics of batch norm, each tensor `[C]`.
#[derive(Debug)]
pub struct Normalization<'a> {
    /// The learned scale.
    pub weight: &'a Tensor,
    /// The learned shift.
    pub bias: &'a Tensor,
    /// The running mean and the running unbiased variance. With `None`, training does not update them.
    pub running: Option<(&'a Tensor, &'a Tensor)>,
    /// The weight of the batch's statistics in the update of the running ones.
    pub momentum: f64,
    /// Added to the variance.
    pub epsilon: f64,
}

/// Normalises `xs` `[N, C, H, W]`, in training by the statistics of the batch, otherwise by the running statistics.
/// Then adds `other` of the same shape if given, and applies ReLU if `relu`. The result has gradients.
///
/// # Panics
///
/// Panics like tch's own operations if libtorch fails, for example when memory runs out.
pub fn batch_norm(
    xs: &Tensor,
    normalization: &Normalization,
    other: Option<&Tensor>,
    relu: bool,
    train: bool,
) -> Tensor {
    let own = match train {
        true if Tuning::current().has(Way::BatchNorm) => {
            or_panic(batch_norm_on_cuda(xs, normalization, other, relu))
        }
        true => or_panic(fused(resnet_batch_norm, xs, normalization, other, relu)),
        false => None,
    };
    own.unwrap_or_else(|| {
        let Normalization { weight, bias, running, momentum, epsilon } = *normalization;
        let (mean, variance) = running.unzip();
        let mut ys =
            xs.batch_norm(Some(weight), Some(bias), mean, variance, train, momentum, epsilon, true);
        if let Some(other) = other {
            let _ = ys.g_add_(other);
        }
        if relu { ys.relu_() } else { ys }
    })
}

/// The same in training, computed by this program's kernels for CUDA devices. `None` if none are loaded for the tensors'
/// device, or if they do not support the tensors.
///
/// # Errors
/// The driver refused a launch, or memory ran out.
pub fn batch_norm_on_cuda(
    xs: &Tensor,
    normalization: &Normalization,
    other: Option<&Tensor>,
    relu: bool,
) -> Result<Option<Tensor>> {
    fused(resnet_cuda_batch_norm, xs, normalization, other, relu)
}

/// The same in training, computed by this program's kernels. `None` if they do not support the tensors or the
/// processor.
fn fused(
    function: Function,
    xs: &Tensor,
    normalization: &Normalization,
    other: Option<&Tensor>,
    relu: bool,
) -> Result<Option<Tensor>> {
    let Normalization { weight, bias, running, momentum, epsilon } = *normalization;
    let (mean, variance) = running.unzip();
    let arguments = Arguments {
        input: address(Some(xs)),
        weight: address(Some(weight)),
        bias: address(Some(bias)),
        other: address(other),
        running_mean: address(mean),
        running_variance: address(variance),
        relu,
        momentum,
        epsilon,
    };
    // SAFETY: the tensors are alive, and tch's pointers point to `at::Tensor`s.
    unsafe { tensor(|output| function(&arguments, output)) }
}
