//! The figures of a sweep: a table of trials, JSON lines, and a CSV file of runs.

use super::Job;
use crate::cli::SweepArgs;
use crate::files;
use crate::run::compare::{RunFigures, Spread, spread};
use crate::run::metrics::has_end;
use crate::run::sweep::{Trial, text};
use crate::train::event::EpochFigures;
use crate::ui::{Ui, duration, table};
use anyhow::{Context, Result};
use serde_json::json;
use std::collections::BTreeSet;
use std::path::Path;

/// The mean accuracy of a trial's runs on the held-out images after an epoch; `None` if a run has none.
pub fn validation_accuracy(jobs: &[Job], trial: usize, epoch: u64) -> Option<f64> {
    let of_trial = jobs.iter().filter(|job| job.trial == trial);
    let accuracies: Option<Vec<f64>> = of_trial
        .map(|job| {
            let figures = figures(job)?;
            // A shorter run, or one that ran out of patience, has no later epoch.
            let last = figures.epochs.iter().rev().find(|figures| figures.epoch <= epoch)?;
            last.validation_accuracy
        })
        .collect();
    spread(accuracies?).map(|accuracy| accuracy.mean)
}

fn figures(job: &Job) -> Option<RunFigures> {
    RunFigures::read(&job.folder).ok().map(|(figures, _)| figures)
}

/// What became of a run or a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Finished,
    EndedEarly,
    Failed,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::EndedEarly => "ended early",
            Self::Failed => "failed",
        }
    }
}

/// What a run wrote, read once.
struct RunResult<'a> {
    job: &'a Job,
    state: State,
    epochs: Vec<EpochFigures>,
    /// Seconds of training; `None` if the run never began.
    seconds: Option<f64>,
}

impl<'a> RunResult<'a> {
    fn read(job: &'a Job) -> Self {
        let state = match (job.failed().exists(), has_end(&job.folder).unwrap_or(false)) {
            (true, _) => State::Failed,
            (false, true) => State::Finished,
            (false, false) => State::EndedEarly,
        };
        let epochs = figures(job).map(|figures| figures.epochs);
        let sum = |epochs: &Vec<EpochFigures>| epochs.iter().map(|epoch| epoch.seconds).sum();
        let seconds = epochs.as_ref().map(sum);
        Self { job, state, epochs: epochs.unwrap_or_default(), seconds }
    }
}

/// Prints the figures of all trials, and writes the CSV file. With held-out images, the best trial is the first.
///
/// # Errors
/// The CSV file cannot be written.
pub fn show(trials: &[Trial], jobs: &[Job], args: &SweepArgs, ui: &Ui) -> Result<()> {
    let results: Vec<RunResult> = jobs.iter().map(RunResult::read).collect();
    let mut rows: Vec<Row> = trials.iter().map(|trial| Row::new(trial, &results)).collect();
    // The test images choose nothing, so they do not decide the order either. Trials that ended early come last.
    let key = |row: &Row| (row.epochs, row.validation.map_or(f64::MIN, |accuracy| accuracy.mean));
    if rows.iter().any(|row| row.validation.is_some()) {
        rows.sort_by(|a, b| key(b).partial_cmp(&key(a)).unwrap_or(std::cmp::Ordering::Equal));
    }
    if let Some(path) = &args.csv {
        write_csv(trials, &results, path)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if ui.is_json() {
        rows.iter().for_each(|row| ui.json(&row.json()));
        return Ok(());
    }
    let heads = [
        "trial",
        "settings",
        "runs",
        "epochs",
        "validation accuracy",
        "test accuracy",
        "training time",
        "state",
    ];
    let mut lines = vec![heads.map(String::from).to_vec()];
    lines.extend(rows.iter().map(Row::line));
    ui.out(table(&lines, 2..7));
    Ok(())
}

/// The figures of a trial.
struct Row<'a> {
    trial: &'a Trial,
    state: State,
    runs: usize,
    epochs: u64,
    validation: Option<Spread>,
    test: Option<Spread>,
    seconds: Option<f64>,
}

