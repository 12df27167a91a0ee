//! Combines the config file, the flags and the defaults into one validated [`Config`]. No later code checks a value
//! again.
//!
//! To add a setting of training: add its flag in [`cli::TrainOptions`](crate::cli::TrainOptions), and its field
//! of the same name, its default and its check in [`Recipe`]. The file's key and the default in the help text
//! follow from these. Only a default that depends on other settings also needs a rule in `config/derived.rs`.

mod by_name;
mod contradictions;
mod defaults;
mod derived;
pub mod help;
mod network;
mod settings;

pub use network::resolve_network;
pub use settings::each;

use crate::checkpoint::Cadence;
use crate::cli::Options;
use crate::data::catalog::{self, DatasetInfo};
use crate::device;
use crate::error::{at_least_one, in_plain_words, usage};
use crate::files;
use crate::kernels::Tuning;
use crate::model::spec::{Init, Spec, value_name};
use crate::precision::{Precision, PrecisionChoice};
use crate::train::Recipe;
use crate::train::schedule::ScheduleKind;
use anyhow::Result;
use derived::Basis;
use settings::{Settings, insert, integer, overlay, remove, to_table, value};
use std::path::Path;
use tch::Device;
use toml::{Table, Value};

/// All settings of a run, with their final values.
#[derive(Debug, Clone)]
pub struct Config {
    /// The network.
    pub spec: Spec,
    /// The distribution of the initial weights.
    pub init: Init,
    /// Whether each block starts as the identity.
    pub zero_init_residual: bool,
    /// The data set.
    pub dataset: &'static DatasetInfo,
    /// Whether pixels are normalised with the data set's mean and standard deviation.
    pub normalize: bool,
    /// Number of training images that are held out.
    pub validation: usize,
    /// How the network is trained.
    pub recipe: Recipe,
    /// The floating-point format of training; `auto` until [`Config::settle_precision`] is called.
    pub precision: PrecisionChoice,
    /// `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
    pub device: String,
    /// CPU threads; `None` if the user chose none.
    pub threads: Option<usize>,
    /// Whether a CUDA device must give the same bits each time.
    pub deterministic: bool,
    /// Other ways to compute on CUDA devices.
    pub cuda_tuning: Tuning,
    /// How often a checkpoint is saved.
    pub checkpoint_every: Cadence,
    /// Number of checkpoints to keep besides the best.
    pub keep: usize,
    /// Whether a report is written at the end of the run.
    pub report: bool,
    /// Whether figures are written for TensorBoard.
    pub tensorboard: bool,
    /// Epochs from one histogram for TensorBoard to the next; 0 for none.
    pub tensorboard_histograms: u64,
    /// The same settings as tables, to be saved.
    settings: Settings,
}

/// The largest config file, in bytes: about a thousand times the usual size.
pub const LARGEST_FILE: u64 = 1 << 20;

/// Settings that a resumed run may change: they decide where, how long and how fast it continues, not the
/// result of the steps that are already done.
const CHANGEABLE: [&str; 15] = [
    "train.epochs",
    "train.lr",
    "train.eval-every",
    "train.patience",
    "run.device",
    "run.threads",
    "run.deterministic",
    "run.checkpoint-every",
    "run.keep",
    "run.report",
    "run.recompute",
    "run.cuda-graphs",
    "run.cuda-tuning",
    "run.tensorboard",
    "run.tensorboard-histograms",
];

impl Config {
    /// Reads the file, lets the flags override it, fills in the defaults and checks all values.
    ///
    /// # Errors
    /// A usage error that names the flag or the file's key, the value and what is possible.
    pub fn load(file: Option<&Path>, flags: &Options) -> Result<Self> {
        let Some(path) = file else {
            let config = Self::resolve(Settings::of_choices(to_table(flags)?))?;
            contradictions::check_flags_have_effect(flags, &config)?;
            return Ok(config);
        };
        let text = files::read_text(path, LARGEST_FILE).map_err(|error| {
            usage(format!("--config {}: {error}; expected a TOML file", path.display()))
        })?;
        Self::parse(&text, path, flags)
    }

    /// Like [`Config::load`], with the text of the file. `path` names the file in messages.
    ///
    /// # Errors
    /// As for [`Config::load`].
    pub fn parse(text: &str, path: &Path, flags: &Options) -> Result<Self> {
        let wrong = |error: toml::de::Error| {
            let text = in_plain_words(&error.to_string());
            usage(format!("--config {}: {}", path.display(), text.trim_end()))
        };
        // Unknown keys, wrong types and numbers of more than 63 bits are refused here, where the line is known.
        let _: Table = toml::from_str(text).map_err(wrong)?;
        let options: Options = toml::from_str(text).map_err(wrong)?;
        let mut base = to_table(&options)?;
        // A flag that names a network overrides all keys of the file that name one.
        let names_a_network = flags.network.depth.is_some() || flags.network.blocks.is_some();
        if names_a_network && let Some(Value::Table(network)) = base.get_mut("network") {
            network.retain(|key, _| !matches!(key, "depth" | "blocks" | "block"));
        }
        let above = to_table(flags)?;
        contradictions::remove_alternatives(&mut base, &above);
        let chosen = overlay(base.clone(), above.clone());
        let config = Self::resolve(Settings::of_choices(chosen))
            .map_err(|error| name_file(error, path, &base, &above))?;
        contradictions::check_flags_have_effect(flags, &config)?;
        Ok(config)
    }

