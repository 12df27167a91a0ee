//! `metrics.jsonl`: a JSON line an epoch, on disk as soon as the epoch is over.

use crate::files::write_atomically;
use crate::train::run::EpochRecord;
use anyhow::{Context, Result};
use serde::Serialize;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The metrics file of a run.
#[derive(Debug)]
pub struct MetricsFile {
    path: PathBuf,
}

impl MetricsFile {
    /// The file of a run that goes on after `epoch` epochs (0 for a new run): the lines of later
    /// epochs, which will be trained again, are dropped.
    ///
    /// # Errors
    /// A file that cannot be read or written.
    pub fn open(run_dir: &Path, epoch: u64) -> Result<Self> {
        let path = run_dir.join("metrics.jsonl");
        let file = Self { path };
        if file.path.exists() {
            let text = file.read()?;
            let kept = epoch_lines(&text).filter(|(record, _)| record.epoch <= epoch);
            let kept: String = kept.flat_map(|(_, line)| [line, "\n"]).collect();
            write_atomically(&file.path, kept.as_bytes())?;
        }
        Ok(file)
    }

    /// Adds a line and waits until it is on disk.
    ///
    /// # Errors
    /// A folder that is read-only, gone or full.
    pub fn append(&self, record: &impl Serialize) -> Result<()> {
        let append = || -> Result<()> {
            let mut file = OpenOptions::new().create(true).append(true).open(&self.path)?;
            file.write_all((serde_json::to_string(record)? + "\n").as_bytes())?;
            Ok(file.sync_data()?)
        };
        append().with_context(|| format!("cannot write {}", self.path.display()))
    }

    fn read(&self) -> Result<String> {
        fs::read_to_string(&self.path)
            .with_context(|| format!("cannot read {}", self.path.display()))
    }
}

/// The epochs in a metrics file with their lines; a line that a kill cut short is passed over, as
/// are other events.
fn epoch_lines(text: &str) -> impl Iterator<Item = (EpochRecord, &str)> {
    text.lines()
        .filter_map(|line| Some((serde_json::from_str::<EpochRecord>(line).ok()?, line)))
        .filter(|(record, _)| record.event == "epoch")
}
