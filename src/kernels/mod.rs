//! Convolutions and batch norm on a CPU, with kernels of this program where they are faster than libtorch's.
//!
//! Kernels work on plain memory and are compiled for each instruction set: `matrix` (matrix products),
//! `winograd` (its transforms) and `batch_norm`, each a table with a row for each dtype and instruction set.
//! `dispatch.h` chooses the row. `convolution` chooses the way in which a convolution is computed.

mod batch_norm;
mod convolution;

pub use batch_norm::{Normalization, batch_norm};
pub use convolution::{PreparedConvolution, convolution};
