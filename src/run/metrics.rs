//! `metrics.jsonl`: a JSON line for each epoch. It is on disk as soon as the epoch is over. So is `metrics.csv`, which
//! repeats the epochs.

use super::folder::RunFolder;
use super::growing::{GrowingFile, joined};
use super::table::{self, TABLE_FILE};
use crate::error::one_line;
use crate::files::{self, is_taken, numbered, write_atomically};
use crate::train::event::EpochFigures;
use crate::train::{Event, Sink};
use anyhow::{Context, Result};
use serde_json::Value;
use std::io::ErrorKind;
use std::path::Path;

/// The metrics file of a run.
#[derive(Debug)]
pub struct MetricsFile<'a> {
    folder: &'a RunFolder,
    file: GrowingFile,
    /// `metrics.csv`, which repeats the epochs of the file.
    table: GrowingFile,
}

/// The name of the file in a run's folder.
const METRICS_FILE: &str = "metrics.jsonl";

impl Sink for MetricsFile<'_> {
    /// Writes a line for an event, if the file has lines of this kind. If that fails, the line is written with the next
    /// one. The same goes for the table.
    fn take(&mut self, event: &Event) -> Result<()> {
        if !is_kept(event) {
            return Ok(());
        }
        self.file.lines.push(serde_json::to_string(event)?);
        if let Event::Epoch(figures) = event {
            self.table.lines.push(table::row(figures)?);
        }
        self.folder.ensure()?;
        self.complete()?;
        self.complete_table()
    }
}

/// Whether the metrics file has lines of this kind.
fn is_kept(event: &Event) -> bool {
    matches!(
        event,
        Event::Epoch(_) | Event::OutOfMemory { .. } | Event::Resume { .. } | Event::End(_)
    )
}

impl<'a> MetricsFile<'a> {
    /// The file of a run that continues after `epoch` epochs and `step` steps (0 for a new run). Later steps will be
    /// repeated, so their lines are moved to another file. The line of the run's end is removed. If lines are damaged,
    /// a copy of the old file is kept. The second result is a list of warnings for the user.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub fn open(folder: &'a RunFolder, epoch: u64, step: u64) -> Result<(Self, Vec<String>)> {
        let run_dir = folder.path();
        let path = run_dir.join(METRICS_FILE);
        let Lines { bytes, lines, damaged } = Lines::read(&path)?;
        let mut warnings = Vec::new();
        if let Some(line) = damaged {
            let copy = set_aside(run_dir, "damaged", &bytes)?;
            warnings.push(format!(
                "{}; the run continues with the undamaged lines, and a copy of the damaged file is {copy}",
                damage(&path, line)
            ));
        }
        let (past, later): (Vec<_>, Vec<_>) =
            lines.into_iter().partition(|line| line.is_before(epoch, step));
        // A line of the run's end has no information that the last epoch's line lacks, so it needs no copy.
        if later.iter().any(|line| !matches!(line.event, Event::End(_))) {
            let later: Vec<_> = later.into_iter().map(|line| line.text).collect();
            let copy = set_aside(run_dir, "abandoned", joined(&later).as_bytes())?;
            warnings.push(format!(
                "later steps are repeated, so their lines of {METRICS_FILE} are now in {copy}"
            ));
        }
        let epochs = past.iter().filter_map(|line| match &line.event {
            Event::Epoch(figures) => Some(figures),
            _ => None,
        });
        let table = GrowingFile::new(run_dir.join(TABLE_FILE), table::lines(epochs)?);
        let lines = past.into_iter().map(|line| line.text).collect();
        let mut file = Self { folder, file: GrowingFile::new(path, lines), table };
        file.complete()?;
        // The run itself does not need the table.
        warnings.extend(file.complete_table().err().map(|error| one_line(&error)));
        Ok((file, warnings))
    }

    /// Writes the lines and the table into another folder. If `end` is given, it replaces the line of the run's end.
    ///
    /// # Errors
    /// The folder is read-only, gone or full.
    pub fn copy_to(&self, run_dir: &Path, end: Option<&Event>) -> Result<()> {
        let mut lines = self.file.lines.clone();
        if let Some(end) = end {
            let is_end = |line: &str| matches!(serde_json::from_str(line), Ok(Event::End(_)));
            lines.retain(|line| !is_end(line));
            lines.push(serde_json::to_string(end)?);
        }
        write_atomically(&run_dir.join(METRICS_FILE), joined(&lines).as_bytes())?;
        write_atomically(&run_dir.join(TABLE_FILE), joined(&self.table.lines).as_bytes())
    }

    /// Writes the lines that are missing in the file, and waits until they are on disk.
    ///
    /// # Errors
    /// The folder is read-only, gone or full. The next call tries again.
    pub fn complete(&mut self) -> Result<()> {
        self.file.complete()
    }

    /// Does the same for the table, which repeats the epochs.
    ///
    /// # Errors
    /// As for [`MetricsFile::complete`].
    pub fn complete_table(&mut self) -> Result<()> {
        self.table.complete()
    }

    /// The last epoch in the file.
    pub fn last_epoch(&self) -> Option<EpochFigures> {
        self.epochs_backwards().next()
    }

    /// The epoch that ended with this step of the run.
    pub fn epoch_of(&self, step: u64) -> Option<EpochFigures> {
        self.epochs_backwards().find(|figures| figures.step == step)
    }

    fn epochs_backwards(&self) -> impl Iterator<Item = EpochFigures> {
        self.file.lines.iter().rev().filter_map(|line| match serde_json::from_str(line) {
            Ok(Event::Epoch(figures)) => Some(figures),
            _ => None,
        })
    }
}

