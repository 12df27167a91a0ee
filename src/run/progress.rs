//! `progress.json`: how far the epoch under way is. It tells other processes what a run does now, and is gone when no
//! process trains the run. Nothing else depends on it.

use crate::files;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::Path;

/// The name of the file in a run's folder.
const PROGRESS_FILE: &str = "progress.json";
/// The largest file that is read, in bytes: about 60 times the usual size.
const LARGEST: u64 = 1 << 15;

/// How far the epoch under way is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// The epoch, counted from 1.
    pub epoch: u64,
    /// Epochs in the run.
    pub epochs: u64,
    /// Steps of the epoch that are done.
    pub step: usize,
    /// Steps in the epoch.
    pub steps: usize,
    /// Mean training loss of the epoch so far, in nats. None before the first step.
    pub loss: Option<f64>,
    /// Training accuracy of the epoch so far.
    pub accuracy: Option<f64>,
    /// Training images per second in the epoch so far.
    pub images_per_second: Option<f64>,
    /// Learning rate of the last step.
    pub lr: Option<f64>,
    /// Images that were evaluated so far. None if the epoch still trains.
    pub evaluated: Option<usize>,
    /// Images to evaluate.
    pub to_evaluate: Option<usize>,
    /// Seconds until the epoch's last step, estimated.
    pub epoch_seconds_left: Option<f64>,
    /// Seconds until the run's end, estimated.
    pub run_seconds_left: Option<f64>,
    /// Memory in use, in bytes: of the process, or the most that was used on a GPU.
    pub memory_bytes: Option<u64>,
    /// When this was written, in seconds since 1970.
    pub written: u64,
}

impl Progress {
    /// The fraction of the epoch's steps that are done.
    pub fn of_epoch(&self) -> f64 {
        (self.step as f64 / self.steps.max(1) as f64).min(1.0)
    }

    /// The fraction of the run's steps that are done.
    pub fn of_run(&self) -> f64 {
        let epochs = self.epoch.saturating_sub(1) as f64 + self.of_epoch();
        (epochs / self.epochs.max(1) as f64).min(1.0)
    }
}

/// The progress in a run's folder. None if there is none, or if it cannot be read.
pub fn read(run_dir: &Path) -> Option<Progress> {
    let text = files::read_text(&run_dir.join(PROGRESS_FILE), LARGEST).ok()?;
    serde_json::from_str(&text).ok()
}

/// Writes the progress into a run's folder. It does not wait for the disk, because the file is only for the next
/// second.
///
/// # Errors
/// The folder is read-only, gone or full.
pub fn write(run_dir: &Path, progress: &Progress) -> io::Result<()> {
    files::replace(&run_dir.join(PROGRESS_FILE), &serde_json::to_vec(progress)?)
}

/// Removes the progress from a run's folder.
pub fn remove(run_dir: &Path) {
    let _ = fs::remove_file(run_dir.join(PROGRESS_FILE));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_anything_else_is_no_progress() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        assert_eq!(read(path), None);
        let progress = Progress {
            epoch: 3,
            epochs: 4,
            step: 1,
            steps: 2,
            lr: Some(0.1),
            ..Progress::default()
        };
        write(path, &progress).unwrap();
        assert_eq!(read(path), Some(progress.clone()));
        assert_eq!((progress.of_epoch(), progress.of_run()), (0.5, 0.625));
        assert_eq!(fs::read_dir(path).unwrap().count(), 1, "no temporary file is left");
        fs::write(path.join(PROGRESS_FILE), "{\"epoch\":-1}").unwrap();
        assert_eq!(read(path), None);
        remove(path);
        fs::create_dir(path.join(PROGRESS_FILE)).unwrap();
        assert!(write(path, &progress).is_err());
        assert_eq!((read(path), Progress::default().of_run()), (None, 0.0));
    }
}
