//! The memory of this process: the C library's allocator, which libtorch takes its tensors from, and
//! how much it took.

use tch::Device;

unsafe extern "C" {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    fn resnet_align_within_malloc();
    fn resnet_peak_cuda_memory(index: i8) -> u64;
}

/// Makes the allocator keep what is freed for the next step, rather than give it back to the system and have
/// it zeroed page by page at each one, and give it to tensors of the same size again (docs/decisions/0012).
/// Call it once, at the start.
pub fn set_up_allocator() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: two calls set a number in the allocator, the third one in libtorch the allocator of tensors
    // that are made later; nothing else runs yet.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, -1);
        resnet_align_within_malloc();
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Kind, Tensor};

    #[test]
    fn tensors_are_aligned_whatever_their_size_and_too_large_ones_refused_in_libtorchs_words() {
        set_up_allocator();
        let options = (Kind::Uint8, Device::Cpu);
        let tensors: Vec<Tensor> = (0..200).map(|size| Tensor::ones([size], options)).collect();
        for (size, tensor) in tensors.iter().enumerate() {
            assert_eq!(tensor.data_ptr() as usize % 64, 0, "{size} bytes");
            assert_eq!(tensor.sum(Kind::Int64).int64_value(&[]), size as i64);
        }
        // What is there stays when more memory is taken.
        let mut grown = Tensor::ones([10], options);
        let _ = grown.resize_([1 << 20]);
        assert_eq!(grown.narrow(0, 0, 10).sum(Kind::Int64).int64_value(&[]), 10);
        for bytes in [1 << 50, i64::MAX] {
            let error = Tensor::f_empty([bytes], options).unwrap_err().to_string();
            assert!(error.contains("can't allocate memory: you tried to allocate"), "{error}");
        }
    }
}
