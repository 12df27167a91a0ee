//! Checks that files are the published ones.

use super::catalog::{self, Checksum, DatasetInfo, Part};
use super::locate::Found;
use super::unpack;
use crate::files::{self, sha256};
use anyhow::{Context, Result, bail};
use serde::Serialize;
use std::path::Path;

/// Which property of a file was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Checked {
    /// Its SHA-256.
    Sha256,
    /// Only its length. It is an unpacked copy, and the published checksum is of the compressed file.
    Length,
}

/// The unpacked bytes of a published file.
#[derive(Debug)]
pub struct Contents {
    /// In the order of [`Part::members`].
    pub members: Vec<Vec<u8>>,
    /// Which property of the file was checked.
    pub checked: Checked,
}

/// Reads, unpacks and checks a file on this machine. A FIFO, a device or a file that is too long is refused
/// before it is read.
///
/// # Errors
/// The file cannot be read, or does not hold the published bytes. The message begins with the path of the
/// file and says what is wrong.
pub fn read(dataset: &DatasetInfo, part: &Part, found: &Found) -> Result<Contents> {
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
                let bytes = files::read(path, part.max_bytes())
                    .map_err(anyhow::Error::from)
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

/// Reads, unpacks and checks a compressed file. An error message does not name the file.
pub fn packed(dataset: &DatasetInfo, part: &Part, path: &Path) -> Result<Vec<Vec<u8>>> {
    let bytes = files::read(path, part.max_bytes())?;
    match part.file.checksum {
        Checksum::Packed(expected) => {
            // An error of unpacking says more than a wrong checksum, so unpacking comes first.
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

fn check_sha256(dataset: &DatasetInfo, bytes: &[u8], expected: &str, what: &str) -> Result<()> {
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
    use super::super::Split;
    use super::*;
    use crate::error::one_line;

    #[test]
    fn what_is_no_file_is_refused_and_never_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let (fifo, device) = (folder.path().join("fifo"), folder.path().join("device"));
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        std::os::unix::fs::symlink("/dev/zero", &device).unwrap();
        let mnist = catalog::find("mnist").unwrap();
        let parts = mnist.parts(&[Split::Test]);
        for (path, what) in [(fifo, "is a FIFO, not a file"), (device, "is a device, not a file")] {
            for found in [Found::Packed(path.clone()), Found::Unpacked(vec![path.clone()])] {
                let error = one_line(&read(mnist, &parts[0], &found).unwrap_err());
                assert_eq!(error, format!("{}: {what}", path.display()));
            }
        }
    }

    #[test]
    fn a_file_of_absurd_size_is_refused_before_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("huge");
        std::fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
        let mnist = catalog::find("mnist").unwrap();
        let parts = mnist.parts(&[Split::Test]);
        for found in [Found::Packed(path.clone()), Found::Unpacked(vec![path.clone()])] {
            let error = one_line(&read(mnist, &parts[0], &found).unwrap_err());
            assert!(error.contains("huge: has 1.00 TiB; expected no more than"), "{error}");
        }
    }

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
