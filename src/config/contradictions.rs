//! Settings that contradict each other, and flags that have no effect.

use super::Config;
use super::settings::{remove, value};
use crate::cli::Options;
use crate::error::usage;
use crate::model::spec::value_name;
use crate::train::recipe::OptimizerKind;
use crate::train::schedule::ScheduleKind;
use anyhow::Result;
use toml::Table;

/// Pairs of settings of which a run has at most one, because they say the same in other units.
const ALTERNATIVES: [[&str; 2]; 2] =
    [["train.warmup-epochs", "train.warmup-steps"], ["train.step-every", "train.milestones"]];

/// Removes the settings of a file that a flag replaces, because they say the same in other units.
pub fn remove_alternatives(in_file: &mut Table, flags: &Table) {
    for [one, other] in ALTERNATIVES {
        for (flag, key) in [(one, other), (other, one)] {
            if value(flags, flag).is_some() {
                remove(in_file, key);
            }
        }
    }
}

/// Refuses two settings that say the same in other units.
///
/// # Errors
/// A usage error that names both.
pub fn check_alternatives(chosen: &Table) -> Result<()> {
    for [one, other] in ALTERNATIVES {
        if let (Some(found), Some(contradiction)) = (value(chosen, one), value(chosen, other)) {
            let key = |name: &str| name.split_once('.').map_or("", |(_, key)| key).to_owned();
            return Err(usage(format!(
                "--{} {found}: contradicts --{} {contradiction}; remove one of the two",
                key(one),
                key(other)
            )));
        }
    }
    Ok(())
}

/// Refuses flags that have no effect with the other settings. A config file may have their keys, because a flag may
/// choose the other settings later.
///
/// # Errors
/// A usage error that names the flag and what it needs.
pub fn check_flags_have_effect(flags: &Options, config: &Config) -> Result<()> {
    let recipe = &config.recipe;
    let of_tensorboard = (!config.tensorboard)
        .then(|| ("--tensorboard", config.tensorboard.to_string(), "--tensorboard"));
    let histograms = flags.run.tensorboard_histograms.map(|epochs| epochs.to_string());
    let schedule = recipe.schedule_kind;
    let of_steps = (schedule != ScheduleKind::Step)
        .then(|| ("--schedule", value_name(schedule), "--schedule step"));
    let of_mixing = (!recipe.augment.mixes())
        .then(|| ("--augment", recipe.augment.to_string(), "mixup or cutmix in --augment"));
    let optimizer = recipe.optimizer.kind;
    let of_adamw = (optimizer != OptimizerKind::AdamW)
        .then(|| ("--optimizer", value_name(optimizer), "--optimizer adamw"));
    let given = |value: Option<f64>| value.map(|value| value.to_string());
    for (flag, value, reason) in [
        ("--step-every", given(flags.train.step_every), &of_steps),
        ("--milestones", flags.train.milestones.as_ref().map(ToString::to_string), &of_steps),
        ("--step-factor", given(flags.train.step_factor), &of_steps),
        ("--mix-epochs", flags.data.mix_epochs.map(|epochs| epochs.to_string()), &of_mixing),
        ("--beta2", given(flags.train.beta2), &of_adamw),
        ("--tensorboard-histograms", histograms, &of_tensorboard),
    ] {
        if let (Some(value), Some((other, found, only))) = (value, reason) {
            return Err(usage(format!(
                "{flag} {value}: has no effect with {other} {found}; use it only with {only}"
            )));
        }
    }
    let epochs = recipe.epochs;
    let milestones = flags.train.milestones.as_ref();
    if let Some(milestones) = milestones.filter(|points| points.exceed(epochs)) {
        return Err(usage(format!(
            "--milestones {milestones}: expected points before the end of the run's {epochs} epochs"
        )));
    }
    Ok(())
}