impl<'a> Row<'a> {
    fn new(trial: &'a Trial, results: &[RunResult]) -> Self {
        let of_trial = || results.iter().filter(|result| result.job.trial == trial.number);
        let last: Vec<&EpochFigures> =
            of_trial().filter_map(|result| result.epochs.last()).collect();
        let over = |figure: fn(&EpochFigures) -> Option<f64>| {
            spread(last.iter().filter_map(|epoch| figure(epoch)))
        };
        Self {
            trial,
            // The worst of its runs decides.
            state: of_trial().map(|result| result.state).max().unwrap_or(State::Finished),
            runs: last.len(),
            epochs: last.iter().map(|epoch| epoch.epoch).max().unwrap_or_default(),
            validation: over(|epoch| epoch.validation_accuracy),
            test: over(|epoch| epoch.test_accuracy),
            seconds: spread(of_trial().filter_map(|result| result.seconds)).map(|s| s.mean),
        }
    }

    fn line(&self) -> Vec<String> {
        let accuracy = |accuracy: Option<Spread>| match accuracy {
            None => "none".to_owned(),
            Some(Spread { mean, .. }) if self.runs < 2 => format!("{mean:.4}"),
            Some(Spread { mean, sd }) => format!("{mean:.4} ± {sd:.4}"),
        };
        let settings =
            self.trial.values.iter().map(|(key, value)| format!("{key} {}", text(value)));
        let settings = match self.trial.values.is_empty() {
            true => "no change".to_owned(),
            false => settings.collect::<Vec<_>>().join(", "),
        };
        vec![
            self.trial.number.to_string(),
            settings,
            self.runs.to_string(),
            self.epochs.to_string(),
            accuracy(self.validation),
            accuracy(self.test),
            self.seconds.map_or("none".to_owned(), duration),
            self.state.name().to_owned(),
        ]
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "trial": self.trial.number,
            "settings": self.trial.values,
            "state": self.state.name(),
            "runs": self.runs,
            "epochs": self.epochs,
            "validation_accuracy": self.validation,
            "test_accuracy": self.test,
            "seconds": self.seconds,
        })
    }
}

/// A line for each run: its settings, and the figures of its last epoch.
fn write_csv(trials: &[Trial], results: &[RunResult], path: &Path) -> Result<()> {
    let keys: BTreeSet<&String> = trials.iter().flat_map(|trial| trial.values.keys()).collect();
    let mut csv = csv::Writer::from_writer(Vec::new());
    let figures_heads = [
        "state",
        "epochs",
        "train_loss",
        "train_accuracy",
        "validation_accuracy",
        "test_accuracy",
        "seconds",
    ];
    let heads = ["trial", "seed"].into_iter().chain(keys.iter().map(|key| key.as_str()));
    csv.write_record(heads.chain(figures_heads))?;
    for result in results {
        let RunResult { job, state, epochs, seconds } = result;
        let trial = trials.iter().find(|trial| trial.number == job.trial);
        let values = trial.map(|trial| &trial.values);
        let value =
            |key: &&String| values.and_then(|values| values.get(*key)).map_or(String::new(), text);
        let last = epochs.last();
        let number =
            |number: Option<f64>| number.map_or(String::new(), |number| number.to_string());
        let of_last = |figure: fn(&EpochFigures) -> Option<f64>| number(last.and_then(figure));
        let mut record = vec![job.trial.to_string(), job.seed.to_string()];
        record.extend(keys.iter().map(value));
        record.extend([
            state.name().to_owned(),
            last.map_or(0, |epoch| epoch.epoch).to_string(),
            of_last(|epoch| Some(epoch.train_loss)),
            of_last(|epoch| Some(epoch.train_accuracy)),
            of_last(|epoch| epoch.validation_accuracy),
            of_last(|epoch| epoch.test_accuracy),
            number(*seconds),
        ]);
        csv.write_record(record)?;
    }
    let bytes = csv.into_inner().map_err(|error| error.into_error())?;
    files::write_atomically(path, &bytes)
}
