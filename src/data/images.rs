//! The images of a split. They are parsed from its files, or made by the program, and checked against the table of data
//! sets.

use super::catalog::{DatasetInfo, Format, Part};
use super::locate::{self, Located};
use super::obtain::{Origin, with_remedy};
use super::{Source, Split, cifar, idx, synthetic, verify};
use anyhow::{Context, Result, bail, ensure};
use std::path::Path;

/// The images and labels of a split, as they are published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    /// Levels of 0..=255, `[count, channels, height, width]`.
    pub pixels: Vec<u8>,
    /// The class of each image, `[count]`; each below the number of classes.
    pub labels: Vec<u8>,
    /// Number of images.
    pub count: usize,
    /// Channels of an image.
    pub channels: usize,
    /// Height of an image, in pixels.
    pub height: usize,
    /// Width of an image, in pixels.
    pub width: usize,
}

/// Reads or makes the images of a split. `origin` is the result of [`obtain`](super::obtain) for `source`. The
/// remedy in an error message depends on `source`.
///
/// # Errors
/// The files are not the published ones. The message names the file, what is wrong and the remedy.
pub fn read(
    dataset: &DatasetInfo,
    split: Split,
    origin: &Origin,
    source: &Source,
) -> Result<Images> {
    match origin {
        Origin::BuiltIn => Ok(synthetic::images(split, dataset.images(split))),
        Origin::Folder(folder) => {
            read_files(dataset, split, folder).map_err(|error| with_remedy(&error, dataset, source))
        }
    }
}

fn read_files(dataset: &DatasetInfo, split: Split, folder: &Path) -> Result<Images> {
    let parts = dataset.parts(&[split]);
    let Located { files, .. } = locate::find_in(folder, &parts).with_context(|| {
        format!("files of {} are no longer in {}", dataset.name, folder.display())
    })?;
    let mut contents = Vec::new();
    for (part, found) in parts.iter().zip(&files) {
        contents.extend(verify::read(dataset, part, found)?.members);
    }
    let images = parse(dataset, contents).and_then(|images| {
        images.check(dataset, split)?;
        Ok(images)
    });
    images.with_context(|| format!("{} in {}", names(&parts), folder.display()))
}

fn names(parts: &[Part]) -> String {
    let names: Vec<&str> = parts.iter().map(|part| part.file.name).collect();
    names.join(" and ")
}

/// Parses the unpacked files of a split.
fn parse(dataset: &DatasetInfo, files: Vec<Vec<u8>>) -> Result<Images> {
    let DatasetInfo { channels, height, width, .. } = *dataset;
    match dataset.format {
        Format::Idx { .. } => {
            let Ok([images, labels]) = <[Vec<u8>; 2]>::try_from(files) else {
                bail!("expected a file of images and a file of labels");
            };
            let images = idx::images(images).context("images")?;
            let labels = idx::labels(labels).context("labels")?;
            let idx::IdxImages { count, height, width, pixels } = images;
            Ok(Images { pixels, labels, count, channels: 1, height, width })
        }
        Format::Cifar { label_bytes, .. } => {
            let read = cifar::records(&files, label_bytes, dataset.image_bytes())?;
            let cifar::CifarImages { count, pixels, labels } = read;
            Ok(Images { pixels, labels, count, channels, height, width })
        }
        Format::Synthetic => bail!("{} has no files", dataset.name),
    }
}

impl Images {
    /// Checks the number of images and labels, the shape and the classes against the table.
    fn check(&self, dataset: &DatasetInfo, split: Split) -> Result<()> {
        let expected = dataset.images(split);
        ensure!(
            self.count == self.labels.len(),
            "there are {} images and {} labels, expected {expected} of each",
            self.count,
            self.labels.len()
        );
        ensure!(self.count == expected, "there are {} images, expected {expected}", self.count);
        let found = [self.channels, self.height, self.width];
        let shape = [dataset.channels, dataset.height, dataset.width];
        ensure!(found == shape, "an image is {found:?}, expected {shape:?}");
        let classes = dataset.classes.len();
        let mut labels = self.labels.iter().enumerate();
        if let Some((index, label)) = labels.find(|(_, label)| usize::from(**label) >= classes) {
            bail!("the label of image {index} is {label}, expected at most {}", classes - 1);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{NamedFolder, catalog, load};
    use super::*;
    use crate::ui::Ui;

    fn images(count: usize) -> Images {
        let (pixels, labels) = (vec![0; count], vec![9; count]);
        Images { pixels, labels, count, channels: 1, height: 28, width: 28 }
    }

    fn check(images: &Images) -> String {
        let mnist = catalog::find("mnist").unwrap();
        images.check(mnist, Split::Test).map_or_else(|error| error.to_string(), |()| "ok".into())
    }

    #[test]
    fn images_are_checked_against_the_data_set() {
        assert_eq!(check(&images(10_000)), "ok");
        assert_eq!(check(&images(9_999)), "there are 9999 images, expected 10000");
        let unequal = Images { labels: vec![0; 60_000], ..images(10_000) };
        assert_eq!(
            check(&unequal),
            "there are 10000 images and 60000 labels, expected 10000 of each"
        );
        let wide = Images { width: 32, ..images(10_000) };
        assert_eq!(check(&wide), "an image is [1, 28, 32], expected [1, 28, 28]");
        let mut label = images(10_000);
        label.labels[7] = 10;
        assert_eq!(check(&label), "the label of image 7 is 10, expected at most 9");
    }

    #[test]
    fn records_of_an_unpacked_archive_are_read() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("cifar10")).unwrap();
        let test = std::fs::File::create(folder.path().join("cifar10/test_batch.bin")).unwrap();
        test.set_len(30_730_000).unwrap();
        let named = NamedFolder::Flag(folder.path().to_owned());
        let source = Source { folder: Some(named), offline: true };
        let ui = Ui::new(true, false);
        let cifar10 = catalog::find("cifar10").unwrap();
        let images = load(cifar10, Split::Test, &source, &ui).unwrap();
        assert_eq!(
            (images.count, images.channels, images.height, images.width),
            (10_000, 3, 32, 32)
        );
        assert_eq!((images.pixels.len(), images.labels.len()), (30_720_000, 10_000));

        test.set_len(30_729_999).unwrap();
        let error = load(cifar10, Split::Test, &source, &ui).unwrap_err().to_string();
        assert!(error.contains("test_batch.bin: it has 30729999"), "{error}");
        assert!(error.contains("`resnet data fetch cifar10 --data-dir "), "{error}");
    }
}