    /// The configuration of a resumed run, from the settings that it saved, the names of the derived settings, and
    /// the flags. Flags can change only some settings. If a setting changes, the settings that follow from it are
    /// derived again. Also returns the changed settings: `section.key` → [the run's value, the new value].
    ///
    /// # Errors
    /// A usage error that names the flag with the run's value and the new one.
    pub fn resume(saved: &Table, derived: &[String], flags: &Options) -> Result<(Self, Table)> {
        let flags = to_table(flags)?;
        let mut changes = changes(saved, &flags)?;
        let mut merged = overlay(saved.clone(), flags);
        // A run that was saved before the setting existed used fp32.
        if let Some(Value::Table(train)) = merged.get_mut("train") {
            train.entry("precision").or_insert_with(|| "fp32".into());
        }
        // Refuses keys that are not settings.
        let merged: Options = merged.try_into().map_err(invalid)?;
        let config = Self::resolve(derived::separate(to_table(&merged)?, derived, &changes))?;
        for name in derived {
            if let (Some(old), Some(new)) = (value(saved, name), config.settings.value(name))
                && old != new
            {
                changes.insert(name.clone(), Value::Array(vec![old.clone(), new.clone()]));
            }
        }
        Ok((config, changes))
    }

    /// The configuration of a new run that continues with a deeper network: the settings that a run saved and did not
    /// derive, and the blocks of `spec`.
    ///
    /// # Errors
    /// The saved settings are not valid.
    pub fn grown(saved: &Table, derived: &[String], spec: &Spec) -> Result<Self> {
        let mut chosen = saved.clone();
        for name in derived.iter().map(String::as_str).chain(["network.depth"]) {
            remove(&mut chosen, name);
        }
        let blocks: Vec<Value> = spec.blocks.iter().map(|&count| integer(count)).collect();
        for (name, value) in [
            ("network.blocks", blocks.into()),
            // They may have followed from the depth.
            ("network.block", value_name(spec.block).into()),
            ("network.placement", value_name(spec.placement).into()),
        ] {
            insert(&mut chosen, name, value);
        }
        let chosen: Options = chosen.try_into().map_err(invalid)?;
        Self::resolve(Settings::of_choices(to_table(&chosen)?))
    }

    /// Fills in the defaults, derives the settings that follow from others, and checks all values.
    fn resolve(mut settings: Settings) -> Result<Self> {
        // `auto` is not a choice of the user: the device decides.
        let auto: Value = value_name(PrecisionChoice::Auto).into();
        if value(&settings.chosen, "train.precision") == Some(&auto) {
            remove(&mut settings.chosen, "train.precision");
        }
        for (name, default) in each(&defaults::defaults()?) {
            settings.add_default(&name, default.clone());
        }
        let dataset = catalog::find(&settings.read::<String>("data.dataset")?)
            .map_err(|error| usage(format!("--dataset {error}")))?;
        let spec = resolve_network(&settings.read("network")?, Some(dataset))?;
        if settings.value("network.blocks").is_none() {
            settings.add_default("network.depth", integer(spec.depth()));
        }
        for (name, default) in [
            ("network.shortcut", value_name(spec.shortcut).into()),
            ("network.residual", spec.residual.into()),
            ("network.residual-scale", spec.residual_scale.into()),
            ("network.widen", integer(spec.widen)),
            ("network.groups", integer(spec.groups.map_or(1, |groups| groups.count))),
            ("network.se", spec.se.into()),
            ("network.dropout", spec.dropout.into()),
            ("network.head-dropout", spec.head_dropout.into()),
            ("network.stochastic-depth", spec.stochastic_depth.into()),
        ] {
            settings.add_default(name, default);
        }
        spec.check_zero_init(settings.read("train.zero-init-residual")?)?;
        let validation = settings.read("data.validation")?;
        check_validation(validation, dataset)?;
        contradictions::check_alternatives(&settings.chosen)?;
        let recipe: Recipe = settings.read_keys()?;
        // Other schedules have no factor.
        if recipe.schedule_kind == ScheduleKind::Step {
            settings.add_default("train.step-factor", recipe.step_factor.into());
        }
        derived::derive(&mut settings, &Basis { spec: &spec, dataset, recipe: &recipe });
        let mut recipe: Recipe = settings.read_keys()?;
        recipe.check(dataset.train_images - validation)?;
        recipe.check_network(&spec)?;
        if let Some(patience) = recipe.patience.filter(|_| validation == 0) {
            return Err(usage(format!(
                "--patience {patience}: needs --validation, because the test images choose nothing; add --validation 5000, or remove the flag"
            )));
        }
        let device: String = settings.read("run.device")?;
        device::check_name(&device)?;
        let threads = settings.read_if_set("run.threads")?;
        device::check_threads(threads)?;
        let deterministic: bool = settings.read("run.deterministic")?;
        // A replayed step may use other algorithms.
        recipe.cuda_graphs &= !deterministic;
        Ok(Self {
            spec,
            init: settings.read("train.init")?,
            zero_init_residual: settings.read("train.zero-init-residual")?,
            dataset,
            normalize: settings.read("data.normalize")?,
            validation,
            recipe,
            precision: settings.read("train.precision")?,
            device,
            threads,
            deterministic,
            cuda_tuning: settings.read("run.cuda-tuning")?,
            checkpoint_every: settings.read("run.checkpoint-every")?,
            keep: at_least_one("--keep", settings.read("run.keep")?)?,
            report: settings.read("run.report")?,
            tensorboard: settings.read("run.tensorboard")?,
            tensorboard_histograms: settings.read("run.tensorboard-histograms")?,
            settings,
        })
    }

