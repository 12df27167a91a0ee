//! A checkpoint is a folder of files. The folder appears only when all files are complete.
//!
//! ```text
//! checkpoints/<step>/model.safetensors      weights and batch-norm statistics, and the network in its metadata
//! checkpoints/<step>/optimizer.safetensors  momentum by parameter name; with an EMA, the weights in training too
//! checkpoints/<step>/state.json             the position and the settings of the run
//! checkpoints/<step>/SHA256SUMS             the checksums of the three files
//! checkpoints/last, checkpoints/best        links to one of the checkpoints
//! checkpoints/<step>.abandoned              a later checkpoint, set aside when the run was resumed from an earlier one
//! ```

pub mod cadence;
mod checksums;
mod contents;
mod find;
mod read;
pub mod retention;
mod tensors;
mod write;

pub use cadence::Cadence;
pub use find::{latest, open, resolve, resume_point, run_of, steps, verify_to_resume};
pub use read::{Checkpoint, read_optimizer, verify};
pub use write::{Store, remove_leftovers};

use crate::model::Spec;
use crate::precision::Precision;
use crate::train::epoch::EpochSums;
use crate::train::run::Position;
use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;
use tensors::Header;

/// The version of the format of these files.
pub const FORMAT: u32 = 1;

/// The folder of a run that holds its checkpoints.
pub const CHECKPOINTS: &str = "checkpoints";

/// The link in it to the checkpoint that was saved last.
pub const LAST: &str = "last";
/// The link in it to the best checkpoint.
pub const BEST: &str = "best";

const MODEL_FILE: &str = "model.safetensors";
const OPTIMIZER_FILE: &str = "optimizer.safetensors";
/// The file of a checkpoint that says where in its run it stands, and holds the settings.
pub const STATE_FILE: &str = "state.json";

/// The description of a network in the metadata of its file of weights, so that the file can be used without other
/// files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelCard {
    /// The [`FORMAT`] of the program that wrote the file.
    pub format: u32,
    /// The network.
    pub spec: Spec,
    /// The name of the data set that the network was trained on.
    pub dataset: String,
    /// Names of its classes, in the order of its logits.
    pub classes: Vec<String>,
    /// For each channel, the number that was subtracted from pixels in [0, 1].
    pub mean: Vec<f32>,
    /// For each channel, the number that the difference was divided by.
    pub std: Vec<f32>,
    /// Images in a batch when the network was evaluated during training.
    pub batch_size: usize,
    /// The floating-point format of training and evaluation.
    #[serde(default)]
    pub precision: Precision,
    /// The training images that were held out. None in files of an older version, which do not have this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out: Option<HeldOut>,
}

/// Training images that are not trained on, but used to choose the best checkpoint. The seed decides which images are
/// held out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldOut {
    /// The number of images.
    pub images: usize,
    /// The run's seed.
    pub seed: u64,
}

/// The key of the card in the file's metadata. It is the only key, because safetensors writes several keys in random
/// order, and equal runs must write equal files.
const CARD_KEY: &str = "resnet";

impl ModelCard {
    fn to_metadata(&self) -> Result<HashMap<String, String>> {
        Ok(HashMap::from([(CARD_KEY.to_owned(), serde_json::to_string(self)?)]))
    }

    fn from_header(header: &Header) -> Result<Self> {
        let Some(card) = header.metadata().and_then(|metadata| metadata.get(CARD_KEY)) else {
            bail!("its metadata has no \"{CARD_KEY}\": it is not a model that resnet wrote");
        };
        let card = serde_json::from_str(card)
            .context("its metadata is damaged")
            .and_then(|card| check_format(&card).map(|()| card))?;
        let card: Self = serde_json::from_value(card).context("its metadata is damaged")?;
        card.check()?;
        // This check comes before the network is planned, because a few bytes could describe a network of any size.
        if card.spec.depth() > header.tensor_count() {
            bail!(
                "it describes a network of {} layers, but holds only {} tensors",
                card.spec.depth(),
                header.tensor_count()
            );
        }
        Ok(card)
    }

