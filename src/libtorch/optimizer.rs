//! The optimizer's operations on all tensors at once: one kernel on a GPU for what would be several for each
//! parameter.

use super::address;
use anyhow::{Result, ensure};
use std::ffi::c_void;
use std::ptr;
use tch::Tensor;

unsafe extern "C" {
    fn resnet_sgd(
        parameters: *const *const c_void,
        gradients: *const *const c_void,
        momenta: *const *const c_void,
        count: usize,
        rate: *const c_void,
        momentum: f64,
        weight_decay: f64,
        nesterov: bool,
        found_inf: *const c_void,
    ) -> bool;
    fn resnet_unscale(
        gradients: *const *const c_void,
        count: usize,
        found_inf: *mut c_void,
        inverse_scale: *const c_void,
    ) -> bool;
    fn resnet_update_scale(
        scale: *mut c_void,
        steps: *mut c_void,
        found_inf: *const c_void,
        growth: f64,
        backoff: f64,
        interval: i64,
    ) -> bool;
}

/// What an update of [`sgd`] is told beside the tensors; see `torch.optim.SGD`.
#[derive(Debug, Clone, Copy)]
pub struct SgdUpdate<'a> {
    /// The learning rate, one element on the parameters' device: 64-bit on a CPU, 32-bit elsewhere.
    pub rate: &'a Tensor,
    /// How much of the sum of earlier updates stays.
    pub momentum: f64,
    /// Times the parameter, added to its gradient.
    pub weight_decay: f64,
    /// Nesterov's momentum.
    pub nesterov: bool,
}

/// Updates parameters with their gradients, which may be overwritten, and momenta, of which there are as
/// many or none; nothing if `found_inf`, of one element, holds 1.
///
/// # Errors
/// Where libtorch refuses, as for tensors of several kinds.
pub fn sgd(
    parameters: &[&Tensor],
    gradients: &[&Tensor],
    momenta: &[&Tensor],
    update: SgdUpdate,
    found_inf: Option<&Tensor>,
) -> Result<()> {
    let count = parameters.len();
    ensure!(count == gradients.len(), "{count} parameters, {} gradients", gradients.len());
    ensure!(momenta.is_empty() || count == momenta.len(), "{count} parameters have other momenta");
    let [parameters, gradients, momenta] = [parameters, gradients, momenta].map(addresses);
    let SgdUpdate { rate, momentum, weight_decay, nesterov } = update;
    // SAFETY: the tensors are alive, tch's pointers are those of `at::Tensor`s, and each list has `count`.
    let done = unsafe {
        resnet_sgd(
            parameters.as_ptr(),
            gradients.as_ptr(),
            if momenta.is_empty() { ptr::null() } else { momenta.as_ptr() },
            count,
            address(Some(rate)),
            momentum,
            weight_decay,
            nesterov,
            address(found_inf),
        )
    };
    ensure!(done, "libtorch refused the update of the parameters");
    Ok(())
}

/// Multiplies gradients with `inverse_scale`; sets `found_inf` to 1 if one of them is not finite. Both are
/// of one element.
///
/// # Errors
/// Where libtorch refuses.
pub fn unscale(gradients: &[Tensor], found_inf: &mut Tensor, inverse_scale: &Tensor) -> Result<()> {
    let gradients = addresses(&gradients.iter().collect::<Vec<_>>());
    // SAFETY: as above.
    let done = unsafe {
        resnet_unscale(
            gradients.as_ptr(),
            gradients.len(),
            found_inf.as_mut_ptr().cast(),
            address(Some(inverse_scale)),
        )
    };
    ensure!(done, "libtorch refused to unscale the gradients");
    Ok(())
}

/// Multiplies `scale` with `backoff` if `found_inf` holds 1, and with `growth` after `interval` calls for
/// which it does not; `steps` counts them. All are of one element, `steps` a 32-bit integer.
///
/// # Errors
/// Where libtorch refuses.
pub fn update_scale(
    scale: &mut Tensor,
    steps: &mut Tensor,
    found_inf: &Tensor,
    (growth, backoff): (f64, f64),
    interval: i64,
) -> Result<()> {
    // SAFETY: as above.
    let done = unsafe {
        resnet_update_scale(
            scale.as_mut_ptr().cast(),
            steps.as_mut_ptr().cast(),
            address(Some(found_inf)),
            growth,
            backoff,
            interval,
        )
    };
    ensure!(done, "libtorch refused to update the loss scale");
    Ok(())
}

fn addresses(tensors: &[&Tensor]) -> Vec<*const c_void> {
    tensors.iter().map(|tensor| address(Some(tensor))).collect()
}
