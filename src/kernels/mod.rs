//! Convolutions and batch norm on a CPU. This program has its own kernels where they are faster than libtorch's
//! kernels.
//!
//! Kernels work on plain memory and are compiled for each instruction set. The folders `matrix` (matrix products),
//! `winograd` (the transforms of Winograd's algorithm) and `batch_norm` each have a table, with a row for each dtype
//! and instruction set. `dispatch.h` chooses the row. `convolution` chooses the algorithm for a convolution.

mod batch_norm;
mod convolution;

pub use batch_norm::{Normalization, batch_norm};
pub use convolution::{PreparedConvolution, convolution};
