//! Finding and reading checkpoints. Names and shapes are compared before a weight is touched.

use super::tensors::TensorFile;
use super::{MODEL_FILE, ModelCard, OPTIMIZER_FILE, STATE_FILE, State, check_format};
use crate::error::usage;
use crate::model::Network;
use crate::model::parameters::Creation;
use crate::train::sgd::Sgd;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use tch::Device;

/// A file of weights that was found and whose card was read.
#[derive(Debug)]
pub struct Checkpoint {
    /// The file of weights.
    pub path: PathBuf,
    /// What the weights are of.
    pub card: ModelCard,
    bytes: Vec<u8>,
}

/// The file of weights that `path` stands for: itself, that of a checkpoint's folder, or that of
/// the best checkpoint of a run's folder.
///
/// # Errors
/// A usage error for a path that is none of these.
pub fn resolve(path: &Path) -> Result<PathBuf> {
    if !path.exists() {
        return Err(usage(format!(
            "{}: not found; expected a run's folder, a checkpoint's folder or a model.safetensors",
            path.display()
        )));
    }
    if path.is_file() {
        return Ok(path.to_owned());
    }
    let checkpoints = path.join("checkpoints");
    [path.to_owned(), checkpoints.join("best"), checkpoints.join("last")]
        .iter()
        .map(|folder| folder.join(MODEL_FILE))
        .find(|file| file.is_file())
        .ok_or_else(|| {
            usage(format!(
                "{}: holds no checkpoint; expected checkpoints/best/{MODEL_FILE} or {MODEL_FILE} in it",
                path.display()
            ))
        })
}

/// The folder of a run's last checkpoint.
///
/// # Errors
/// A usage error for a folder that is no run's, or in which no checkpoint was written.
pub fn latest(run_dir: &Path) -> Result<PathBuf> {
    let last = run_dir.join("checkpoints").join("last");
    last.canonicalize().map_err(|_| {
        usage(format!(
            "--resume {}: no checkpoint to go on from; expected {}",
            run_dir.display(),
            last.display()
        ))
    })
}

impl Checkpoint {
    /// Reads a file of weights.
    ///
    /// # Errors
    /// A file that is no checkpoint, truncated or of another version.
    pub fn open(path: &Path) -> Result<Self> {
        let read = || -> Result<Self> {
            let bytes = fs::read(path)?;
            let card = ModelCard::from_metadata(&TensorFile::metadata(&bytes)?)?;
            Ok(Self { path: path.to_owned(), card, bytes })
        };
        read().with_context(|| format!("cannot use {} as a checkpoint", path.display()))
    }

    /// The network with the checkpoint's weights, on `device`.
    ///
    /// # Errors
    /// Tensors that are not exactly the network's.
    pub fn network(&self, device: Device) -> Result<Network> {
        let read = || -> Result<Network> {
            let file = TensorFile::parse(&self.bytes)?;
            // Compared with shapes alone first: a damaged file must not decide how much is allocated.
            let shapes = Network::new(&self.card.spec, Creation::Meta);
            file.check(shapes.parameters().iter().map(|p| (p.name.as_str(), p.tensor.size())))?;
            let network = Network::new(&self.card.spec, Creation::Empty { device });
            for parameter in network.parameters() {
                file.copy_into(&parameter.name, &parameter.tensor)?;
            }
            Ok(network)
        };
        read().with_context(|| format!("cannot load {}", self.path.display()))
    }
}

impl State {
    /// Reads where a run stood from a checkpoint's folder.
    ///
    /// # Errors
    /// A file that is missing, damaged or of another version.
    pub fn read(checkpoint: &Path) -> Result<Self> {
        let path = checkpoint.join(STATE_FILE);
        let read = || -> Result<Self> {
            let text = fs::read_to_string(&path)?;
            let value: serde_json::Value = serde_json::from_str(&text)?;
            check_format(&value)?;
            Ok(serde_json::from_value(value)?)
        };
        read().with_context(|| format!("cannot use {}", path.display()))
    }
}

/// Reads the optimizer's momentum from a checkpoint's folder into `sgd`.
///
/// # Errors
/// A file that is missing, damaged or of another optimizer.
pub fn read_optimizer(checkpoint: &Path, sgd: &Sgd) -> Result<()> {
    let path = checkpoint.join(OPTIMIZER_FILE);
    let read = || -> Result<()> {
        let bytes = fs::read(&path)?;
        let file = TensorFile::parse(&bytes)?;
        let state = sgd.state();
        file.check(state.iter().map(|(name, tensor)| (name.as_str(), tensor.size())))?;
        state.iter().try_for_each(|(name, tensor)| file.copy_into(name, tensor))
    };
    read().with_context(|| format!("cannot use {}", path.display()))
}
