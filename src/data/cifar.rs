//! The binary version of CIFAR-10 and CIFAR-100. A file is a sequence of records. A record has the label
//! bytes, then all red pixels, then all green ones, then all blue ones. CIFAR-10 has one label byte;
//! CIFAR-100 has the coarse label and then the fine label.

use anyhow::{Result, ensure};

/// The images and labels in the files.
#[derive(Debug, PartialEq, Eq)]
pub struct CifarImages {
    /// Number of images.
    pub count: usize,
    /// Colour levels, `[count, channels, height, width]`.
    pub pixels: Vec<u8>,
    /// The last label byte of each record, `[count]`.
    pub labels: Vec<u8>,
}

/// Reads records of `label_bytes + image_bytes` from files, one after the other.
///
/// # Errors
/// The end of a file is not the end of a record.
pub fn records(files: &[Vec<u8>], label_bytes: usize, image_bytes: usize) -> Result<CifarImages> {
    let record = label_bytes + image_bytes;
    let count = files.iter().map(|file| file.len() / record).sum();
    let mut pixels = Vec::with_capacity(count * image_bytes);
    let mut labels = Vec::with_capacity(count);
    for file in files {
        ensure!(
            file.len().is_multiple_of(record),
            "cut off: {} bytes, expected a multiple of the {record} bytes of a record",
            file.len()
        );
        for bytes in file.chunks_exact(record) {
            let (label, image) = bytes.split_at(label_bytes);
            labels.extend(label.last());
            pixels.extend_from_slice(image);
        }
    }
    Ok(CifarImages { count, pixels, labels })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_label_byte_is_the_class() {
        let read = records(&[vec![7, 1, 2, 3], vec![8, 4, 5, 6]], 1, 3).unwrap();
        let (pixels, labels) = (vec![1, 2, 3, 4, 5, 6], vec![7, 8]);
        assert_eq!(read, CifarImages { count: 2, pixels, labels });
    }

    #[test]
    fn of_two_label_bytes_the_fine_one_is_the_class() {
        let read = records(&[vec![0, 99, 1, 2, 3]], 2, 3).unwrap();
        assert_eq!(read, CifarImages { count: 1, pixels: vec![1, 2, 3], labels: vec![99] });
    }

    #[test]
    fn half_a_record_is_refused() {
        let error = records(&[vec![7, 1, 2, 3, 8]], 1, 3).unwrap_err().to_string();
        assert_eq!(error, "cut off: 5 bytes, expected a multiple of the 4 bytes of a record");
    }
}
