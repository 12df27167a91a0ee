//! Reading files that may be anything, writing them so that a kill leaves them whole or not there, and
//! telling whether they still are.

use anyhow::{Context, Result};
use indicatif::HumanBytes;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// Begins the name of what is being written: whoever owns the folder may remove what a kill left.
pub const TEMPORARY: &str = ".writing-";

/// Writes a file beside `path` and renames it there, so that `path` is always whole. A link in either place
/// is replaced, not followed.
///
/// # Errors
/// A folder that is read-only, gone or full.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!("{TEMPORARY}{name}"));
    // A kill may have left it.
    let _ = fs::remove_file(&temporary);
    write_synced(&temporary, bytes)
        .and_then(|()| Ok(fs::rename(&temporary, path)?))
        .inspect_err(|_| {
            let _ = fs::remove_file(&temporary);
        })
        .and_then(|()| sync_folder(folder_of(path)))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Opens a file to read, and says how many bytes it has. What lies there may be anything: a FIFO is not
/// waited for, and a device is not read.
///
/// # Errors
/// What cannot be opened, or is no regular file.
pub fn open(path: &Path) -> io::Result<(File, u64)> {
    let file = File::options().read(true).custom_flags(WITHOUT_WAITING).open(path)?;
    let metadata = file.metadata()?;
    match kind(metadata.file_type()) {
        None => Ok((file, metadata.len())),
        Some(kind) => Err(io::Error::other(format!("is {kind}, not a file"))),
    }
}

/// For what is opened before it is known what it is.
const WITHOUT_WAITING: i32 = libc::O_NONBLOCK | libc::O_NOCTTY;

/// Opens a file of the program's own to write in its place: what lies there may be anything, and no link is
/// followed.
pub const OWN_FILE: i32 = WITHOUT_WAITING | libc::O_NOFOLLOW;

/// What it is, where it is no regular file.
fn kind(found: fs::FileType) -> Option<&'static str> {
    match found {
        _ if found.is_file() => None,
        _ if found.is_dir() => Some("a folder"),
        _ if found.is_fifo() => Some("a FIFO"),
        _ => Some("a device"),
    }
}

/// The bytes of a file, of which it has no more than `most`.
///
/// # Errors
/// What is no regular file, cannot be read, or is larger than it can be.
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

/// The same as text.
///
/// # Errors
/// As for [`read`], and bytes that are no UTF-8.
pub fn read_text(path: &Path, most: u64) -> io::Result<String> {
    String::from_utf8(read(path, most)?)
        .map_err(|_| io::Error::new(ErrorKind::InvalidData, "is no text"))
}

/// Whether something lies at `path`, a link that leads nowhere too.
pub fn is_taken(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// `name`, then `name-2`, `name-3` and so on, for where the first ones are taken.
pub fn numbered(name: &str) -> impl Iterator<Item = String> {
    std::iter::once(name.to_owned()).chain((2..).map(move |number| format!("{name}-{number}")))
}

/// Writes a new file and waits until it is on disk.
///
/// # Errors
/// A name that is taken, by a link too; a folder that is read-only, gone or full.
pub fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    Ok(file.sync_all()?)
}

/// The SHA-256 of some bytes, in hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Waits until what was made, renamed or removed in a folder is on disk.
///
/// # Errors
/// A folder that cannot be opened, as on some systems none can.
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
