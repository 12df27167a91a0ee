//! The defaults of settings that depend on no other setting. Those of training are in [`Recipe::default`]; those of the
//! network, except the size of images, are in [`Spec::resolve`](crate::model::Spec::resolve).

use super::derived::RULES;
use super::settings::{insert, remove, to_table};
use crate::checkpoint::Cadence;
use crate::cli::{DataOptions, NetworkOptions, Options, RateOptions, RunOptions, TrainOptions};
use crate::kernels::Tuning;
use crate::model::spec::Init;
use crate::train::Recipe;
use anyhow::Result;
use toml::Table;

/// The size that images are resized to, in pixels: the size in the ResNet chapter of Dive into Deep Learning.
pub const SIZE: usize = 96;

/// The defaults as a table of sections.
///
/// # Errors
/// The defaults cannot be written as TOML, which a test excludes.
pub fn defaults() -> Result<Table> {
    let mut defaults = to_table(&Options {
        network: NetworkOptions { size: Some(SIZE), ..NetworkOptions::default() },
        data: DataOptions {
            dataset: Some("fashion-mnist".to_owned()),
            validation: Some(0),
            normalize: Some(true),
            ..DataOptions::default()
        },
        train: TrainOptions {
            init: Some(Init::He),
            zero_init_residual: Some(false),
            ..TrainOptions::default()
        },
        optimizer: RateOptions::default(),
        run: RunOptions {
            device: Some("auto".to_owned()),
            deterministic: Some(false),
            cuda_tuning: Some(Tuning::default()),
            checkpoint_every: Some(Cadence::Auto),
            keep: Some(3),
            report: Some(true),
            tensorboard: Some(false),
            tensorboard_histograms: Some(1),
            ..RunOptions::default()
        },
    })?;
    for (key, value) in to_table(&Recipe::default())? {
        insert(&mut defaults, &format!("{}.{key}", section_of(&key)), value);
    }
    for name in RULES.iter().map(|rule| rule.name).chain(["train.step-factor"]) {
        remove(&mut defaults, name);
    }
    Ok(defaults)
}

/// The section of a field of [`Recipe`].
fn section_of(key: &str) -> &'static str {
    match key {
        "augment" | "mix-epochs" => "data",
        "recompute" | "cuda-graphs" => "run",
        "rates" => "optimizer",
        _ => "train",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_of_the_recipe_is_an_option() {
        // This conversion fails if a field is not an option, because unknown keys are refused.
        defaults().unwrap().try_into::<Options>().unwrap();
        let with_all = Recipe {
            clip_grad_norm: Some(1.0),
            ema_decay: Some(0.9),
            limit_batches: Some(1),
            ..Recipe::default()
        };
        let mut train = to_table(&with_all).unwrap();
        train.retain(|key, _| section_of(key) == "train");
        train.try_into::<TrainOptions>().unwrap();
    }
}
