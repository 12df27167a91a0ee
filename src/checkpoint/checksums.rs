//! `SHA256SUMS` in a checkpoint's folder, in the format of `sha256sum -c`. If a disk damages a file later, the damage
//! is found before the file is used.

use crate::files::{read_text, sha256};
use anyhow::{Context, Result, anyhow, bail};
use std::path::Path;

/// The name of the file.
pub const CHECKSUMS_FILE: &str = "SHA256SUMS";

/// The largest file of checksums that is read, in bytes. The user may have added lines.
const LARGEST: u64 = 1 << 16;

/// The text of `SHA256SUMS` for files that are given by name and content.
pub fn checksums(files: &[(&str, &[u8])]) -> String {
    files.iter().map(|(name, bytes)| format!("{}  {name}\n", sha256(bytes))).collect()
}

/// Compares the bytes of a file with its checksum in the same folder.
///
/// # Errors
/// The bytes have changed since they were written, or there is no checksum.
pub fn verify(folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = folder.join(CHECKSUMS_FILE);
    let sums = read_text(&path, LARGEST).with_context(|| path.display().to_string())?;
    let expected = sums
        .lines()
        .filter_map(|line| line.split_once("  "))
        .find_map(|(sum, of)| (of == name).then_some(sum))
        .ok_or_else(|| anyhow!("{}: has no checksum of {name}", path.display()))?;
    if sha256(bytes) != expected {
        let file = folder.join(name);
        bail!("{}: is damaged, its bytes have changed since it was written", file.display());
    }
    Ok(())
}
