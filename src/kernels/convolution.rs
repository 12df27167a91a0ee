//! Convolutions: with gradients for training, and with bias, sum and ReLU in one pass for inference. Each is
//! computed by Winograd's minimal filtering (`src/kernels/winograd`, docs/decisions/0015) where that takes
//! less than the direct way, in inference on few pixels by a matrix product of this program's own, and by
//! libtorch or its oneDNN elsewhere. A 1×1 convolution that skips pixels is a plain one of the others: oneDNN's
//! own way writes beyond its memory (docs/decisions/0005).

use crate::libtorch::{address, owned};
use std::cell::OnceCell;
use std::ffi::c_void;
#[cfg(kernels)]
use tch::Kind;
use tch::{Device, TchError, Tensor};

unsafe extern "C" {
    fn resnet_pack_weight(
        weight: *const c_void,
        stride: i64,
        padding: i64,
        input_size: *const i64,
        dimensions: usize,
    ) -> *mut c_void;
    fn resnet_fused_convolution(
        input: *const c_void,
        weight: *const c_void,
        bias: *const c_void,
        other: *const c_void,
        stride: i64,
        padding: i64,
        relu: bool,
    ) -> *mut c_void;
    fn resnet_strided_convolution(
        input: *const c_void,
        weight: *const c_void,
        bias: *const c_void,
        stride: i64,
    ) -> *mut c_void;
}

#[cfg(kernels)]
unsafe extern "C" {
    fn resnet_winograd_convolution(
        input: *const c_void,
        weight: *const c_void,
        bias: *const c_void,
        stride: i64,
        padding: i64,
    ) -> *mut c_void;
    fn resnet_winograd_pack(
        weight: *const c_void,
        stride: i64,
        padding: i64,
        input_size: *const i64,
        dimensions: usize,
    ) -> *mut c_void;
    fn resnet_patches_pack(
        weight: *const c_void,
        stride: i64,
        padding: i64,
        input_size: *const i64,
        dimensions: usize,
    ) -> *mut c_void;
    fn resnet_patches_inference(
        input: *const c_void,
        weights: *const c_void,
        bias: *const c_void,
        other: *const c_void,
        kernel: i64,
        stride: i64,
        padding: i64,
        relu: bool,
    ) -> *mut c_void;
    fn resnet_winograd_inference(
        input: *const c_void,
        weights: *const c_void,
        bias: *const c_void,
        other: *const c_void,
        relu: bool,
    ) -> *mut c_void;
}

/// The convolution of `input` `[N, I, H, W]` with `weight` `[O, I, k, k]` and, if given, `bias` `[O]`, all of
/// one kind, → `[N, O, H', W']`. Gradients flow through it.
///
/// # Panics
///
/// Like tch's own, where libtorch cannot.
pub fn convolution(
    input: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: i64,
    padding: i64,
) -> Tensor {
    if skips_pixels(weight, stride, padding) && input.device() == Device::Cpu {
        return strided(input, weight, bias, stride);
    }
    let fast = winograd(input, weight, bias, stride, padding);
    fast.unwrap_or_else(|| input.conv2d(weight, bias, [stride; 2], [padding; 2], [1, 1], 1))
}

/// Whether a convolution sees but the first pixel of each `stride` in both directions.
fn skips_pixels(weight: &Tensor, stride: i64, padding: i64) -> bool {
    stride > 1 && padding == 0 && weight.size().ends_with(&[1, 1])
}

/// Such a convolution.
fn strided(input: &Tensor, weight: &Tensor, bias: Option<&Tensor>, stride: i64) -> Tensor {
    let (xs, w, b) = (address(Some(input)), address(Some(weight)), address(bias));
    // SAFETY: the tensors are alive, and tch's pointers are those of `at::Tensor`s.
    let result = owned(unsafe { resnet_strided_convolution(xs, w, b, stride) });
    result.unwrap_or_else(|| {
        let (input, weight) = (input.size(), weight.size());
        let why = format!("cannot convolve {input:?} with {weight:?}, such as for want of memory");
        panic!("{:?}", TchError::Torch(why))
    })
}

