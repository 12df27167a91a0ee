//! Max pooling.

use super::cuda;
use super::tuning::{Tuning, Way};
use crate::libtorch::or_panic;
use tch::Tensor;

/// The largest number of each square window of `kernel` pixels: `[N, C, H, W]` → `[N, C, H', W']`. Windows are `stride`
/// pixels apart, and the first begins `padding` pixels before the image. The result has gradients.
///
/// # Panics
///
/// Panics like tch's own operations if libtorch fails, for example when memory runs out.
pub fn max_pool(xs: &Tensor, kernel: i64, stride: i64, padding: i64) -> Tensor {
    let own = match Tuning::current().has(Way::MaxPool) {
        true => or_panic(cuda::max_pool(xs, [kernel, stride, padding])),
        false => None,
    };
    own.unwrap_or_else(|| xs.max_pool2d([kernel; 2], [stride; 2], [padding; 2], [1, 1], false))
}
