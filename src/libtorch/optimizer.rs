//! The optimizer's operations on all tensors at once. On a GPU, each operation takes a few kernels for all parameters,
//! instead of several kernels for each parameter.

use super::ffi::{address, check};
use anyhow::{Context, Result, ensure};
use std::ffi::{c_char, c_void};
use std::ptr;
use tch::Tensor;

unsafe extern "C" {
    fn resnet_sgd(
        parameters: *const *const c_void,
        gradients: *const *const c_void,
        momenta: *const *const c_void,
        count: usize,
        lr: *const c_void,
        momentum: f64,
        weight_decay: f64,
        nesterov: bool,
        found_inf: *const c_void,
    ) -> *const c_char;
    fn resnet_adamw(
        parameters: *const *const c_void,
        gradients: *const *const c_void,
        means: *const *const c_void,
        squares: *const *const c_void,
        count: usize,
        lr: *const c_void,
        steps: *const c_void,
        beta1: f64,
        beta2: f64,
        weight_decay: f64,
        epsilon: f64,
        found_inf: *const c_void,
    ) -> *const c_char;
    fn resnet_lerp(
        tensors: *const *const c_void,
        ends: *const *const c_void,
        count: usize,
        amount: f64,
    ) -> *const c_char;
    fn resnet_unscale(
        gradients: *const *const c_void,
        count: usize,
        found_inf: *mut c_void,
        inverse_scale: *const c_void,
    ) -> *const c_char;
    fn resnet_update_scale(
        scale: *mut c_void,
        steps: *mut c_void,
        found_inf: *const c_void,
        growth: f64,
        backoff: f64,
        interval: i64,
    ) -> *const c_char;
}

/// The settings of an update by [`sgd`]; see `torch.optim.SGD`.
#[derive(Debug, Clone, Copy)]
pub struct SgdUpdate<'a> {
    /// The learning rate: one element on the parameters' device, 64-bit on a CPU, 32-bit elsewhere.
    pub lr: &'a Tensor,
    /// The factor by which the momentum is multiplied before the gradient is added to it.
    pub momentum: f64,
    /// This multiple of the parameter is added to the gradient.
    pub weight_decay: f64,
    /// Whether to use Nesterov's momentum.
    pub nesterov: bool,
}

/// Updates parameters by their gradients, which may be overwritten. `momenta` has one tensor for each
/// parameter, or is empty. If `found_inf`, a tensor of one element, is 1, nothing changes.
///
/// # Errors
/// The operation of libtorch failed, for example because the tensors have different dtypes.
pub fn sgd(
    parameters: &[&Tensor],
    gradients: &[&Tensor],
    momenta: &[&Tensor],
    update: SgdUpdate,
    found_inf: Option<&Tensor>,
) -> Result<()> {
    let count = parameters.len();
    ensure!(count == gradients.len(), "{count} parameters, {} gradients", gradients.len());
    ensure!(
        momenta.is_empty() || count == momenta.len(),
        "{count} parameters have a different number of momenta"
    );
    let [parameters, gradients, momenta] = [parameters, gradients, momenta].map(addresses);
    let SgdUpdate { lr, momentum, weight_decay, nesterov } = update;
    // SAFETY: the tensors are alive, tch's pointers point to `at::Tensor`s, and each list has `count` of them.
    let done = unsafe {
        check(resnet_sgd(
            parameters.as_ptr(),
            gradients.as_ptr(),
            if momenta.is_empty() { ptr::null() } else { momenta.as_ptr() },
            count,
            address(Some(lr)),
            momentum,
            weight_decay,
            nesterov,
            address(found_inf),
        ))
    };
    done.context("libtorch refused the update of the parameters")
}

/// The settings of an update by [`adamw`]; see `torch.optim.AdamW`.
#[derive(Debug, Clone, Copy)]
pub struct AdamWUpdate<'a> {
    /// The learning rate, as in [`SgdUpdate`].
    pub lr: &'a Tensor,
    /// The number of this update, counted from 1: one 32-bit float on the parameters' device.
    pub steps: &'a Tensor,
    /// The fractions of both running means that are kept.
    pub betas: (f64, f64),
    /// This multiple of the learning rate times the parameter is subtracted from it.
    pub weight_decay: f64,
    /// Is added to the root of the mean square.
    pub epsilon: f64,
}

