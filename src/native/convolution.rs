//! Convolutions that libtorch has and tch does not bind: oneDNN's with bias, sum and ReLU in one pass, and
//! the gradients alone.

use std::cell::OnceCell;
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
    fn resnet_convolution_gradients(
        gradient: *const c_void,
        input: *const c_void,
        weight: *const c_void,
        padding: i64,
        stride: i64,
        input_gradient: bool,
    ) -> bool;
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

/// A convolution for inference on a CPU.
#[derive(Debug)]
pub struct FusedConvolution {
    weight: Tensor,
    /// The weight in the order in which oneDNN wants it for inputs of the first one's size; none where
    /// this libtorch has no oneDNN.
    packed: OnceCell<Option<Tensor>>,
    bias: Tensor,
    padding: i64,
    stride: i64,
}

impl FusedConvolution {
    /// With a weight `[O, I, k, k]` and a bias `[O]`, neither of which requires a gradient.
    pub fn new(weight: Tensor, bias: Tensor, padding: i64, stride: i64) -> Self {
        Self { weight, packed: OnceCell::new(), bias, padding, stride }
    }

    fn pack(&self, input: &Tensor) -> Option<Tensor> {
        let (weight, size) = (self.weight.as_ptr().cast(), input.size());
        // SAFETY: the tensor and the sizes are alive, and tch's pointers are those of `at::Tensor`s.
        owned(unsafe {
            resnet_pack_weight(weight, self.padding, self.stride, size.as_ptr(), size.len())
        })
    }

    /// The convolution of `input` `[N, I, H, W]`, plus `other` `[N, O, H', W']` if given, then ReLU if
    /// asked for; none where oneDNN cannot, such as for want of memory.
    pub fn forward(&self, input: &Tensor, other: Option<&Tensor>, relu: bool) -> Option<Tensor> {
        let weight = self.packed.get_or_init(|| self.pack(input)).as_ref()?;
        let other = other.map_or(ptr::null(), |other| other.as_ptr().cast());
        // SAFETY: as above; `other` is null or a tensor that is alive.
        let output = unsafe {
            resnet_fused_convolution(
                input.as_ptr().cast(),
                weight.as_ptr().cast(),
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

/// Computes what a backward pass does for a convolution, and drops it: the gradient of `weight`
/// [O, I, k, k] and, if asked for, that of `input` [N, I, H, W], from the `gradient` of what comes out
/// [N, O, H', W']. False where libtorch cannot, such as for want of memory.
#[must_use]
pub fn convolution_gradients(
    gradient: &Tensor,
    input: &Tensor,
    weight: &Tensor,
    padding: i64,
    stride: i64,
    input_gradient: bool,
) -> bool {
    // SAFETY: the tensors are alive, and tch's pointers are those of `at::Tensor`s; native.cpp lets no
    // exception out.
    unsafe {
        resnet_convolution_gradients(
            gradient.as_ptr().cast(),
            input.as_ptr().cast(),
            weight.as_ptr().cast(),
            padding,
            stride,
            input_gradient,
        )
    }
}

fn owned(tensor: *mut c_void) -> Option<Tensor> {
    // SAFETY: native.cpp gives null or a new `at::Tensor`, which it leaves to the caller.
    (!tensor.is_null()).then(|| unsafe { Tensor::from_ptr(tensor.cast()) })
}
