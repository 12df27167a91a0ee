//! Tensors of libtorch's meta device.

use super::ffi::tensor;
use std::ffi::{c_char, c_void};
use tch::Tensor;

unsafe extern "C" {
    fn resnet_meta(dims: *const i64, count: usize, tensor: *mut *mut c_void) -> *const c_char;
}

/// An uninitialised float tensor of shape `dims` on libtorch's meta device. It has a shape but no memory, and
/// operations on it compute only shapes. Weights in these operations may be ordinary tensors on the CPU; the result is
/// on the meta device. Use it without gradients (`tch::no_grad`). Do not ask it for its device: tch has no name for the
/// meta device, and answers `Mps`.
///
/// # Panics
///
/// Panics like tch's own constructors if no tensor can have this shape: a dimension is negative, or the number of
/// elements overflows.
pub fn meta(dims: &[i64]) -> Tensor {
    // SAFETY: the pointer and the count belong to a live slice, and the function returns a new tensor.
    let tensor = unsafe { tensor(|out| resnet_meta(dims.as_ptr(), dims.len(), out)) };
    tensor.ok().flatten().unwrap_or_else(|| panic!("no tensor has the shape {dims:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs all operations of a residual network in order. `resnet shapes` needs each of them.
    #[test]
    fn a_meta_tensor_passes_through_every_layer_of_a_network() {
        let _no_grad = tch::no_grad_guard();
        let image = meta(&[2, 3, 224, 224]);
        let (kernel, bias) = (meta(&[64, 3, 7, 7]), meta(&[64]));
        let conv = image.conv2d(&kernel, Some(&bias), [2, 2], [3, 3], [1, 1], 1);
        assert_eq!(conv.size(), [2, 64, 112, 112]);

        let channel = || Some(meta(&[64]));
        let norm =
            conv.batch_norm(channel(), channel(), channel(), channel(), false, 0.1, 1e-5, false);
        let pooled = norm.relu().max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false);
        assert_eq!(pooled.size(), [2, 64, 56, 56]);

        let shortcut =
            pooled.conv2d(&meta(&[64, 64, 1, 1]), None::<Tensor>, [1, 1], [0, 0], [1, 1], 1);
        let sum = (&pooled + shortcut).relu_();
        let average = sum.adaptive_avg_pool2d([1, 1]);
        assert_eq!(average.size(), [2, 64, 1, 1]);
        assert_eq!(sum.mean_dim([2i64, 3].as_slice(), false, None).size(), [2, 64]);
        assert_eq!(
            sum.avg_pool2d([2, 2], [2, 2], [0, 0], false, true, None).size(),
            [2, 64, 28, 28]
        );

        let logits = average.flatten(1, -1).linear(&meta(&[10, 64]), Some(&meta(&[10])));
        assert_eq!(logits.size(), [2, 10]);
    }

    #[test]
    fn a_meta_convolution_has_the_shape_of_a_real_one() {
        let _no_grad = tch::no_grad_guard();
        let real = |dims: &[i64]| Tensor::zeros(dims, (tch::Kind::Float, tch::Device::Cpu));
        for (stride, padding, dilation, groups) in [(1, 1, 1, 1), (2, 3, 2, 4), (3, 0, 1, 2)] {
            let size = |new: &dyn Fn(&[i64]) -> Tensor| {
                let (image, kernel) = (new(&[1, 8, 29, 31]), new(&[16, 8 / groups, 3, 3]));
                let twice = |n| [n, n];
                image
                    .conv2d(
                        &kernel,
                        None::<Tensor>,
                        twice(stride),
                        twice(padding),
                        twice(dilation),
                        groups,
                    )
                    .size()
            };
            assert_eq!(size(&meta), size(&real));
        }
    }

    #[test]
    fn a_meta_tensor_passes_through_weights_on_the_cpu() {
        let _no_grad = tch::no_grad_guard();
        let weights = |dims: &[i64]| Tensor::ones(dims, (tch::Kind::Float, tch::Device::Cpu));
        let channel = || Some(weights(&[8]));
        let conv = meta(&[2, 3, 32, 32]).conv2d(
            &weights(&[8, 3, 3, 3]),
            channel(),
            [2, 2],
            [1, 1],
            [1, 1],
            1,
        );
        let norm =
            conv.batch_norm(channel(), channel(), channel(), channel(), false, 0.1, 1e-5, false);
        assert_eq!(norm.size(), [2, 8, 16, 16]);
        let logits = norm.mean_dim([2i64, 3].as_slice(), false, None);
        let logits = logits.linear(&weights(&[10, 8]), Some(&weights(&[10])));
        assert_eq!(logits.size(), [2, 10]);
        assert!(logits.f_to_device(tch::Device::Cpu).is_err(), "a meta tensor has no values");
    }

    #[test]
    fn a_shape_that_no_tensor_has_panics_in_rust_not_in_cpp() {
        let panic = std::panic::catch_unwind(|| meta(&[1, -1])).unwrap_err();
        let message = panic.downcast_ref::<String>().unwrap();
        assert_eq!(message, "no tensor has the shape [1, -1]");
    }
}
