//! Reads checkpoints. Names and shapes are checked before a weight is read.

use super::checksums::{self, CHECKSUMS_FILE};
use super::tensors::{Header, TensorFile};
use super::{MODEL_FILE, ModelCard, OPTIMIZER_FILE, STATE_FILE, State, check_format};
use crate::files;
use crate::model::parameters::Creation;
use crate::model::{Network, Plan};
use crate::train::state::NamedTensors;
use anyhow::{Context, Result};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use tch::Device;

/// A file of weights that was read and checked.
#[derive(Debug)]
pub struct Checkpoint {
    /// The file of weights.
    pub path: PathBuf,
    /// The description of the weights in the file.
    pub card: ModelCard,
    bytes: Vec<u8>,
}

/// Checks that the files of a checkpoint are undamaged.
///
/// # Errors
/// A file is damaged. The message names the first one.
pub fn verify(checkpoint: &Path) -> Result<()> {
    let check = |name: &str, read: &dyn Fn(&Path) -> Result<Vec<u8>>| -> Result<()> {
        let path = checkpoint.join(name);
        let bytes = read(&path).with_context(|| path.display().to_string())?;
        checksums::verify(checkpoint, name, &bytes)
    };
    check(MODEL_FILE, &|path| Ok(read_model(path)?.1))?;
    // For each weight, this file holds at most a momentum and, with an EMA, the weight in training.
    let most = 3 * fs::metadata(checkpoint.join(MODEL_FILE))?.len();
    check(OPTIMIZER_FILE, &|path| Ok(files::read(path, most)?))?;
    check(STATE_FILE, &|path| Ok(files::read(path, LARGEST_STATE)?))
}

/// The largest `state.json`, in bytes: about a hundred times the usual size.
const LARGEST_STATE: u64 = 1 << 20;

/// Reads a file of weights: its card and all its bytes. Checks that the file has exactly the tensors of the network
/// that the card describes.
fn read_model(path: &Path) -> Result<(ModelCard, Vec<u8>)> {
    let (mut file, length) = files::open(path)?;
    parse_model(&mut file, length)
}

fn parse_model(file: &mut impl Read, length: u64) -> Result<(ModelCard, Vec<u8>)> {
    let header = Header::read(file, length)?;
    let card = ModelCard::from_header(&header)?;
    // The header is compared with the plan first, because a damaged file must not decide how much memory is allocated.
    let tensors = Plan::new(&card.spec).tensors();
    header.check(tensors.iter().map(|tensor| (tensor.name.as_str(), tensor.shape.clone())))?;
    Ok((card, header.read_rest(file)?))
}

impl Checkpoint {
    /// Reads the weights of a checkpoint's folder, or a file of weights. In a checkpoint's folder, the weights must
    /// have their checksum. A single file of weights may have been copied elsewhere, so it is checked only if there are
    /// checksums in its folder.
    ///
    /// # Errors
    /// The file is not a checkpoint, is damaged, or has another format.
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

    /// Parses the bytes of a file of weights. Error messages call the file `path`.
    ///
    /// # Errors
    /// The bytes are not a checkpoint, are incomplete, or have another format.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self> {
        let (card, bytes) = parse_model(&mut &bytes[..], bytes.len() as u64)?;
        Ok(Self { path: path.to_owned(), card, bytes })
    }

    /// The network with the checkpoint's weights, on `device`.
    ///
    /// # Errors
    /// An operation of libtorch failed.
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
    /// Reads the state of a run from a checkpoint's folder.
    ///
    /// # Errors
    /// The file is missing, is damaged, or has another format.
    pub fn read(checkpoint: &Path) -> Result<Self> {
        let path = checkpoint.join(STATE_FILE);
        let read = || -> Result<Self> { Self::parse(&files::read_text(&path, LARGEST_STATE)?) };
        read().with_context(|| format!("cannot use {}", path.display()))
    }

    /// Parses the text of the file.
    ///
    /// # Errors
    /// The text is damaged or has another format.
    pub fn parse(text: &str) -> Result<Self> {
        let value: serde_json::Value = serde_json::from_str(text)?;
        check_format(&value)?;
        Ok(serde_json::from_value(value)?)
    }
}

/// Reads the state of a run besides its network, such as the momentum, from a checkpoint's folder. `expected` has the
/// names and shapes of the tensors that the run needs.
///
/// # Errors
/// The file is missing, damaged, or holds other tensors.
pub fn read_optimizer(checkpoint: &Path, expected: &NamedTensors) -> Result<NamedTensors> {
    let path = checkpoint.join(OPTIMIZER_FILE);
    let read = || -> Result<NamedTensors> {
        let (mut file, length) = files::open(&path)?;
        let header = Header::read(&mut file, length)?;
        header.check(expected.iter().map(|(name, tensor)| (name, tensor.size())))?;
        let bytes = header.read_rest(&mut file)?;
        let file = TensorFile::parse(&bytes)?;
        let mut state = NamedTensors::default();
        for (name, tensor) in expected.iter() {
            state.insert(name, &file.tensor(name, &tensor.size())?);
        }
        Ok(state)
    };
    read().with_context(|| format!("cannot use {}", path.display()))
}
