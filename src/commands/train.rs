//! `resnet train`: a run from its configuration to its last checkpoint.

mod display;
mod folder;
mod keeper;
mod stop;

use crate::checkpoint::{self, Checkpoint, HeldOut, ModelCard, State};
use crate::cli::TrainArgs;
use crate::config::Config;
use crate::data::batches::{DeviceImages, Preprocess};
use crate::data::{self, Source, Split};
use crate::device;
use crate::error::{Interrupted, usage};
use crate::libtorch;
use crate::limits;
use crate::model::Network;
use crate::model::parameters::Creation;
use crate::model::spec::value_name;
use crate::precision::{Precision, PrecisionChoice};
use crate::report::metrics::has_end;
use crate::train::divergence::REMEDY;
use crate::train::run::{EndRecord, EvalSets, Outcome, Position};
use crate::train::{self, Trainer, memory};
use crate::ui::{Ui, comma_lines, counted, grouped, quoted, rounded};
use anyhow::{Context, Result, bail};
use folder::RunFolder;
use keeper::Keeper;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Instant;
use stop::{Reason, Stop};
use tch::Device;

/// What is about to be trained, and from where.
struct Plan {
    config: Config,
    folder: RunFolder,
    resumed: Option<Resumed>,
}

/// What a run goes on from.
struct Resumed {
    checkpoint: PathBuf,
    state: State,
    /// Settings that differ from now on.
    changes: toml::Table,
}

/// Runs `resnet train`.
pub fn run(args: &TrainArgs, ui: &Ui) -> Result<()> {
    let start = Instant::now();
    let mut plan = plan(args)?;
    let device = device::choose(&plan.config.device)?;
    if plan.resumed.is_some() && plan.config.precision == PrecisionChoice::Tf32 && !device.is_cuda()
    {
        ui.warn("--precision tf32: this device has none, and goes on with fp32");
        plan.config.precision = PrecisionChoice::Fp32;
    }
    let precision = plan.config.settle_precision(device)?;
    precision.apply();
    if device.is_cuda() {
        libtorch::set_deterministic(plan.config.deterministic);
    }
    let Plan { config, folder, resumed } = &plan;
    let run_dir = folder.path();
    device::set_threads(config.threads);
    check_memory(&plan, precision, device, ui)?;
    precision.slow_warning(device).iter().for_each(|warning| ui.warn(warning));
    let source = args.data.source();
    let images = RunImages::load(config, &source, device, ui)?;

    let network = match resumed {
        Some(resumed) => resumed_network(&resumed.checkpoint, config, precision, device)?,
        None => Network::new(&config.spec, draw(config, device)),
    };
    let (mean, std) = config.normalisation();
    let preprocess = Preprocess::new(&mean, &std, config.spec.size, (precision.kind(), device));
    let mut trainer = Trainer::new(&network, &images.train, &preprocess, &config.recipe);
    if let Some(resumed) = resumed {
        checkpoint::read_optimizer(&resumed.checkpoint, &trainer.state())?;
        resumed.state.check_position(&resumed.checkpoint, trainer.steps_per_epoch())?;
    }

    let stop = Stop::listen(start, args.time_limit, *ui)?;
    let state = resumed.as_ref().map(|resumed| &resumed.state);
    let card = model_card(config, precision);
    let mut keeper = Keeper::open(folder, config, card, state, &stop, start, *ui)?;
    introduce(&plan, &network, &images, device, ui);
    if let Some(Resumed { changes, .. }) = resumed
        && !changes.is_empty()
    {
        keeper.resumed_with(changes, &trainer);
    }
    let sets = EvalSets { test: &images.test, validation: images.validation.as_ref() };
    let from = keeper.position();
    let outcome = train::run::run(&mut trainer, &sets, &from, &mut keeper);
    keeper.clear();
    let outcome = outcome.with_context(|| {
        let run_dir = run_dir.display();
        match checkpoint::latest(folder.path()) {
            Ok(last) => {
                format!("the run in {run_dir} stopped, with {} intact", last.display())
            }
            Err(_) => format!(
                "the run in {run_dir} stopped before its first checkpoint (delete the folder, or begin in another)"
            ),
        }
    })?;
    match outcome {
        Outcome::Done => {
            let mut end = EndRecord {
                event: "end",
                run_dir: run_dir.display().to_string(),
                epochs: config.recipe.epochs,
                test_accuracy: keeper.last_test_accuracy(),
                test_images: keeper.limited_test_images(),
                best_accuracy: None,
                best_test_accuracy: None,
                diverged: keeper.explosion().is_some(),
                seconds: keeper.seconds(),
            };
            keeper.ensure_saved(&trainer, Some(&mut end))?;
            keeper.show_end(&end);
            match keeper.explosion() {
                None => Ok(()),
                Some(explosion) => {
                    bail!("the run has diverged: after its last epoch {explosion}; {REMEDY}")
                }
            }
        }
        Outcome::Stopped => {
            keeper.ensure_saved(&trainer, None)?;
            let reason = stop.reason();
            if ui.is_json() {
                let Position { epoch, step, .. } = keeper.position();
                let run_dir = run_dir.display().to_string();
                ui.json(
                    &json!({"event": "stop", "run_dir": run_dir, "epoch": epoch, "step": step}),
                );
            }
            let step = keeper.position().step;
            stop.wait_for_answer();
            ui.say(format!(
                "stopped at step {}, and saved; go on with: resnet train --resume {}",
                step,
                quoted(run_dir)
            ));
            match reason {
                Some(Reason::Signal) => Err(Interrupted.into()),
                _ => Ok(()),
            }
        }
    }
}

