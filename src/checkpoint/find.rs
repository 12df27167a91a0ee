//! Finds checkpoints: the checkpoint that a path names, the checkpoints that `last` and `best` lead to, and all
//! checkpoints of a run.

use super::contents::{is_checkpoint, step_of};
use super::read::{Checkpoint, verify};
use super::{BEST, CHECKPOINTS, LAST, MODEL_FILE};
use crate::error::usage;
use crate::files::is_taken;
use anyhow::{Context, Result, anyhow};
use std::fs;
use std::path::{Path, PathBuf};

/// The path that `eval` uses for `path`: the path itself if it is a file or a checkpoint's folder; for a run's folder,
/// the folder of its best checkpoint.
///
/// # Errors
/// A usage error if `path` is none of these.
pub fn resolve(path: &Path) -> Result<PathBuf> {
    if !path.exists() {
        return Err(usage(format!(
            "{}: not found; expected a run's folder, a checkpoint's folder or a {MODEL_FILE}",
            path.display()
        )));
    }
    if !path.is_dir() || is_taken(&path.join(MODEL_FILE)) {
        return Ok(path.to_owned());
    }
    let folder = path.join(CHECKPOINTS);
    match [BEST, LAST].into_iter().find(|name| is_taken(&folder.join(name))) {
        Some(name) => lead(&folder, name).map_err(usage),
        None => Err(usage(format!(
            "{}: holds no checkpoint; expected {CHECKPOINTS}/{BEST} or {MODEL_FILE} in it",
            path.display()
        ))),
    }
}

/// The run's folder for `path`, which is that folder or a checkpoint in it.
///
/// # Errors
/// A usage error if it is neither.
pub fn run_of(path: &Path) -> Result<PathBuf> {
    if !path.exists() {
        return Err(usage(format!(
            "--resume {}: no such folder; expected a run's folder, or a checkpoint in one",
            path.display()
        )));
    }
    if path.join(CHECKPOINTS).is_dir() {
        return Ok(path.to_owned());
    }
    let checkpoint = path.canonicalize().ok();
    let folder = checkpoint.as_deref().and_then(Path::parent);
    // If a link leads out of the run, the program would train another run.
    let beside =
        path.is_symlink().then(|| path.parent().and_then(|beside| beside.canonicalize().ok()));
    let beside = beside.flatten().filter(|beside| beside.ends_with(CHECKPOINTS));
    if beside.is_some_and(|beside| Some(beside.as_path()) != folder) {
        return Err(usage(format!(
            "--resume {}: leads out of its run; expected a link to a checkpoint beside it",
            path.display()
        )));
    }
    match folder.filter(|folder| folder.ends_with(CHECKPOINTS)).and_then(Path::parent) {
        Some(run_dir) => Ok(run_dir.to_owned()),
        None => Err(usage(format!(
            "--resume {}: no checkpoint to go on from; expected a run's folder, with {CHECKPOINTS}/{LAST} in it, or a checkpoint in one",
            path.display()
        ))),
    }
}

/// The folder of a run's checkpoints, for writing.
///
/// # Errors
/// A usage error if it is a link: the folder behind it does not belong to the run.
pub(super) fn checkpoints_folder(run_dir: &Path) -> Result<PathBuf> {
    let folder = run_dir.join(CHECKPOINTS);
    if folder.is_symlink() {
        return Err(usage(format!(
            "{}: is a link; expected a folder, because a run writes and deletes in it; move the folder behind the link to this place",
            folder.display()
        )));
    }
    Ok(folder)
}

/// The folder of the checkpoint to resume from: the last of the run in `run_dir`, or the one that `path` names.
///
/// # Errors
/// A usage error if the run has none, or `path` is not one of its checkpoints.
pub fn resume_point(path: &Path, run_dir: &Path) -> Result<PathBuf> {
    if path == run_dir {
        return latest(run_dir);
    }
    let checkpoint = path.canonicalize()?;
    if checkpoint.file_name().and_then(step_of).is_none() {
        return Err(usage(format!(
            "--resume {}: expected a checkpoint that is named by its step; rename an abandoned checkpoint to its step first",
            path.display()
        )));
    }
    Ok(checkpoint)
}

