//! File, flags and defaults become one validated [`Config`]; nothing after it checks a value again.

mod derived;

use crate::checkpoint::Cadence;
use crate::cli::{NetworkOptions, Options, TrainOptions};
use crate::data::augment::Augment;
use crate::data::catalog::{self, DatasetInfo};
use crate::device;
use crate::error::{above_zero, at_least_one, in_plain_words, in_range, usage};
use crate::files;
use crate::model::spec::{Choices, Init, Spec, value_name};
use crate::precision::{Precision, PrecisionChoice};
use crate::train::Recipe;
use crate::train::recipe::SgdOptions;
use crate::train::schedule::ScheduleKind;
use anyhow::{Context, Result};
use std::path::Path;
use tch::Device;
use toml::{Table, Value};

/// A run, decided in full.
#[derive(Debug, Clone)]
pub struct Config {
    /// The network.
    pub spec: Spec,
    /// How its weights are drawn.
    pub init: Init,
    /// Whether each block starts as the identity.
    pub zero_init_residual: bool,
    /// The data set.
    pub dataset: &'static DatasetInfo,
    /// Whether pixels are normalised with the data set's mean and standard deviation.
    pub normalize: bool,
    /// Training images that are held out.
    pub validation: usize,
    /// How the network is trained.
    pub recipe: Recipe,
    /// The floating-point format that it is trained in, before a device is chosen.
    pub precision: PrecisionChoice,
    /// `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
    pub device: String,
    /// CPU threads, where the user chose.
    pub threads: Option<usize>,
    /// Whether a CUDA device has to give the same bits each time.
    pub deterministic: bool,
    /// How often a checkpoint is saved.
    pub checkpoint_every: Cadence,
    /// Checkpoints to keep besides the best.
    pub keep: usize,
    /// The same as options, every default filled in.
    options: Options,
    /// Those of them that follow from others, since nobody chose them: `section.key`.
    derived: Vec<String>,
}

/// The size that images are resized to where the user does not choose, as in the chapter.
const DEFAULT_SIZE: usize = 96;

/// The largest file of settings, in bytes: some thousand times the usual.
const LARGEST_FILE: u64 = 1 << 20;

// Beyond any use; it keeps steps in 64 bits.
const MAX_EPOCHS: u64 = 1_000_000;

/// Keys that a resumed run may change: they decide where, how long and how fast it goes on, not what the
/// steps that are done have computed.
const CHANGEABLE: [&str; 10] = [
    "train.epochs",
    "train.lr",
    "train.eval-every",
    "run.device",
    "run.threads",
    "run.deterministic",
    "run.checkpoint-every",
    "run.keep",
    "run.recompute",
    "run.cuda-graphs",
];

impl Config {
    /// Reads the file, lays the flags over it, fills in the defaults and checks the whole.
    ///
    /// # Errors
    /// A usage error that names the flag or the file's key, the value and what is possible.
    pub fn load(file: Option<&Path>, flags: &Options) -> Result<Self> {
        let Some(path) = file else {
            let config = Self::resolve(flags.clone())?;
            check_step_flags(&flags.train, config.recipe.schedule_kind)?;
            return Ok(config);
        };
        let text = files::read_text(path, LARGEST_FILE).map_err(|error| {
            usage(format!("--config {}: {error}; expected a TOML file", path.display()))
        })?;
        Self::parse(&text, path, flags)
    }

    /// The same, with the text of the file, which `path` names in messages.
    ///
    /// # Errors
    /// As for [`Config::load`].
    pub fn parse(text: &str, path: &Path, flags: &Options) -> Result<Self> {
        let wrong = |error: toml::de::Error| {
            let text = in_plain_words(&error.to_string());
            usage(format!("--config {}: {}", path.display(), text.trim_end()))
        };
        // Keys, types and numbers of more than 63 bits are refused here, where the line is known.
        let _: Table = toml::from_str(text).map_err(wrong)?;
        let options: Options = toml::from_str(text).map_err(wrong)?;
        let mut base = to_table(&options)?;
        // One flag that names a network beats all the keys of the file that do so together.
        let names_a_network = flags.network.depth.is_some() || flags.network.blocks.is_some();
        if names_a_network && let Some(Value::Table(network)) = base.get_mut("network") {
            network.retain(|key, _| !matches!(key, "depth" | "blocks" | "block"));
        }
        let above = to_table(flags)?;
        let settings = overlay(base.clone(), above.clone()).try_into().map_err(invalid)?;
        let config = Self::resolve(settings).map_err(|error| blame(error, path, &base, &above))?;
        check_step_flags(&flags.train, config.recipe.schedule_kind)?;
        Ok(config)
    }

