//! Build and train residual networks on libtorch.
//!
//! Data flows one way; a module imports only from those before it, and from [`ui`], [`error`],
//! [`random`], [`device`] and [`native`] (and [`cli`] and [`config`] the plain values that name the
//! choices of later modules: `model::spec`, `train::recipe`, `train::schedule`):
//!
//! ```text
//! argv ─ cli ─► config ─► data ──► model ──► train ──► checkpoint
//!              (TOML +   (files,   (spec →   (loop,     (atomic, exact)
//!               flags)    tensors)  network)  optimizer) └► report (metrics)
//! ```
//!
//! [`commands`] holds one file a subcommand and puts the parts together.

// Docs write shapes as [N, C, H, W] and placeholders of the help as <network>.
#![allow(rustdoc::broken_intra_doc_links, rustdoc::invalid_html_tags)]

pub mod checkpoint;
pub mod cli;
pub mod commands;
pub mod config;
pub mod data;
pub mod device;
pub mod error;
pub mod model;
pub mod native;
pub mod random;
pub mod report;
pub mod train;
pub mod ui;
