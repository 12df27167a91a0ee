//! The memory of this process: the C library's allocator, from which tensors get their memory, and the peak
//! of memory.

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

/// Bytes that tensors leave to others if the system limits the process's memory. oneDNN maps memory for the
/// code that it generates, 60 MiB for a ResNet-50. If it gets none, it fails at best, and at worst calls code
/// that is not there.
pub const MEMORY_RESERVE: usize = 128 << 20;

/// Makes the allocator keep freed memory for the next step (docs/decisions/0012). Without this, the memory
/// returns to the system and is zeroed page by page at each step. A freed tensor's memory then fits a new
/// tensor of the same size. All threads share one heap, because a heap of their own takes 64 MiB of address
/// space each. Call it once, at the start.
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

/// Returns the free memory that the allocator keeps to the system. Call it after memory ran out, so that
/// others find some.
pub fn release_free_memory() {
    // SAFETY: it calls the C library's allocator alone, which any thread may call.
    unsafe { resnet_release_free_memory() }
}

/// The peak of memory so far in bytes: for the CPU that of this process, for a CUDA device what libtorch has
/// reserved on it. `None` if it is not known.
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
