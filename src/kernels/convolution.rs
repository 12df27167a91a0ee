//! Convolutions: with gradients for training, and with bias, sum and ReLU in one pass for inference.
//!
//! `convolution/convolution.cpp` chooses the fastest algorithm for each convolution: Winograd's minimal filtering
//! (docs/decisions/0015), this program's matrix product for few pixels, or oneDNN. A 1×1 convolution that skips pixels
//! is computed as a convolution of stride 1 on the remaining pixels, because oneDNN's own algorithm writes beyond the
//! end of its memory (docs/decisions/0005).

use super::tuning::{Tuning, Way};
use crate::libtorch::{address, check, or_panic, tensor};
use anyhow::{Context, Result};
use std::cell::OnceCell;
use std::ffi::{c_char, c_void};
use std::ptr::{self, NonNull};
use tch::{Kind, Tensor};

unsafe extern "C" {
    fn resnet_convolution(
        input: *const c_void,
        weight: *const c_void,
        bias: *const c_void,
        stride: i64,
        padding: i64,
        output: *mut *mut c_void,
    ) -> *const c_char;
    fn resnet_prepare_convolution(
        weight: *const c_void,
        bias: *const c_void,
        stride: i64,
        padding: i64,
        groups: i64,
        input_size: *const i64,
        dimensions: usize,
        plan: *mut *mut c_void,
    ) -> *const c_char;
    fn resnet_run_convolution(
        plan: *const c_void,
        input: *const c_void,
        other: *const c_void,
        relu: bool,
        output: *mut *mut c_void,
    ) -> *const c_char;
    fn resnet_free_convolution(plan: *mut c_void);
}

/// How a convolution moves over its input. It is the same in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Geometry {
    /// Step between two positions of the kernel, in pixels.
    pub stride: i64,
    /// Zeros at each edge of the input, in pixels.
    pub padding: i64,
    /// Number of groups of channels; outputs of a group depend only on inputs of the same group.
    pub groups: i64,
}

/// The convolution of `input` `[N, I, H, W]` with `weight` `[O, I / groups, k, k]` and, if given, `bias` `[O]`, all of
/// one dtype. The result is `[N, O, H', W']` and has gradients.
///
/// # Panics
///
/// Panics like tch's own operations if libtorch fails, for example when memory runs out.
pub fn convolution(
    input: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    geometry: Geometry,
) -> Tensor {
    let Geometry { stride, padding, groups } = geometry;
    if groups != 1 {
        return input.conv2d(weight, bias, [stride; 2], [padding; 2], [1, 1], groups);
    }
    let (xs, w, b) = (address(Some(input)), address(Some(weight)), address(bias));
    // SAFETY: the tensors are alive, and tch's pointers point to `at::Tensor`s.
    let own = unsafe { tensor(|output| resnet_convolution(xs, w, b, stride, padding, output)) };
    or_panic(own).unwrap_or_else(|| {
        let [input, weight] = with_padded_channels([input, weight]);
        input.conv2d(&weight, bias, [stride; 2], [padding; 2], [1, 1], 1)
    })
}

/// Images and a weight with more input channels of zeros, if [`Way::PadChannels`] is on and they need them.
fn with_padded_channels(tensors: [&Tensor; 2]) -> [Tensor; 2] {
    /// Sixteen bytes of 16-bit numbers: what a tensor core loads at once.
    const MULTIPLE: i64 = 8;
    tensors.map(|tensor| match *tensor.size() {
        [_, channels, ..]
            if channels % MULTIPLE != 0
                && tensor.kind() != Kind::Float
                && tensor.device().is_cuda()
                && Tuning::current().has(Way::PadChannels) =>
        {
            let more = MULTIPLE - channels % MULTIPLE;
            tensor.constant_pad_nd([0, 0, 0, 0, 0, more])
        }
        _ => tensor.shallow_clone(),
    })
}

/// A convolution for inference on a CPU.
#[derive(Debug)]
pub struct PreparedConvolution {
    weight: Tensor,
    bias: Tensor,
    geometry: Geometry,
    /// The plan is made for the size of the first input.
    plan: OnceCell<Plan>,
}

impl PreparedConvolution {
    /// A convolution with a weight `[O, I / groups, k, k]` and a bias `[O]`. Neither may require a gradient.
    pub fn new(weight: Tensor, bias: Tensor, geometry: Geometry) -> Self {
        Self { weight, bias, geometry, plan: OnceCell::new() }
    }

    /// The convolution of `input` `[N, I, H, W]`, plus `other` `[N, O, H', W']` if given, then ReLU if `relu`.
    ///
    /// # Errors
    ///
    /// The tensors do not fit, oneDNN is needed and this libtorch does not have it, or memory runs out.
    pub fn forward(&self, input: &Tensor, other: Option<&Tensor>, relu: bool) -> Result<Tensor> {
        let plan = match self.plan.get() {
            Some(plan) => plan,
            None => {
                let plan = self.prepare(&input.size())?;
                self.plan.get_or_init(|| plan)
            }
        };
        plan.run(input, other, relu)
    }

    fn prepare(&self, input_size: &[i64]) -> Result<Plan> {
        let mut plan = ptr::null_mut();
        // SAFETY: the tensors and the sizes are alive, and tch's pointers point to `at::Tensor`s.
        unsafe {
            check(resnet_prepare_convolution(
                address(Some(&self.weight)),
                address(Some(&self.bias)),
                self.geometry.stride,
                self.geometry.padding,
                self.geometry.groups,
                input_size.as_ptr(),
                input_size.len(),
                &mut plan,
            ))
        }?;
        Ok(Plan(NonNull::new(plan).context("the convolution has no plan")?))
    }
}

/// Owns a prepared convolution of the C++ side (`convolution/ways.h`).
#[derive(Debug)]
struct Plan(NonNull<c_void>);

// SAFETY: a plan holds tensors and numbers, and tch's tensors may be sent to another thread too.
unsafe impl Send for Plan {}

impl Plan {
    fn run(&self, input: &Tensor, other: Option<&Tensor>, relu: bool) -> Result<Tensor> {
        let (plan, xs, other) = (self.0.as_ptr(), address(Some(input)), address(other));
        // SAFETY: the plan and the tensors are alive, and tch's pointers point to `at::Tensor`s.
        let output =
            unsafe { tensor(|output| resnet_run_convolution(plan, xs, other, relu, output)) };
        output?.context("the convolution has no output")
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        // SAFETY: this object owns the plan, and nothing uses it afterwards.
        unsafe { resnet_free_convolution(self.0.as_ptr()) }
    }
}
