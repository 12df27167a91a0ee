//! This program's kernels for CUDA devices (docs/decisions/0021). NVRTC compiles them for the device when the program
//! starts, so no CUDA is needed to build the program.
//!
//! `batch_norm.cu` and `max_pool.cu` are the kernels, and the `.cpp` files beside them launch them.

use crate::cuda;
use crate::libtorch::{address, check, tensor};
use anyhow::{Context, Result};
use std::ffi::{c_char, c_int, c_void};
use tch::Tensor;

unsafe extern "C" {
    fn resnet_load_cuda_kernels(index: i8, binary: *const c_void) -> *const c_char;
    fn resnet_emulate_cuda_kernels(launch: Option<Launch>);
    fn resnet_cuda_batch_norm(
        input: *const c_void,
        weight: *const c_void,
        bias: *const c_void,
        other: *const c_void,
        running_mean: *const c_void,
        running_variance: *const c_void,
        relu: bool,
        momentum: f64,
        epsilon: f64,
        output: *mut *mut c_void,
    ) -> *const c_char;
    fn resnet_cuda_max_pool(
        input: *const c_void,
        kernel: i64,
        stride: i64,
        padding: i64,
        output: *mut *mut c_void,
    ) -> *const c_char;
}

/// The files of CUDA C++ that are compiled, each with its name.
pub const SOURCES: [(&str, &str); 2] = [
    ("batch_norm.cu", include_str!("cuda/batch_norm.cu")),
    ("max_pool.cu", include_str!("cuda/max_pool.cu")),
];

/// What comes before each of the [`SOURCES`].
const BEFORE: [&str; 2] = [include_str!("cuda/device.cuh"), include_str!("cuda/numbers.cuh")];

/// Compiles the kernels for devices of this compute capability, as (major, minor). Returns a binary for each of the
/// [`SOURCES`].
///
/// # Errors
/// There is no compiler, or it cannot compile them.
pub fn compile(compute_capability: (i32, i32)) -> Result<Vec<Vec<u8>>> {
    let compiled = SOURCES.map(|(name, source)| {
        // Line numbers in the compiler's messages are those of the file.
        let source = format!("{}\n#line 1 \"{name}\"\n{source}", BEFORE.join("\n"));
        cuda::compile(name, &source, compute_capability)
    });
    compiled.into_iter().collect()
}

/// Compiles the kernels for the CUDA device with this index, and loads them.
///
/// # Errors
/// The kernels cannot be compiled or loaded.
pub fn load(index: usize) -> Result<()> {
    let gpu = cuda::open_cuda().devices().get(index).context("there is no such device")?;
    for binary in compile(gpu.architecture())? {
        // SAFETY: the driver copies the binary, which NVRTC has written.
        unsafe { check(resnet_load_cuda_kernels(i8::try_from(index)?, binary.as_ptr().cast())) }?;
    }
    Ok(())
}

/// A function that runs a kernel on the host: its name, the numbers of blocks and of threads in two dimensions, and a
/// pointer to each argument. It returns 0, or 1 if it has no kernel of this name.
pub type Launch = extern "C" fn(*const c_char, i64, i64, i64, i64, *mut *mut c_void) -> c_int;

/// For tests: from now on, the kernels are for tensors on the CPU, and `launch` runs them. `None` ends this.
///
/// # Safety
///
/// `launch` has the kernels of [`SOURCES`], with their arguments.
pub unsafe fn emulate(launch: Option<Launch>) {
    // SAFETY: the caller's promise.
    unsafe { resnet_emulate_cuda_kernels(launch) };
}

/// The arguments of [`batch_norm`](super::batch_norm), on a CUDA device. `None` if no kernels are loaded for it, or if
/// they do not support the tensors.
///
/// # Errors
/// The driver refused a launch, or memory ran out.
pub fn batch_norm(
    xs: &Tensor,
    normalization: &super::Normalization,
    other: Option<&Tensor>,
    relu: bool,
) -> Result<Option<Tensor>> {
    let super::Normalization { weight, bias, running, momentum, epsilon } = *normalization;
    let (mean, variance) = running.unzip();
    // SAFETY: the tensors are alive, and tch's pointers point to `at::Tensor`s.
    unsafe {
        tensor(|output| {
            resnet_cuda_batch_norm(
                address(Some(xs)),
                address(Some(weight)),
                address(Some(bias)),
                address(other),
                address(mean),
                address(variance),
                relu,
                momentum,
                epsilon,
                output,
            )
        })
    }
}

/// The arguments of [`max_pool`](super::max_pool), on a CUDA device. `None` if no kernels are loaded for it, or if they
/// do not support the tensor.
///
/// # Errors
/// The driver refused a launch, or memory ran out.
pub fn max_pool(xs: &Tensor, [kernel, stride, padding]: [i64; 3]) -> Result<Option<Tensor>> {
    // SAFETY: the tensor is alive, and tch's pointers point to `at::Tensor`s.
    unsafe {
        tensor(|output| resnet_cuda_max_pool(address(Some(xs)), kernel, stride, padding, output))
    }
}