/// Updates parameters by their gradients, which may be overwritten. `averages` has the running means of the gradients
/// and of their squares, one tensor for each parameter. If `found_inf`, a tensor of one element, is 1, nothing changes.
///
/// # Errors
/// The operation of libtorch failed, for example because the tensors have different dtypes.
pub fn adamw(
    parameters: &[&Tensor],
    gradients: &[&Tensor],
    averages: &[Vec<&Tensor>; 2],
    update: AdamWUpdate,
    found_inf: Option<&Tensor>,
) -> Result<()> {
    let count = parameters.len();
    let [means, squares] = averages;
    ensure!(
        [gradients.len(), means.len(), squares.len()] == [count; 3],
        "{count} parameters have a different number of gradients or averages"
    );
    let [parameters, gradients, means, squares] =
        [parameters, gradients, means, squares].map(addresses);
    let AdamWUpdate { lr, steps, betas, weight_decay, epsilon } = update;
    // SAFETY: the tensors are alive, tch's pointers point to `at::Tensor`s, and each list has `count` of them.
    let done = unsafe {
        check(resnet_adamw(
            parameters.as_ptr(),
            gradients.as_ptr(),
            means.as_ptr(),
            squares.as_ptr(),
            count,
            address(Some(lr)),
            address(Some(steps)),
            betas.0,
            betas.1,
            weight_decay,
            epsilon,
            address(found_inf),
        ))
    };
    done.context("libtorch refused the update of the parameters")
}

/// Moves each tensor towards the tensor in `ends` at the same place, by the fraction `amount` of their difference.
///
/// # Errors
/// The operation of libtorch failed, for example because two tensors have different shapes.
pub fn lerp(tensors: &[&Tensor], ends: &[&Tensor], amount: f64) -> Result<()> {
    let count = tensors.len();
    ensure!(count == ends.len(), "{count} tensors move towards {}", ends.len());
    let [tensors, ends] = [tensors, ends].map(addresses);
    // SAFETY: the tensors are alive, tch's pointers point to `at::Tensor`s, and each list has `count` of them.
    let done = unsafe { check(resnet_lerp(tensors.as_ptr(), ends.as_ptr(), count, amount)) };
    done.context("libtorch refused to average the parameters")
}

/// Multiplies gradients by `inverse_scale`, and sets `found_inf` to 1 if one of them is not finite. Both are
/// tensors of one element.
///
/// # Errors
/// The operation of libtorch failed.
pub fn unscale(gradients: &[Tensor], found_inf: &mut Tensor, inverse_scale: &Tensor) -> Result<()> {
    let gradients = addresses(&gradients.iter().collect::<Vec<_>>());
    // SAFETY: the tensors are alive, and tch's pointers point to `at::Tensor`s.
    let done = unsafe {
        check(resnet_unscale(
            gradients.as_ptr(),
            gradients.len(),
            found_inf.as_mut_ptr().cast(),
            address(Some(inverse_scale)),
        ))
    };
    done.context("libtorch refused to unscale the gradients")
}

/// Multiplies `scale` by `backoff` if `found_inf` is 1. Multiplies it by `growth` after `interval` calls in a row in
/// which `found_inf` is 0. `steps` counts these calls. Each is a tensor of one element; `steps` holds a 32-bit integer.
///
/// # Errors
/// The operation of libtorch failed.
pub fn update_scale(
    scale: &mut Tensor,
    steps: &mut Tensor,
    found_inf: &Tensor,
    (growth, backoff): (f64, f64),
    interval: i64,
) -> Result<()> {
    // SAFETY: the tensors are alive, and tch's pointers point to `at::Tensor`s.
    let done = unsafe {
        check(resnet_update_scale(
            scale.as_mut_ptr().cast(),
            steps.as_mut_ptr().cast(),
            address(Some(found_inf)),
            growth,
            backoff,
            interval,
        ))
    };
    done.context("libtorch refused to update the loss scale")
}

fn addresses(tensors: &[&Tensor]) -> Vec<*const c_void> {
    tensors.iter().map(|tensor| address(Some(tensor))).collect()
}
