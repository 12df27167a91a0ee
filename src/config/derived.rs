//! Settings whose values follow from other settings, unless the user chose them. A run saves which settings these
//! are: if another setting changes, they are derived again (docs/decisions/0019).

use super::settings::{self, Settings, insert, integer, remove};
use crate::data::augment::Augment;
use crate::data::catalog::DatasetInfo;
use crate::model::Spec;
use crate::model::spec::value_name;
use crate::precision::PrecisionChoice;
use crate::train::Recipe;
use crate::train::recipe::{
    OptimizerOptions, default_nesterov, default_step_every, default_warmup,
};
use crate::train::schedule::ScheduleKind;
use anyhow::Result;
use toml::{Table, Value};

/// How a setting follows from others.
pub struct Rule {
    /// The setting, as `section.key`.
    pub name: &'static str,
    /// The keys that it follows from, or a description if it follows from no single key.
    from: &'static [&'static str],
    /// Its default in words, for the help text.
    pub default: &'static str,
    /// Its value; `None` if the setting has no meaning in this run.
    value: fn(&Basis) -> Option<Value>,
}

/// What the rules derive values from.
pub struct Basis<'a> {
    /// The network.
    pub spec: &'a Spec,
    /// The data set.
    pub dataset: &'a DatasetInfo,
    /// The recipe. Those of its settings that are derived may not have their final values yet.
    pub recipe: &'a Recipe,
}

/// The rules, in the order in which a checkpoint lists the names of derived settings.
pub const RULES: [Rule; 13] = [
    Rule {
        name: "network.block",
        from: &["depth or blocks"],
        default: "basic",
        value: |basis| Some(value_name(basis.spec.block).into()),
    },
    Rule {
        name: "network.width",
        from: &["the number of stages"],
        default: "64; 16 for three stages",
        value: |basis| Some(integer(basis.spec.width)),
    },
    Rule {
        name: "network.stem",
        from: &["the number of stages"],
        default: "imagenet; cifar for three stages",
        value: |basis| Some(value_name(basis.spec.stem).into()),
    },
    Rule {
        name: "network.placement",
        from: &["depth", "widen"],
        default: "original; pre-activation for 6n+4 layers with --widen",
        value: |basis| Some(value_name(basis.spec.placement).into()),
    },
    Rule {
        name: "network.group-width",
        from: &["width", "widen", "groups"],
        default: "the block's width divided by the groups",
        value: |basis| basis.spec.groups.map(|groups| integer(groups.width)),
    },
    Rule {
        name: "network.conv-bias",
        from: &["shortcut"],
        default: "true with --shortcut plain-conv",
        value: |basis| Some(basis.spec.conv_bias.into()),
    },
    Rule {
        name: "network.channels",
        from: &["dataset"],
        default: "the data set's, or 1",
        value: |basis| Some(integer(basis.spec.channels)),
    },
    Rule {
        name: "network.classes",
        from: &["dataset"],
        default: "the data set's, or 10",
        value: |basis| Some(integer(basis.spec.classes)),
    },
    Rule {
        name: "data.augment",
        from: &["dataset"],
        default: "flip; flip,crop for cifar10 and cifar100; none for mnist, kmnist and synthetic",
        value: |basis| Some(Augment::from(basis.dataset.augment).to_string().into()),
    },
    Rule {
        name: "train.nesterov",
        from: &["momentum", "optimizer"],
        default: "true for sgd with momentum",
        value: |basis| {
            let OptimizerOptions { kind, momentum, .. } = basis.recipe.optimizer;
            Some(default_nesterov(kind, momentum).into())
        },
    },
    Rule {
        name: "train.step-every",
        from: &["epochs"],
        default: "a third of the run",
        value: |basis| {
            let Recipe { schedule_kind, milestones, epochs, .. } = basis.recipe;
            let is_used = *schedule_kind == ScheduleKind::Step && milestones.is_none();
            is_used.then(|| default_step_every(*epochs).into())
        },
    },
    Rule {
        name: "train.warmup-epochs",
        from: &["schedule", "epochs"],
        default: "0.5, at most a tenth of the run; 0 for a constant or one-cycle schedule",
        value: |basis| {
            let Recipe { schedule_kind, warmup_steps, epochs, .. } = basis.recipe;
            warmup_steps.is_none().then(|| default_warmup(*schedule_kind, *epochs).into())
        },
    },
    // `Config::settle_precision` replaces it as soon as the device is known.
    Rule {
        name: "train.precision",
        from: &["the device"],
        default: "auto",
        value: |_| Some(value_name(PrecisionChoice::Auto).into()),
    },
];

