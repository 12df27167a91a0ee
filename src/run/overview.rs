//! The runs in a folder, each in a few figures.

use super::folder::{CONFIG_FILE, is_in_use};
use super::metrics::read_run;
use crate::checkpoint::{CHECKPOINTS, LAST, State as SavedState};
use crate::cli::Options;
use crate::config::Config;
use crate::error::one_line;
use crate::train::Event;
use crate::train::event::{EndFigures, EpochFigures};
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Runs are searched for in folders of folders down to this depth, such as in the folder of a sweep.
const DEEPEST: usize = 3;

/// What became of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// A process trains it.
    Running,
    /// It was stopped or killed, and can be resumed.
    Stopped,
    /// It trained its last epoch.
    Finished,
    /// It ended, and its losses show that it diverged.
    Diverged,
    /// Its settings or its metrics cannot be read.
    Damaged,
}

impl State {
    /// The state in a table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Finished => "finished",
            Self::Diverged => "diverged",
            Self::Damaged => "damaged",
        }
    }
}

/// A run in a few figures, as `resnet runs --json` prints it.
#[derive(Debug, Clone, Serialize)]
pub struct Overview {
    /// Its folder.
    pub run: PathBuf,
    /// What became of it.
    pub state: State,
    /// Its network in words; `None` if its settings cannot be read.
    pub network: Option<String>,
    /// The name of its data set.
    pub dataset: Option<String>,
    /// Epochs that are over.
    pub epochs_done: u64,
    /// Epochs that the run was started for.
    pub epochs: Option<u64>,
    /// Test accuracy after the last epoch that is over.
    pub test_accuracy: Option<f64>,
    /// The highest accuracy after an epoch: on the held-out images, or else on the test images.
    pub best_accuracy: Option<f64>,
    /// Seconds of the run over all its parts.
    pub seconds: f64,
    /// When something was written last, in seconds since 1970.
    pub changed: u64,
    /// What is damaged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// The runs in a folder and in its folders, those that changed last first. A run's own folder gives this run.
pub fn runs(folder: &Path) -> Vec<Overview> {
    let mut found = Vec::new();
    search(folder, DEEPEST, &mut found);
    let mut runs: Vec<Overview> = found.iter().map(|run| overview(run).0).collect();
    runs.sort_by(|a, b| b.changed.cmp(&a.changed).then_with(|| a.run.cmp(&b.run)));
    runs
}

fn search(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    if is_run(folder) {
        found.push(folder.to_owned());
        return;
    }
    if depth == 0 {
        return;
    }
    for entry in fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
        // Links are not followed, because they can lead around in a circle.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            search(&entry.path(), depth - 1, found);
        }
    }
}

/// Whether a folder is a run's folder.
pub fn is_run(folder: &Path) -> bool {
    folder.join(CONFIG_FILE).is_file()
}

/// A run in a few figures, and the events that its metrics tell.
pub fn overview(run: &Path) -> (Overview, Vec<Event>) {
    let config = Config::load(Some(&run.join(CONFIG_FILE)), &Options::default());
    let metrics = read_run(run);
    let fault = match (&config, &metrics) {
        (Err(error), _) | (Ok(_), Err(error)) => Some(one_line(error)),
        (Ok(_), Ok((_, damage))) => damage.clone(),
    };
    let events = metrics.map(|(events, _)| events).unwrap_or_default();
    let epochs: Vec<&EpochFigures> = events
        .iter()
        .filter_map(|event| match event {
            Event::Epoch(figures) => Some(figures),
            _ => None,
        })
        .collect();
    let end: Option<&EndFigures> = events.iter().find_map(|event| match event {
        Event::End(figures) => Some(figures),
        _ => None,
    });
    let state = match (end, &fault) {
        // A line that is being written looks damaged.
        (None, _) if is_in_use(run) => State::Running,
        (_, Some(_)) => State::Damaged,
        (Some(end), None) if end.diverged => State::Diverged,
        (Some(_), None) => State::Finished,
        (None, None) => State::Stopped,
    };
    let highest = |accuracy: fn(&EpochFigures) -> Option<f64>| {
        epochs.iter().filter_map(|epoch| accuracy(epoch)).max_by(f64::total_cmp)
    };
    let trained = || epochs.iter().map(|epoch| epoch.seconds).sum();
    let saved = || Some(SavedState::read(&run.join(CHECKPOINTS).join(LAST)).ok()?.seconds);
    let config = config.ok();
    let overview = Overview {
        run: run.to_owned(),
        state,
        network: config.as_ref().map(|config| config.spec.to_string()),
        dataset: config.as_ref().map(|config| config.dataset.name.to_owned()),
        epochs_done: epochs.last().map_or(0, |epoch| epoch.epoch),
        epochs: config.as_ref().map(|config| config.recipe.epochs),
        test_accuracy: epochs.iter().rev().find_map(|epoch| epoch.test_accuracy),
        best_accuracy: highest(|epoch| epoch.validation_accuracy)
            .or_else(|| highest(|epoch| epoch.test_accuracy)),
        seconds: end.map(|end| end.seconds).or_else(saved).unwrap_or_else(trained),
        changed: changed(run),
        fault,
    };
    (overview, events)
}

/// When one of the files in a run's folder changed last, in seconds since 1970. A report can be written much later.
fn changed(run: &Path) -> u64 {
    let is_report =
        |entry: &fs::DirEntry| entry.file_name().as_encoded_bytes().starts_with(b"report");
    let entries = fs::read_dir(run).into_iter().flatten().filter_map(Result::ok);
    let entries = entries.filter(|entry| !is_report(entry));
    let times = entries.filter_map(|entry| entry.metadata().ok()?.modified().ok());
    let since = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).ok();
    times.filter_map(since).max().map_or(0, |time| time.as_secs())
}
