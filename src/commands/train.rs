//! `resnet train`: a run from its configuration to its last checkpoint.

mod folder;
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
use crate::train::run::{EndRecord, EvalSets};
use crate::train::{self, Trainer};
use crate::ui::{Ui, grouped};
use anyhow::{Context, Result, bail};
use folder::{CONFIG_FILE, RunFolder};
use keeper::Keeper;
use std::path::{Path, PathBuf};
use std::time::Instant;
use tch::Device;

/// What is about to be trained, and from where.
struct Plan {
    config: Config,
    folder: RunFolder,
    /// The checkpoint to go on from, and where the run stood there.
    resumed: Option<(PathBuf, State)>,
}

/// Runs `resnet train`.
pub fn run(args: &TrainArgs, ui: &Ui) -> Result<()> {
    let start = Instant::now();
    let plan = plan(args)?;
    let Plan { config, folder, resumed } = &plan;
    let run_dir = folder.path();
    let device = device::choose(&config.device)?;
    device::set_threads(config.threads);
    let source = args.data.source();
    let (train_images, validation, test_images) = load_images(config, &source, device, ui)?;

    let network = match resumed {
        Some((from, _)) => resumed_network(from, config, device)?,
        None => Network::new(&config.spec, draw(config, device)),
    };
    let (mean, std) = config.normalisation();
    let preprocess = Preprocess::new(&mean, &std, config.spec.size, device);
    let mut trainer = Trainer::new(&network, &train_images, &preprocess, &config.recipe);
    if let Some((from, _)) = resumed {
        checkpoint::read_optimizer(from, trainer.sgd())?;
    }

    let done = resumed.as_ref().map_or(0, |(_, state)| state.epoch);
    let table = config.to_table()?;
    write_atomically(&run_dir.join(CONFIG_FILE), toml::to_string(&table)?.as_bytes())?;
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
    let sets = EvalSets { test: &test_images, validation: validation.as_ref() };
    train::run::run(&mut trainer, &sets, done, &mut keeper).with_context(|| {
        let kept = match checkpoint::latest(run_dir) {
            Ok(last) => format!("its last checkpoint, {}, is whole", last.display()),
            Err(_) => "before its first checkpoint".to_owned(),
        };
        format!("the run in {} stopped; {kept}", run_dir.display())
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
        // What is no run's folder is refused before a lock is put into it.
        checkpoint::latest(run_dir)?;
        let folder = RunFolder::reopen(run_dir)?;
        let from = checkpoint::latest(run_dir)?;
        let state = State::read(&from)?;
        let config = Config::resume(&state.config, &args.options)?;
        if config.recipe.epochs <= state.epoch {
            return Err(usage(format!(
                "--resume {}: the run has done its {} epochs; give --epochs with a larger number to go on",
                run_dir.display(),
                state.epoch
            )));
        }
        return Ok(Plan { config, folder, resumed: Some((from, state)) });
    }
    let config = Config::load(args.config.as_deref(), &args.options)?;
    let folder = match &args.run_dir {
        Some(path) => RunFolder::create(path)?,
        None => RunFolder::create_dated(&format!("resnet{}", config.spec.depth()))?,
    };
    Ok(Plan { config, folder, resumed: None })
}

/// The network of a run that goes on, which must be the one that its settings describe.
fn resumed_network(from: &Path, config: &Config, device: Device) -> Result<Network> {
    let checkpoint = Checkpoint::open(&checkpoint::resolve(from)?)?;
    let (found, expected) = (&checkpoint.card, model_card(config));
    if (&found.spec, &found.dataset) != (&expected.spec, &expected.dataset) {
        bail!(
            "{}: holds {} for {}, and the run's state.json describes {} for {}; the two files are not of one checkpoint",
            checkpoint.path.display(),
            found.spec,
            found.dataset,
            expected.spec,
            expected.dataset
        );
    }
    checkpoint.network(device)
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
    let Plan { config, folder, resumed } = plan;
    let run_dir = folder.path();
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
        crate::model::spec::value_name(recipe.schedule_kind),
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
