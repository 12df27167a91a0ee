//! The data sets that the program knows: where they are published, what their files hold, and the checksums
//! of these files.

mod table;

pub use table::DATASETS;

use super::Split;
use super::augment::Change;
use crate::error::usage;
use anyhow::Result;

/// What is known about a data set before its images are read: one row of the table.
#[derive(Debug)]
pub struct DatasetInfo {
    /// What the user types, and the name of the folder that holds the files.
    pub name: &'static str,
    /// Its name in messages.
    pub title: &'static str,
    /// How the images are stored.
    pub format: Format,
    /// Base URLs, tried in turn; the URL of a file is `<base><file name>`.
    pub mirrors: &'static [&'static str],
    /// Name of each class, by label.
    pub classes: &'static [&'static str],
    /// Mean of each channel over the training images, of pixels scaled to 0..1.
    pub mean: &'static [f64],
    /// Standard deviation of each channel over the training images, of pixels scaled to 0..1.
    pub std: &'static [f64],
    /// The changes to training images that runs make by default, each with its default number. They must leave an
    /// image in its class: mirrored clothes are clothes, but many mirrored letters are no letters.
    pub augment: &'static [Change],
    /// Number of training images.
    pub train_images: usize,
    /// Number of test images.
    pub test_images: usize,
    /// Channels of an image.
    pub channels: usize,
    /// Height of an image, in pixels.
    pub height: usize,
    /// Width of an image, in pixels.
    pub width: usize,
}

/// How the images of a data set are stored.
#[derive(Debug)]
pub enum Format {
    /// MNIST's format: a gzipped IDX file of images and one of labels for each split.
    Idx {
        /// The training images and labels.
        train: IdxFiles,
        /// The test images and labels.
        test: IdxFiles,
    },
    /// CIFAR's binary version: one gzipped tar archive with files of fixed-length records, each
    /// record the label bytes and then the pixels, channel by channel.
    Cifar {
        /// The archive.
        archive: File,
        /// The archive's files that hold the training images, in order and of equal length.
        train: &'static [&'static str],
        /// The archive's file that holds the test images.
        test: &'static [&'static str],
        /// Label bytes of a record; the last one is the class (CIFAR-100 puts the coarse label
        /// before the fine one).
        label_bytes: usize,
    },
    /// No files: the program makes the images ([`synthetic`](super::synthetic)).
    Synthetic,
}

/// The two IDX files of a split.
#[derive(Debug)]
pub struct IdxFiles {
    /// Images, `[count, height, width]`.
    pub images: File,
    /// Labels, `[count]`.
    pub labels: File,
}

/// A file as it is published, compressed.
#[derive(Debug)]
pub struct File {
    /// File name.
    pub name: &'static str,
    /// Length as published, in bytes; a recompressed copy has another length.
    pub bytes: u64,
    /// Checksum of the published bytes.
    pub checksum: Checksum,
}

/// The SHA-256 that a trusted source gives, in lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// Of the unpacked bytes. It is the same for copies that a packager compressed again.
    Unpacked(&'static str),
    /// Of the compressed file. No checksum of the unpacked bytes is published, so only the length of an
    /// unpacked copy can be checked.
    Packed(&'static str),
}

/// A published file, and the files inside of it that are needed.
#[derive(Debug)]
pub struct Part<'a> {
    /// The published file.
    pub file: &'a File,
    /// The files inside of it that are needed.
    pub members: Vec<Member<'a>>,
}

/// A file inside of a published file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member<'a> {
    /// Its path after unpacking.
    pub path: &'a str,
    /// Its length, in bytes.
    pub bytes: u64,
}

impl DatasetInfo {
    /// Mean and standard deviation of each channel, for pixels in [0, 1].
    pub fn normalisation(&self) -> (Vec<f32>, Vec<f32>) {
        let single = |values: &[f64]| values.iter().map(|&value| value as f32).collect();
        (single(self.mean), single(self.std))
    }

    /// Number of images of a split.
    pub fn images(&self, split: Split) -> usize {
        match split {
            Split::Train => self.train_images,
            Split::Test => self.test_images,
        }
    }

