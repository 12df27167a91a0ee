//! The few libtorch calls that tch does not bind, behind a safe face.

mod memory;
mod optimizer;

pub use memory::{MEMORY_RESERVE, peak_memory_bytes, release_free_memory, set_up_allocator};
pub use optimizer::{SgdUpdate, sgd, unscale, update_scale};

use std::ffi::{CStr, CString, OsStr, c_char, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::ptr;
use tch::Tensor;

unsafe extern "C" {
    fn resnet_libtorch_version() -> *const c_char;
    fn resnet_libtorch_file() -> *const c_char;
    fn resnet_cpu_capability() -> *const c_char;
    fn resnet_allow_tf32(allow: bool);
    fn resnet_set_deterministic(deterministic: bool);
    fn resnet_meta(dims: *const i64, count: usize) -> *mut c_void;
}

/// The libtorch version that this program was compiled against, such as `2.11.0`.
pub fn libtorch_version() -> String {
    // SAFETY: libtorch.cpp returns a string literal.
    let version = unsafe { copied(resnet_libtorch_version()) };
    version.map_or_else(|| "unknown".to_owned(), |v| v.to_string_lossy().into_owned())
}

/// The folder that libtorch was loaded from, which need not be the one it was built against:
/// `LD_LIBRARY_PATH` comes before the run path. `None` where the loader does not tell.
pub fn libtorch_folder() -> Option<PathBuf> {
    // SAFETY: the loader owns the name for as long as the library is loaded, and nothing unloads
    // libtorch.
    let file = unsafe { copied(resnet_libtorch_file()) }?;
    PathBuf::from(OsStr::from_bytes(file.to_bytes())).parent().map(PathBuf::from)
}

/// The instruction set that libtorch's own CPU kernels use here: `AVX512`, `AVX2`, `DEFAULT`, …
/// The environment variable `ATEN_CPU_CAPABILITY` lowers it.
pub fn cpu_capability() -> String {
    // SAFETY: libtorch.cpp returns null or a string that lives as long as the process.
    let capability = unsafe { copied(resnet_cpu_capability()) };
    capability.map_or_else(|| "unknown".to_owned(), |c| c.to_string_lossy().into_owned())
}

/// Whether CUDA devices may round the products of 32-bit floats to TF32. libtorch's own default is to
/// do so in convolutions and not in other products.
pub fn allow_tf32(allow: bool) {
    // SAFETY: libtorch.cpp sets two flags, and lets no exception out.
    unsafe { resnet_allow_tf32(allow) }
}

/// Whether CUDA devices compute with algorithms that give the same bits each time, or with those that
/// are found to be the fastest for each shape. Call it before the first product there. On a CPU all give
/// the same bits each time.
pub fn set_deterministic(deterministic: bool) {
    // SAFETY: libtorch.cpp sets flags, and a variable of the environment that only libtorch reads, at its
    // first product; it lets no exception out.
    unsafe { resnet_set_deterministic(deterministic) }
}

/// An uninitialised float tensor of shape `dims` on libtorch's meta device: it has a shape and no
/// memory, and operations on it compute shapes alone. The weights that it meets may be ordinary ones
/// on the CPU: what comes out is on the meta device again. Keep gradients off (`tch::no_grad`), and
/// don't ask it for its device, which tch has no name for (it answers `Mps`).
///
/// # Panics
///
/// Like tch's own constructors, where no tensor can have that shape: a dimension is negative or
/// the number of elements overflows.
pub fn meta(dims: &[i64]) -> Tensor {
    // SAFETY: the pointer and the count are those of a live slice.
    let tensor = owned(unsafe { resnet_meta(dims.as_ptr(), dims.len()) });
    tensor.unwrap_or_else(|| panic!("no tensor has the shape {dims:?}"))
}

/// The `at::Tensor` that a tensor is; null for none.
pub(crate) fn address(tensor: Option<&Tensor>) -> *const c_void {
    tensor.map_or(ptr::null(), |tensor| tensor.as_ptr().cast())
}

pub(crate) fn owned(tensor: *mut c_void) -> Option<Tensor> {
    // SAFETY: the C++ functions give null or a new `at::Tensor`, which is what tch's pointers point to,
    // and leave it to the caller.
    (!tensor.is_null()).then(|| unsafe { Tensor::from_ptr(tensor.cast()) })
}

/// A copy of a text; none for null.
///
/// # Safety
///
/// `text` is null or points to a C string.
pub(crate) unsafe fn copied(text: *const c_char) -> Option<CString> {
    // SAFETY: the caller's promise.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtorch_is_the_version_that_setup_installs() {
        assert_eq!(libtorch_version(), "2.11.0");
        assert!(libtorch_folder().unwrap().is_dir());
        assert_ne!(cpu_capability(), "unknown");
    }

    /// Each operation of a residual network, in the order of one: `resnet shapes` relies on all of
    /// them.
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
        assert!(logits.f_to_device(tch::Device::Cpu).is_err(), "it has no values");
    }

    #[test]
    fn a_shape_that_no_tensor_has_panics_in_rust_not_in_cpp() {
        let panic = std::panic::catch_unwind(|| meta(&[1, -1])).unwrap_err();
        let message = panic.downcast_ref::<String>().unwrap();
        assert_eq!(message, "no tensor has the shape [1, -1]");
    }
}
