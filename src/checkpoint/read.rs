//! Reading checkpoints. Names and shapes are compared before a weight is touched.

use super::checksums::{self, CHECKSUMS_FILE};
use super::tensors::{Header, TensorFile};
use super::{MODEL_FILE, ModelCard, OPTIMIZER_FILE, STATE_FILE, State, check_format};
use crate::files;
use crate::model::parameters::Creation;
use crate::model::{Network, Plan};
use anyhow::{Context, Result};
use std::fs;
use std::io::Read;
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

/// Checks that a checkpoint's files are as they were written.
///
/// # Errors
/// The first that is damaged.
pub fn verify(checkpoint: &Path) -> Result<()> {
    let check = |name: &str, read: &dyn Fn(&Path) -> Result<Vec<u8>>| -> Result<()> {
        let path = checkpoint.join(name);
        let bytes = read(&path).with_context(|| path.display().to_string())?;
        checksums::verify(checkpoint, name, &bytes)
    };
    check(MODEL_FILE, &|path| Ok(read_model(path)?.1))?;
    // Each weight has at most a momentum and, beside an average, its own value.
    let most = 3 * fs::metadata(checkpoint.join(MODEL_FILE))?.len();
    check(OPTIMIZER_FILE, &|path| Ok(files::read(path, most)?))?;
    check(STATE_FILE, &|path| Ok(files::read(path, LARGEST_STATE)?))
}

/// The largest `state.json`, in bytes: some hundred times the usual.
const LARGEST_STATE: u64 = 1 << 20;

/// Reads a file of weights: its card, and all its bytes, which are those of the card's network.
fn read_model(path: &Path) -> Result<(ModelCard, Vec<u8>)> {
    let (mut file, length) = files::open(path)?;
    parse_model(&mut file, length)
}

fn parse_model(file: &mut impl Read, length: u64) -> Result<(ModelCard, Vec<u8>)> {
    let header = Header::read(file, length)?;
    let card = ModelCard::from_header(&header)?;
    // Compared with the plan first: a damaged file must not decide how much is allocated.
    let tensors = Plan::new(&card.spec).tensors();
    header.check(tensors.iter().map(|tensor| (tensor.name.as_str(), tensor.shape.clone())))?;
    Ok((card, header.read_rest(file)?))
}

impl Checkpoint {
    /// Reads the weights of a checkpoint's folder, and compares them with their checksum; or a file of
    /// weights that was named itself, which may have been copied out of its folder: that has to be as its
    /// checksum says only where there are checksums beside it.
    ///
    /// # Errors
    /// A file that is no checkpoint, damaged or of another version.
    pub fn open(path: &Path) -> Result<Self> {
        let folder = path.is_dir();
        let file = if folder { path.join(MODEL_FILE) } else { path.to_owned() };
        let read = || -> Result<Self> {
            let (card, bytes) = read_model(&file)?;
            let beside = file.parent().unwrap_or(Path::new(""));
            if folder || files::is_taken(&beside.join(CHECKSUMS_FILE)) {
                let name = file.file_name().unwrap_or_default().to_string_lossy();
                checksums::verify(beside, &name, &bytes)?;
            }
            Ok(Self { path: file.clone(), card, bytes })
        };
        read().with_context(|| format!("cannot use {} as a checkpoint", file.display()))
    }

    /// The same, with the bytes of the file, which `path` names in messages.
    ///
    /// # Errors
    /// Bytes that are no checkpoint, truncated or of another version.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self> {
        let (card, bytes) = parse_model(&mut &bytes[..], bytes.len() as u64)?;
        Ok(Self { path: path.to_owned(), card, bytes })
    }

    /// The network with the checkpoint's weights, on `device`.
    ///
    /// # Errors
    /// What libtorch could not do.
    pub fn network(&self, device: Device) -> Result<Network> {
        let read = || -> Result<Network> {
            let file = TensorFile::parse(&self.bytes)?;
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
        let read = || -> Result<Self> { Self::parse(&files::read_text(&path, LARGEST_STATE)?) };
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
        let (mut file, length) = files::open(&path)?;
        let header = Header::read(&mut file, length)?;
        header.check(state.iter().map(|(name, tensor)| (name.as_str(), tensor.size())))?;
        let bytes = header.read_rest(&mut file)?;
        let file = TensorFile::parse(&bytes)?;
        state.iter().try_for_each(|(name, tensor)| file.copy_into(name, tensor))
    };
    read().with_context(|| format!("cannot use {}", path.display()))
}
