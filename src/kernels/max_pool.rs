//! Max pooling.

use super::tuning::{Tuning, Way};
use crate::libtorch::{address, or_panic, tensor};
use anyhow::Result;
use std::ffi::{c_char, c_void};
use tch::Tensor;

unsafe extern "C" {
    fn resnet_cuda_max_pool(
        input: *const c_void,
        kernel: i64,
        stride: i64,
        padding: i64,
        output: *mut *mut c_void,
    ) -> *const c_char;
}

/// The largest number of each square window of `kernel` pixels: `[N, C, H, W]` → `[N, C, H', W']`. Windows are `stride`
/// pixels apart, and the first begins `padding` pixels before the image. The result has gradients.
///
/// # Panics
///
/// Panics like tch's own operations if libtorch fails, for example when memory runs out.
pub fn max_pool(xs: &Tensor, kernel: i64, stride: i64, padding: i64) -> Tensor {
    let own = match Tuning::current().has(Way::MaxPool) {
        true => or_panic(max_pool_on_cuda(xs, kernel, stride, padding)),
        false => None,
    };
    own.unwrap_or_else(|| xs.max_pool2d([kernel; 2], [stride; 2], [padding; 2], [1, 1], false))
}

/// The same, computed by this program's kernels for CUDA devices. `None` if none are loaded for the tensor's device, or
/// if they do not support the tensor.
///
/// # Errors
/// The driver refused a launch, or memory ran out.
pub fn max_pool_on_cuda(
    xs: &Tensor,
    kernel: i64,
    stride: i64,
    padding: i64,
) -> Result<Option<Tensor>> {
    // SAFETY: the tensor is alive, and tch's pointers point to `at::Tensor`s.
    unsafe {
        tensor(|output| resnet_cuda_max_pool(address(Some(xs)), kernel, stride, padding, output))
    }
}