    /// The configuration of a run that goes on: the one it was saved with, and flags that may change.
    /// Those of its settings that were `derived` from one that changes are derived anew. With it, the
    /// settings that do change: `section.key` → [the run's value, the new one].
    ///
    /// # Errors
    /// A usage error that names the flag with the run's value and the new one.
    pub fn resume(saved: &Table, derived: &[String], flags: &Options) -> Result<(Self, Table)> {
        let mut changes = Table::new();
        let flags = to_table(flags)?;
        for (section, keys) in &flags {
            for (key, new) in keys.as_table().into_iter().flatten() {
                let old = saved.get(section).and_then(|keys| keys.get(key));
                if old == Some(new) {
                    continue;
                }
                let found = old.map_or_else(|| "none".to_owned(), Value::to_string);
                let old = old.cloned().unwrap_or_else(|| "unset".into());
                let name = format!("{section}.{key}");
                if !CHANGEABLE.contains(&name.as_str()) {
                    return Err(usage(format!(
                        "--{key} {new}: the run to resume has {found}, and a change would make it another run; drop the flag, or start a new run"
                    )));
                }
                changes.insert(name, Value::Array(vec![old, new.clone()]));
            }
        }
        let mut merged = overlay(saved.clone(), flags);
        // Runs from before there was a choice.
        if let Some(Value::Table(train)) = merged.get_mut("train") {
            train.entry("precision").or_insert_with(|| "fp32".into());
        }
        derived::forget(&mut merged, derived, &changes);
        let mut config = Self::resolve(merged.try_into().map_err(invalid)?)?;
        config.derived = derived.to_vec();
        let resolved = config.to_table()?;
        for name in derived {
            if let (Some(old), Some(new)) =
                (derived::value(saved, name), derived::value(&resolved, name))
                && old != new
            {
                changes.insert(name.clone(), Value::Array(vec![old.clone(), new.clone()]));
            }
        }
        Ok((config, changes))
    }

    fn resolve(mut options: Options) -> Result<Self> {
        // That the machine is to decide is as good as no choice.
        options.train.precision = options.train.precision.filter(|&p| p != PrecisionChoice::Auto);
        let chosen = to_table(&options)?;
        let dataset_name = options.data.dataset.get_or_insert_with(|| "fashion-mnist".to_owned());
        let dataset =
            catalog::find(dataset_name).map_err(|error| usage(format!("--dataset {error}")))?;
        let spec = resolve_network(&mut options.network, Some(dataset))?;
        let data = &mut options.data;
        let default_augment = if dataset.mirror_safe { Augment::FlipCrop } else { Augment::None };
        let augment = *data.augment.get_or_insert(default_augment);
        let normalize = *data.normalize.get_or_insert(true);
        let validation = *data.validation.get_or_insert(0);
        if validation + 2 > dataset.train_images {
            return Err(usage(format!(
                "--validation {validation}: expected a number from 0 to {}, which leaves something to train on of {}'s {} training images",
                dataset.train_images - 2,
                dataset.name,
                dataset.train_images
            )));
        }
        let recipe = resolve_recipe(&mut options, augment, dataset.train_images - validation)?;
        if recipe.micro_batch_size() < spec.smallest_batch() {
            return Err(usage(format!(
                "--batch-size {}: batch norm needs more than one value of a channel, and a micro-batch of one image has one in the last stage, which is 1×1 at --size {}; expected micro-batches of at least 2 images, or a larger --size",
                recipe.batch_size, spec.size
            )));
        }
        let train = &mut options.train;
        let init = *train.init.get_or_insert(Init::He);
        let precision = *train.precision.get_or_insert(PrecisionChoice::Auto);
        let zero_init_residual = *train.zero_init_residual.get_or_insert(false);
        let run = &mut options.run;
        let device = run.device.get_or_insert_with(|| "auto".to_owned()).clone();
        device::check_name(&device)?;
        let threads = run.threads;
        device::check_threads(threads)?;
        let deterministic = *run.deterministic.get_or_insert(false);
        let checkpoint_every = *run.checkpoint_every.get_or_insert(Cadence::Auto);
        let keep = at_least_one("--keep", *run.keep.get_or_insert(3))?;
        let derived = derived::of(&chosen, &to_table(&options)?);
        Ok(Self {
            spec,
            init,
            zero_init_residual,
            dataset,
            normalize,
            validation,
            recipe,
            precision,
            device,
            threads,
            deterministic,
            checkpoint_every,
            keep,
            options,
            derived,
        })
    }

