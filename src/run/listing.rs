//! Lists the checkpoints in a run's folder.

use crate::checkpoint::{BEST, CHECKPOINTS, LAST, State, steps, verify};
use crate::error::one_line;
use crate::run::metrics::read_run;
use crate::train::Event;
use crate::train::event::EpochFigures;
use anyhow::Result;
use serde::Serialize;
use std::fs;
use std::path::Path;

/// A checkpoint, as `resnet checkpoints --json` prints it.
#[derive(Debug, Serialize)]
pub struct Listed {
    /// Optimizer steps since the start of the run.
    pub step: u64,
    /// Epochs that were over. None if the checkpoint cannot be read.
    pub epoch: Option<u64>,
    /// Fraction of the test images that were classified correctly, if the checkpoint was saved at the end of an epoch.
    pub test_accuracy: Option<f64>,
    /// The number of test images, if a limit left some of them out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_images: Option<usize>,
    /// Fraction of the held-out images that were classified correctly.
    pub validation_accuracy: Option<f64>,
    /// The number of held-out images, if a limit left some of them out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation_images: Option<usize>,
    /// Total size of its files in bytes.
    pub bytes: u64,
    /// The links that lead to it: `last`, `best` or both.
    pub names: Vec<&'static str>,
    /// Whether its files are undamaged.
    pub whole: bool,
    /// What is damaged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// The checkpoints of a run from the first to the last, and a message if its metrics are damaged.
///
/// # Errors
/// The folder or the metrics cannot be read.
pub fn checkpoints(run_dir: &Path) -> Result<(Vec<Listed>, Option<String>)> {
    let folder = run_dir.join(CHECKPOINTS);
    let steps = steps(&folder)?;
    let (events, damage) = read_run(run_dir)?;
    let mut listed: Vec<Listed> =
        steps.into_iter().map(|step| list(&folder, step, &events)).collect();
    // A running process may have deleted a checkpoint in the meantime.
    listed
        .retain(|checkpoint| checkpoint.whole || folder.join(checkpoint.step.to_string()).exists());
    Ok((listed, damage))
}

fn list(folder: &Path, step: u64, events: &[Event]) -> Listed {
    let path = folder.join(step.to_string());
    let figures: Option<&EpochFigures> = events.iter().find_map(|event| match event {
        Event::Epoch(figures) if figures.step == step => Some(figures),
        _ => None,
    });
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
        test_accuracy: figures.and_then(|figures| figures.test_accuracy),
        test_images: figures.and_then(|figures| figures.test_images),
        validation_accuracy: figures.and_then(|figures| figures.validation_accuracy),
        validation_images: figures.and_then(|figures| figures.validation_images),
        bytes,
        names: names.collect(),
        whole: fault.is_none(),
        fault,
    }
}
