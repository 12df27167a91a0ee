//! Whether files are the published ones.

use super::catalog::{self, Checksum, Dataset, Part};
use super::locate::Found;
use super::unpack;
use crate::files::sha256;
use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use std::fs;
use std::path::Path;

/// What could be checked of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Checked {
    /// Its SHA-256.
    Sha256,
    /// Its length alone: it is an unpacked copy, and a checksum is published of the compressed file
    /// only.
    Length,
}

/// The unpacked bytes of a published file.
#[derive(Debug)]
pub struct Contents {
    /// In the order of [`Part::members`].
    pub members: Vec<Vec<u8>>,
    /// What was checked of them.
    pub checked: Checked,
}

/// Reads and unpacks a file that lies on this machine.
///
/// # Errors
/// Where it cannot be read, or does not hold the published bytes. The message begins with the path
/// of the file and says what is wrong with it.
pub fn read(dataset: &Dataset, part: &Part, found: &Found) -> Result<Contents> {
    match found {
        Found::Packed(path) => {
            let members =
                packed(dataset, part, path).with_context(|| path.display().to_string())?;
            Ok(Contents { members, checked: Checked::Sha256 })
        }
        Found::Unpacked(paths) => {
            let mut members = Vec::with_capacity(paths.len());
            let mut checked = Checked::Length;
            for (path, member) in paths.iter().zip(&part.members) {
                let bytes = read_at_most(path, part.max_bytes())
                    .and_then(|bytes| {
                        unpack::check_length(*member, bytes.len() as u64)?;
                        if let Checksum::Unpacked(expected) = part.file.checksum {
                            check_sha256(dataset, &bytes, expected, "the bytes")?;
                            checked = Checked::Sha256;
                        }
                        Ok(bytes)
                    })
                    .with_context(|| path.display().to_string())?;
                members.push(bytes);
            }
            Ok(Contents { members, checked })
        }
    }
}

/// Reads, unpacks and checks a compressed file; the message of an error does not name it.
pub fn packed(dataset: &Dataset, part: &Part, path: &Path) -> Result<Vec<Vec<u8>>> {
    let bytes = read_at_most(path, part.max_bytes())?;
    match part.file.checksum {
        Checksum::Packed(expected) => {
            // Unpacking names what is wrong more plainly than a checksum does, so its errors win.
            if sha256(&bytes) != expected {
                unpack::members(part, &bytes)?;
                check_sha256(dataset, &bytes, expected, "the compressed file")?;
            }
            unpack::members(part, &bytes)
        }
        Checksum::Unpacked(expected) => {
            let members = unpack::members(part, &bytes)?;
            for member in &members {
                check_sha256(dataset, member, expected, "the unpacked bytes")?;
            }
            Ok(members)
        }
    }
}

fn read_at_most(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let length = fs::metadata(path).context("cannot read it")?.len();
    ensure!(length <= limit, "it has {length} bytes, more than the {limit} that it can have");
    fs::read(path).context("cannot read it")
}

fn check_sha256(dataset: &Dataset, bytes: &[u8], expected: &str, what: &str) -> Result<()> {
    let found = sha256(bytes);
    if found == expected {
        return Ok(());
    }
    if let Some((other, file)) = catalog::identify(&found) {
        bail!("it holds {}'s {} under {}'s name", other.title, file.name, dataset.title);
    }
    let withdrawn = if dataset.name == "fashion-mnist" {
        " (the release before 2017-08-31 was withdrawn: some test images were training images too)"
    } else {
        ""
    };
    bail!("the SHA-256 of {what} is {found}, expected {expected}{withdrawn}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_data_set_s_file_is_named() {
        let known = "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db";
        let (dataset, file) = catalog::identify(known).unwrap();
        assert_eq!((dataset.name, file.name), ("mnist", "train-images-idx3-ubyte.gz"));
        assert!(catalog::identify("00").is_none());
    }

    #[test]
    fn other_bytes_are_named_by_their_checksum() {
        let fashion = catalog::find("fashion-mnist").unwrap();
        let error = check_sha256(fashion, b"x", "00", "the bytes").unwrap_err().to_string();
        assert!(error.starts_with("the SHA-256 of the bytes is 2d711642"), "{error}");
        assert!(error.contains("expected 00 (the release before 2017-08-31"), "{error}");
    }
}
