//! What in a run's `checkpoints` folder the program wrote. All else is the user's own, and is never moved,
//! written over or deleted.

use super::checksums::CHECKSUMS_FILE;
use super::{BEST, LAST, MODEL_FILE, OPTIMIZER_FILE, STATE_FILE};
use crate::files::{TEMPORARY, numbered};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// The files of a checkpoint.
const FILES: [&str; 4] = [MODEL_FILE, OPTIMIZER_FILE, STATE_FILE, CHECKSUMS_FILE];

/// Ends the name of a checkpoint that gives way to a new one of its step.
const REPLACED: &str = ".replaced";
/// Ends the name of a checkpoint of a future that was left.
const ABANDONED: &str = ".abandoned";

/// The step that a name stands for. The program writes 7 as `7`; `007` and `+7` are another's.
pub fn step_of(name: &OsStr) -> Option<u64> {
    let name = name.to_str()?;
    name.parse().ok().filter(|step: &u64| step.to_string() == name)
}

/// Whether a checkpoint lies at `path`, whole or damaged: a folder, and no link to one, that is named by a
/// step and holds a checkpoint's file. Its user may have put more into it.
pub fn is_checkpoint(path: &Path) -> bool {
    path.file_name().and_then(step_of).is_some() && holds_checkpoint(path)
}

/// The step of a checkpoint that gave way and may be moved back or deleted.
pub fn replaced_step(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?.strip_suffix(REPLACED)?;
    step_of(name.as_ref()).filter(|_| holds_checkpoint(path) && holds_nothing_else(path))
}

fn holds_checkpoint(path: &Path) -> bool {
    names(path).is_some_and(|names| names.iter().any(|name| is_file(name)))
}

/// Whether a folder, and no link to one, holds nothing but files of a checkpoint, so that it may be deleted.
pub fn holds_nothing_else(path: &Path) -> bool {
    names(path).is_some_and(|names| {
        let ours = |name: &String| is_file(name) && !path.join(name).is_dir();
        names.iter().all(ours)
    })
}

/// Whether what lies at `path` is what a write to the folder left that was killed: a folder of files that
/// was being written or deleted, or a link that was to be renamed.
pub fn is_leftover(path: &Path) -> bool {
    let name = path.file_name().and_then(OsStr::to_str);
    let Some(rest) = name.and_then(|name| name.strip_prefix(TEMPORARY)) else { return false };
    let is_of_step = step_of(rest.strip_suffix(GONE).unwrap_or(rest).as_ref()).is_some();
    (is_of_step || [LAST, BEST].contains(&rest)) && (path.is_symlink() || holds_nothing_else(path))
}

/// Where the checkpoint of a step is written.
pub fn being_written(folder: &Path, name: impl std::fmt::Display) -> PathBuf {
    folder.join(format!("{TEMPORARY}{name}"))
}

/// Where the checkpoint of a step is while it is deleted.
pub fn being_deleted(folder: &Path, step: u64) -> PathBuf {
    folder.join(format!("{TEMPORARY}{step}{GONE}"))
}

const GONE: &str = "-gone";

/// Where a step's checkpoint is while a new one takes its place.
pub fn being_replaced(folder: &Path, step: u64) -> PathBuf {
    folder.join(format!("{step}{REPLACED}"))
}

/// A free name for a step's checkpoint that is set aside.
pub fn name_aside(folder: &Path, step: u64) -> Option<String> {
    let is_free = |name: &String| !crate::files::is_taken(&folder.join(name));
    numbered(&format!("{step}{ABANDONED}")).find(is_free)
}

fn is_file(name: &str) -> bool {
    FILES.contains(&name)
}

/// What lies in a folder; none where it is a link or no folder, or cannot be read.
fn names(path: &Path) -> Option<Vec<String>> {
    path.symlink_metadata().ok().filter(fs::Metadata::is_dir)?;
    let entries = fs::read_dir(path).ok()?;
    entries.map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned())).collect()
}
