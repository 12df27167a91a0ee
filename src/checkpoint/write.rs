//! Writing checkpoints so that a kill at any moment leaves only whole ones.

use super::checksums::{CHECKSUMS_FILE, checksums};
use super::read::{names, steps};
use super::retention::superseded;
use super::{
    BEST, Best, CHECKPOINTS, LAST, MODEL_FILE, ModelCard, OPTIMIZER_FILE, STATE_FILE, State,
    tensors,
};
use crate::files::{TEMPORARY, numbered, sync_folder, write_synced};
use crate::model::Network;
use anyhow::{Context, Result, anyhow};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use tch::Tensor;

/// Ends the name of a checkpoint that gives way to a new one of its step.
const REPLACED: &str = ".replaced";

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
    /// A folder that cannot be made.
    pub fn open(run_dir: &Path, keep: usize) -> Result<Self> {
        let folder = run_dir.join(CHECKPOINTS);
        fs::create_dir_all(&folder).with_context(|| format!("{}", folder.display()))?;
        Ok(Self { folder, keep })
    }

    /// Whether there is a checkpoint of a step.
    pub fn has(&self, step: u64) -> bool {
        self.folder.join(step.to_string()).is_dir()
    }

    /// Prepares for going on from a step: `last` and `best` name it and the best one so far, and
    /// checkpoints of later steps, which will be trained anew, are set aside. Their new names.
    ///
    /// # Errors
    /// A folder that cannot be written to.
    pub fn go_on_from(&self, step: u64, best: Option<Best>) -> Result<Vec<String>> {
        self.link(LAST, step)?;
        self.link(BEST, best.map_or(step, |best| best.step))?;
        let mut aside = Vec::new();
        let mut later = steps(&self.folder)?;
        later.retain(|&other| other > step);
        later.sort_unstable();
        for step in later {
            let name = format!("{step}.abandoned");
            let mut names = numbered(&name);
            let Some(name) = names.find(|name| !self.folder.join(name).exists()) else { continue };
            let (from, to) = (self.folder.join(step.to_string()), self.folder.join(&name));
            fs::rename(&from, &to).with_context(|| to.display().to_string())?;
            aside.push(name);
        }
        sync_folder(&self.folder)?;
        Ok(aside)
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
        training: &[(String, Tensor)],
        card: &ModelCard,
        state: &State,
    ) -> Result<()> {
        let path = self.folder.join(state.step.to_string());
        let temporary = self.folder.join(format!("{TEMPORARY}{}", state.step));
        self.write(&temporary, network, training, card, state)
            .and_then(|()| replace_directory(&temporary, &path))
            .inspect_err(|_| {
                // What a full disk took of it must not stand in the way of the next one.
                let _ = fs::remove_dir_all(&temporary);
            })
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
            let gone = self.folder.join(format!("{TEMPORARY}{step}-gone"));
            let _ = fs::rename(self.folder.join(step.to_string()), &gone)
                .and_then(|()| fs::remove_dir_all(&gone));
        }
        Ok(())
    }

    fn write(
        &self,
        folder: &Path,
        network: &Network,
        training: &[(String, Tensor)],
        card: &ModelCard,
        state: &State,
    ) -> Result<()> {
        let weights = network.parameters().iter().map(|p| (p.name.as_str(), &p.tensor));
        let model = tensors::to_bytes(weights, card.to_metadata()?)?;
        let training = training.iter().map(|(name, tensor)| (name.as_str(), tensor));
        let optimizer = tensors::to_bytes(training, HashMap::new())?;
        let state = serde_json::to_string_pretty(state)? + "\n";
        let files: [(&str, &[u8]); 3] =
            [(MODEL_FILE, &model), (OPTIMIZER_FILE, &optimizer), (STATE_FILE, state.as_bytes())];
        fs::create_dir_all(folder)?;
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
        let temporary = self.folder.join(format!("{TEMPORARY}{name}"));
        let link = self.folder.join(name);
        let _ = fs::remove_file(&temporary);
        std::os::unix::fs::symlink(step.to_string(), &temporary)
            .and_then(|()| fs::rename(&temporary, &link))
            .with_context(|| format!("{}", link.display()))
    }
}

/// Removes what writes to a run's checkpoints that were killed left, and only that.
///
/// # Errors
/// A folder that cannot be read or written to.
pub fn remove_leftovers(run_dir: &Path) -> Result<()> {
    let folder = run_dir.join(CHECKPOINTS);
    for name in names(&folder)? {
        let path = folder.join(&name);
        // A checkpoint whose successor never came goes back to its place.
        let place = name.strip_suffix(REPLACED).map(|step| folder.join(step));
        let done = match place {
            Some(place) if !place.exists() => fs::rename(&path, place),
            Some(_) => fs::remove_dir_all(&path),
            None if name.starts_with(TEMPORARY) => {
                fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path))
            }
            None => Ok(()),
        };
        done.with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// Renames a directory to `to`. One that is there, such as of a run that goes on from before that step,
/// is exchanged for it at one stroke, so that there is a whole one at every moment.
fn replace_directory(from: &Path, to: &Path) -> Result<()> {
    let replace = || -> std::io::Result<()> {
        if !to.exists() {
            return fs::rename(from, to);
        }
        match renameat_with(CWD, from, CWD, to, RenameFlags::EXCHANGE) {
            Ok(()) => {}
            // Some network file systems cannot: there the old one goes aside, and comes back at the next
            // start if the new one never came.
            Err(error) if CANNOT_EXCHANGE.contains(&error) => {
                let mut aside = to.as_os_str().to_owned();
                aside.push(REPLACED);
                let aside = PathBuf::from(aside);
                fs::rename(to, &aside)?;
                fs::rename(from, to).inspect_err(|_| {
                    let _ = fs::rename(&aside, to);
                })?;
                let _ = fs::remove_dir_all(&aside);
            }
            Err(error) => return Err(error.into()),
        }
        // What cannot be deleted now is deleted at the next start.
        let _ = fs::remove_dir_all(from);
        Ok(())
    };
    replace().with_context(|| format!("cannot move {} to {}", from.display(), to.display()))
}
