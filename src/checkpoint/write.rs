//! Writing checkpoints so that a kill at any moment leaves only whole ones.

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

/// What file systems answer that cannot exchange two directories.
const CANNOT_EXCHANGE: [Errno; 4] = [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP, Errno::NOTSUP];

/// The `checkpoints` folder of a run.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    keep: usize,
}

impl Store {
    /// The store of a run, which keeps the newest `keep` checkpoints and the best one.
    ///
    /// # Errors
    /// A folder that cannot be made, or is a link to one.
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

    /// Prepares for going on from a step: `last` and `best` name it and the best one so far, and
    /// checkpoints of later steps, which will be trained anew, are set aside. Their new names.
    ///
    /// # Errors
    /// A folder that cannot be written to.
    pub fn go_on_from(&self, step: u64, best: Option<Best>) -> Result<Vec<String>> {
        self.link(LAST, step)?;
        self.link(BEST, best.map_or(step, |best| best.step))?;
        let later = steps(&self.folder)?.into_iter().filter(|&other| other > step);
        let aside: Result<_> = later.map(|step| self.set_aside(&self.place(step), step)).collect();
        sync_folder(&self.folder)?;
        aside
    }

    /// Gives a step's checkpoint a name under which it is its user's. That name.
    fn set_aside(&self, checkpoint: &Path, step: u64) -> Result<String> {
        let name = name_aside(&self.folder, step).context("no name is free")?;
        let to = self.folder.join(&name);
        fs::rename(checkpoint, &to).with_context(|| to.display().to_string())?;
        Ok(name)
    }

    /// Writes the checkpoint of a step: the network that the training came to, and the tensors that it
    /// goes on with besides. Points `last` and `best` at the right ones, and deletes those that are
    /// superseded.
    ///
    /// # Errors
    /// The file that could not be written; earlier checkpoints are as they were.
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
        // Before anything is deleted, the new names must be on disk.
        sync_folder(&self.folder)?;
        for step in superseded(&steps(&self.folder)?, self.keep, [state.step, best]) {
            // Out of the way first, so that a kill leaves no half checkpoint under its step's name. What
            // cannot be deleted now is deleted at the next start: the new checkpoint is there.
            let (place, gone) = (self.place(step), being_deleted(&self.folder, step));
            if holds_nothing_else(&place) && !is_taken(&gone) {
                let _ = fs::rename(&place, &gone).and_then(|()| fs::remove_dir_all(&gone));
            }
        }
        Ok(())
    }

    /// Writes a checkpoint beside its place and moves it there.
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
                // What a full disk took of it must not stand in the way of the next one.
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
        // While the disk is waited for.
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

    /// Points a name at a step's checkpoint; at every moment it points at a whole one.
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

    /// Moves a checkpoint that was written to its place. One that is there, such as of a run that goes on
    /// from before that step, is exchanged for it at one stroke, so that there is a whole one at every
    /// moment.
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
            // What cannot be deleted now is deleted at the next start.
            let _ = fs::remove_dir_all(&old);
        } else {
            self.set_aside(&old, step)?;
        }
        Ok(())
    }
}

/// Exchanges two directories. Where the one that was at `to` is then: at `from`, or `aside`.
fn exchange(from: &Path, to: &Path, aside: PathBuf) -> std::io::Result<PathBuf> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(from.to_owned()),
        // Some network file systems cannot: there the old one goes aside, and comes back at the next
        // start if the new one never came.
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

/// Removes what writes to a run's checkpoints that were killed left, and only that.
///
/// # Errors
/// A folder that cannot be read or written to.
pub fn remove_leftovers(run_dir: &Path) -> Result<()> {
    let folder = checkpoints_folder(run_dir)?;
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry.with_context(|| folder.display().to_string())?.path();
        remove_leftover(&path)?;
        let Some(step) = replaced_step(&path) else { continue };
        // A checkpoint whose successor never came goes back to its place.
        let place = folder.join(step.to_string());
        match is_taken(&place) {
            true => fs::remove_dir_all(&path),
            false => fs::rename(&path, place),
        }
        .with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// Removes what a killed write left at a path, if it is that.
fn remove_leftover(path: &Path) -> Result<()> {
    if is_leftover(path) {
        // It takes a link away, not what it leads to.
        fs::remove_dir_all(path).with_context(|| path.display().to_string())?;
    }
    Ok(())
}
