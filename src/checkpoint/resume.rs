//! Finding the checkpoint that a run goes on from.

use super::read::{steps, verify};
use super::{CHECKPOINTS, LAST};
use crate::error::usage;
use anyhow::{Result, anyhow};
use std::path::{Path, PathBuf};

/// The folder of the run that `path` stands for: itself, or that of a checkpoint in it.
///
/// # Errors
/// A usage error for a path that is neither.
pub fn run_of(path: &Path) -> Result<PathBuf> {
    if path.join(CHECKPOINTS).is_dir() {
        return Ok(path.to_owned());
    }
    let checkpoint = path.canonicalize().ok();
    let folder = checkpoint.as_deref().and_then(Path::parent);
    match folder.filter(|folder| folder.ends_with(CHECKPOINTS)).and_then(Path::parent) {
        Some(run_dir) => Ok(run_dir.to_owned()),
        None => Err(usage(format!(
            "--resume {}: no checkpoint to go on from; expected a run's folder, with {CHECKPOINTS}/{LAST} in it, or a checkpoint in one",
            path.display()
        ))),
    }
}

/// The folder of the checkpoint to go on from: the last of the run in `run_dir`, or the one that `path`
/// names.
///
/// # Errors
/// A usage error for a run that has none, or a path that is no checkpoint of its history.
pub fn resume_point(path: &Path, run_dir: &Path) -> Result<PathBuf> {
    if path == run_dir {
        return latest(run_dir);
    }
    let checkpoint = path.canonicalize()?;
    let name = checkpoint.file_name().unwrap_or_default().to_string_lossy();
    if name.parse::<u64>().is_err() {
        return Err(usage(format!(
            "--resume {}: expected a checkpoint that is named by its step; one that was set aside has to be given its old name first",
            path.display()
        )));
    }
    Ok(checkpoint)
}

/// The folder of a run's last checkpoint.
///
/// # Errors
/// A usage error for a run that has none.
pub fn latest(run_dir: &Path) -> Result<PathBuf> {
    let folder = run_dir.join(CHECKPOINTS);
    let last = folder.join(LAST);
    last.canonicalize().map_err(|_| {
        let remedy = if steps(&folder).is_ok_and(|steps| steps.is_empty()) {
            "the run ended before its first; delete the folder, and begin anew".to_owned()
        } else {
            format!("expected {}", last.display())
        };
        usage(format!("--resume {}: no checkpoint to go on from; {remedy}", run_dir.display()))
    })
}

/// Checks that a checkpoint, to go on from, is as it was written.
///
/// # Errors
/// What is damaged, with the newest checkpoint before it that is intact.
pub fn verify_to_resume(run_dir: &Path, checkpoint: &Path) -> Result<()> {
    verify(checkpoint).map_err(|error| {
        let step = checkpoint.file_name().and_then(|name| name.to_string_lossy().parse().ok());
        let mut older = steps(&run_dir.join(CHECKPOINTS)).unwrap_or_default();
        older.retain(|&other| step.is_none_or(|step: u64| other < step));
        older.sort_unstable_by(|a, b| b.cmp(a));
        let intact = older
            .iter()
            .map(|step| run_dir.join(CHECKPOINTS).join(step.to_string()))
            .find(|folder| verify(folder).is_ok());
        let remedy = match intact {
            Some(intact) => {
                format!("the newest intact one before it: --resume {}", intact.display())
            }
            None => "and there is no intact one before it".to_owned(),
        };
        anyhow!("cannot go on from {}: {error:#}; {remedy}", checkpoint.display())
    })
}
