//! What a sweep trains: a file names values of settings, and every combination of them is a trial, with several seeds.

use crate::error::usage;
use crate::files;
use crate::random::{self, Purpose};
use anyhow::Result;
use rand::RngExt;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use toml::Value;

/// The largest file of a sweep, in bytes.
const LARGEST_FILE: u64 = 1 << 20;
/// The most runs of a sweep. No sweep needs more; a typing error does.
const MOST_RUNS: usize = 100_000;

/// A sweep, as its file describes it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Sweep {
    /// A configuration file of `resnet train`, relative to the sweep's file.
    config: Option<PathBuf>,
    /// The seeds of each trial.
    #[serde(default = "one_seed")]
    pub seeds: Vec<u64>,
    /// Settings that all trials have, by the names of their flags.
    #[serde(default)]
    settings: BTreeMap<String, Value>,
    /// Settings whose values are all combined.
    #[serde(default)]
    grid: BTreeMap<String, Vec<Value>>,
    /// Settings whose values are drawn at random.
    random: Option<Random>,
    /// An ablation: beside each trial without a change, one trial with each of these changes. A change may give another
    /// value to one of the `settings`.
    #[serde(default)]
    changes: Vec<BTreeMap<String, Value>>,
    /// Whether trials that are behind end early.
    pub halving: Option<Halving>,
}

/// Settings that are drawn at random.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Random {
    /// The number of draws.
    trials: usize,
    /// The seed of the draws.
    #[serde(default)]
    seed: u64,
    /// From what each setting is drawn.
    settings: BTreeMap<String, From>,
}

/// What a setting is drawn from.
#[derive(Debug, Clone, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a list of values, or { from = 0.01, to = 1.0 } with log = true for equal factors"
)]
enum From {
    /// One of these, each equally likely.
    List(Vec<Value>),
    /// A number between two numbers; with `log`, equal factors are equally likely.
    Range {
        from: f64,
        to: f64,
        #[serde(default)]
        log: bool,
    },
}

/// Successive halving (Jamieson and Talwalkar 2016): after some epochs only the trials with the best accuracy on the
/// held-out images go on, then after twice as many epochs, and so on.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Halving {
    /// The number of epochs before the first choice.
    pub epochs: u64,
    /// The fraction of the trials that go on.
    #[serde(default = "half")]
    pub keep: f64,
}

/// A combination of settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// Counted from 1.
    pub number: usize,
    /// The settings in which it may differ from other trials.
    pub values: BTreeMap<String, Value>,
}

fn one_seed() -> Vec<u64> {
    vec![0]
}

fn half() -> f64 {
    0.5
}

impl Sweep {
    /// Reads a sweep's file. Returns its text too.
    ///
    /// # Errors
    /// A usage error that names the file and what is wrong.
    pub fn read(path: &Path) -> Result<(Self, String)> {
        let name = path.display();
        let text = files::read_text(path, LARGEST_FILE)
            .map_err(|error| usage(format!("{name}: {error}; expected a TOML file of a sweep")))?;
        let mut sweep: Self = toml::from_str(&text)
            .map_err(|error| usage(format!("{name}: {}", error.to_string().trim_end())))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        sweep.config = sweep.config.map(|config| folder.join(config));
        sweep.check().map_err(|error| usage(format!("{name}: {error}")))?;
        Ok((sweep, text))
    }

    fn check(&self) -> Result<(), String> {
        if self.seeds.is_empty() {
            return Err("seeds is empty; expected numbers, such as [0, 1, 2]".to_owned());
        }
        let empty = |values: &Vec<Value>| values.is_empty();
        if let Some((key, _)) = self.grid.iter().find(|(_, values)| empty(values)) {
            return Err(format!("[grid] {key} has no values"));
        }
        let random = self.random.iter().flat_map(|random| &random.settings);
        for (key, from) in random.clone() {
            match from {
                From::List(values) if empty(values) => {
                    return Err(format!("[random.settings] {key} has no values"));
                }
                From::Range { from, to, log } if from >= to || (*log && *from <= 0.0) => {
                    return Err(format!(
                        "[random.settings] {key}: from {from} to {to}; expected a larger `to`, and with log = true a `from` above 0"
                    ));
                }
                From::List(_) | From::Range { .. } => {}
            }
        }
        if self.changes.iter().any(BTreeMap::is_empty) {
            return Err("one of the [[changes]] has no settings".to_owned());
        }
        let combined = || self.grid.keys().chain(random.clone().map(|(key, _)| key));
        let changed: BTreeSet<&String> = self.changes.iter().flat_map(BTreeMap::keys).collect();
        let mut named: BTreeSet<&String> = self.settings.keys().chain(changed.clone()).collect();
        if let Some(key) = combined().find(|key| !named.insert(*key)) {
            return Err(format!("{key} is named twice"));
        }
        let mut keys = self.settings.keys().chain(combined()).chain(changed);
        if let Some(key) = keys.find(|key| ["seed", "run-dir", "resume"].contains(&key.as_str())) {
            return Err(format!(
                "{key} cannot be a setting of a sweep; seeds = [0, 1] names the seeds"
            ));
        }
        if let Some(Halving { epochs, keep }) = self.halving
            && (epochs == 0 || !(keep > 0.0 && keep < 1.0))
        {
            return Err(format!(
                "[halving] epochs = {epochs}, keep = {keep}; expected at least one epoch, and a fraction above 0 and below 1"
            ));
        }
        let runs = self.count().and_then(|trials| trials.checked_mul(self.seeds.len()));
        if runs.is_none_or(|runs| runs == 0 || runs > MOST_RUNS) {
            return Err(format!("the number of runs must be from 1 to {MOST_RUNS}"));
        }
        Ok(())
    }

