//! `metrics.jsonl`: a JSON line an epoch, on disk as soon as the epoch is over.

use crate::files::write_atomically;
use crate::train::run::EpochRecord;
use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// The metrics file of a run.
#[derive(Debug)]
pub struct MetricsFile {
    path: PathBuf,
    lines: Vec<String>,
    /// How many of the lines the file holds; none where it is not known to hold those alone.
    written: Option<usize>,
}

/// The name of the file in a run's folder.
const METRICS_FILE: &str = "metrics.jsonl";

impl MetricsFile {
    /// The file of a run that goes on after `epoch` epochs and `step` steps (0 for a new run): lines
    /// of what comes later, which will be trained again, are dropped, and so is the run's end.
    ///
    /// # Errors
    /// A file that cannot be read or written.
    pub fn open(run_dir: &Path, epoch: u64, step: u64) -> Result<Self> {
        let mut file = Self { path: run_dir.join(METRICS_FILE), lines: Vec::new(), written: None };
        file.lines = read_lines(&file.path)?
            .into_iter()
            .filter(|(event, _)| match event["event"].as_str() {
                Some("epoch") => event["epoch"].as_u64().is_some_and(|of| of <= epoch),
                Some("resume" | "out-of-memory") => {
                    event["step"].as_u64().is_some_and(|of| of <= step)
                }
                _ => false,
            })
            .map(|(_, line)| line)
            .collect();
        file.complete()?;
        Ok(file)
    }

    /// The same lines in another folder.
    ///
    /// # Errors
    /// A folder that is read-only, gone or full.
    pub fn copy_to(&self, run_dir: &Path) -> Result<()> {
        let path = run_dir.join(METRICS_FILE);
        Self { path, lines: self.lines.clone(), written: None }.complete()
    }

    /// Adds a line, for [`MetricsFile::complete`] to write.
    ///
    /// # Errors
    /// A record that is no JSON object.
    pub fn add(&mut self, record: &impl Serialize) -> Result<()> {
        self.lines.push(serde_json::to_string(record)?);
        Ok(())
    }

    /// Writes the lines that the file lacks, and waits until they are on disk.
    ///
    /// # Errors
    /// A folder that is read-only, gone or full; the lines are written the next time.
    pub fn complete(&mut self) -> Result<()> {
        let written = self.written.take().filter(|written| self.append(*written).is_ok());
        if written.is_none() {
            write_atomically(&self.path, text(&self.lines).as_bytes())?;
        }
        self.written = Some(self.lines.len());
        Ok(())
    }

    fn append(&self, written: usize) -> std::io::Result<()> {
        let missing = self.lines.get(written..).unwrap_or_default();
        if missing.is_empty() {
            return Ok(());
        }
        let mut file = OpenOptions::new().append(true).open(&self.path)?;
        file.write_all(text(missing).as_bytes())?;
        file.sync_data()
    }

    /// The last epoch in it.
    pub fn last_epoch(&self) -> Option<EpochRecord> {
        self.epochs_backwards().next()
    }

    /// The epoch that ended with a step of the run.
    pub fn epoch_of(&self, step: u64) -> Option<EpochRecord> {
        self.epochs_backwards().find(|record| record.step == step)
    }

    fn epochs_backwards(&self) -> impl Iterator<Item = EpochRecord> {
        let records = self.lines.iter().rev();
        records
            .filter_map(|line| serde_json::from_str::<EpochRecord>(line).ok())
            .filter(|record| record.event == "epoch")
    }
}

fn text(lines: &[String]) -> String {
    lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
}

/// The lines of a run's metrics file, each parsed and as it stands; none where there is no file. A
/// line that a kill cut short is passed over.
///
/// # Errors
/// A file that cannot be read.
pub fn read_run(run_dir: &Path) -> Result<Vec<Value>> {
    let lines = read_lines(&run_dir.join(METRICS_FILE))?;
    Ok(lines.into_iter().map(|(event, _)| event).collect())
}

/// Whether a run's metrics file has its end.
///
/// # Errors
/// A file that cannot be read.
pub fn has_end(run_dir: &Path) -> Result<bool> {
    Ok(read_run(run_dir)?.iter().any(|event| event["event"] == "end"))
}

fn read_lines(path: &Path) -> Result<Vec<(Value, String)>> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes)
            .lines()
            .filter_map(|line| Some((serde_json::from_str(line).ok()?, line.to_owned())))
            .collect()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}
