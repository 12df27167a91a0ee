//! Build and train residual networks on libtorch.
//!
//! Data flows one way:
//!
//! ```text
//! argv ─ cli ─► config ─► data ─────► model ────────► train ────────► sinks: bars, live view, JSON lines
//!              (TOML +   (Dataset    (Spec → Plan    (Run → Event)     run: metrics.jsonl,
//!               flags)    → Batch)    → Network)          └──────────► checkpoint (atomic, exact)
//! ```
//!
//! These types carry everything:
//!
//! - A [`model::Spec`] is the user's choice of a network. [`model::plan`] turns it into a plan: plain data that names
//!   every layer and tensor. The network, folded inference, shapes, costs and names of weights are made from the plan.
//! - A [`data::dataset::Dataset`] gives a [`data::batch::Batch`] of pixels and targets.
//! - A [`train::Run`] is an iterator of [`train::Event`]s. The code that holds it decides between two events whether to
//!   save or to stop. Each [`train::Sink`] takes the events, and has a file of its own.
//! - [`train::state::NamedTensors`] and [`checkpoint::State`] are everything that exact resume needs.
//!
//! Modules are listed here in the order of their dependencies: a module imports only from modules above it in this list
//! (`tests/structure.rs`). [`commands`] has one file for each subcommand and puts the parts together.

pub mod error;
pub mod files;
pub mod random;
pub mod ui;

pub mod libtorch;

pub mod cuda;
pub mod kernels;

pub mod limits;

pub mod device;
pub mod precision;

pub mod data;

pub mod model;

pub mod train;

pub mod checkpoint;

pub mod cli;

pub mod config;

pub mod run;

pub mod report;
pub mod sinks;

pub mod commands;
