//! The memory of this process: the C library's allocator, which libtorch takes its tensors from, and
//! how much it took.

#[cfg(all(target_os = "linux", target_env = "gnu"))]
use rustix::process::{Resource, getrlimit};
use tch::Device;

unsafe extern "C" {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    fn resnet_align_within_malloc(reserve: usize);
    fn resnet_release_free_memory();
    fn resnet_peak_cuda_memory(index: i8) -> u64;
}

/// Bytes that tensors leave to others where the system limits the process's memory. oneDNN maps memory for
/// the code that it generates, 60 MiB for a ResNet-50; where it gets none, it fails at best, and at worst
/// calls the code that is not there.
pub const MEMORY_RESERVE: usize = 128 << 20;

/// Makes the allocator keep what is freed for the next step, rather than give it back to the system and have
/// it zeroed page by page at each one, and give it to tensors of the same size again (docs/decisions/0012).
/// All threads share one heap: those of their own take 64 MiB of address space each. Call it once, at the
/// start.
pub fn set_up_allocator() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: three calls set a number in the allocator, the last one in libtorch the allocator of tensors
    // that are made later; nothing else runs yet.
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

/// Gives back to the system what the allocator keeps: where memory ran out, others find none otherwise.
pub fn release_free_memory() {
    // SAFETY: it calls the allocator alone, which is made for any thread.
    unsafe { resnet_release_free_memory() }
}

/// The most memory that this process has held at a time so far, in bytes: of the machine's for the CPU, of
/// its own for a CUDA device. None where nobody tells.
pub fn peak_memory_bytes(device: Device) -> Option<u64> {
    match device {
        Device::Cpu => peak_of_process(),
        // SAFETY: it takes a number, and lets no exception out.
        Device::Cuda(index) => Some(unsafe { resnet_peak_cuda_memory(i8::try_from(index).ok()?) })
            .filter(|bytes| *bytes > 0),
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
