//! `resnet grow`: a new run that begins with a trained network, deepened by blocks that start as the identity.

use super::train::load::model_card;
use crate::checkpoint::{self, STATE_FILE, State};
use crate::cli::GrowArgs;
use crate::config::Config;
use crate::data::dataset::Dataset;
use crate::data::preprocess::Preprocess;
use crate::data::{self, Split};
use crate::error::usage;
use crate::model::grow::{deeper, grow};
use crate::model::{Mode, Network};
use crate::run::{Keeper, RunFolder};
use crate::train::Trainer;
use crate::ui::{Ui, grouped, quoted};
use anyhow::{Result, ensure};
use serde_json::json;
use std::time::Instant;
use tch::{Device, Kind, Tensor};

/// Images whose logits are compared.
const COMPARED: usize = 64;
/// The largest difference of two logits, relative to the largest logit, that rounding explains.
const ROUNDING: f64 = 1e-4;

/// Runs `resnet grow`.
///
/// # Errors
/// A usage error if the network cannot grow to these blocks. The checkpoint or the data cannot be read, or the new run
/// cannot be written.
pub fn run(args: &GrowArgs, ui: &Ui) -> Result<()> {
    let start = Instant::now();
    let path = checkpoint::resolve(&args.checkpoint)?;
    if !path.is_dir() {
        return Err(usage(format!(
            "{}: holds no settings of a run; expected a run's folder, or a checkpoint's folder with {STATE_FILE} in it",
            path.display()
        )));
    }
    let checkpoint = checkpoint::open(&path)?;
    let state = State::read(&path)?;
    let spec = deeper(&checkpoint.card.spec, &args.blocks)?;
    let config = Config::grown(&state.config, &state.derived, &spec)?;
    let (device, seed) = (Device::Cpu, config.recipe.seed);
    let network = checkpoint.network(device)?;
    let grown = grow(&network, &spec, config.init, seed)?;
    let images = data::load(config.dataset, Split::Train, &args.data.source(), ui)?;
    let train = Dataset::new(&images, device);
    let (mean, std) = config.normalisation();
    let preprocess = |kind| Preprocess::new(&mean, &std, spec.size, (kind, device));
    let difference = difference(&network, &grown, &train, &preprocess(Kind::Float))?;
    ensure!(
        difference < ROUNDING,
        "the deeper network gives other logits than {} (by {difference:.1e} of the largest); this is a fault of resnet",
        checkpoint.path.display()
    );
    let folder = RunFolder::begin(args.run_dir.as_deref(), &spec)?;
    let card = model_card(&config, checkpoint.card.precision);
    // With half floats, the state of a run has a loss scale.
    let preprocess = preprocess(checkpoint.card.precision.kind());
    let (train, _) = train.hold_out(config.validation, seed);
    let trainer = Trainer::new(&grown, &train, &preprocess, &config.recipe);
    Keeper::open(&folder, &config, card, None, start, *ui)?.save_start(&trainer)?;
    let run_dir = folder.path();
    if ui.is_json() {
        ui.json(&json!({
            "run_dir": run_dir,
            "from": checkpoint.path,
            "network": spec.to_string(),
            "parameters": grown.parameter_count(),
            "largest_difference": difference,
        }));
        return Ok(());
    }
    ui.out(format!(
        "{} → {spec}, {} → {} parameters\non {COMPARED} training images the logits differ by at most {difference:.1e} of the largest\ntrain it: resnet train --resume {}",
        checkpoint.card.spec,
        grouped(network.parameter_count()),
        grouped(grown.parameter_count()),
        quoted(run_dir),
    ));
    Ok(())
}

/// The largest difference of the networks' logits, as a fraction of the largest logit.
fn difference(
    network: &Network,
    grown: &Network,
    images: &Dataset,
    preprocess: &Preprocess,
) -> Result<f64> {
    let batch = images.range(&(0..COMPARED.min(images.len())))?;
    let inputs = preprocess.apply(&batch);
    let logits = |network: &Network| tch::no_grad(|| network.forward(&inputs, Mode::Evaluate));
    let (before, after): (Tensor, Tensor) = (logits(network), logits(grown));
    Ok(((after - &before).abs().max() / before.abs().max()).double_value(&[]))
}