    /// Bytes of an image: channels × height × width.
    pub fn image_bytes(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Whether the program makes the images itself. There are no files then.
    pub fn is_built_in(&self) -> bool {
        match self.format {
            Format::Synthetic => true,
            Format::Idx { .. } | Format::Cifar { .. } => false,
        }
    }

    /// The published files that hold the splits. No file is listed twice.
    pub fn parts(&self, splits: &[Split]) -> Vec<Part<'_>> {
        match &self.format {
            Format::Idx { train, test } => splits
                .iter()
                .flat_map(|&split| {
                    let files = if split == Split::Train { train } else { test };
                    let (count, image) = (self.images(split) as u64, self.image_bytes() as u64);
                    [
                        idx_part(&files.images, 16 + count * image),
                        idx_part(&files.labels, 8 + count),
                    ]
                })
                .collect(),
            Format::Cifar { archive, train, test, label_bytes } => {
                let record = (label_bytes + self.image_bytes()) as u64;
                let members = splits.iter().flat_map(|&split| {
                    let paths = if split == Split::Train { *train } else { *test };
                    let bytes = self.images(split) as u64 / paths.len() as u64 * record;
                    paths.iter().map(move |path| Member { path, bytes })
                });
                vec![Part { file: archive, members: members.collect() }]
            }
            Format::Synthetic => Vec::new(),
        }
    }

    /// Length of all its published files together, in bytes.
    pub fn download_bytes(&self) -> u64 {
        self.parts(&Split::BOTH).iter().map(|part| part.file.bytes).sum()
    }
}

fn idx_part(file: &File, bytes: u64) -> Part<'_> {
    let path = file.name.strip_suffix(".gz").unwrap_or(file.name);
    Part { file, members: vec![Member { path, bytes }] }
}

impl Part<'_> {
    /// The largest possible length of this file, in bytes. A longer file is not read. Even if
    /// compression does not help, a compressed file is only slightly longer than its content.
    pub fn max_bytes(&self) -> u64 {
        let unpacked: u64 = self.members.iter().map(|member| member.bytes).sum();
        self.file.bytes.max(unpacked) + (1 << 20)
    }
}

/// The data set of that name.
///
/// # Errors
/// If there is none, a usage error that lists the names.
pub fn find(name: &str) -> Result<&'static DatasetInfo> {
    DATASETS.iter().find(|dataset| dataset.name == name).ok_or_else(|| {
        let names: Vec<_> = DATASETS.iter().map(|dataset| dataset.name).collect();
        usage(format!("{name}: no such data set; expected one of {}", names.join(", ")))
    })
}

/// The published file that has this SHA-256, packed or unpacked, and its data set.
pub fn identify(sha256: &str) -> Option<(&'static DatasetInfo, &'static File)> {
    DATASETS.iter().find_map(|dataset| {
        let parts = dataset.parts(&Split::BOTH);
        let part = parts.iter().find(|part| match part.file.checksum {
            Checksum::Unpacked(known) | Checksum::Packed(known) => known == sha256,
        })?;
        Some((dataset, part.file))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::exit_code;

    #[test]
    fn an_unknown_name_is_a_usage_error_that_lists_the_names() {
        let error = find("fashion").unwrap_err();
        assert_eq!(exit_code(&error), 2);
        assert!(error.to_string().contains("fashion-mnist, mnist, kmnist, cifar10, cifar100"));
    }

    #[test]
    fn rows_are_whole() {
        for dataset in DATASETS {
            assert_eq!(dataset.mean.len(), dataset.channels, "{}", dataset.name);
            assert_eq!(dataset.std.len(), dataset.channels, "{}", dataset.name);
            assert!(dataset.classes.len() <= 256, "{}: labels are bytes", dataset.name);
            assert!(dataset.mirrors.iter().all(|base| base.ends_with('/')), "{}", dataset.name);
            for part in dataset.parts(&Split::BOTH) {
                let (Checksum::Unpacked(hex) | Checksum::Packed(hex)) = part.file.checksum;
                assert_eq!(hex.len(), 64, "{}: {}", dataset.name, part.file.name);
                assert!(hex.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')));
            }
        }
        let mut fine = find("cifar100").unwrap().classes.to_vec();
        assert_eq!(fine.len(), 100);
        assert!(fine.is_sorted(), "fine labels are numbered in the order of their names");
        fine.dedup();
        assert_eq!(fine.len(), 100);
    }

    #[test]
    fn lengths_of_the_files_follow_from_the_images() {
        let lengths = |name: &str| -> Vec<u64> {
            let parts = find(name).unwrap().parts(&Split::BOTH);
            parts.iter().flat_map(|part| part.members.iter().map(|m| m.bytes)).collect()
        };
        assert_eq!(lengths("mnist"), [47_040_016, 60_008, 7_840_016, 10_008]);
        assert_eq!(lengths("cifar10"), [30_730_000; 6]);
        assert_eq!(lengths("cifar100"), [153_700_000, 30_740_000]);
    }
}
