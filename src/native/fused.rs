//! oneDNN's convolution with bias, sum and ReLU in one pass, which libtorch has and tch does not bind.

use std::ffi::c_void;
use std::ptr;
use tch::Tensor;

unsafe extern "C" {
    fn resnet_pack_weight(
        weight: *const c_void,
        padding: i64,
        stride: i64,
        input_size: *const i64,
        dimensions: usize,
    ) -> *mut c_void;
    fn resnet_fused_convolution(
        input: *const c_void,
        weight: *const c_void,
        bias: *const c_void,
        other: *const c_void,
        padding: i64,
        stride: i64,
        relu: bool,
    ) -> *mut c_void;
}

/// A convolution for inference on a CPU, with its weight in the order in which oneDNN wants it.
#[derive(Debug)]
pub struct FusedConvolution {
    weight: Tensor,
    bias: Tensor,
    padding: i64,
    stride: i64,
}

impl FusedConvolution {
    /// Packs a weight `[O, I, k, k]` and a bias `[O]`, neither of which requires a gradient, for inputs of
    /// `input_size` `[N, I, H, W]`; none where this libtorch has no oneDNN.
    pub fn new(
        weight: &Tensor,
        bias: Tensor,
        padding: i64,
        stride: i64,
        input_size: [i64; 4],
    ) -> Option<Self> {
        // SAFETY: the tensor and the slice are alive, and tch's pointers are those of `at::Tensor`s.
        let packed = unsafe {
            let size = (input_size.as_ptr(), input_size.len());
            resnet_pack_weight(weight.as_ptr().cast(), padding, stride, size.0, size.1)
        };
        Some(Self { weight: owned(packed)?, bias, padding, stride })
    }

    /// The convolution of `input` [N, I, H, W], plus `other` [N, O, H', W'] if given, then ReLU if
    /// asked for; none where oneDNN cannot, such as for want of memory.
    pub fn forward(&self, input: &Tensor, other: Option<&Tensor>, relu: bool) -> Option<Tensor> {
        let other = other.map_or(ptr::null(), |other| other.as_ptr().cast());
        // SAFETY: as above; `other` is null or a tensor that is alive.
        let output = unsafe {
            resnet_fused_convolution(
                input.as_ptr().cast(),
                self.weight.as_ptr().cast(),
                self.bias.as_ptr().cast(),
                other,
                self.padding,
                self.stride,
                relu,
            )
        };
        owned(output)
    }
}

fn owned(tensor: *mut c_void) -> Option<Tensor> {
    // SAFETY: native.cpp gives null or a new `at::Tensor`, which it leaves to the caller.
    (!tensor.is_null()).then(|| unsafe { Tensor::from_ptr(tensor.cast()) })
}
