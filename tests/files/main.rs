//! What lies in a run's folder and is not what the program wrote there: links, the user's own files, FIFOs,
//! damaged and forged files. None is followed, changed or believed, and each is named.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails says so")]

#[path = "../common/mod.rs"]
mod common;

mod damaged;
mod foreign;
mod hostile;
mod links;
mod writes;

use common::{Ran, TINY, program_in_shell, resnet};
use std::path::{Path, PathBuf};
use tempfile::{TempDir, tempdir};

/// Flags of a run with checkpoints 2, 4, 6 and 8, of two epochs of 4 steps.
const FLAGS: &str = "--epochs 2 --limit-batches 4 --checkpoint-every 2steps --keep 10 --quiet";

/// A finished run, and the folder that it lies in.
fn finished() -> (TempDir, PathBuf) {
    finished_with("")
}

fn finished_with(flags: &str) -> (TempDir, PathBuf) {
    let folder = tempdir().unwrap();
    let run = folder.path().join("run");
    resnet(&format!("{TINY} {FLAGS} {flags} --run-dir"), &[&run]).success();
    (folder, run)
}

/// Has a run go on for one epoch more.
fn resume(path: &Path) -> Ran {
    limited("train --offline --epochs 3 --resume", path)
}

/// Runs the program with little memory and time: one that waits for a FIFO or reads a device without end
/// fails the test, not the machine.
fn limited(arguments: &str, path: &Path) -> Ran {
    program_in_shell("ulimit -v 8000000; exec timeout 120", arguments).arg(path).run()
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}
