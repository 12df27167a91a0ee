//! Compares runs: the settings in which they differ, and the figures of runs that differ by their seed alone.

use super::folder::CONFIG_FILE;
use super::metrics::read_run;
use crate::config;
use crate::error::usage;
use crate::files;
use crate::train::Event;
use crate::train::event::EpochFigures;
use crate::ui::{Ui, short};
use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// The settings of this section do not decide the result of a run.
const IGNORED_SECTION: &str = "run.";
/// The setting in which the runs of a group differ.
const SEED: &str = "train.seed";

/// The settings of a run by name, such as `train.lr`, and the figures of its epochs.
#[derive(Debug, Clone)]
pub struct RunFigures {
    /// Its folder.
    pub folder: PathBuf,
    /// The settings that decide its result.
    settings: BTreeMap<String, Value>,
    /// The epochs that are over.
    pub epochs: Vec<EpochFigures>,
}

/// Runs that differ by their seed alone.
#[derive(Debug, Clone)]
pub struct Group {
    /// The settings in which it differs from other groups.
    pub settings: BTreeMap<String, Value>,
    /// The runs.
    pub runs: Vec<RunFigures>,
}

/// Mean and standard deviation over the runs of a group. The standard deviation is that of a sample; 0 for one run.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// The standard deviation.
    pub sd: f64,
}

impl RunFigures {
    /// Reads a run's folder. The second result is a message if a line of its metrics is damaged.
    ///
    /// # Errors
    /// A usage error if it is not a run's folder; its files cannot be read.
    pub fn read(folder: &Path) -> Result<(Self, Option<String>)> {
        let (events, damage) = read_run(folder)?;
        Ok((Self::with_events(folder, events)?, damage))
    }

    /// Reads the settings in a run's folder. `events` are those of its metrics.
    ///
    /// # Errors
    /// As for [`RunFigures::read`].
    pub fn with_events(folder: &Path, events: Vec<Event>) -> Result<Self> {
        let path = folder.join(CONFIG_FILE);
        let text = files::read_text(&path, config::LARGEST_FILE).map_err(|error| {
            usage(format!(
                "{}: {error}; expected a run's folder, with {CONFIG_FILE} in it",
                folder.display()
            ))
        })?;
        let table: Table = toml::from_str(&text)
            .with_context(|| format!("{}: is not a run's settings", path.display()))?;
        let settings = config::each(&table).filter(|(name, _)| !name.starts_with(IGNORED_SECTION));
        let settings = settings.map(|(name, value)| (name, value.clone())).collect();
        let epochs = events.into_iter().filter_map(|event| match event {
            Event::Epoch(figures) => Some(figures),
            _ => None,
        });
        Ok(Self { folder: folder.to_owned(), settings, epochs: epochs.collect() })
    }

    /// A run whose settings or metrics cannot be read.
    pub fn unknown(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), settings: BTreeMap::new(), epochs: Vec::new() }
    }

    /// The name of its folder.
    pub fn name(&self) -> String {
        short(&self.folder.file_name().unwrap_or(self.folder.as_os_str()).to_string_lossy())
    }

    /// The value of a setting, such as `train.lr`.
    pub fn setting(&self, name: &str) -> Option<&Value> {
        self.settings.get(name)
    }

    /// The settings that decide its result, by name.
    pub fn settings(&self) -> &BTreeMap<String, Value> {
        &self.settings
    }
}

/// Reads runs' folders. A damaged line of the metrics is a warning.
///
/// # Errors
/// As for [`RunFigures::read`].
pub fn read_all(folders: &[PathBuf], ui: &Ui) -> Result<Vec<RunFigures>> {
    let read = |folder: &PathBuf| {
        let (run, damage) = RunFigures::read(folder)?;
        damage.iter().for_each(|damage| ui.warn(damage));
        Ok(run)
    };
    folders.iter().map(read).collect()
}

/// The names of the settings in which runs differ, such as `train.lr`, in the order of the alphabet.
pub fn differing(runs: &[RunFigures]) -> Vec<String> {
    let names: BTreeSet<&String> = runs.iter().flat_map(|run| run.settings.keys()).collect();
    let differ = |name: &&String| {
        let mut values = runs.iter().map(|run| run.setting(name));
        let first = values.next();
        values.any(|value| Some(value) != first)
    };
    names.into_iter().filter(differ).cloned().collect()
}

/// The runs in groups that differ by more than the seed, in the order of the first run of each.
pub fn groups(runs: Vec<RunFigures>) -> Vec<Group> {
    let mut differ = differing(&runs);
    differ.retain(|name| name != SEED);
    let mut groups: Vec<Group> = Vec::new();
    for run in runs {
        let of_run = |name: &String| Some((name.clone(), run.settings.get(name)?.clone()));
        let settings: BTreeMap<_, _> = differ.iter().filter_map(of_run).collect();
        match groups.iter_mut().find(|group| group.settings == settings) {
            Some(group) => group.runs.push(run),
            None => groups.push(Group { settings, runs: vec![run] }),
        }
    }
    groups
}