    fn check(&self) -> Result<()> {
        // This is not a usage error, because the error is in the file and not in a flag.
        self.spec
            .check()
            .map_err(|error| anyhow!("it describes an impossible network: {error}"))?;
        let channels = self.spec.channels;
        if self.mean.len() != channels || self.std.len() != channels {
            bail!("its mean and std do not have the {channels} channels of its network");
        }
        if self.classes.len() != self.spec.classes {
            bail!(
                "it names {} classes, but its network has {}",
                self.classes.len(),
                self.spec.classes
            );
        }
        if self.batch_size == 0 {
            bail!("its batch size is 0");
        }
        Ok(())
    }
}

/// Refuses a file of another format before its fields are read.
fn check_format(value: &Value) -> Result<()> {
    match value.get("format").and_then(Value::as_u64) {
        Some(format) if format == u64::from(FORMAT) => Ok(()),
        Some(other) => {
            bail!("it is of format {other}; this version of resnet reads format {FORMAT}")
        }
        None => bail!("it names no format, so resnet did not write it"),
    }
}

/// The state of a run in `state.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The [`FORMAT`] of the program that wrote the file.
    pub format: u32,
    /// Optimizer steps that are done.
    pub step: u64,
    /// Epochs that are over.
    pub epoch: u64,
    /// The sums of an epoch that is not over, if the run was saved in the middle of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_epoch: Option<EpochSums>,
    /// The run's seed. All random numbers depend only on it and on the step.
    pub seed: u64,
    /// The best checkpoint so far on the held-out images.
    pub best: Option<Best>,
    /// The versions of the programs that wrote the file.
    pub versions: Versions,
    /// Seconds of the run so far, over all its parts. 0 in files of an older version.
    #[serde(default)]
    pub seconds: f64,
    /// The run's resolved configuration.
    pub config: toml::Table,
    /// The settings in `config` that were derived from other settings, as `section.key`. Empty in files of an older
    /// version.
    #[serde(default)]
    pub derived: Vec<String>,
}

impl State {
    /// The position of the run between two steps.
    pub fn position(&self) -> Position {
        Position { epoch: self.epoch, step: self.step, in_epoch: self.in_epoch }
    }

    /// Checks that the step, the epochs and the steps in the epoch are consistent. `checkpoint` is the folder of the
    /// file.
    ///
    /// # Errors
    /// The numbers contradict each other.
    pub fn check_position(&self, checkpoint: &Path, steps_per_epoch: usize) -> Result<()> {
        let in_epoch = self.in_epoch.map_or(0, |sums| sums.steps);
        let expected = (self.epoch.checked_mul(steps_per_epoch as u64))
            .and_then(|steps| steps.checked_add(in_epoch as u64));
        let name = checkpoint.file_name().and_then(|name| name.to_str());
        if name != Some(&self.step.to_string()) {
            bail!(
                "cannot use {}: it is of step {}, but its folder has another name",
                checkpoint.join(STATE_FILE).display(),
                self.step
            );
        }
        if in_epoch > steps_per_epoch || expected != Some(self.step) {
            bail!(
                "cannot use {}: {} epochs of {steps_per_epoch} steps and {in_epoch} steps are not its {} steps",
                checkpoint.join(STATE_FILE).display(),
                self.epoch,
                self.step
            );
        }
        Ok(())
    }
}

/// The checkpoint with the highest accuracy on the held-out images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// The step of the checkpoint.
    pub step: u64,
    /// Fraction of the held-out images that it classifies correctly.
    pub validation_accuracy: f64,
}

/// Versions of the programs that wrote a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// This program.
    pub resnet: String,
    /// libtorch.
    pub libtorch: String,
}

impl Versions {
    /// The versions of the programs that run now.
    pub fn current() -> Self {
        Self {
            resnet: env!("CARGO_PKG_VERSION").to_owned(),
            libtorch: crate::libtorch::libtorch_version(),
        }
    }
}
