//! Writing checkpoints so that a kill at any moment leaves only whole ones.

use super::checksums::{CHECKSUMS_FILE, checksums};
use super::read::{names, steps};
use super::retention::superseded;
use super::{CHECKPOINTS, MODEL_FILE, ModelCard, OPTIMIZER_FILE, STATE_FILE, State, tensors};
use crate::files::{TEMPORARY, sync_folder, write_synced};
use crate::model::Network;
use crate::train::sgd::Sgd;
use anyhow::{Context, Result};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Ends the name of a checkpoint that gives way to a new one of its step.
const ASIDE: &str = "-old";

/// The `checkpoints` folder of a run.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    keep: usize,
}

impl Store {
    /// The store of a run, which keeps the newest `keep` checkpoints and the best one. Leftovers of
    /// a write that was killed are removed.
    ///
    /// # Errors
    /// A folder that cannot be made or read.
    pub fn open(run_dir: &Path, keep: usize) -> Result<Self> {
        let folder = run_dir.join(CHECKPOINTS);
        fs::create_dir_all(&folder).with_context(|| format!("{}", folder.display()))?;
        let store = Self { folder, keep };
        store.remove_leftovers()?;
        Ok(store)
    }

    /// Writes the checkpoint of a step, points `last` and `best` at the right ones, and deletes
    /// those that are superseded.
    ///
    /// # Errors
    /// The file that could not be written; earlier checkpoints are as they were.
    pub fn save(
        &self,
        network: &Network,
        sgd: &Sgd,
        card: &ModelCard,
        state: &State,
    ) -> Result<()> {
        let path = self.folder.join(state.step.to_string());
        let temporary = self.folder.join(format!("{TEMPORARY}{}", state.step));
        self.write(&temporary, network, sgd, card, state)
            .and_then(|()| replace_directory(&temporary, &path))
            .inspect_err(|_| {
                // What a full disk took of it must not stand in the way of the next one.
                let _ = fs::remove_dir_all(&temporary);
            })
            .with_context(|| format!("cannot write the checkpoint {}", path.display()))?;
        sync_folder(&self.folder)?;
        self.link("last", state.step)?;
        let best = state.best.map_or(state.step, |best| best.step);
        self.link("best", best)?;
        // Before anything is deleted, the new names must be on disk.
        sync_folder(&self.folder)?;
        for step in superseded(&steps(&self.folder)?, self.keep, [state.step, best]) {
            let old = self.folder.join(step.to_string());
            fs::remove_dir_all(&old).with_context(|| format!("{}", old.display()))?;
        }
        Ok(())
    }

    fn write(
        &self,
        folder: &Path,
        network: &Network,
        sgd: &Sgd,
        card: &ModelCard,
        state: &State,
    ) -> Result<()> {
        let weights = network.parameters().iter().map(|p| (p.name.as_str(), &p.tensor));
        let model = tensors::to_bytes(weights, card.to_metadata()?)?;
        let momentum = sgd.state();
        let momentum = momentum.iter().map(|(name, tensor)| (name.as_str(), tensor));
        let optimizer = tensors::to_bytes(momentum, HashMap::new())?;
        let state = serde_json::to_string_pretty(state)? + "\n";
        let files: [(&str, &[u8]); 3] =
            [(MODEL_FILE, &model), (OPTIMIZER_FILE, &optimizer), (STATE_FILE, state.as_bytes())];
        fs::create_dir_all(folder)?;
        for (name, bytes) in files {
            write_synced(&folder.join(name), bytes)?;
        }
        write_synced(&folder.join(CHECKSUMS_FILE), checksums(&files).as_bytes())?;
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

    /// Removes what writes that were killed left, and only that. A checkpoint that was on its way aside
    /// for a new one of its step goes back if the new one never came.
    fn remove_leftovers(&self) -> Result<()> {
        for name in names(&self.folder)? {
            let Some(rest) = name.strip_prefix(TEMPORARY) else { continue };
            let path = self.folder.join(&name);
            let old_step = rest.strip_suffix(ASIDE).filter(|step| step.parse::<u64>().is_ok());
            let removed = match old_step.map(|step| self.folder.join(step)) {
                Some(place) if !place.exists() => fs::rename(&path, place),
                _ => fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path)),
            };
            removed.with_context(|| path.display().to_string())?;
        }
        Ok(())
    }
}

/// Renames a directory over another. Where a run was resumed from before a step, the step's old
/// checkpoint gives way to the new one.
fn replace_directory(from: &Path, to: &Path) -> Result<()> {
    let context = || format!("cannot move {} to {}", from.display(), to.display());
    if to.exists() {
        let mut aside = from.as_os_str().to_owned();
        aside.push(ASIDE);
        let aside = PathBuf::from(aside);
        fs::rename(to, &aside).with_context(context)?;
        fs::rename(from, to).with_context(context)?;
        fs::remove_dir_all(&aside).with_context(|| aside.display().to_string())
    } else {
        fs::rename(from, to).with_context(context)
    }
}
