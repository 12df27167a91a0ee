//! Files in a run's folder that are not as the program wrote them: links, the user's own files, FIFOs, damaged and
//! forged files. The program follows no link, changes no file of the user, and uses no damaged or forged file. Its
//! messages name the file.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic makes the test fail")]

#[path = "../common/mod.rs"]
mod common;

mod damaged;
mod foreign;
mod hostile;
mod links;
mod table;
mod writes;

use common::{Ran, TINY, program_in_shell, resnet};
use std::path::{Path, PathBuf};
use tempfile::{TempDir, tempdir};

/// Flags of a run of two epochs of 4 steps, with checkpoints at steps 2, 4, 6 and 8.
const FLAGS: &str = "--epochs 2 --limit-batches 4 --checkpoint-every 2steps --keep 10 --quiet";

/// A finished run, and the temporary folder that contains it.
fn finished() -> (TempDir, PathBuf) {
    finished_with("")
}

fn finished_with(flags: &str) -> (TempDir, PathBuf) {
    let folder = tempdir().unwrap();
    let run = folder.path().join("run");
    resnet(&format!("{TINY} {FLAGS} {flags} --run-dir"), &[&run]).success();
    (folder, run)
}

/// Resumes a run for one more epoch.
fn resume(path: &Path) -> Ran {
    limited("train --offline --epochs 3 --resume", path)
}

/// Runs the program with limits on memory and time. If it waits for a FIFO or reads a device without end, the test
/// fails and the machine is not affected.
fn limited(arguments: &str, path: &Path) -> Ran {
    program_in_shell("ulimit -v 8000000; exec timeout 120", arguments).arg(path).run()
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}
