//! Convolutions and batch norm. This program has its own kernels where they are faster than libtorch's kernels.
//!
//! `cuda` and `tuning` are for CUDA devices. Everything else is for CPUs. Kernels work on plain memory and are compiled
//! for each instruction set. The folders `matrix` (matrix products), `winograd` (the transforms of Winograd's
//! algorithm) and `batch_norm` each have a table, with a row for each dtype and instruction set. `dispatch.h` chooses
//! the row. `convolution` chooses the algorithm for a convolution.

mod batch_norm;
mod convolution;
pub mod cuda;
mod max_pool;
mod tuning;

pub use batch_norm::{Normalization, batch_norm, batch_norm_on_cuda};
pub use convolution::{Geometry, PreparedConvolution, convolution};
pub use max_pool::{max_pool, max_pool_on_cuda};
pub use tuning::{Tuning, Way};
