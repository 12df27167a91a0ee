//! Batch normalisation with the sum and the ReLU behind it; in training in the same passes over memory
//! (docs/decisions/0016).

use tch::Tensor;

/// What batch norm is told beside the batch, each tensor `[C]`.
#[derive(Debug)]
pub struct Normalization<'a> {
    /// The scale, learned.
    pub weight: &'a Tensor,
    /// The shift, learned.
    pub bias: &'a Tensor,
    /// The running mean and the running, unbiased, variance; none if training is to leave them.
    pub running: Option<(&'a Tensor, &'a Tensor)>,
    /// How much of the batch's statistics goes into the running ones.
    pub momentum: f64,
    /// Added to the variance.
    pub epsilon: f64,
}

/// Normalises `xs` `[N, C, H, W]`, with `train` by its own statistics and else by the running ones, adds
/// `other` of the same shape if given, and applies ReLU if asked for. Gradients flow through it.
///
/// # Panics
///
/// Like tch's own operations, where libtorch cannot.
pub fn batch_norm(
    xs: &Tensor,
    normalization: &Normalization,
    other: Option<&Tensor>,
    relu: bool,
    train: bool,
) -> Tensor {
    let fused = train.then(|| fused(xs, normalization, other, relu)).flatten();
    fused.unwrap_or_else(|| {
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

/// The same in training, in as few passes; none where that cannot be.
#[cfg(kernels)]
fn fused(
    xs: &Tensor,
    normalization: &Normalization,
    other: Option<&Tensor>,
    relu: bool,
) -> Option<Tensor> {
    use crate::libtorch::{address, owned};
    use std::ffi::c_void;

    unsafe extern "C" {
        fn resnet_batch_norm(
            input: *const c_void,
            weight: *const c_void,
            bias: *const c_void,
            other: *const c_void,
            running_mean: *const c_void,
            running_variance: *const c_void,
            relu: bool,
            momentum: f64,
            epsilon: f64,
        ) -> *mut c_void;
    }

    let Normalization { weight, bias, running, momentum, epsilon } = *normalization;
    let (mean, variance) = running.unzip();
    // SAFETY: the tensors are alive, and tch's pointers are those of `at::Tensor`s.
    owned(unsafe {
        resnet_batch_norm(
            address(Some(xs)),
            address(Some(weight)),
            address(Some(bias)),
            address(other),
            address(mean),
            address(variance),
            relu,
            momentum,
            epsilon,
        )
    })
}

#[cfg(not(kernels))]
fn fused(_: &Tensor, _: &Normalization, _: Option<&Tensor>, _: bool) -> Option<Tensor> {
    None
}
