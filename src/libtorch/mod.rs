//! A safe interface to the few functions of libtorch that tch does not bind. Each C++ file has a Rust file of the same
//! name. `ffi.h` and `ffi.rs` define the error protocol between them.

mod copies;
mod ffi;
mod memory;
mod meta;
mod optimizer;
mod settings;

pub use copies::copies;
pub(crate) use ffi::{address, check, or_panic, tensor};
pub use memory::{MEMORY_RESERVE, peak_memory_bytes, release_free_memory, set_up_allocator};
pub use meta::meta;
pub use optimizer::{AdamWUpdate, SgdUpdate, adamw, lerp, sgd, unscale, update_scale};
pub use settings::{
    allow_tf32, cpu_capability, libtorch_folder, libtorch_version, set_deterministic,
};
