//! `resnet train`: a run from its configuration to its last checkpoint.

mod keeper;

use crate::checkpoint::{self, Checkpoint, ModelCard, State, Store};
use crate::cli::TrainArgs;
use crate::config::Config;
use crate::data::batches::{DeviceImages, Preprocess};
use crate::data::{self, Source, Split};
use crate::device;
use crate::error::usage;
use crate::files::write_atomically;
use crate::model::Network;
use crate::model::parameters::Creation;
use crate::report::metrics::MetricsFile;
use crate::train::run::{EndRecord, Held};
use crate::train::{self, Trainer};
use crate::ui::{Ui, grouped};
use anyhow::{Context, Result};
use keeper::Keeper;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;
use tch::Device;

/// What is about to be trained, and from where.
struct Plan {
    config: Config,
    run_dir: PathBuf,
    /// The checkpoint to go on from, and where the run stood there.
    resumed: Option<(PathBuf, State)>,
}

/// Runs `resnet train`.
pub fn run(args: &TrainArgs, ui: &Ui) -> Result<()> {
    let start = Instant::now();
    let plan = plan(args)?;
    let Plan { config, run_dir, resumed } = &plan;
    let device = device::choose(&config.device)?;
    device::set_threads(config.threads);
    let source = args.data.source();
    let (train_images, validation, test_images) = load_images(config, &source, device, ui)?;

    let network = match resumed {
        Some((folder, _)) => Checkpoint::open(&checkpoint::resolve(folder)?)?.network(device)?,
        None => Network::new(&config.spec, draw(config, device)),
    };
    let (mean, std) = config.normalisation();
    let preprocess = Preprocess::new(&mean, &std, config.spec.size, device);
    let mut trainer = Trainer::new(&network, &train_images, &preprocess, &config.recipe);
    if let Some((folder, _)) = resumed {
        checkpoint::read_optimizer(folder, trainer.sgd())?;
    }

    let done = resumed.as_ref().map_or(0, |(_, state)| state.epoch);
    fs::create_dir_all(run_dir)
        .with_context(|| format!("cannot make the run's folder {}", run_dir.display()))?;
    let table = config.to_table()?;
    write_atomically(&run_dir.join("config.toml"), toml::to_string(&table)?.as_bytes())?;
    let mut keeper = Keeper::new(
        Store::open(run_dir, config.keep)?,
        MetricsFile::open(run_dir, done)?,
        config,
        model_card(config),
        table,
        resumed.as_ref().and_then(|(_, state)| state.best),
        *ui,
    );
    introduce(&plan, &network, [&train_images, &test_images], device, ui);
    let held = Held { test: &test_images, validation: validation.as_ref() };
    train::run::run(&mut trainer, &held, done, &mut keeper).with_context(|| {
        format!("the run in {} stopped; its last checkpoint is whole", run_dir.display())
    })?;

    let end = EndRecord {
        event: "end",
        run_dir: run_dir.display().to_string(),
        epochs: config.recipe.epochs,
        test_accuracy: keeper.last_test_accuracy(),
        best_accuracy: keeper.best_accuracy(),
        seconds: start.elapsed().as_secs_f64(),
    };
    keeper.finish(&end)
}

/// Decides everything that can be decided before data is looked for.
fn plan(args: &TrainArgs) -> Result<Plan> {
    if let Some(run_dir) = &args.resume {
        let folder = checkpoint::latest(run_dir)?;
        let state = State::read(&folder)?;
        let config = Config::resume(&state.config, &args.options)?;
        if config.recipe.epochs <= state.epoch {
            return Err(usage(format!(
                "--resume {}: the run has done its {} epochs; give --epochs with a larger number to go on",
                run_dir.display(),
                state.epoch
            )));
        }
        return Ok(Plan { config, run_dir: run_dir.clone(), resumed: Some((folder, state)) });
    }
    let config = Config::load(args.config.as_deref(), &args.options)?;
    let run_dir = args.run_dir.clone().unwrap_or_else(|| {
        let time = jiff::ZonedDateTime::now().strftime("%Y%m%d-%H%M%S");
        PathBuf::from(format!("runs/resnet{}-{time}", config.spec.depth()))
    });
    refuse_used(&run_dir)?;
    Ok(Plan { config, run_dir, resumed: None })
}

/// A run never writes over what is there.
fn refuse_used(run_dir: &Path) -> Result<()> {
    let used = match fs::read_dir(run_dir) {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) => run_dir.exists(),
    };
    if used {
        return Err(usage(format!(
            "--run-dir {0}: is in use; expected a new or empty folder (or --resume {0} to go on with the run in it)",
            run_dir.display()
        )));
    }
    Ok(())
}

/// The images to train on, those held out, and the test images, all on the device.
fn load_images(
    config: &Config,
    source: &Source,
    device: Device,
    ui: &Ui,
) -> Result<(DeviceImages, Option<DeviceImages>, DeviceImages)> {
    let load = |split| -> Result<DeviceImages> {
        Ok(DeviceImages::new(&data::load(config.dataset, split, source, ui)?, device))
    };
    let (train, test) = (load(Split::Train)?, load(Split::Test)?);
    if config.validation == 0 {
        return Ok((train, None, test));
    }
    let (train, validation) = train.hold_out(config.validation, config.recipe.seed);
    Ok((train, Some(validation), test))
}

fn draw(config: &Config, device: Device) -> Creation {
    Creation::Draw {
        init: config.init,
        zero_init_residual: config.zero_init_residual,
        seed: config.recipe.seed,
        device,
    }
}

fn model_card(config: &Config) -> ModelCard {
    let (mean, std) = config.normalisation();
    ModelCard {
        format: checkpoint::FORMAT,
        spec: config.spec.clone(),
        dataset: config.dataset.name.to_owned(),
        classes: config.dataset.classes.iter().map(|&name| name.to_owned()).collect(),
        mean,
        std,
        batch_size: config.recipe.batch_size,
    }
}

/// Says what is being trained on what.
fn introduce(
    plan: &Plan,
    network: &Network,
    [train, test]: [&DeviceImages; 2],
    device: Device,
    ui: &Ui,
) {
    let Plan { config, run_dir, resumed } = plan;
    let recipe = &config.recipe;
    let size = config.spec.size;
    ui.say(format!(
        "{}, {} parameters, on {}",
        config.spec,
        grouped(network.parameter_count()),
        device::describe(device)
    ));
    let held_out = match config.validation {
        0 => String::new(),
        count => format!(", {} held out", grouped(count)),
    };
    ui.say(format!(
        "{}: {} training images{held_out}, {} test images, {}×{size}×{size}",
        config.dataset.title,
        grouped(train.len()),
        grouped(test.len()),
        config.spec.channels,
    ));
    ui.say(format!(
        "{} epochs, batch {}, lr {} ({}), momentum {}, weight decay {}, seed {}",
        recipe.epochs,
        recipe.batch_size,
        recipe.lr,
        crate::model::spec::value_name(recipe.shape),
        recipe.sgd.momentum,
        recipe.sgd.weight_decay,
        recipe.seed,
    ));
    match resumed {
        Some((_, state)) => {
            ui.say(format!("in {}, after epoch {}", run_dir.display(), state.epoch))
        }
        None => ui.say(format!("in {}", run_dir.display())),
    }
}