/// The folder of a run's last checkpoint.
///
/// # Errors
/// A usage error if the run has none.
pub fn latest(run_dir: &Path) -> Result<PathBuf> {
    let folder = run_dir.join(CHECKPOINTS);
    lead(&folder, LAST).map_err(|problem| {
        let newest = steps(&folder).ok().and_then(|steps| steps.last().copied());
        let remedy = match newest {
            Some(step) => {
                format!("continue with --resume {}", folder.join(step.to_string()).display())
            }
            None => "the run ended before its first checkpoint; delete the folder, and begin again"
                .to_owned(),
        };
        usage(format!(
            "--resume {}: no checkpoint to go on from; {problem}; {remedy}",
            run_dir.display()
        ))
    })
}

/// The checkpoint that the link `name` in `folder` leads to, or a message that says what is wrong with the link.
fn lead(folder: &Path, name: &str) -> Result<PathBuf, String> {
    let link = folder.join(name);
    let expected = "expected a link to one of the checkpoints beside it";
    let to =
        link.canonicalize().map_err(|error| format!("{}: {error}; {expected}", link.display()))?;
    let is_beside = folder.canonicalize().is_ok_and(|folder| to.parent() == Some(&folder));
    match is_beside && is_checkpoint(&to) {
        true => Ok(to),
        false => Err(format!("{}: leads to {}; {expected}", link.display(), to.display())),
    }
}

/// The steps of the checkpoints in a run's `checkpoints` folder, intact or damaged, in increasing order.
///
/// # Errors
/// The folder cannot be read.
pub fn steps(folder: &Path) -> Result<Vec<u64>> {
    let read = || -> std::io::Result<Vec<u64>> {
        let mut steps = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            steps.extend(step_of(&entry.file_name()).filter(|_| is_checkpoint(&entry.path())));
        }
        steps.sort_unstable();
        Ok(steps)
    };
    read().with_context(|| folder.display().to_string())
}

/// Checks that the checkpoint to resume from is undamaged.
///
/// # Errors
/// The checkpoint is damaged. The message names the damage and the newest earlier checkpoint that is intact.
pub fn verify_to_resume(checkpoint: &Path) -> Result<()> {
    let before = checkpoint.file_name().and_then(step_of);
    let remedy = || match newest_intact(checkpoint, |step| {
        before.is_none_or(|before| step < before)
    }) {
        Some(intact) => format!("the newest intact one before it: --resume {}", intact.display()),
        None => "there is no intact one before it".to_owned(),
    };
    verify(checkpoint).map_err(|error| {
        anyhow!("cannot continue from {}: {error:#}; {}", checkpoint.display(), remedy())
    })
}

/// Opens the checkpoint at `path`, which [`resolve`] returned.
///
/// # Errors
/// The checkpoint is damaged; the message names the newest intact one of the same run.
pub fn open(path: &Path) -> Result<Checkpoint> {
    Checkpoint::open(path).map_err(|error| anyhow!("{error:#}{}", instead_of(path)))
}

/// A text that names the newest intact checkpoint of the same run. It is added to the message about a damaged one.
/// `path` is the folder of the damaged checkpoint or its file of weights.
fn instead_of(path: &Path) -> String {
    let folder = if path.is_dir() { Some(path) } else { path.parent() };
    let checkpoint = folder.and_then(|folder| folder.canonicalize().ok());
    let intact = checkpoint.and_then(|checkpoint| newest_intact(&checkpoint, |_| true));
    intact
        .map(|intact| format!("; the newest intact one: resnet eval {}", intact.display()))
        .unwrap_or_default()
}

/// The newest intact checkpoint beside `checkpoint`, among the steps for which `among` is true.
fn newest_intact(checkpoint: &Path, among: impl Fn(u64) -> bool) -> Option<PathBuf> {
    let folder = checkpoint.parent().filter(|folder| folder.ends_with(CHECKPOINTS))?;
    let steps = steps(folder).ok()?.into_iter().rev().filter(|&step| among(step));
    steps.map(|step| folder.join(step.to_string())).find(|folder| verify(folder).is_ok())
}
