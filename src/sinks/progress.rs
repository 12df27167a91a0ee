//! Keeps `progress.json` in the run's folder, for other processes that watch the run.

use super::memory_in_use;
use super::tracker::Tracker;
use crate::config::Config;
use crate::run::progress;
use crate::train::{Event, Sink};
use anyhow::Result;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};
use tch::Device;

/// Time between two writes. The first write is due after this time too, so a shorter run writes nothing.
const INTERVAL: Duration = Duration::from_secs(1);

/// Writes the progress of the epoch under way once a second.
#[derive(Debug)]
pub struct ProgressFile {
    run_dir: PathBuf,
    tracker: Tracker,
    device: Device,
    last_write: Instant,
    /// Whether the file is in the folder.
    written: bool,
}

impl ProgressFile {
    /// The file of the run in `run_dir`, which computes on `device`.
    pub fn new(config: &Config, run_dir: PathBuf, device: Device) -> Self {
        let (tracker, last_write) = (Tracker::new(config), Instant::now());
        Self { run_dir, tracker, device, last_write, written: false }
    }

    fn write(&mut self, now: Instant) {
        self.last_write = now;
        let Some(progress) = self.tracker.progress() else { return };
        let mut progress = progress.clone();
        progress.memory_bytes = memory_in_use(self.device);
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        progress.written = since.unwrap_or_default().as_secs();
        // An error is not reported: the run does not need this file, and the keeper of the run's folder reports a disk
        // that fails.
        self.written |= progress::write(&self.run_dir, &progress).is_ok();
    }

    fn remove(&mut self) {
        if std::mem::take(&mut self.written) {
            progress::remove(&self.run_dir);
        }
    }
}

impl Sink for ProgressFile {
    fn take(&mut self, event: &Event) -> Result<()> {
        let now = Instant::now();
        self.tracker.take(event, now);
        match event {
            Event::Stop { .. } | Event::End(_) => self.remove(),
            _ if now.duration_since(self.last_write) >= INTERVAL => self.write(now),
            _ => {}
        }
        Ok(())
    }
}

impl Drop for ProgressFile {
    fn drop(&mut self) {
        self.remove();
    }
}
