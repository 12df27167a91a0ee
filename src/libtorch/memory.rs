//! The memory of this process: the C library's allocator, which also provides the memory of tensors, and the peak of
//! memory.

use super::ffi::check;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
use rustix::process::{Resource, getrlimit};
use std::ffi::c_char;
use tch::Device;

unsafe extern "C" {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    fn resnet_align_within_malloc(reserve: usize);
    fn resnet_release_free_memory();
    fn resnet_peak_cuda_memory(index: i8, bytes: *mut u64) -> *const c_char;
}

/// Bytes that tensors leave free for other allocations if the system limits the process's memory. oneDNN maps memory
/// for the code that it generates, 60 MiB for a ResNet-50. Without this memory, oneDNN fails, or in the worst case
/// calls code that does not exist.
pub const MEMORY_RESERVE: usize = 128 << 20;

/// Makes the allocator keep freed memory for the next step (docs/decisions/0012). Without this, the memory returns to
/// the system, and the system sets its pages to zero again at each step. A new tensor fits into the memory of a freed
/// tensor of the same size. All threads share one heap, because a separate heap takes 64 MiB of address space for each
/// thread. Call this function once, at the start.
pub fn set_up_allocator() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: three calls set a number in the C library's allocator. The last one gives libtorch the allocator
    // for later tensors. Nothing else runs yet.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, -1);
        libc::mallopt(libc::M_ARENA_MAX, 1);
        resnet_align_within_malloc(if is_limited() { MEMORY_RESERVE } else { 0 });
    }
}

/// Whether the system limits this process's memory.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn is_limited() -> bool {
    [Resource::As, Resource::Data].into_iter().any(|kind| getrlimit(kind).current.is_some())
}

/// Returns the allocator's free memory to the system. Call this function after memory ran out, so that other
/// allocations find free memory.
pub fn release_free_memory() {
    // SAFETY: the function only calls the C library's allocator, which any thread may call.
    unsafe { resnet_release_free_memory() }
}

/// The peak of memory so far, in bytes. For the CPU, it is the memory of this process. For a CUDA device, it is the
/// memory that libtorch has reserved on the device. `None` if it is not known.
pub fn peak_memory_bytes(device: Device) -> Option<u64> {
    match device {
        Device::Cpu => peak_of_process(),
        Device::Cuda(index) => {
            let (index, mut bytes) = (i8::try_from(index).ok()?, 0);
            // SAFETY: the pointer is to a live number.
            unsafe { check(resnet_peak_cuda_memory(index, &mut bytes)) }.ok()?;
            Some(bytes).filter(|bytes| *bytes > 0)
        }
        _ => None,
    }
}

fn peak_of_process() -> Option<u64> {
    // SAFETY: all zeros is a value of this plain C structure, and the call fills it in.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        (libc::getrusage(libc::RUSAGE_SELF, &mut usage) == 0).then_some(usage)
    };
    // Linux counts kibibytes, macOS bytes.
    let unit = if cfg!(target_os = "macos") { 1 } else { 1024 };
    usage.and_then(|usage| u64::try_from(usage.ru_maxrss).ok()).map(|peak| peak * unit)
}