    /// Settles the precision once the device is known: a run that goes on elsewhere keeps it.
    ///
    /// # Errors
    /// A usage error for a precision that the device has not.
    pub fn settle_precision(&mut self, device: Device) -> Result<Precision> {
        let precision = self.precision.resolve(device, self.spec.favours_fp32())?;
        self.precision = precision.into();
        self.options.train.precision = Some(self.precision);
        Ok(precision)
    }

    /// Whether the precision was left to the program.
    pub fn precision_is_auto(&self) -> bool {
        self.derived.iter().any(|name| name == "train.precision")
    }

    /// Settles on more micro-batches in a step, where the device has too little memory for those asked
    /// for: a run that goes on later takes as many from the start.
    pub fn settle_accumulate(&mut self, accumulate: usize) {
        self.recipe.accumulate = accumulate;
        self.options.train.accumulate = Some(accumulate);
    }

    /// The resolved configuration as a table, which [`Config::resume`] takes again.
    ///
    /// # Errors
    /// None that a resolved configuration can cause.
    pub fn to_table(&self) -> Result<Table> {
        to_table(&self.options)
    }

    /// The settings in it that follow from others, which [`Config::resume`] takes too.
    pub fn derived(&self) -> &[String] {
        &self.derived
    }

    /// The resolved configuration as a config file, in which what follows from other settings is a comment.
    ///
    /// # Errors
    /// None that a resolved configuration can cause.
    pub fn to_file(&self) -> Result<String> {
        derived::file(&self.to_table()?, &self.derived)
    }

    /// Per-channel mean and standard deviation that pixels in [0, 1] are normalised with.
    pub fn normalisation(&self) -> (Vec<f32>, Vec<f32>) {
        if self.normalize {
            let single = |values: &[f64]| values.iter().map(|&value| value as f32).collect();
            (single(self.dataset.mean), single(self.dataset.std))
        } else {
            (vec![0.0; self.dataset.channels], vec![1.0; self.dataset.channels])
        }
    }
}

/// The network that the options describe, with every default filled in; a data set, where there is
/// one, decides channels and classes.
///
/// # Errors
/// A usage error that names the flag, the value and what is possible.
pub fn resolve_network(
    options: &mut NetworkOptions,
    dataset: Option<&DatasetInfo>,
) -> Result<Spec> {
    let channels = dataset.map_or(1, |dataset| dataset.channels);
    let classes = dataset.map_or(10, |dataset| dataset.classes.len());
    let choices = Choices {
        depth: options.depth,
        blocks: options.blocks.clone(),
        block: options.block,
        width: options.width,
        stem: options.stem,
        shortcut: options.shortcut,
        channels: *options.channels.get_or_insert(channels),
        classes: *options.classes.get_or_insert(classes),
        size: *options.size.get_or_insert(DEFAULT_SIZE),
    };
    let spec = Spec::resolve(&choices)?;
    if let Some(dataset) = dataset {
        for (flag, value, actual) in
            [("--channels", spec.channels, channels), ("--classes", spec.classes, classes)]
        {
            if value != actual {
                return Err(usage(format!(
                    "{flag} {value}: the images of {} have {actual}; leave it out",
                    dataset.name
                )));
            }
        }
    }
    if options.blocks.is_none() {
        options.depth = Some(spec.depth());
    }
    options.block = Some(spec.block);
    options.width = Some(spec.width);
    options.stem = Some(spec.stem);
    options.shortcut = Some(spec.shortcut);
    Ok(spec)
}