impl Group {
    /// The settings without their sections, such as `depth 20, residual false`; `leave_out` is left out.
    pub fn name(&self, leave_out: Option<&str>) -> String {
        let part = |(name, value): (&String, &Value)| {
            let key = key_of(name);
            (Some(key) != leave_out).then(|| match value {
                Value::String(text) => format!("{key} {text}"),
                other => format!("{key} {other}"),
            })
        };
        self.settings.iter().filter_map(part).collect::<Vec<_>>().join(", ")
    }

    /// The value of the setting with this key, such as `batch-size`, if it is a number.
    pub fn number(&self, key: &str) -> Option<f64> {
        let (_, value) = self.settings.iter().find(|(name, _)| key_of(name) == key)?;
        value.as_float().or_else(|| value.as_integer().map(|number| number as f64))
    }

    /// A figure of the last epoch that is over, over the runs that have one.
    pub fn at_end(&self, figure: impl Fn(&EpochFigures) -> Option<f64>) -> Option<Spread> {
        spread(self.runs.iter().filter_map(|run| run.epochs.last().and_then(&figure)))
    }

    /// The mean of a figure at each epoch, over the runs that have it: (epoch, mean).
    pub fn by_epoch(&self, figure: impl Fn(&EpochFigures) -> Option<f64>) -> Vec<(u64, f64)> {
        let mut values: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
        for epoch in self.runs.iter().flat_map(|run| &run.epochs) {
            values.entry(epoch.epoch).or_default().extend(figure(epoch));
        }
        let mean = |(epoch, values): (u64, Vec<f64>)| Some((epoch, spread(values)?.mean));
        values.into_iter().filter_map(mean).collect()
    }
}

/// The key of a setting without its section: `lr` of `train.lr`.
pub fn key_of(name: &str) -> &str {
    name.split_once('.').map_or(name, |(_, key)| key)
}

/// The value of a setting for people; empty if a run does not have it.
pub fn value_text(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => short(text),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

/// Mean and standard deviation of values; `None` if there are none.
pub fn spread(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
    let values: Vec<f64> = values.into_iter().collect();
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let sd = if values.len() > 1 { (squares / (count - 1.0)).sqrt() } else { 0.0 };
    (!values.is_empty()).then_some(Spread { mean, sd })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(settings: &[(&str, i64)], accuracies: &[f64]) -> RunFigures {
        let epoch = |(epoch, &accuracy): (u64, &f64)| EpochFigures {
            epoch,
            step: epoch,
            lr: 0.1,
            train_loss: 1.0,
            train_accuracy: accuracy,
            test_loss: None,
            test_accuracy: None,
            test_images: None,
            validation_loss: None,
            validation_accuracy: None,
            validation_images: None,
            images_per_second: 1.0,
            seconds: 1.0,
            evaluation_seconds: None,
        };
        let settings =
            settings.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value)));
        RunFigures {
            folder: PathBuf::new(),
            settings: settings.collect(),
            epochs: (1..).zip(accuracies).map(epoch).collect(),
        }
    }

    #[test]
    fn runs_of_equal_settings_are_one_group_named_by_what_differs() {
        let runs = vec![
            run(&[("network.depth", 20), ("train.epochs", 2)], &[0.5, 0.8]),
            run(&[("network.depth", 56), ("train.epochs", 2)], &[0.4]),
            run(&[("network.depth", 20), ("train.epochs", 2)], &[0.7, 0.9]),
        ];
        let groups = groups(runs);
        assert_eq!(groups.len(), 2);
        assert_eq!(groups[0].name(None), "depth 20");
        assert_eq!(groups[0].name(Some("depth")), "");
        assert_eq!(groups[1].number("depth"), Some(56.0));
        let accuracy = |epoch: &EpochFigures| Some(epoch.train_accuracy);
        let Spread { mean, sd } = groups[0].at_end(accuracy).unwrap();
        assert!((mean - 0.85).abs() < 1e-12 && (sd - 0.1 / 2f64.sqrt()).abs() < 1e-12);
        assert_eq!(groups[1].at_end(accuracy), Some(Spread { mean: 0.4, sd: 0.0 }));
        let by_epoch = groups[0].by_epoch(accuracy);
        assert!((by_epoch[0].1 - 0.6).abs() < 1e-12 && by_epoch.len() == 2);
        assert_eq!(groups[1].at_end(|epoch| epoch.test_accuracy), None);
    }
}
