//! What a run computes with: images, network, and the state of a run that continues.

use super::task::Task;
use crate::checkpoint::{self, Checkpoint, HeldOut, ModelCard};
use crate::config::Config;
use crate::data::dataset::Dataset;
use crate::data::{self, Origin, Source, Split};
use crate::model::Network;
use crate::model::parameters::Creation;
use crate::precision::Precision;
use crate::train::Trainer;
use crate::ui::Ui;
use anyhow::{Result, bail};
use tch::Device;

/// The images of a run, on its device.
pub struct RunImages {
    /// Where they come from.
    pub origin: Origin,
    pub train: Dataset,
    /// Training images that are held out, if any.
    pub validation: Option<Dataset>,
    pub test: Dataset,
}

impl RunImages {
    /// Reads the data set of a configuration.
    ///
    /// # Errors
    /// The data set cannot be found, downloaded or verified.
    pub fn load(config: &Config, source: &Source, device: Device, ui: &Ui) -> Result<Self> {
        let origin = data::obtain(config.dataset, &Split::BOTH, source, ui)?;
        let read = |split| -> Result<Dataset> {
            Ok(Dataset::new(&data::read(config.dataset, split, &origin, source)?, device))
        };
        let (train, test) = (read(Split::Train)?, read(Split::Test)?);
        if config.validation == 0 {
            return Ok(Self { origin, train, validation: None, test });
        }
        let (train, validation) = train.hold_out(config.validation, config.recipe.seed);
        Ok(Self { origin, train, validation: Some(validation), test })
    }
}

/// What a checkpoint says about its weights.
pub fn model_card(config: &Config, precision: Precision) -> ModelCard {
    let (mean, std) = config.normalisation();
    ModelCard {
        format: checkpoint::FORMAT,
        spec: config.spec.clone(),
        dataset: config.dataset.name.to_owned(),
        classes: config.dataset.classes.iter().map(|&name| name.to_owned()).collect(),
        mean,
        std,
        batch_size: config.recipe.micro_batch_size(),
        precision,
        held_out: Some(HeldOut { images: config.validation, seed: config.recipe.seed }),
    }
}

/// A network with the initial weights of a configuration.
pub fn new_network(config: &Config, device: Device) -> Network {
    let draw = Creation::Draw {
        init: config.init,
        zero_init_residual: config.zero_init_residual,
        seed: config.recipe.seed,
        device,
    };
    Network::new(&config.spec, draw)
}

/// A new network, or the network of the checkpoint that a run continues from.
///
/// # Errors
/// The checkpoint cannot be read, or holds another network than the run's settings describe.
pub fn network(task: &Task, card: &ModelCard, device: Device) -> Result<Network> {
    let config = &task.config;
    let Some(resumed) = &task.resumed else { return Ok(new_network(config, device)) };
    let checkpoint = Checkpoint::open(&resumed.checkpoint)?;
    let found = &checkpoint.card;
    if (&found.spec, &found.dataset) != (&card.spec, &card.dataset) {
        bail!(
            "{}: holds {} for {}, but the run's state.json describes {} for {}; the two files do not belong to the same checkpoint",
            checkpoint.path.display(),
            found.spec,
            found.dataset,
            card.spec,
            card.dataset
        );
    }
    checkpoint.network(device)
}

/// Loads the saved state of a resumed run into its trainer.
///
/// # Errors
/// The checkpoint's files are damaged, or do not fit each other.
pub fn state(task: &Task, trainer: &mut Trainer) -> Result<()> {
    let Some(resumed) = &task.resumed else { return Ok(()) };
    trainer.load(checkpoint::read_optimizer(&resumed.checkpoint, &trainer.save())?)?;
    resumed.state.check_position(&resumed.checkpoint, trainer.steps_per_epoch())
}