    /// The number of trials; `None` if it is beyond all bounds.
    fn count(&self) -> Option<usize> {
        let draws = self.random.as_ref().map_or(1, |random| random.trials);
        let draws = draws.checked_mul(self.changes.len() + 1)?;
        self.grid.values().try_fold(draws, |product, values| product.checked_mul(values.len()))
    }

    /// All trials: each draw of the random settings with each combination of the grid, without a change and with each
    /// change alone.
    pub fn trials(&self) -> Vec<Trial> {
        let draws = match &self.random {
            None => vec![BTreeMap::new()],
            Some(random) => (0..random.trials).map(|index| random.draw(index as u64)).collect(),
        };
        let axis = |(key, values): (&String, &Vec<Value>)| {
            values.iter().map(|value| BTreeMap::from([(key.clone(), value.clone())])).collect()
        };
        let changes = [vec![BTreeMap::new()], self.changes.clone()].concat();
        let axes: Vec<Vec<BTreeMap<String, Value>>> =
            self.grid.iter().map(axis).chain([changes]).collect();
        let all = axes.iter().fold(draws, |partial, axis| {
            let with = |part: &BTreeMap<String, Value>, more: &BTreeMap<String, Value>| {
                part.clone().into_iter().chain(more.clone()).collect()
            };
            partial.iter().flat_map(|part| axis.iter().map(move |more| with(part, more))).collect()
        });
        (1..).zip(all).map(|(number, values)| Trial { number, values }).collect()
    }

    /// The arguments of `resnet train` for a trial with a seed, without the run's folder.
    pub fn arguments(&self, trial: &Trial, seed: u64) -> Vec<String> {
        let config = self.config.iter().map(|path| format!("--config={}", path.display()));
        let unchanged = self.settings.iter().filter(|(key, _)| !trial.values.contains_key(*key));
        let flags =
            unchanged.chain(&trial.values).map(|(key, value)| format!("--{key}={}", text(value)));
        config.chain(flags).chain([format!("--seed={seed}")]).collect()
    }
}

impl Random {
    fn draw(&self, index: u64) -> BTreeMap<String, Value> {
        let mut random = random::generator(self.seed, Purpose::Sweep, index);
        let mut value = |from: &From| match from {
            From::List(values) => values
                .get(random.random_range(0..values.len().max(1)))
                .cloned()
                .unwrap_or(false.into()),
            From::Range { from, to, log: true } => {
                rounded((random.random_range(from.ln()..to.ln())).exp()).into()
            }
            From::Range { from, to, .. } => rounded(random.random_range(*from..*to)).into(),
        };
        self.settings.iter().map(|(key, from)| (key.clone(), value(from))).collect()
    }
}

/// A number with four digits, so that it can be typed again.
fn rounded(number: f64) -> f64 {
    format!("{number:.3e}").parse().unwrap_or(number)
}