fn resolve_recipe(options: &mut Options, augment: Augment, images: usize) -> Result<Recipe> {
    let train = &mut options.train;
    let epochs = in_range("--epochs", *train.epochs.get_or_insert(10), 1..=MAX_EPOCHS)?;
    let batch_size = *train.batch_size.get_or_insert(256);
    if !(1..=images).contains(&batch_size) {
        return Err(usage(format!(
            "--batch-size {batch_size}: expected a number from 1 to the {images} training images"
        )));
    }
    let accumulate = *train.accumulate.get_or_insert(1);
    if !(1..=batch_size).contains(&accumulate) {
        return Err(usage(format!(
            "--accumulate {accumulate}: expected a number from 1 to the batch size {batch_size}"
        )));
    }
    let schedule = *train.schedule.get_or_insert(ScheduleKind::Cosine);
    let default_warmup = match schedule {
        ScheduleKind::Constant | ScheduleKind::OneCycle => 0.0,
        // A run of one epoch still needs most of it at full rate.
        ScheduleKind::Cosine | ScheduleKind::Step => 0.5f64.min(epochs as f64 / 10.0),
    };
    let warmup_epochs = *train.warmup_epochs.get_or_insert(default_warmup);
    in_range("--warmup-epochs", warmup_epochs, 0.0..=epochs as f64)?;
    let momentum = *train.momentum.get_or_insert(0.9);
    in_range("--momentum", momentum, 0.0..=1.0)?;
    let nesterov = *train.nesterov.get_or_insert(momentum > 0.0);
    if nesterov && momentum == 0.0 {
        return Err(usage("--nesterov true: needs --momentum above 0"));
    }
    let lr = above_zero("--lr", *train.lr.get_or_insert(0.05))?;
    let weight_decay = *train.weight_decay.get_or_insert(5e-4);
    in_range("--weight-decay", weight_decay, 0.0..=1.0)?;
    let label_smoothing = *train.label_smoothing.get_or_insert(0.1);
    in_range("--label-smoothing", label_smoothing, 0.0..=1.0)?;
    let step_every = above_zero("--step-every", train.step_every.unwrap_or(epochs as f64 / 3.0))?;
    let step_factor = in_range("--step-factor", train.step_factor.unwrap_or(0.1), 0.0..=1.0)?;
    if schedule == ScheduleKind::Step {
        train.step_every = Some(step_every);
        train.step_factor = Some(step_factor);
    }
    if let Some(norm) = train.clip_grad_norm {
        above_zero("--clip-grad-norm", norm)?;
    }
    if let Some(decay) = train.ema_decay
        && !(decay > 0.0 && decay < 1.0)
    {
        return Err(usage(format!("--ema-decay {decay}: expected a number above 0 and below 1")));
    }
    if let Some(limit) = train.limit_batches {
        at_least_one("--limit-batches", limit)?;
    }
    let seed = *train.seed.get_or_insert(0);
    Ok(Recipe {
        epochs,
        batch_size,
        accumulate,
        recompute: *options.run.recompute.get_or_insert(false),
        cuda_graphs: *options.run.cuda_graphs.get_or_insert(true)
            && !options.run.deterministic.unwrap_or(false),
        lr,
        schedule_kind: schedule,
        warmup_epochs,
        step_every,
        step_factor,
        sgd: SgdOptions {
            momentum,
            nesterov,
            weight_decay,
            decay_all: *train.decay_all.get_or_insert(false),
        },
        label_smoothing,
        clip_grad_norm: train.clip_grad_norm,
        ema_decay: train.ema_decay,
        augment,
        seed,
        limit_batches: train.limit_batches,
        eval_every: at_least_one("--eval-every", *train.eval_every.get_or_insert(1))?,
    })
}

/// Refuses flags of the step schedule with another one. In a file they may stand for when a flag chooses it.
fn check_step_flags(flags: &TrainOptions, schedule: ScheduleKind) -> Result<()> {
    for (flag, value) in [("--step-every", flags.step_every), ("--step-factor", flags.step_factor)]
    {
        if let Some(value) = value.filter(|_| schedule != ScheduleKind::Step) {
            return Err(usage(format!(
                "{flag} {value}: means nothing to --schedule {}; expected --schedule step with it",
                value_name(schedule)
            )));
        }
    }
    Ok(())
}

/// The options that are set, as a table of sections.
fn to_table(options: &Options) -> Result<Table> {
    Table::try_from(options).context("configuration")
}

/// Lays the keys of `top` over those of `base`, section by section.
fn overlay(mut base: Table, top: Table) -> Table {
    for (section, keys) in top {
        match (base.get_mut(&section), keys) {
            (Some(Value::Table(below)), Value::Table(above)) => below.extend(above),
            (_, keys) => {
                base.insert(section, keys);
            }
        }
    }
    base
}

/// Says of a faulty setting that it stands in the file, where it does and no flag beats it.
fn blame(error: anyhow::Error, file: &Path, in_file: &Table, flags: &Table) -> anyhow::Error {
    let has = |table: &Table, key: &str| {
        table.values().filter_map(Value::as_table).any(|section| section.contains_key(key))
    };
    let message = error.to_string();
    let setting = message.strip_prefix("--").and_then(|setting| {
        let key = setting.split([' ', ':']).next()?;
        (has(in_file, key) && !has(flags, key)).then_some(setting)
    });
    match setting {
        Some(setting) => usage(format!("--config {}: {setting}", file.display())),
        None => error,
    }
}

fn invalid(error: toml::de::Error) -> anyhow::Error {
    let text = in_plain_words(&error.to_string());
    usage(format!("the configuration does not fit together: {}", text.trim_end()))
}
