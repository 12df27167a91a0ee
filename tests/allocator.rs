//! The memory allocator for tensors. This test is a separate process and sets the allocator on the main thread, as
//! the program does, because the allocator must be set before anything else runs.

#![allow(clippy::unwrap_used, reason = "clippy allows it in tests, but not in their helpers")]

use resnet::libtorch;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tch::{Device, Kind, Tensor};

fn main() {
    tensors_of_any_size_are_aligned_and_too_large_ones_give_libtorchs_error();
    tensors_leave_a_reserve_of_memory_and_freed_memory_is_returned();
}

fn tensors_of_any_size_are_aligned_and_too_large_ones_give_libtorchs_error() {
    libtorch::set_up_allocator();
    let options = (Kind::Uint8, Device::Cpu);
    let tensors: Vec<Tensor> = (0..200).map(|size| Tensor::ones([size], options)).collect();
    for (size, tensor) in tensors.iter().enumerate() {
        assert_eq!(tensor.data_ptr() as usize % 64, 0, "{size} bytes");
        assert_eq!(tensor.sum(Kind::Int64).int64_value(&[]), size as i64);
    }
    // A tensor keeps its values when it grows.
    let mut grown = Tensor::ones([10], options);
    let _ = grown.resize_([1 << 20]);
    assert_eq!(grown.narrow(0, 0, 10).sum(Kind::Int64).int64_value(&[]), 10);
    for bytes in [1 << 50, i64::MAX] {
        let error = Tensor::f_empty([bytes], options).unwrap_err().to_string();
        assert!(error.contains("can't allocate memory: you tried to allocate"), "{error}");
    }
}

/// Whether the system can still map `bytes` bytes outside this allocator.
fn is_left(bytes: usize) -> bool {
    let (protection, flags) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: the system chooses the address, and the memory is returned unused.
    unsafe {
        let memory = libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0);
        memory != libc::MAP_FAILED && libc::munmap(memory, bytes) == 0
    }
}

fn tensors_leave_a_reserve_of_memory_and_freed_memory_is_returned() {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let mapped = 4096 * statm.split(' ').next().unwrap().parse::<u64>().unwrap();
    let unlimited = getrlimit(Resource::As);
    let limit = Rlimit { current: Some(mapped + (600 << 20)), maximum: unlimited.maximum };
    setrlimit(Resource::As, limit).unwrap();
    libtorch::set_up_allocator();
    let next = || Tensor::f_empty([16 << 20], (Kind::Uint8, Device::Cpu)).ok();
    let tensors: Vec<Tensor> = std::iter::from_fn(next).collect();
    let (some, much) = (libtorch::MEMORY_RESERVE - (16 << 20), 300 << 20);
    let left = [is_left(some), is_left(much)];
    drop(tensors);
    libtorch::release_free_memory();
    let left_then = is_left(much);
    setrlimit(Resource::As, unlimited).unwrap();
    assert_eq!((left, left_then), ([true, false], true));
}
