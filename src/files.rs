//! Writing files so that a kill leaves them whole or not there, and telling whether they still are.

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

/// Begins the name of what is being written: whoever owns the folder may remove what a kill left.
pub const TEMPORARY: &str = ".writing-";

/// Writes a file beside `path` and renames it there, so that `path` is always whole.
///
/// # Errors
/// A folder that is read-only, gone or full.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!("{TEMPORARY}{name}"));
    write_synced(&temporary, bytes)
        .and_then(|()| Ok(fs::rename(&temporary, path)?))
        .inspect_err(|_| {
            let _ = fs::remove_file(&temporary);
        })
        .and_then(|()| sync_folder(folder_of(path)))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// `name`, then `name-2`, `name-3` and so on, for where the first ones are taken.
pub fn numbered(name: &str) -> impl Iterator<Item = String> {
    std::iter::once(name.to_owned()).chain((2..).map(move |number| format!("{name}-{number}")))
}

/// Writes a file and waits until it is on disk.
///
/// # Errors
/// A folder that is read-only, gone or full.
pub fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = File::create(path)?;
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
