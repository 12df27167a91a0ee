//! `metrics.jsonl`: a JSON line an epoch, on disk as soon as the epoch is over.

use crate::files::{self, OWN_FILE, is_taken, numbered, write_atomically};
use crate::train::run::{EndRecord, EpochRecord};
use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
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
    /// The file of a run that goes on after `epoch` epochs and `step` steps (0 for a new run): lines of what
    /// comes later, which will be trained again, are set aside, and the run's end is dropped. A file with
    /// damaged lines is kept as it was, beside the new one. With it, what the user is to be warned of.
    ///
    /// # Errors
    /// A file that cannot be read or written.
    pub fn open(run_dir: &Path, epoch: u64, step: u64) -> Result<(Self, Vec<String>)> {
        let path = run_dir.join(METRICS_FILE);
        let Lines { bytes, lines, damaged } = Lines::read(&path)?;
        let mut warnings = Vec::new();
        if let Some(line) = damaged {
            let copy = set_aside(run_dir, "damaged", &bytes)?;
            warnings.push(format!(
                "{}; the run goes on with the lines that are whole, and the file as it was is now {copy}",
                damage(&path, line)
            ));
        }
        let is_past = |event: &Value| match event["event"].as_str() {
            Some("epoch") => event["epoch"].as_u64().is_none_or(|of| of <= epoch),
            Some(END) => false,
            _ => event["step"].as_u64().is_none_or(|of| of <= step),
        };
        let (past, later): (Vec<_>, Vec<_>) =
            lines.into_iter().partition(|(event, _)| is_past(event));
        // The end alone says nothing that the last epoch's line does not.
        if later.iter().any(|(event, _)| event["event"] != END) {
            let later = later.into_iter().map(|(_, line)| line).collect::<Vec<_>>();
            let copy = set_aside(run_dir, "abandoned", text(&later).as_bytes())?;
            warnings.push(format!(
                "lines of {METRICS_FILE} of later steps, which are trained anew, are now in {copy}"
            ));
        }
        let lines = past.into_iter().map(|(_, line)| line).collect();
        let mut file = Self { path, lines, written: None };
        file.complete()?;
        Ok((file, warnings))
    }

    /// The same lines in another folder, where the run ended otherwise, if at all.
    ///
    /// # Errors
    /// A folder that is read-only, gone or full.
    pub fn copy_to(&self, run_dir: &Path, end: Option<&EndRecord>) -> Result<()> {
        let path = run_dir.join(METRICS_FILE);
        let mut copy = Self { path, lines: self.lines.clone(), written: None };
        if let Some(end) = end {
            copy.lines.retain(|line| !is_end(line));
            copy.add(end)?;
        }
        copy.complete()
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
        let mut file = File::options().append(true).custom_flags(OWN_FILE).open(&self.path)?;
        if !file.metadata()?.is_file() {
            return Err(ErrorKind::InvalidInput.into());
        }
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

/// Keeps some bytes of a run's metrics in a file of their own; its name.
fn set_aside(run_dir: &Path, why: &str, bytes: &[u8]) -> Result<String> {
    let first = format!("{METRICS_FILE}.{why}");
    let name =
        numbered(&first).find(|name| !is_taken(&run_dir.join(name))).context("no name is free")?;
    write_atomically(&run_dir.join(&name), bytes)?;
    Ok(name)
}

/// What a run's metrics file says, line by line, and which line of it is damaged; nothing where there is no
/// file.
///
/// # Errors
/// A file that cannot be read.
pub fn read_run(run_dir: &Path) -> Result<(Vec<Value>, Option<String>)> {
    let path = run_dir.join(METRICS_FILE);
    let Lines { lines, damaged, .. } = Lines::read(&path)?;
    let events = lines.into_iter().map(|(event, _)| event).collect();
    Ok((events, damaged.map(|line| damage(&path, line))))
}

/// Whether a run's metrics file has its end.
///
/// # Errors
/// A file that cannot be read.
pub fn has_end(run_dir: &Path) -> Result<bool> {
    Ok(read_run(run_dir)?.0.iter().any(|event| event["event"] == END))
}

fn is_end(line: &str) -> bool {
    serde_json::from_str::<Value>(line)
        .is_ok_and(|event| event.get("event").is_some_and(|name| name == END))
}

fn damage(path: &Path, line: usize) -> String {
    format!("{}: line {line} is damaged", path.display())
}

/// The event that ends a run.
const END: &str = "end";

/// The largest metrics file that is read, in bytes: some 400 for each of a million epochs.
const LARGEST: u64 = 1 << 29;

/// A metrics file, as it is found.
#[derive(Default)]
struct Lines {
    bytes: Vec<u8>,
    /// The whole lines, each parsed and as it stands.
    lines: Vec<(Value, String)>,
    /// The first line, counted from 1, that is not one that a run writes in its place, such as one that a
    /// kill cut short.
    damaged: Option<usize>,
}

impl Lines {
    fn read(path: &Path) -> Result<Self> {
        let bytes = match files::read(path, LARGEST) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        let (mut lines, mut damaged, mut epochs) = (Vec::new(), None, 0);
        for (index, line) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
            match event(line, &mut epochs) {
                Some(whole) => lines.push(whole),
                None => damaged = damaged.or(Some(index + 1)),
            }
        }
        Ok(Self { bytes, lines, damaged })
    }
}

/// A whole line, parsed and as it stands, after so many `epochs`: those of epochs follow each other.
fn event(line: &[u8], epochs: &mut u64) -> Option<(Value, String)> {
    let line = str::from_utf8(line).ok()?.strip_suffix('\n')?;
    let event: Value = serde_json::from_str(line).ok()?;
    if event.get("event")?.as_str()? == "epoch" {
        let record: EpochRecord = serde_json::from_value(event.clone()).ok()?;
        if record.epoch <= *epochs || !(0.0..=1.0).contains(&record.train_accuracy) {
            return None;
        }
        *epochs = record.epoch;
    }
    Some((event, line.to_owned()))
}
