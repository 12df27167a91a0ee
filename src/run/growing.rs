//! A text file that grows by lines and is always complete on disk, such as the metrics of a run.

use crate::files::{OWN_FILE, write_atomically};
use anyhow::Result;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// A file that grows by lines.
#[derive(Debug)]
pub(super) struct GrowingFile {
    path: PathBuf,
    /// The lines that the file should hold, without their ends.
    pub lines: Vec<String>,
    /// The number of `lines` that the file holds. None if the file may hold anything else.
    written: Option<usize>,
}

impl GrowingFile {
    /// A file that should hold these lines. [`GrowingFile::complete`] writes it.
    pub fn new(path: PathBuf, lines: Vec<String>) -> Self {
        Self { path, lines, written: None }
    }

    /// Writes the lines that are missing in the file, and waits until they are on disk.
    ///
    /// # Errors
    /// The folder is read-only, gone or full. The next call tries again.
    pub fn complete(&mut self) -> Result<()> {
        let written = self.written.take().filter(|written| self.append(*written).is_ok());
        if written.is_none() {
            write_atomically(&self.path, joined(&self.lines).as_bytes())?;
        }
        self.written = Some(self.lines.len());
        Ok(())
    }

    fn append(&self, written: usize) -> io::Result<()> {
        let missing = self.lines.get(written..).unwrap_or_default();
        if missing.is_empty() {
            return Ok(());
        }
        let mut file = File::options().append(true).custom_flags(OWN_FILE).open(&self.path)?;
        if !file.metadata()?.is_file() {
            return Err(ErrorKind::InvalidInput.into());
        }
        file.write_all(joined(missing).as_bytes())?;
        file.sync_data()
    }
}

/// Lines as the text of a file.
pub(super) fn joined(lines: &[String]) -> String {
    lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
}