    /// Decides the precision, now that the device is known. A resumed run keeps it on another device.
    ///
    /// # Errors
    /// A usage error for a precision that the device does not support.
    pub fn settle_precision(&mut self, device: Device) -> Result<Precision> {
        let precision = self.precision.resolve(device, self.spec.favours_fp32())?;
        self.precision = precision.into();
        self.settings.set("train.precision", value_name(self.precision).into());
        Ok(precision)
    }

    /// Whether the program chose the precision, not the user.
    pub fn precision_is_auto(&self) -> bool {
        value(&self.settings.derived, "train.precision").is_some()
    }

    /// Sets the number of micro-batches in a step, if the device has too little memory for the chosen number. A
    /// resumed run starts with this number.
    pub fn settle_accumulate(&mut self, accumulate: usize) {
        self.recipe.accumulate = accumulate;
        self.settings.set("train.accumulate", integer(accumulate));
    }

    /// All settings as a table of sections, for [`Config::resume`].
    pub fn to_table(&self) -> Table {
        self.settings.all()
    }

    /// The names of the derived settings as `section.key`, for [`Config::resume`].
    pub fn derived(&self) -> Vec<String> {
        derived::names(&self.settings)
    }

    /// The settings as a config file, in which the derived ones are comments.
    ///
    /// # Errors
    /// The settings of a run never cause an error.
    pub fn to_file(&self) -> Result<String> {
        derived::to_file(&self.settings)
    }

    /// Mean and standard deviation of each channel, for pixels in [0, 1].
    pub fn normalisation(&self) -> (Vec<f32>, Vec<f32>) {
        if self.normalize {
            self.dataset.normalisation()
        } else {
            (vec![0.0; self.dataset.channels], vec![1.0; self.dataset.channels])
        }
    }
}

fn check_validation(validation: usize, dataset: &DatasetInfo) -> Result<()> {
    let DatasetInfo { name, train_images, .. } = dataset;
    if validation + 2 > *train_images {
        return Err(usage(format!(
            "--validation {validation}: expected a number from 0 to {}, because at least 2 of {name}'s {train_images} training images must be left to train on",
            train_images - 2
        )));
    }
    Ok(())
}

/// The settings of a run that the flags change: `section.key` → [the run's value, the new value].
fn changes(saved: &Table, flags: &Table) -> Result<Table> {
    let mut changes = Table::new();
    for (name, new) in each(flags) {
        let old = value(saved, &name);
        if old == Some(new) {
            continue;
        }
        if !CHANGEABLE.contains(&name.as_str()) {
            let key = name.split_once('.').map_or(name.as_str(), |(_, key)| key);
            let found = old.map_or_else(|| "none".to_owned(), Value::to_string);
            return Err(usage(format!(
                "--{key} {new}: the run to resume has {found}, and this setting cannot change; remove the flag, or start a new run"
            )));
        }
        let old = old.cloned().unwrap_or_else(|| "unset".into());
        let values = Value::Array(vec![old, new.clone()]);
        changes.insert(name, values);
    }
    Ok(changes)
}

/// Names the file in the message about a setting, if the setting comes from the file.
fn name_file(error: anyhow::Error, file: &Path, in_file: &Table, flags: &Table) -> anyhow::Error {
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
    usage(format!("the configuration is not valid: {}", text.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_the_default_recipe() {
        let config = Config::load(None, &Options::default()).unwrap();
        assert_eq!(config.recipe, Recipe::default());
    }

    #[test]
    fn no_two_sections_have_the_same_key() {
        let all = Config::load(None, &Options::default()).unwrap().to_table();
        let mut keys: Vec<String> =
            each(&all).map(|(name, _)| name.split_once('.').unwrap().1.to_owned()).collect();
        let count = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), count);
    }
}
