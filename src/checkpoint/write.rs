//! Writes checkpoints. If the process is killed at any moment, all checkpoints are complete.

use super::checksums::{CHECKSUMS_FILE, checksums};
use super::contents::{
    being_deleted, being_replaced, being_written, holds_nothing_else, is_checkpoint, is_leftover,
    name_aside, replaced_step,
};
use super::find::{checkpoints_folder, steps};
use super::retention::superseded;
use super::{BEST, Best, LAST, MODEL_FILE, ModelCard, OPTIMIZER_FILE, STATE_FILE, State, tensors};
use crate::files::{is_taken, sync_folder, write_synced};
use crate::model::Network;
use crate::train::state::NamedTensors;
use anyhow::{Context, Result, anyhow, bail};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

/// The errors of file systems that cannot exchange two directories.
const CANNOT_EXCHANGE: [Errno; 4] = [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP, Errno::NOTSUP];

/// The `checkpoints` folder of a run.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    keep: usize,
}

impl Store {
    /// The checkpoints of a run. The newest `keep` checkpoints and the best one are kept.
    ///
    /// # Errors
    /// The folder cannot be made, or is a link.
    pub fn open(run_dir: &Path, keep: usize) -> Result<Self> {
        let folder = checkpoints_folder(run_dir)?;
        fs::create_dir_all(&folder).with_context(|| format!("{}", folder.display()))?;
        Ok(Self { folder, keep })
    }

    /// Whether there is a checkpoint of a step.
    pub fn has(&self, step: u64) -> bool {
        is_checkpoint(&self.place(step))
    }

    fn place(&self, step: u64) -> PathBuf {
        self.folder.join(step.to_string())
    }

