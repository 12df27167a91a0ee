//! An event file: records of TensorFlow's format `TFRecord`, which is a length and a message with a checksum each.

use super::messages::{Event, What};
use crate::files::{OWN_FILE, numbered};
use anyhow::{Context, Result};
use crc::{CRC_32_ISCSI, Crc};
use prost::Message;
use std::fs::File;
use std::io::{BufWriter, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// An event file that is written.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    file: BufWriter<File>,
}

const CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

impl EventFile {
    /// Makes a new file in a folder. Readers know such a file by its name, and read the files of a folder in the order
    /// of their names, so that they begin with the time.
    ///
    /// # Errors
    /// The folder is read-only, gone or full.
    pub fn create(folder: &Path) -> Result<Self> {
        let first = format!("events.out.tfevents.{:010}.resnet", seconds_since_1970() as u64);
        for name in numbered(&first) {
            let path = folder.join(name);
            let file =
                File::options().write(true).create_new(true).custom_flags(OWN_FILE).open(&path);
            match file {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                found => {
                    let file = found.with_context(|| format!("cannot write {}", path.display()))?;
                    let mut file = Self { path, file: BufWriter::new(file) };
                    file.write(0, What::FileVersion("brain.Event:2".to_owned()))?;
                    return Ok(file);
                }
            }
        }
        unreachable!("there is always a next number")
    }

    /// Adds a record. It is on disk after [`EventFile::flush`], or earlier.
    ///
    /// # Errors
    /// The disk is full, or failed.
    pub fn write(&mut self, step: u64, what: What) -> Result<()> {
        let event = Event { wall_time: seconds_since_1970(), step: step as i64, what: Some(what) };
        let message = event.encode_to_vec();
        let length = (message.len() as u64).to_le_bytes();
        for part in [&length[..], &message] {
            let written = self
                .file
                .write_all(part)
                .and_then(|()| self.file.write_all(&masked(CRC32C.checksum(part)).to_le_bytes()));
            written.with_context(|| format!("cannot write {}", self.path.display()))?;
        }
        Ok(())
    }

    /// Gives all records to the system, so that readers see them.
    ///
    /// # Errors
    /// The disk is full, or failed.
    pub fn flush(&mut self) -> Result<()> {
        self.file.flush().with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// A checksum as the format stores it.
fn masked(checksum: u32) -> u32 {
    checksum.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The time of the system.
pub fn seconds_since_1970() -> f64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0.0, |elapsed| elapsed.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    // The published test vectors of CRC-32C (RFC 3720, appendix B.4).
    #[test]
    fn the_checksum_is_crc_32c() {
        assert_eq!(CRC32C.checksum(&[0; 32]), 0x8a91_36aa);
        assert_eq!(CRC32C.checksum(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(masked(0), 0xa282_ead8);
    }
}
