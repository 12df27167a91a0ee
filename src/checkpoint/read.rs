//! Finding and reading checkpoints. Names and shapes are compared before a weight is touched.

use super::checksums::{self, CHECKSUMS_FILE};
use super::tensors::TensorFile;
use super::{
    BEST, CHECKPOINTS, LAST, MODEL_FILE, ModelCard, OPTIMIZER_FILE, STATE_FILE, State, check_format,
};
use crate::error::usage;
use crate::model::Network;
use crate::model::parameters::Creation;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use tch::{Device, Tensor};

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
    let checkpoints = path.join(CHECKPOINTS);
    [path.to_owned(), checkpoints.join(BEST), checkpoints.join(LAST)]
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

/// Checks that a checkpoint's files are as they were written.
///
/// # Errors
/// The first that is damaged.
pub fn verify(checkpoint: &Path) -> Result<()> {
    for name in [MODEL_FILE, OPTIMIZER_FILE, STATE_FILE] {
        let file = checkpoint.join(name);
        let bytes = fs::read(&file).with_context(|| file.display().to_string())?;
        checksums::verify(checkpoint, name, &bytes)?;
    }
    Ok(())
}

/// The steps of the checkpoints in a run's `checkpoints` folder.
///
/// # Errors
/// A folder that cannot be read.
pub fn steps(folder: &Path) -> Result<Vec<u64>> {
    Ok(names(folder)?.iter().filter_map(|name| name.parse().ok()).collect())
}

/// What lies in a folder.
pub(super) fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<std::io::Result<_>>()
        .with_context(|| folder.display().to_string())
}

impl Checkpoint {
    /// Reads a file of weights.
    ///
    /// # Errors
    /// A file that is no checkpoint, truncated or of another version.
    pub fn open(path: &Path) -> Result<Self> {
        let read = || -> Result<Self> {
            let bytes = fs::read(path)?;
            // A file of weights that was copied out of its folder goes without.
            if let Some(folder) = path.parent().filter(|f| f.join(CHECKSUMS_FILE).is_file()) {
                checksums::verify(folder, MODEL_FILE, &bytes)?;
            }
            Self::parse(bytes, path)
        };
        read().with_context(|| format!("cannot use {} as a checkpoint", path.display()))
    }

    /// The same, with the bytes of the file, which `path` names in messages.
    ///
    /// # Errors
    /// Bytes that are no checkpoint, truncated or of another version.
    pub fn parse(bytes: Vec<u8>, path: &Path) -> Result<Self> {
        let card = ModelCard::from_metadata(&TensorFile::metadata(&bytes)?)?;
        Ok(Self { path: path.to_owned(), card, bytes })
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
        let read = || -> Result<Self> { Self::parse(&fs::read_to_string(&path)?) };
        read().with_context(|| format!("cannot use {}", path.display()))
    }

    /// The same, with the text of the file.
    ///
    /// # Errors
    /// A text that is damaged or of another version.
    pub fn parse(text: &str) -> Result<Self> {
        let value: serde_json::Value = serde_json::from_str(text)?;
        check_format(&value)?;
        Ok(serde_json::from_value(value)?)
    }
}

/// Reads what a run goes on with besides the network, such as momentum, from a checkpoint's folder into
/// the tensors of `state`.
///
/// # Errors
/// A file that is missing, damaged or of another optimizer.
pub fn read_optimizer(checkpoint: &Path, state: &[(String, Tensor)]) -> Result<()> {
    let path = checkpoint.join(OPTIMIZER_FILE);
    let read = || -> Result<()> {
        let bytes = fs::read(&path)?;
        let file = TensorFile::parse(&bytes)?;
        file.check(state.iter().map(|(name, tensor)| (name.as_str(), tensor.size())))?;
        state.iter().try_for_each(|(name, tensor)| file.copy_into(name, tensor))
    };
    read().with_context(|| format!("cannot use {}", path.display()))
}
