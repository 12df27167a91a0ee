//! `SHA256SUMS` in a checkpoint's folder, as `sha256sum -c` reads it. A file that a disk damages later is found before it
//! is used.

use crate::files::{read_text, sha256};
use anyhow::{Context, Result, anyhow, bail};
use std::path::Path;

/// The name of the file.
pub const CHECKSUMS_FILE: &str = "SHA256SUMS";

/// The largest such file that is read, in bytes. Its user may have added lines.
const LARGEST: u64 = 1 << 16;

/// The text of the file, for files given by name and content.
pub fn checksums(files: &[(&str, &[u8])]) -> String {
    files.iter().map(|(name, bytes)| format!("{}  {name}\n", sha256(bytes))).collect()
}

/// Compares the bytes of a file with its checksum in the same folder.
///
/// # Errors
/// The bytes are not those that were written, or there is no checksum.
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
        bail!("{}: is damaged, its bytes are not those that were written", file.display());
    }
    Ok(())
}
