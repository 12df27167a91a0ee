//! `resnet checkpoints`: what a run has saved, and whether it is as it was written.

use crate::checkpoint::{BEST, CHECKPOINTS, LAST, State, steps, verify};
use crate::cli::CheckpointsArgs;
use crate::error::{one_line, usage};
use crate::report::metrics::read_run;
use crate::ui::{Ui, accuracy_text, grouped, table};
use anyhow::{Result, bail};
use serde::Serialize;
use serde_json::Value;
use std::fs;
use std::path::Path;

/// A checkpoint, as it stands on stdout with `--json`.
#[derive(Debug, Serialize)]
struct Listed {
    /// Optimizer steps of the run.
    step: u64,
    /// Epochs that were over; none where it cannot be read.
    epoch: Option<u64>,
    /// Fraction of test images classified right, where the checkpoint is of an epoch's end.
    test_accuracy: Option<f64>,
    /// How many test images that is of, where a limit left some out.
    #[serde(skip_serializing_if = "Option::is_none")]
    test_images: Option<usize>,
    /// The same of the held-out images.
    validation_accuracy: Option<f64>,
    /// How many held-out images that is of, where a limit left some out.
    #[serde(skip_serializing_if = "Option::is_none")]
    validation_images: Option<usize>,
    /// Bytes of its files.
    bytes: u64,
    /// Which of `last` and `best` lead to it.
    names: Vec<&'static str>,
    /// Whether its files are as they were written.
    whole: bool,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
}

/// Runs `resnet checkpoints`.
///
/// # Errors
/// A folder that is none of a run; a checkpoint or metrics that are damaged, once all is listed.
pub fn run(args: &CheckpointsArgs, ui: &Ui) -> Result<()> {
    let folder = args.run.join(CHECKPOINTS);
    if !args.run.exists() {
        return Err(usage(format!(
            "{}: no such folder; expected a run's folder, with {CHECKPOINTS} in it",
            args.run.display()
        )));
    }
    if !folder.is_dir() {
        return Err(usage(format!(
            "{}: holds no checkpoints; expected a run's folder, with {CHECKPOINTS} in it",
            args.run.display()
        )));
    }
    let steps = steps(&folder)?;
    let (metrics, damaged_metrics) = read_run(&args.run)?;
    let mut listed: Vec<Listed> =
        steps.into_iter().map(|step| list(&folder, step, &metrics)).collect();
    // A run that is training may have deleted one meanwhile.
    listed
        .retain(|checkpoint| checkpoint.whole || folder.join(checkpoint.step.to_string()).exists());
    if ui.is_json() {
        listed.iter().for_each(|checkpoint| ui.json(checkpoint));
    } else {
        print(&listed, ui);
    }
    let faults: Vec<_> = listed.iter().filter_map(|checkpoint| checkpoint.fault.as_ref()).collect();
    faults.iter().copied().chain(&damaged_metrics).for_each(|fault| ui.warn(fault));
    if !faults.is_empty() {
        bail!("{}: {} of {} checkpoints are damaged", folder.display(), faults.len(), listed.len());
    }
    if damaged_metrics.is_some() {
        bail!("{}: its metrics are damaged; its checkpoints are intact", args.run.display());
    }
    Ok(())
}

fn print(listed: &[Listed], ui: &Ui) {
    let mut lines =
        vec![["step", "epoch", "validation", "test", "bytes", "state", ""].map(String::from)];
    let figure = |accuracy: Option<f64>, limited| {
        accuracy.map_or_else(String::new, |accuracy| accuracy_text(accuracy, limited))
    };
    lines.extend(listed.iter().map(|checkpoint| {
        [
            checkpoint.step.to_string(),
            checkpoint.epoch.map_or_else(String::new, |epoch| epoch.to_string()),
            figure(checkpoint.validation_accuracy, checkpoint.validation_images),
            figure(checkpoint.test_accuracy, checkpoint.test_images),
            grouped(checkpoint.bytes as usize),
            if checkpoint.whole { "intact" } else { "damaged" }.to_owned(),
            checkpoint.names.join(", "),
        ]
    }));
    ui.out(table(&lines, 0..5));
}

fn list(folder: &Path, step: u64, metrics: &[Value]) -> Listed {
    let path = folder.join(step.to_string());
    let epoch = metrics.iter().find(|line| line["event"] == "epoch" && line["step"] == step);
    let accuracy = |key: &str| epoch?.get(key)?.as_f64();
    let images = |key: &str| epoch?.get(key)?.as_u64().map(|images| images as usize);
    let fault = verify(&path).err().map(|error| one_line(&error));
    let names = [LAST, BEST].into_iter().filter(|name| {
        fs::read_link(folder.join(name)).is_ok_and(|link| link == Path::new(&step.to_string()))
    });
    let files = fs::read_dir(&path).into_iter().flatten();
    let lengths = files.map(|file| Ok::<_, std::io::Error>(file?.metadata()?.len()));
    let bytes = lengths.filter_map(Result::ok).sum();
    Listed {
        step,
        epoch: State::read(&path).ok().map(|state| state.epoch),
        test_accuracy: accuracy("test_accuracy"),
        test_images: images("test_images"),
        validation_accuracy: accuracy("validation_accuracy"),
        validation_images: images("validation_images"),
        bytes,
        names: names.collect(),
        whole: fault.is_none(),
        fault,
    }
}
