//! Unpacking `.gz` and `.tar.gz` in memory, never beyond the expected length.

use super::catalog::{Member, Part};
use anyhow::{Context, Result, anyhow, bail, ensure};
use flate2::bufread::GzDecoder;
use std::io::{ErrorKind, Read};
use std::path::Path;

/// The needed members of a compressed file, in the order of [`Part::members`]. Each has the length that the
/// part says.
///
/// # Errors
/// The bytes are not gzip data, are cut off or are damaged. A member is missing, or has another length.
pub fn members(part: &Part, packed: &[u8]) -> Result<Vec<Vec<u8>>> {
    const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
    if !packed.starts_with(&GZIP_MAGIC) {
        bail!("{}", not_gzip(packed));
    }
    if part.file.name.ends_with(".tar.gz") {
        return from_tar(part, packed);
    }
    let [member] = part.members[..] else {
        bail!("{} holds one file, expected {}", part.file.name, part.members.len());
    };
    let mut decoder = GzDecoder::new(packed);
    let bytes = read_member(&mut decoder, member)?;
    // A checksum of the unpacked bytes does not cover bytes after the gzip data.
    let rest = decoder.get_ref().len();
    ensure!(rest == 0, "{rest} bytes follow its gzip data");
    Ok(vec![bytes])
}

/// Compares the length of unpacked bytes with the expected one.
///
/// # Errors
/// The lengths differ.
pub fn check_length(member: Member, bytes: u64) -> Result<()> {
    ensure!(
        bytes == member.bytes,
        "it has {bytes} bytes unpacked, expected {} for {}",
        member.bytes,
        member.path
    );
    Ok(())
}

fn from_tar(part: &Part, packed: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut found: Vec<Option<Vec<u8>>> = vec![None; part.members.len()];
    // The tar reader unpacks the names of members and the members that are skipped. The limit stops an
    // archive that unpacks to much more than the published one.
    let mut archive = tar::Archive::new(GzDecoder::new(packed).take(2 * part.max_bytes()));
    for entry in archive.entries().context("it is not a tar archive")? {
        let mut entry = entry.map_err(|error| damage(&error, "an entry of the archive"))?;
        let path = entry.path().context("the archive has an unreadable path")?.into_owned();
        let mut wanted = part.members.iter().zip(&mut found);
        if let Some((member, bytes)) = wanted.find(|(member, _)| path == Path::new(member.path)) {
            *bytes = Some(read_member(&mut entry, *member)?);
        }
        if found.iter().all(Option::is_some) {
            break;
        }
    }
    let members = part.members.iter().zip(found);
    members
        .map(|(member, bytes)| bytes.ok_or_else(|| anyhow!("the archive lacks {}", member.path)))
        .collect()
}

/// Reads at most one byte more than the expected length. So a small file that unpacks to a huge one needs no
/// more memory than the published file.
fn read_member(reader: &mut impl Read, member: Member) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(member.bytes as usize + 1);
    reader
        .take(member.bytes + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| damage(&error, &format!("{} bytes of {}", bytes.len(), member.path)))?;
    if bytes.len() as u64 > member.bytes {
        bail!("it unpacks to more than the {} bytes expected for {}", member.bytes, member.path);
    }
    check_length(member, bytes.len() as u64)?;
    Ok(bytes)
}

fn damage(error: &std::io::Error, after: &str) -> anyhow::Error {
    match error.kind() {
        ErrorKind::UnexpectedEof => anyhow!("the gzip data is cut off after {after}"),
        _ => anyhow!("the gzip data is damaged after {after} ({error})"),
    }
}

fn not_gzip(bytes: &[u8]) -> String {
    let start = bytes.trim_ascii_start();
    if bytes.is_empty() {
        "it is empty".to_owned()
    } else if start.starts_with(b"<") {
        "it is a web page, not gzip data".to_owned()
    } else {
        format!("it is not gzip data ({} bytes)", bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::super::catalog::{Checksum, File};
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    const GZ: File = File { name: "a.gz", bytes: 0, checksum: Checksum::Packed("") };
    const TAR: File = File { name: "a.tar.gz", bytes: 0, checksum: Checksum::Packed("") };

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn tar_gz(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            builder.append_data(&mut header, path, *bytes).unwrap();
        }
        gzip(&builder.into_inner().unwrap())
    }

    fn part<'a>(file: &'a File, members: &[(&'a str, u64)]) -> Part<'a> {
        let members = members.iter().map(|&(path, bytes)| Member { path, bytes }).collect();
        Part { file, members }
    }

    fn error(part: &Part, packed: &[u8]) -> String {
        members(part, packed).unwrap_err().to_string()
    }

    #[test]
    fn a_gzip_file_is_unpacked() {
        assert_eq!(members(&part(&GZ, &[("a", 5)]), &gzip(b"bytes")).unwrap(), [b"bytes"]);
    }

    #[test]
    fn members_of_an_archive_come_in_the_wanted_order() {
        let packed = tar_gz(&[("d/other", b"x"), ("d/b", b"22"), ("d/a", b"1")]);
        let wanted = part(&TAR, &[("d/a", 1), ("d/b", 2)]);
        assert_eq!(members(&wanted, &packed).unwrap(), [b"1".to_vec(), b"22".to_vec()]);
        assert_eq!(error(&part(&TAR, &[("d/c", 1)]), &packed), "the archive lacks d/c");
    }

    #[test]
    fn truncated_gzip_data_is_named() {
        let noise: Vec<u8> =
            (0..5000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let packed = gzip(&noise);
        let wanted = part(&GZ, &[("a", 5000)]);
        for cut in [packed.len() / 2, packed.len() - 1, 5] {
            assert!(error(&wanted, &packed[..cut]).contains("cut off"), "at {cut}");
        }
    }

    #[test]
    fn wrong_lengths_are_refused_without_unpacking_all() {
        let bomb = gzip(&vec![0; 1 << 20]);
        assert!(error(&part(&GZ, &[("a", 10)]), &bomb).contains("more than the 10 bytes"));
        assert!(error(&part(&GZ, &[("a", 6)]), &gzip(b"bytes")).contains("5 bytes unpacked"));
    }

    #[test]
    fn no_more_is_unpacked_than_can_be_wanted() {
        let mut endless = std::io::repeat(0).take(1 << 20);
        let member = Member { path: "a", bytes: 10 };
        assert!(read_member(&mut endless, member).unwrap_err().to_string().contains("more than"));
        assert_eq!(endless.limit(), (1 << 20) - 11);
        // In an archive, the bytes of other files count too.
        let long = vec![0; 4 << 20];
        let packed = tar_gz(&[("d/other", &long), ("d/a", b"1")]);
        assert!(error(&part(&TAR, &[("d/a", 1)]), &packed).contains("the gzip data is"));
    }

    #[test]
    fn bytes_behind_the_gzip_data_are_refused() {
        let longer = [gzip(b"bytes"), b"and more".to_vec()].concat();
        assert_eq!(error(&part(&GZ, &[("a", 5)]), &longer), "8 bytes follow its gzip data");
    }

    #[test]
    fn a_web_page_is_named() {
        let page = error(&part(&GZ, &[("a", 1)]), b"\n<!DOCTYPE html><html>");
        assert_eq!(page, "it is a web page, not gzip data");
        assert_eq!(error(&part(&GZ, &[("a", 1)]), b""), "it is empty");
    }
}
