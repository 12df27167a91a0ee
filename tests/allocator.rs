//! The allocator of tensors, in a process of its own: it must be set before anything else runs.

use resnet::native;
use tch::{Device, Kind, Tensor};

#[test]
fn tensors_are_aligned_whatever_their_size_and_too_large_ones_refused_in_libtorchs_words() {
    native::set_up_allocator();
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
