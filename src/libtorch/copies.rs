//! Copies of many tensors in another dtype, made together. On a GPU, this takes a few kernels instead of one for each
//! tensor.

use super::ffi::{address, check};
use anyhow::Result;
use std::ffi::{c_char, c_void};
use std::ptr;
use tch::Tensor;

unsafe extern "C" {
    fn resnet_copies(
        tensors: *const *const c_void,
        count: usize,
        like: *const c_void,
        copied: *mut *mut c_void,
    ) -> *const c_char;
}

/// Copies of tensors of one dtype in the dtype of `like`, in the same order. The copies have gradients; those of the
/// originals are computed together when all copies have theirs.
///
/// # Errors
/// The operation of libtorch failed, for example because memory ran out.
pub fn copies(tensors: &[&Tensor], like: &Tensor) -> Result<Vec<Tensor>> {
    if tensors.is_empty() {
        return Ok(Vec::new());
    }
    let originals: Vec<_> = tensors.iter().map(|tensor| address(Some(tensor))).collect();
    let mut copied = vec![ptr::null_mut(); originals.len()];
    // SAFETY: the tensors are alive, tch's pointers point to `at::Tensor`s, and `copied` has room for all copies.
    unsafe {
        let (count, like) = (originals.len(), address(Some(like)));
        check(resnet_copies(originals.as_ptr(), count, like, copied.as_mut_ptr()))
    }?;
    // SAFETY: the function has succeeded, so each pointer is a new `at::Tensor` that the caller owns.
    Ok(copied.into_iter().map(|copy| unsafe { Tensor::from_ptr(copy.cast()) }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn copies_and_their_gradients_are_those_of_single_conversions() {
        let tensors = [[3, 4], [2, 5]].map(|dims: [i64; 2]| {
            Tensor::randn(dims, (Kind::Float, Device::Cpu)).set_requires_grad(true)
        });
        for kind in [Kind::BFloat16, Kind::Half] {
            let loss = |copies: &[Tensor]| {
                copies.iter().map(|copy| copy.square().sum(Kind::Float)).sum::<Tensor>()
            };
            let singles = tensors.each_ref().map(|tensor| tensor.to_kind(kind));
            let expected = Tensor::run_backward(&[loss(&singles)], &tensors, false, false);
            let like = Tensor::zeros([1], (kind, Device::Cpu));
            let together = copies(&tensors.each_ref(), &like).unwrap();
            assert_eq!(together, singles);
            let found = Tensor::run_backward(&[loss(&together)], &tensors, false, false);
            assert_eq!(found, expected);
            assert!(found.iter().all(|gradient| gradient.kind() == Kind::Float));
        }
        assert!(copies(&[], &tensors[0]).unwrap().is_empty());
    }
}
