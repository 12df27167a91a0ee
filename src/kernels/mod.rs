//! Convolutions and batch norm on a CPU, with kernels of this program's own where they are faster than libtorch's.

mod batch_norm;
mod convolution;

pub use batch_norm::{Normalization, batch_norm};
pub use convolution::{FusedConvolution, convolution};