    /// Prepares the folder for a run that continues from `step`: `last` leads to it, `best` to the best checkpoint so
    /// far, and checkpoints of later steps are set aside, because these steps will be repeated. Returns their new
    /// names.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn go_on_from(&self, step: u64, best: Option<Best>) -> Result<Vec<String>> {
        self.link(LAST, step)?;
        self.link(BEST, best.map_or(step, |best| best.step))?;
        let later = steps(&self.folder)?.into_iter().filter(|&other| other > step);
        let aside: Result<_> = later.map(|step| self.set_aside(&self.place(step), step)).collect();
        sync_folder(&self.folder)?;
        aside
    }

    /// Renames a checkpoint, so that it belongs to the user and is never deleted. Returns the new name.
    fn set_aside(&self, checkpoint: &Path, step: u64) -> Result<String> {
        let name = name_aside(&self.folder, step).context("no name is free")?;
        let to = self.folder.join(&name);
        fs::rename(checkpoint, &to).with_context(|| to.display().to_string())?;
        Ok(name)
    }

    /// Writes the checkpoint of a step: the network to evaluate, and the rest of the training state. Then it sets
    /// `last` and `best`, and deletes old checkpoints.
    ///
    /// # Errors
    /// A file could not be written. Earlier checkpoints are unchanged.
    pub fn save(
        &self,
        network: &Network,
        training: &NamedTensors,
        card: &ModelCard,
        state: &State,
    ) -> Result<()> {
        let path = self.place(state.step);
        self.write(network, training, card, state)
            .with_context(|| format!("cannot write the checkpoint {}", path.display()))?;
        sync_folder(&self.folder)?;
        self.link(LAST, state.step)?;
        let best = state.best.map_or(state.step, |best| best.step);
        self.link(BEST, best)?;
        // The new names must be on disk before anything is deleted.
        sync_folder(&self.folder)?;
        for step in superseded(&steps(&self.folder)?, self.keep, [state.step, best]) {
            // The folder is renamed first, so that a killed process leaves no incomplete checkpoint under the name of
            // its step. If it cannot be deleted now, the next start deletes it.
            let (place, gone) = (self.place(step), being_deleted(&self.folder, step));
            if holds_nothing_else(&place) && !is_taken(&gone) {
                let _ = fs::rename(&place, &gone).and_then(|()| fs::remove_dir_all(&gone));
            }
        }
        Ok(())
    }

    /// Writes a checkpoint under a temporary name, and then moves it to its final place.
    fn write(
        &self,
        network: &Network,
        training: &NamedTensors,
        card: &ModelCard,
        state: &State,
    ) -> Result<()> {
        let temporary = being_written(&self.folder, state.step);
        remove_leftover(&temporary)?;
        fs::create_dir_all(&self.folder)?;
        fs::create_dir(&temporary).with_context(|| temporary.display().to_string())?;
        self.write_files(&temporary, network, training, card, state)
            .and_then(|()| self.put(&temporary, state.step))
            .inspect_err(|_| {
                // On a full disk, its files must not take the space that the next checkpoint needs.
                let _ = remove_leftover(&temporary);
            })
    }

    fn write_files(
        &self,
        folder: &Path,
        network: &Network,
        training: &NamedTensors,
        card: &ModelCard,
        state: &State,
    ) -> Result<()> {
        let weights = network.parameters().iter().map(|p| (p.name.as_str(), &p.tensor));
        let model = tensors::to_bytes(weights, card.to_metadata()?)?;
        let optimizer = tensors::to_bytes(training.iter(), HashMap::new())?;
        let state = serde_json::to_string_pretty(state)? + "\n";
        let files: [(&str, &[u8]); 3] =
            [(MODEL_FILE, &model), (OPTIMIZER_FILE, &optimizer), (STATE_FILE, state.as_bytes())];
        // The checksums are computed while the disk writes.
        let checksums = thread::scope(|scope| -> Result<_> {
            let checksums = scope.spawn(|| checksums(&files));
            for (name, bytes) in files {
                write_synced(&folder.join(name), bytes)?;
            }
            checksums.join().map_err(|_| anyhow!("the checksums could not be computed"))
        })?;
        write_synced(&folder.join(CHECKSUMS_FILE), checksums.as_bytes())?;
        sync_folder(folder)
    }

    /// Makes the link `name` lead to the checkpoint of a step. At every moment, the link leads to a complete
    /// checkpoint.
    fn link(&self, name: &str, step: u64) -> Result<()> {
        let temporary = being_written(&self.folder, name);
        let link = self.folder.join(name);
        let make = || -> Result<()> {
            if is_taken(&link) && !link.is_symlink() {
                bail!("expected a link to a checkpoint; give this file or folder another name");
            }
            remove_leftover(&temporary)?;
            std::os::unix::fs::symlink(step.to_string(), &temporary)?;
            Ok(fs::rename(&temporary, &link)?)
        };
        make().with_context(|| link.display().to_string())
    }

    /// Moves a written checkpoint to its final place. A checkpoint can exist there already, for example if the run was
    /// resumed from an earlier step. The two are then exchanged in one call, so that a complete checkpoint is there at
    /// every moment.
    fn put(&self, written: &Path, step: u64) -> Result<()> {
        let place = self.place(step);
        if !is_taken(&place) {
            return Ok(fs::rename(written, &place)?);
        }
        if !is_checkpoint(&place) {
            bail!("the folder or file there is no checkpoint; give it another name");
        }
        let old = exchange(written, &place, being_replaced(&self.folder, step))
            .with_context(|| format!("cannot move {} there", written.display()))?;
        if holds_nothing_else(&old) {
            // If it cannot be deleted now, the next start deletes it.
            let _ = fs::remove_dir_all(&old);
        } else {
            self.set_aside(&old, step)?;
        }
        Ok(())
    }
}

/// Exchanges two directories. Returns the new path of the directory that was at `to`: `from` or `aside`.
fn exchange(from: &Path, to: &Path, aside: PathBuf) -> std::io::Result<PathBuf> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(from.to_owned()),
        // Some network file systems cannot exchange directories. There, the old directory is renamed first. If the new
        // one is not moved to its place, the next start moves the old one back.
        Err(error) if CANNOT_EXCHANGE.contains(&error) => {
            fs::rename(to, &aside)?;
            fs::rename(from, to).inspect_err(|_| {
                let _ = fs::rename(&aside, to);
            })?;
            Ok(aside)
        }
        Err(error) => Err(error.into()),
    }
}

/// Removes the files that killed processes left in a run's `checkpoints` folder, and nothing else.
///
/// # Errors
/// The folder cannot be read or written to.
pub fn remove_leftovers(run_dir: &Path) -> Result<()> {
    let folder = checkpoints_folder(run_dir)?;
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry.with_context(|| folder.display().to_string())?.path();
        remove_leftover(&path)?;
        let Some(step) = replaced_step(&path) else { continue };
        // If the new checkpoint was not moved to its place, the old one is moved back.
        let place = folder.join(step.to_string());
        match is_taken(&place) {
            true => fs::remove_dir_all(&path),
            false => fs::rename(&path, place),
        }
        .with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// Removes `path` if a killed process left it while it wrote.
fn remove_leftover(path: &Path) -> Result<()> {
    if is_leftover(path) {
        // If it is a link, this removes only the link.
        fs::remove_dir_all(path).with_context(|| path.display().to_string())?;
    }
    Ok(())
}