/// Copies some bytes of a run's metrics to a new file. Returns the file's name.
fn set_aside(run_dir: &Path, why: &str, bytes: &[u8]) -> Result<String> {
    let first = format!("{METRICS_FILE}.{why}");
    let name =
        numbered(&first).find(|name| !is_taken(&run_dir.join(name))).context("no name is free")?;
    write_atomically(&run_dir.join(&name), bytes)?;
    Ok(name)
}

/// The events in a run's metrics file, and a message about the first damaged line, if there is one. No events if there
/// is no file.
///
/// # Errors
/// The file cannot be read.
pub fn read_run(run_dir: &Path) -> Result<(Vec<Event>, Option<String>)> {
    let path = run_dir.join(METRICS_FILE);
    let Lines { lines, damaged, .. } = Lines::read(&path)?;
    let events = lines.into_iter().map(|line| line.event).collect();
    Ok((events, damaged.map(|line| damage(&path, line))))
}

/// Whether a run's metrics file has the line of the run's end.
///
/// # Errors
/// The file cannot be read.
pub fn has_end(run_dir: &Path) -> Result<bool> {
    Ok(read_run(run_dir)?.0.iter().any(|event| matches!(event, Event::End(_))))
}

fn damage(path: &Path, line: usize) -> String {
    format!("{}: line {line} is damaged", path.display())
}

/// The largest metrics file that is read, in bytes: about 400 for each of a million epochs.
const LARGEST: u64 = 1 << 29;

/// The content of a metrics file.
#[derive(Default)]
struct Lines {
    bytes: Vec<u8>,
    /// The undamaged lines.
    lines: Vec<Line>,
    /// The number of the first damaged line, counted from 1. A line is damaged if it is not a complete JSON event, if its
    /// epoch is not larger than the one before, or if its training accuracy is not between 0 and 1. A killed process can
    /// leave an incomplete line.
    damaged: Option<usize>,
}

/// An undamaged line.
struct Line {
    event: Event,
    /// The value of the line's key `step`, also for events of other versions of the program. None if there is no such
    /// key.
    step: Option<u64>,
    text: String,
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
            match Line::parse(line, &mut epochs) {
                Some(whole) => lines.push(whole),
                None => damaged = damaged.or(Some(index + 1)),
            }
        }
        Ok(Self { bytes, lines, damaged })
    }
}

impl Line {
    /// Parses a line. The epoch of a line must be greater than `epochs`, the last epoch before it. None if the line is
    /// damaged.
    fn parse(line: &[u8], epochs: &mut u64) -> Option<Self> {
        let text = str::from_utf8(line).ok()?.strip_suffix('\n')?;
        let value: Value = serde_json::from_str(text).ok()?;
        let step = value.get("step").and_then(Value::as_u64);
        let event: Event = serde_json::from_value(value).ok()?;
        if let Event::Epoch(figures) = &event {
            if figures.epoch <= *epochs || !(0.0..=1.0).contains(&figures.train_accuracy) {
                return None;
            }
            *epochs = figures.epoch;
        }
        Some(Self { event, step, text: text.to_owned() })
    }

    /// Whether the line belongs to the first `epoch` epochs and `step` steps of a run.
    fn is_before(&self, epoch: u64, step: u64) -> bool {
        match &self.event {
            Event::Epoch(figures) => figures.epoch <= epoch,
            Event::End(_) => false,
            _ => self.step.is_none_or(|of| of <= step),
        }
    }
}
