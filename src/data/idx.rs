//! IDX, the format of MNIST's files. A file has a big-endian header and then the bytes. The header has
//! a magic number (two zero bytes, the type 0x08 of unsigned bytes, the number of dimensions) and the
//! length of each dimension.

use anyhow::{Result, bail, ensure};

/// The images of an IDX file.
#[derive(Debug, PartialEq, Eq)]
pub struct IdxImages {
    /// Number of images.
    pub count: usize,
    /// Height, in pixels.
    pub height: usize,
    /// Width, in pixels.
    pub width: usize,
    /// Grey levels, `[count, height, width]`.
    pub pixels: Vec<u8>,
}

/// Reads images from the bytes of an IDX file.
///
/// # Errors
/// The magic number is not the number for images, or the header says another length than the file has. The header
/// is compared with the length of the file before it is used, so a wrong header never allocates memory.
pub fn images(mut bytes: Vec<u8>) -> Result<IdxImages> {
    let [count, height, width] = header(&bytes)?;
    bytes.drain(..header_bytes(3));
    Ok(IdxImages { count, height, width, pixels: bytes })
}

/// Reads labels from the bytes of an IDX file.
///
/// # Errors
/// The errors of [`images`].
pub fn labels(mut bytes: Vec<u8>) -> Result<Vec<u8>> {
    let [_count] = header(&bytes)?;
    bytes.drain(..header_bytes(1));
    Ok(bytes)
}

const fn header_bytes(dimensions: usize) -> usize {
    4 + 4 * dimensions
}

/// The length of each of `D` dimensions. Their product is the number of bytes after the header.
fn header<const D: usize>(bytes: &[u8]) -> Result<[usize; D]> {
    let Some((header, data)) = bytes.split_at_checked(header_bytes(D)) else {
        bail!("cut off: {} bytes, shorter than the IDX header of {}", bytes.len(), header_bytes(D));
    };
    let (magic, expected) = (big_endian(header), 0x0800 + D as u32);
    ensure!(
        magic == expected,
        "the magic number is 0x{magic:08x}, expected 0x{expected:08x} for {}{}",
        kind(expected),
        match kind(magic) {
            "" => String::new(),
            found => format!(": the file holds {found}"),
        }
    );
    let mut lengths = [0; D];
    for (length, field) in lengths.iter_mut().zip(header.chunks_exact(4).skip(1)) {
        *length = big_endian(field) as usize;
    }
    let claimed = lengths.iter().try_fold(1_usize, |product, &length| product.checked_mul(length));
    ensure!(
        claimed == Some(data.len()),
        "{}: the header says {} = {} bytes, {} follow",
        if claimed.is_none_or(|claimed| claimed > data.len()) { "cut off" } else { "too long" },
        lengths.map(|length| length.to_string()).join(" × "),
        claimed.map_or("too many".to_owned(), |claimed| claimed.to_string()),
        data.len()
    );
    Ok(lengths)
}

fn kind(magic: u32) -> &'static str {
    match magic {
        0x0803 => "images",
        0x0801 => "labels",
        _ => "",
    }
}

/// The first four bytes as a number.
fn big_endian(bytes: &[u8]) -> u32 {
    bytes.iter().take(4).fold(0, |number, &byte| number << 8 | u32::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(magic: u32, lengths: &[u32], data: &[u8]) -> Vec<u8> {
        let mut bytes = magic.to_be_bytes().to_vec();
        lengths.iter().for_each(|length| bytes.extend(length.to_be_bytes()));
        bytes.extend(data);
        bytes
    }

    fn image_error(bytes: Vec<u8>) -> String {
        images(bytes).unwrap_err().to_string()
    }

    #[test]
    fn images_and_labels_are_read() {
        let read = images(file(0x0803, &[2, 1, 3], &[1, 2, 3, 4, 5, 6])).unwrap();
        let pixels = vec![1, 2, 3, 4, 5, 6];
        assert_eq!(read, IdxImages { count: 2, height: 1, width: 3, pixels });
        assert_eq!(labels(file(0x0801, &[3], &[7, 8, 9])).unwrap(), [7, 8, 9]);
    }

    #[test]
    fn a_wrong_magic_number_is_named() {
        assert_eq!(
            image_error(file(0x0801, &[12], &[0; 12])),
            "the magic number is 0x00000801, expected 0x00000803 for images: the file holds labels"
        );
        assert!(
            labels(b"<!DOCTYPE html>".to_vec()).unwrap_err().to_string().contains("0x3c21444f")
        );
    }

    #[test]
    fn truncated_and_overlong_files_are_refused() {
        assert_eq!(
            image_error(file(0x0803, &[2, 2, 2], &[0; 7])),
            "cut off: the header says 2 × 2 × 2 = 8 bytes, 7 follow"
        );
        assert_eq!(
            image_error(file(0x0803, &[2, 2, 2], &[0; 9])),
            "too long: the header says 2 × 2 × 2 = 8 bytes, 9 follow"
        );
        assert_eq!(
            image_error(vec![0, 0, 8]),
            "cut off: 3 bytes, shorter than the IDX header of 16"
        );
        assert!(image_error(vec![]).starts_with("cut off: 0 bytes"));
    }

    #[test]
    fn a_header_that_claims_more_than_there_is_allocates_nothing() {
        // 2³² − 1 images of 2³² − 1 × 2³² − 1 pixels overflow 64 bits; 2⁴⁰ bytes do not.
        assert!(
            image_error(file(0x0803, &[u32::MAX; 3], &[])).contains("too many bytes, 0 follow")
        );
        let huge = file(0x0803, &[1 << 20, 1 << 10, 1 << 10], &[0; 4]);
        assert!(image_error(huge).contains("1099511627776 bytes, 4 follow"));
    }
}