/// The same by Winograd's minimal filtering; none where that does not pay.
#[cfg(kernels)]
fn winograd(
    input: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: i64,
    padding: i64,
) -> Option<Tensor> {
    let (input, weight, bias) = (address(Some(input)), address(Some(weight)), address(bias));
    // SAFETY: the tensors are alive, and tch's pointers are those of `at::Tensor`s.
    owned(unsafe { resnet_winograd_convolution(input, weight, bias, stride, padding) })
}

#[cfg(not(kernels))]
fn winograd(_: &Tensor, _: &Tensor, _: Option<&Tensor>, _: i64, _: i64) -> Option<Tensor> {
    None
}

/// The first pixel of each `stride` in both directions of `input` `[N, C, H, W]`, in channels-last order.
fn every(input: &Tensor, stride: i64) -> Tensor {
    let pixels = input.slice(2, None, None, stride).slice(3, None, None, stride);
    pixels.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
}

/// A convolution for inference on a CPU.
#[derive(Debug)]
pub struct FusedConvolution {
    weight: Tensor,
    /// Made for inputs of the first one's size; none where this libtorch has no oneDNN.
    packed: OnceCell<Option<Packed>>,
    bias: Tensor,
    padding: i64,
    stride: i64,
    /// Of each so many pixels in both directions only the first is taken, before all else.
    every: i64,
}

/// The weight in the order in which it is used.
#[derive(Debug)]
enum Packed {
    #[cfg(kernels)]
    Winograd(Tensor),
    #[cfg(kernels)]
    Patches(Tensor),
    OneDnn(Tensor),
}

/// From a weight, its stride and padding, and the size of inputs, of so many dimensions.
type Pack = unsafe extern "C" fn(*const c_void, i64, i64, *const i64, usize) -> *mut c_void;

impl FusedConvolution {
    /// With a weight `[O, I, k, k]` and a bias `[O]`, neither of which requires a gradient.
    pub fn new(weight: Tensor, bias: Tensor, padding: i64, stride: i64) -> Self {
        let (stride, every) =
            if skips_pixels(&weight, stride, padding) { (1, stride) } else { (stride, 1) };
        Self { weight, packed: OnceCell::new(), bias, padding, stride, every }
    }

    fn pack(&self, input: &Tensor) -> Option<Packed> {
        let (weight, size) = (address(Some(&self.weight)), input.size());
        let pack = |pack: Pack| {
            // SAFETY: the tensor and the sizes are alive, and tch's pointers are those of `at::Tensor`s.
            owned(unsafe { pack(weight, self.stride, self.padding, size.as_ptr(), size.len()) })
        };
        #[cfg(kernels)]
        if input.kind() == Kind::Float {
            let own = pack(resnet_winograd_pack).map(Packed::Winograd);
            if let Some(own) = own.or_else(|| pack(resnet_patches_pack).map(Packed::Patches)) {
                return Some(own);
            }
        }
        pack(resnet_pack_weight).map(Packed::OneDnn)
    }

    /// The convolution of `input` `[N, I, H, W]`, plus `other` `[N, O, H', W']` if given, then ReLU if
    /// asked for; none where that cannot be computed, such as for want of memory.
    pub fn forward(&self, input: &Tensor, other: Option<&Tensor>, relu: bool) -> Option<Tensor> {
        let pixels;
        let input = if self.every == 1 {
            input
        } else {
            pixels = every(input, self.every);
            &pixels
        };
        let packed = self.packed.get_or_init(|| self.pack(input)).as_ref()?;
        let (xs, bias, other) = (address(Some(input)), address(Some(&self.bias)), address(other));
        let (padding, stride) = (self.padding, self.stride);
        // SAFETY: the tensors are alive, and tch's pointers are those of `at::Tensor`s; `other` may be null.
        owned(unsafe {
            match packed {
                #[cfg(kernels)]
                Packed::Winograd(weight) => {
                    resnet_winograd_inference(xs, address(Some(weight)), bias, other, relu)
                }
                #[cfg(kernels)]
                Packed::Patches(weight) => resnet_patches_inference(
                    xs,
                    address(Some(weight)),
                    bias,
                    other,
                    self.weight.size().last().copied().unwrap_or_default(),
                    stride,
                    padding,
                    relu,
                ),
                Packed::OneDnn(weight) => resnet_fused_convolution(
                    xs,
                    address(Some(weight)),
                    bias,
                    other,
                    stride,
                    padding,
                    relu,
                ),
            }
        })
    }
}
