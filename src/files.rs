//! Reading paths that may not be regular files, writing files, and checksums. A file is written so that its path never
//! holds a partial file, even if the process is killed.

use anyhow::{Context, Result};
use indicatif::HumanBytes;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// The start of the name of a file that is being written. If the process was killed, such a file is left; the code that
/// owns the folder may remove it.
pub const TEMPORARY: &str = ".writing-";

/// Writes a temporary file in the same folder and renames it to `path`, so that the file at `path` is always complete.
/// A symbolic link at either path is replaced, not followed. Afterwards, the file is on disk.
///
/// # Errors
/// The folder is read-only, gone or full.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    replace_by(path, |temporary| write_synced(temporary, bytes))
        .map_err(anyhow::Error::from)
        .and_then(|()| sync_folder(folder_of(path)))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Like [`write_atomically`], but does not wait until the file is on disk.
///
/// # Errors
/// The folder is read-only, gone or full.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_by(path, |temporary| File::create_new(temporary)?.write_all(bytes))
}

fn replace_by(path: &Path, write: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!("{TEMPORARY}{name}"));
    // A process that was killed may have left this file.
    let _ = fs::remove_file(&temporary);
    write(&temporary).and_then(|()| fs::rename(&temporary, path)).inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })
}

/// Opens a regular file for reading, and also returns its length in bytes. A FIFO or a device is refused at once.
///
/// # Errors
/// The file cannot be opened, or is not a regular file.
pub fn open(path: &Path) -> io::Result<(File, u64)> {
    let file = File::options().read(true).custom_flags(WITHOUT_WAITING).open(path)?;
    let metadata = file.metadata()?;
    match kind(metadata.file_type()) {
        None => Ok((file, metadata.len())),
        Some(kind) => Err(io::Error::other(format!("is {kind}, not a file"))),
    }
}

/// Flags to open a path whose type is not known yet.
const WITHOUT_WAITING: i32 = libc::O_NONBLOCK | libc::O_NOCTTY;

/// Flags to open the program's own files for writing. Anything can be at their path; symbolic links are not followed.
pub const OWN_FILE: i32 = WITHOUT_WAITING | libc::O_NOFOLLOW;

/// The type of a file in words; `None` for a regular file.
fn kind(found: fs::FileType) -> Option<&'static str> {
    match found {
        _ if found.is_file() => None,
        _ if found.is_dir() => Some("a folder"),
        _ if found.is_fifo() => Some("a FIFO"),
        _ => Some("a device"),
    }
}

/// The bytes of a file that has at most `most` bytes.
///
/// # Errors
/// It is not a regular file, cannot be read, or is larger.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let (file, length) = open(path)?;
    if length > most {
        let (length, most) = (HumanBytes(length), HumanBytes(most));
        return Err(io::Error::other(format!("has {length}; expected no more than {most}")));
    }
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The text of a file that has at most `most` bytes.
///
/// # Errors
/// As for [`read`], or it is not UTF-8.
pub fn read_text(path: &Path, most: u64) -> io::Result<String> {
    String::from_utf8(read(path, most)?)
        .map_err(|_| io::Error::new(ErrorKind::InvalidData, "is not UTF-8 text"))
}

/// Whether there is something at `path`, even a link to nothing.
pub fn is_taken(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// `name`, then `name-2`, `name-3` and so on: the later names are for use if the earlier ones are taken.
pub fn numbered(name: &str) -> impl Iterator<Item = String> {
    std::iter::once(name.to_owned()).chain((2..).map(move |number| format!("{name}-{number}")))
}

/// Writes a new file and waits until it is on disk.
///
/// # Errors
/// The name is taken, even by a link; the folder is read-only, gone or full.
pub fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// The SHA-256 of some bytes, in hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Waits until changes in a folder (files created, renamed or removed) are on disk.
///
/// # Errors
/// The folder cannot be opened; some systems do not allow that.
pub fn sync_folder(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha256_of_nothing() {
        assert_eq!(sha256(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