/// A value as a flag takes it.
pub fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// The numbers of the trials that go on: the best `keep` of them by accuracy, at least one. Of equal ones, the earlier
/// goes on. A trial without an accuracy, which failed or diverged, does not go on.
pub fn survivors(accuracies: &[(usize, Option<f64>)], keep: f64) -> Vec<usize> {
    let mut ranked: Vec<(usize, f64)> = accuracies
        .iter()
        .filter_map(|(number, accuracy)| Some((*number, accuracy.filter(|a| a.is_finite())?)))
        .collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    let count = ((accuracies.len() as f64 * keep).ceil() as usize).max(1);
    ranked.into_iter().take(count).map(|(number, _)| number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sweep(text: &str) -> Result<Sweep, String> {
        let sweep: Sweep = toml::from_str(text).map_err(|error| error.to_string())?;
        sweep.check().map(|()| sweep)
    }

    #[test]
    fn a_grid_has_every_combination_once() {
        let sweep = sweep(
            "seeds = [3, 4]\n[settings]\nvalidation = 500\n[grid]\nlr = [0.1, 0.2]\n\
             augment = [\"none\", \"flip,crop\"]\nblocks = [[1, 1, 1]]\n",
        )
        .unwrap();
        let trials = sweep.trials();
        let arguments: Vec<String> =
            trials.iter().map(|trial| sweep.arguments(trial, 4).join(" ")).collect();
        assert_eq!(arguments.len(), 4);
        for (index, expected) in
            ["none --blocks=1,1,1 --lr=0.1", "none --blocks=1,1,1 --lr=0.2"].iter().enumerate()
        {
            assert_eq!(arguments[index], format!("--validation=500 --augment={expected} --seed=4"));
        }
        assert!(arguments[3].contains("--augment=flip,crop --blocks=1,1,1 --lr=0.2"));
        assert_eq!(trials[3].number, 4);
    }

    #[test]
    fn each_change_is_made_alone() {
        let sweep = sweep(
            "[settings]\nlr = 0.1\n[grid]\nwidth = [8, 16]\n\
             [[changes]]\naugment = \"none\"\n[[changes]]\nlr = 0.2\nbatch-size = 128\n",
        )
        .unwrap();
        let arguments: Vec<String> =
            sweep.trials().iter().map(|trial| sweep.arguments(trial, 0).join(" ")).collect();
        let of_width = |width: usize| {
            [
                format!("--lr=0.1 --width={width} --seed=0"),
                format!("--lr=0.1 --augment=none --width={width} --seed=0"),
                format!("--batch-size=128 --lr=0.2 --width={width} --seed=0"),
            ]
        };
        assert_eq!(arguments, [of_width(8), of_width(16)].concat());
    }

    #[test]
    fn random_values_depend_on_the_seed_and_the_trial_alone() {
        let text = |seed: u64, trials: usize| {
            format!(
                "[random]\ntrials = {trials}\nseed = {seed}\n[random.settings]\n\
                 lr = {{ from = 0.001, to = 1.0, log = true }}\nwidth = [8, 16]\n\
                 label-smoothing = {{ from = 0.0, to = 0.2 }}\n"
            )
        };
        let trials = |seed, count| sweep(&text(seed, count)).unwrap().trials();
        let many = trials(1, 200);
        assert_eq!(many[..5], trials(1, 5));
        assert_ne!(many[..5], trials(2, 5));
        let lr = |trial: &Trial| trial.values["lr"].as_float().unwrap();
        assert!(many.iter().all(|trial| (0.001..=1.0).contains(&lr(trial))));
        let small = many.iter().filter(|trial| lr(trial) < 0.0316).count();
        assert!((70..130).contains(&small), "{small} of 200 are below the middle factor");
        assert!(many.iter().any(|trial| trial.values["width"].as_integer() == Some(8)));
    }

    #[test]
    fn what_is_wrong_in_a_file_is_named() {
        for (text, part) in [
            ("seeds = []", "seeds is empty"),
            ("[grid]\nlr = []", "[grid] lr has no values"),
            ("[settings]\nlr = 1\n[grid]\nlr = [2]", "lr is named twice"),
            ("[grid]\nseed = [1]", "seed cannot be a setting"),
            ("[grid]\nlr = [1]\n[[changes]]\nlr = 2", "lr is named twice"),
            ("[[changes]]\nresume = \"x\"", "resume cannot be a setting"),
            ("[[changes]]\n", "has no settings"),
            ("[halving]\nepochs = 0", "[halving]"),
            ("[halving]\nepochs = 1\nkeep = 1.0", "keep = 1"),
            ("[random]\ntrials = 0\n[random.settings]\nlr = [1]", "from 1 to 100000"),
            (
                "[random]\ntrials = 2\n[random.settings]\nlr = { from = 0, to = 1, log = true }",
                "above 0",
            ),
            ("[random]\ntrials = 2\n[random.settings]\nlr = 3", "expected a list of values"),
            ("sizes = 3", "unknown field"),
        ] {
            let error = sweep(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn the_best_go_on_and_those_without_an_accuracy_do_not() {
        let accuracies =
            [(1, Some(0.5)), (2, None), (3, Some(0.9)), (4, Some(0.7)), (5, Some(f64::NAN))];
        assert_eq!(survivors(&accuracies, 0.5), [3, 4, 1]);
        assert_eq!(survivors(&accuracies, 0.2), [3]);
        assert_eq!(survivors(&accuracies, 0.01), [3]);
        assert_eq!(survivors(&[(1, None)], 0.5), [0; 0]);
        assert_eq!(survivors(&[(1, Some(0.5)), (2, Some(0.5))], 0.5), [1]);
    }
}
