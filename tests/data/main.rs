//! Downloading data sets: the command `resnet data`, and mirrors that misbehave.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests may panic and print"
)]

#[path = "../common/mod.rs"]
mod common;

mod command;
mod download;
mod folder;
mod mirror;
mod show;
