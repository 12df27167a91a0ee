//! This program's kernels for CUDA devices (docs/decisions/0021). NVRTC compiles them for the device when the program
//! starts, so no CUDA is needed to build the program.
//!
//! `batch_norm.cu` and `max_pool.cu` are the kernels, and the `.cpp` files beside them launch them.

use crate::cuda;
use crate::libtorch::check;
use anyhow::{Context, Result};
use std::ffi::{c_char, c_int, c_void};

unsafe extern "C" {
    fn resnet_load_cuda_kernels(index: i8, binary: *const c_void) -> *const c_char;
    fn resnet_emulate_cuda_kernels(launch: Option<Launch>);
}

/// A file of CUDA C++.
#[derive(Debug, Clone, Copy)]
pub struct Source {
    name: &'static str,
    code: &'static str,
}

/// Batch norm with the sum and the ReLU after it.
pub const BATCH_NORM: Source =
    Source { name: "batch_norm.cu", code: include_str!("cuda/batch_norm.cu") };
/// Max pooling.
pub const MAX_POOL: Source = Source { name: "max_pool.cu", code: include_str!("cuda/max_pool.cu") };
/// All sources.
pub const SOURCES: [Source; 2] = [BATCH_NORM, MAX_POOL];

/// What comes before each source.
const BEFORE: [&str; 2] = [include_str!("cuda/device.cuh"), include_str!("cuda/numbers.cuh")];

impl Source {
    /// Compiles the kernels for devices of this compute capability, as (major, minor).
    ///
    /// # Errors
    /// There is no compiler, or it cannot compile them.
    pub fn compile(self, compute_capability: (i32, i32)) -> Result<Vec<u8>> {
        let Self { name, code } = self;
        // Line numbers in the compiler's messages are those of the file.
        let source = format!("{}\n#line 1 \"{name}\"\n{code}", BEFORE.join("\n"));
        cuda::compile(name, &source, compute_capability)
    }

    /// Compiles the kernels for the CUDA device with this index, and loads them.
    ///
    /// # Errors
    /// The kernels cannot be compiled or loaded.
    pub fn load(self, index: usize) -> Result<()> {
        let gpu = cuda::open_cuda().devices().get(index).context("there is no such device")?;
        let binary = self.compile(gpu.architecture())?;
        // SAFETY: the driver copies the binary, which NVRTC has written.
        unsafe { check(resnet_load_cuda_kernels(i8::try_from(index)?, binary.as_ptr().cast())) }
    }
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