/// Refuses a run that would get the process killed for want of memory. One that goes on may not change
/// its batch, and did fit once: that is only warned of.
fn check_memory(plan: &Plan, precision: Precision, device: Device, ui: &Ui) -> Result<()> {
    let Config { spec, recipe, .. } = &plan.config;
    let free = limits::free_memory().filter(|_| device == Device::Cpu);
    match free.and_then(|free| memory::run_shortage(spec, recipe, precision, free)) {
        Some(shortage) if plan.resumed.is_none() => Err(usage(shortage)),
        Some(shortage) => {
            ui.warn(shortage);
            Ok(())
        }
        None => Ok(()),
    }
}

/// Decides everything that can be decided before data is looked for.
fn plan(args: &TrainArgs) -> Result<Plan> {
    if let Some(path) = &args.resume {
        let run_dir = checkpoint::run_of(path)?;
        let folder = RunFolder::reopen(&run_dir)?;
        checkpoint::remove_leftovers(&run_dir)?;
        let checkpoint = checkpoint::resume_point(path, &run_dir)?;
        checkpoint::verify_to_resume(&checkpoint)?;
        let state = State::read(&checkpoint)?;
        let (config, changes) = Config::resume(&state.config, &state.derived, &args.options)?;
        // A run that was killed after its last checkpoint and before its last line gets that line.
        let only_lacks_its_end = changes.is_empty() && !has_end(&run_dir)?;
        if config.recipe.epochs < state.epoch + u64::from(state.in_epoch.is_some())
            || config.recipe.epochs == state.epoch && !only_lacks_its_end
        {
            return Err(usage(format!(
                "--resume {}: the run has done {} of {}; give --epochs with a larger number to go on",
                run_dir.display(),
                state.epoch,
                counted(config.recipe.epochs, "epoch")
            )));
        }
        return Ok(Plan { config, folder, resumed: Some(Resumed { checkpoint, state, changes }) });
    }
    let config = Config::load(args.config.as_deref(), &args.options)?;
    let folder = match &args.run_dir {
        Some(path) => RunFolder::create(path)?,
        None => RunFolder::create_dated(&format!("resnet{}", config.spec.depth()))?,
    };
    Ok(Plan { config, folder, resumed: None })
}