const HEADER: &str = "\
# The settings of this run: a valid file for --config. A setting in a comment follows from other
# settings, and is derived again if they change.
";

/// Derives each setting that follows from others and has no value.
pub fn derive(settings: &mut Settings, basis: &Basis) {
    for rule in &RULES {
        if let Some(value) = (rule.value)(basis) {
            settings.add_derived(rule.name, value);
        }
    }
}

/// The names of the derived settings, as `section.key`.
pub fn names(settings: &Settings) -> Vec<String> {
    let is_derived = |rule: &&Rule| settings::value(&settings.derived, rule.name).is_some();
    RULES.iter().filter(is_derived).map(|rule| rule.name.to_owned()).collect()
}

/// Separates the settings that a run saved in one table into chosen and derived ones. `names` are the names of the
/// derived ones. A derived setting that follows from a key in `changes` (`section.key` → …) is removed, so that it
/// is derived again.
pub fn separate(mut saved: Table, names: &[String], changes: &Table) -> Settings {
    let changes = |key: &&str| changes.keys().any(|name| name.ends_with(&format!(".{key}")));
    let mut derived = Table::new();
    for rule in RULES.iter().filter(|rule| names.iter().any(|name| name == rule.name)) {
        if let Some(value) = remove(&mut saved, rule.name)
            && !rule.from.iter().any(changes)
        {
            insert(&mut derived, rule.name, value);
        }
    }
    Settings { chosen: saved, derived }
}

/// The settings as a config file, in which the derived ones are comments.
///
/// # Errors
/// The settings of a run never cause an error.
pub fn to_file(settings: &Settings) -> Result<String> {
    let mut text = HEADER.to_owned();
    for (section, keys) in settings.all() {
        text.push_str(&format!("\n[{section}]\n"));
        for (key, value) in keys.as_table().into_iter().flatten() {
            let line = toml::to_string(&Table::from_iter([(key.clone(), value.clone())]))?;
            let name = format!("{section}.{key}");
            let rule = RULES.iter().find(|rule| rule.name == name);
            match rule.filter(|rule| settings::value(&settings.derived, rule.name).is_some()) {
                Some(rule) => {
                    let from = rule.from.join(" and ");
                    text.push_str(&format!("# {}  (follows from {from})\n", line.trim_end()));
                }
                None => text.push_str(&line),
            }
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::catalog::DATASETS;

    #[test]
    fn derived_settings_are_comments_and_the_rest_is_a_config_file() {
        let saved: Table =
            toml::from_str("[network]\nblocks = [1, 1]\nwidth = 16\n[train]\nlr = 0.5\n").unwrap();
        let names = ["network.width".to_owned()];
        let settings = separate(saved.clone(), &names, &Table::new());
        assert_eq!((settings.all(), super::names(&settings).as_slice()), (saved, &names[..]));
        let text = to_file(&settings).unwrap();
        assert!(text.contains("\n# width = 16  (follows from the number of stages)\n"), "{text}");
        let chosen: Table = toml::from_str(&text).unwrap();
        let expected: Table =
            toml::from_str("[network]\nblocks = [1, 1]\n[train]\nlr = 0.5\n").unwrap();
        assert_eq!(chosen, expected);
    }

    #[test]
    fn a_derived_setting_is_dropped_if_what_it_follows_from_changes() {
        let saved: Table =
            toml::from_str("[train]\nepochs = 9\nnesterov = true\nwarmup-epochs = 0.1\n").unwrap();
        let names = ["train.nesterov", "train.warmup-epochs"].map(str::to_owned);
        let changes = Table::from_iter([("train.epochs".to_owned(), Value::from(9))]);
        let settings = separate(saved, &names, &changes);
        assert_eq!(settings.derived, toml::from_str("[train]\nnesterov = true\n").unwrap());
        assert_eq!(settings.chosen, toml::from_str("[train]\nepochs = 9\n").unwrap());
    }

    #[test]
    fn the_help_tells_the_augmentation_of_each_data_set() {
        let rule = RULES.iter().find(|rule| rule.name == "data.augment").unwrap();
        let parts: Vec<&str> = rule.default.split("; ").collect();
        for dataset in DATASETS {
            let of_dataset = |part: &&&str| part.split([' ', ',']).any(|word| word == dataset.name);
            let part = parts.iter().find(of_dataset).unwrap_or(&parts[0]);
            let told = part.split_once(" for ").map_or(*part, |(list, _)| list);
            assert_eq!(told, Augment::from(dataset.augment).to_string(), "{}", dataset.name);
        }
    }
}
