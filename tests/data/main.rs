//! Getting data sets onto this machine: the command, and downloads from mirrors that misbehave.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that fails says so"
)]

#[path = "../common/mod.rs"]
mod common;

mod command;
mod download;
mod folder;
mod mirror;