/// The network of a run that goes on, which must be the one that its settings describe.
fn resumed_network(
    from: &Path,
    config: &Config,
    precision: Precision,
    device: Device,
) -> Result<Network> {
    let checkpoint = Checkpoint::open(from)?;
    let (found, expected) = (&checkpoint.card, model_card(config, precision));
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

/// The images of a run, on its device.
struct RunImages {
    /// The folder that they were read from.
    folder: PathBuf,
    train: DeviceImages,
    /// Those of the training images that are held out, if any.
    validation: Option<DeviceImages>,
    test: DeviceImages,
}

impl RunImages {
    fn load(config: &Config, source: &Source, device: Device, ui: &Ui) -> Result<Self> {
        let folder = data::obtain(config.dataset, &Split::BOTH, source, ui)?;
        let read = |split| -> Result<DeviceImages> {
            Ok(DeviceImages::new(&data::read(config.dataset, split, &folder, source)?, device))
        };
        let (train, test) = (read(Split::Train)?, read(Split::Test)?);
        if config.validation == 0 {
            return Ok(Self { folder, train, validation: None, test });
        }
        let (train, validation) = train.hold_out(config.validation, config.recipe.seed);
        Ok(Self { folder, train, validation: Some(validation), test })
    }
}

fn draw(config: &Config, device: Device) -> Creation {
    Creation::Draw {
        init: config.init,
        zero_init_residual: config.zero_init_residual,
        seed: config.recipe.seed,
        device,
    }
}

fn model_card(config: &Config, precision: Precision) -> ModelCard {
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

/// Says what is being trained on what.
fn introduce(plan: &Plan, network: &Network, images: &RunImages, device: Device, ui: &Ui) {
    let Plan { config, folder, resumed } = plan;
    let run_dir = folder.path();
    let size = config.spec.size;
    let network = [
        config.spec.to_string(),
        format!("{} parameters", grouped(network.parameter_count())),
        value_name(config.precision) + if config.precision_is_auto() { " (auto)" } else { "" },
        format!("on {}", device::describe(device)),
    ];
    comma_lines(&network).iter().for_each(|line| ui.say(line));
    let held_out = match config.validation {
        0 => String::new(),
        count => format!(", {} held out", grouped(count)),
    };
    ui.say(format!("{} in {}:", config.dataset.title, images.folder.display()));
    ui.say(format!(
        "{} training images{held_out}, {} test images, {}×{size}×{size}",
        grouped(images.train.len()),
        grouped(images.test.len()),
        config.spec.channels,
    ));
    comma_lines(&told(config)).iter().for_each(|line| ui.say(line));
    let Some(Resumed { state, changes, .. }) = resumed else {
        ui.say(format!("in {}", run_dir.display()));
        return;
    };
    ui.say(format!("in {}, after step {} (epoch {})", run_dir.display(), state.step, state.epoch));
    for (name, values) in changes {
        let values = values.as_array().map(Vec::as_slice).unwrap_or_default();
        if let ([.., key], [old, new]) = (&name.split('.').collect::<Vec<_>>()[..], values) {
            ui.warn(format!("--{key} changes from {old} to {new} from here on"));
        }
    }
}

/// How the network is trained, in parts for people.
fn told(config: &Config) -> Vec<String> {
    let recipe = &config.recipe;
    let momentum = if recipe.sgd.nesterov { "Nesterov momentum" } else { "momentum" };
    let mut parts = vec![
        counted(recipe.epochs, "epoch"),
        format!("batch {}", recipe.batch_size),
        format!("lr {} ({})", recipe.lr, value_name(recipe.schedule_kind)),
    ];
    match recipe.warmup_epochs {
        0.0 => {}
        1.0 => parts.push("warm-up 1 epoch".to_owned()),
        epochs => parts.push(format!("warm-up {} epochs", rounded(epochs))),
    }
    parts.extend([
        format!("{momentum} {}", recipe.sgd.momentum),
        format!("weight decay {}", recipe.sgd.weight_decay),
        format!("label smoothing {}", recipe.label_smoothing),
        format!("augmentation {}", value_name(recipe.augment)),
    ]);
    parts.extend(recipe.clip_grad_norm.map(|norm| format!("gradients clipped to {norm}")));
    parts.extend(recipe.ema_decay.map(|decay| format!("average {decay}")));
    parts.push(format!("seed {}", recipe.seed));
    parts
}
