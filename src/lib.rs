//! Build and train residual networks on libtorch.
//!
//! Data flows one way; a module imports only from those before it, and from [`ui`], [`error`],
//! [`files`], [`limits`], [`random`], [`device`], [`precision`], [`libtorch`], [`cuda`] and [`kernels`]; [`cli`] and [`config`] also the plain
//! values that name the choices of later modules (`data::catalog`, `data::augment`, `data::Source`, `model::spec`,
//! `train::recipe`, `train::schedule`, `checkpoint::cadence`):
//!
//! ```text
//! argv ─ cli ─► config ─► data ──► model ──► train ──► checkpoint
//!              (TOML +   (files,   (spec →   (loop,     (atomic, exact)
//!               flags)    tensors)  network)  optimizer) └► report (metrics)
//! ```
//!
//! [`commands`] holds one file a subcommand and puts the parts together.

pub mod checkpoint;
pub mod cli;
pub mod commands;
pub mod config;
pub mod cuda;
pub mod data;
pub mod device;
pub mod error;
pub mod files;
pub mod kernels;
pub mod libtorch;
pub mod limits;
pub mod model;
pub mod precision;
pub mod random;
pub mod report;
pub mod run;
pub mod sinks;
pub mod train;
pub mod ui;
