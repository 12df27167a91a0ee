//! Build and train residual networks on libtorch.
//!
//! Data flows one way; a module imports only from those before it, and from [`ui`], [`error`] and
//! [`native`]:
//!
//! ```text
//! argv ─ cli ─► config ─► data ──► model ──► train ──► checkpoint
//!              (TOML +   (files,   (spec →   (loop,     (atomic, exact)
//!               flags)    tensors)  network)  optimizer) └► report (metrics)
//! ```
//!
//! [`commands`] holds one file a subcommand and puts the parts together.

pub mod cli;
pub mod commands;
pub mod data;
pub mod error;
pub mod native;
pub mod ui;
