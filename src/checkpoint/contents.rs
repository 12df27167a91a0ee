//! Decides which files in a run's `checkpoints` folder the program has written. All other files belong to the user, and
//! are never moved, overwritten or deleted.

use super::checksums::CHECKSUMS_FILE;
use super::{BEST, LAST, MODEL_FILE, OPTIMIZER_FILE, STATE_FILE};
use crate::files::{TEMPORARY, numbered};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// The files of a checkpoint.
const FILES: [&str; 4] = [MODEL_FILE, OPTIMIZER_FILE, STATE_FILE, CHECKSUMS_FILE];

/// The end of a checkpoint's name while a new checkpoint of the same step replaces it.
const REPLACED: &str = ".replaced";
/// The end of the name of a checkpoint that was set aside: it was renamed and now belongs to the user.
const ABANDONED: &str = ".abandoned";

/// The step that a name stands for. The program writes step 7 as `7`, never as `007` or `+7`.
pub fn step_of(name: &OsStr) -> Option<u64> {
    let name = name.to_str()?;
    name.parse().ok().filter(|step: &u64| step.to_string() == name)
}

/// Whether there is a checkpoint at `path`, intact or damaged. A checkpoint is a folder (not a link) that is named by a
/// step and holds a file of a checkpoint. The user may have put more files into it.
pub fn is_checkpoint(path: &Path) -> bool {
    path.file_name().and_then(step_of).is_some() && holds_checkpoint(path)
}

/// The step of a replaced checkpoint, which may be moved back or deleted.
pub fn replaced_step(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?.strip_suffix(REPLACED)?;
    step_of(name.as_ref()).filter(|_| holds_checkpoint(path) && holds_nothing_else(path))
}

fn holds_checkpoint(path: &Path) -> bool {
    names(path).is_some_and(|names| names.iter().any(|name| is_file(name)))
}

/// Whether a folder (not a link) holds only files of a checkpoint, so that it may be deleted.
pub fn holds_nothing_else(path: &Path) -> bool {
    names(path).is_some_and(|names| {
        let ours = |name: &String| is_file(name) && !path.join(name).is_dir();
        names.iter().all(ours)
    })
}

/// Whether a killed process left this while it wrote: a folder that was being written or deleted, or a link that was
/// not renamed yet.
pub fn is_leftover(path: &Path) -> bool {
    let name = path.file_name().and_then(OsStr::to_str);
    let Some(rest) = name.and_then(|name| name.strip_prefix(TEMPORARY)) else { return false };
    let is_of_step = step_of(rest.strip_suffix(GONE).unwrap_or(rest).as_ref()).is_some();
    (is_of_step || [LAST, BEST].contains(&rest)) && (path.is_symlink() || holds_nothing_else(path))
}

/// The path of a checkpoint or a link while it is being written.
pub fn being_written(folder: &Path, name: impl std::fmt::Display) -> PathBuf {
    folder.join(format!("{TEMPORARY}{name}"))
}

/// The path of a checkpoint while it is being deleted.
pub fn being_deleted(folder: &Path, step: u64) -> PathBuf {
    folder.join(format!("{TEMPORARY}{step}{GONE}"))
}

const GONE: &str = "-gone";

/// The path of an old checkpoint while a new one of the same step replaces it.
pub fn being_replaced(folder: &Path, step: u64) -> PathBuf {
    folder.join(format!("{step}{REPLACED}"))
}

/// A free name for the checkpoint of a step that is set aside.
pub fn name_aside(folder: &Path, step: u64) -> Option<String> {
    let is_free = |name: &String| !crate::files::is_taken(&folder.join(name));
    numbered(&format!("{step}{ABANDONED}")).find(is_free)
}

fn is_file(name: &str) -> bool {
    FILES.contains(&name)
}

/// The names in a folder. None if it is a link, not a folder, or cannot be read.
fn names(path: &Path) -> Option<Vec<String>> {
    path.symlink_metadata().ok().filter(fs::Metadata::is_dir)?;
    let entries = fs::read_dir(path).ok()?;
    entries.map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned())).collect()
}
