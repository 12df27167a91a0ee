//! Writing checkpoints, so that a kill at any moment leaves only whole ones.

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
    /// The checkpoints of a run, which keeps the newest `keep` of them and the best one.
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

    /// Prepares the folder for a run that continues from `step`: `last` leads to it, `best` to the best checkpoint so far,
    /// and checkpoints of later steps, which will be repeated, are set aside. Returns their new names.
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

    /// Gives a checkpoint a name under which it belongs to the user. Returns the name.
    fn set_aside(&self, checkpoint: &Path, step: u64) -> Result<String> {
        let name = name_aside(&self.folder, step).context("no name is free")?;
        let to = self.folder.join(&name);
        fs::rename(checkpoint, &to).with_context(|| to.display().to_string())?;
        Ok(name)
    }

    /// Writes the checkpoint of a step: the network to evaluate, and the rest of the training's state. Then it sets `last` and
    /// `best`, and deletes old checkpoints.
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
            // Renamed first, so that a kill leaves no half checkpoint under the name of its step. What cannot be deleted
            // now is deleted at the next start.
            let (place, gone) = (self.place(step), being_deleted(&self.folder, step));
            if holds_nothing_else(&place) && !is_taken(&gone) {
                let _ = fs::rename(&place, &gone).and_then(|()| fs::remove_dir_all(&gone));
            }
        }
        Ok(())
    }

    /// Writes a checkpoint beside its final place, and moves it there.
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
                // The rest of it on a full disk must not be in the way of the next checkpoint.
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
        // In parallel with waiting for the disk.
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

    /// Makes `name` lead to the checkpoint of a step. At every moment it leads to a whole one.
    fn link(&self, name: &str, step: u64) -> Result<()> {
        let temporary = being_written(&self.folder, name);
        let link = self.folder.join(name);
        let make = || -> Result<()> {
            if is_taken(&link) && !link.is_symlink() {
                bail!("something else lies there; expected a link to a checkpoint");
            }
            remove_leftover(&temporary)?;
            std::os::unix::fs::symlink(step.to_string(), &temporary)?;
            Ok(fs::rename(&temporary, &link)?)
        };
        make().with_context(|| link.display().to_string())
    }

    /// Moves a written checkpoint to its final place. If one is there already, such as in a run that was resumed from an
    /// earlier step, the two are exchanged in one call, so that there is a whole one at every moment.
    fn put(&self, written: &Path, step: u64) -> Result<()> {
        let place = self.place(step);
        if !is_taken(&place) {
            return Ok(fs::rename(written, &place)?);
        }
        if !is_checkpoint(&place) {
            bail!("what lies there is no checkpoint; give it another name");
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

/// Exchanges two directories. Returns where the one from `to` is now: at `from` or at `aside`.
fn exchange(from: &Path, to: &Path, aside: PathBuf) -> std::io::Result<PathBuf> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(from.to_owned()),
        // Some network file systems cannot exchange. There the old directory is moved aside. The next start moves it back
        // if the new one never arrived.
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

/// Removes what killed writes left among a run's checkpoints, and nothing else.
///
/// # Errors
/// The folder cannot be read or written to.
pub fn remove_leftovers(run_dir: &Path) -> Result<()> {
    let folder = checkpoints_folder(run_dir)?;
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry.with_context(|| folder.display().to_string())?.path();
        remove_leftover(&path)?;
        let Some(step) = replaced_step(&path) else { continue };
        // If its successor never arrived, the old checkpoint goes back to its place.
        let place = folder.join(step.to_string());
        match is_taken(&place) {
            true => fs::remove_dir_all(&path),
            false => fs::rename(&path, place),
        }
        .with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// Removes what a killed write left at `path`, if it is that.
fn remove_leftover(path: &Path) -> Result<()> {
    if is_leftover(path) {
        // This removes a link, not what it leads to.
        fs::remove_dir_all(path).with_context(|| path.display().to_string())?;
    }
    Ok(())
}
