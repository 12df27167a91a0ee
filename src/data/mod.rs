//! Data sets: which there are, finding or downloading them, and reading their images.
//!
//! [`obtain`] locates or downloads the files; [`read`] unpacks, verifies, parses and checks them;
//! [`load`] does both.

pub mod augment;
pub mod batch;
pub mod catalog;
pub mod cifar;
pub mod dataset;
pub mod download;
pub mod idx;
pub mod locate;
pub mod order;
pub mod preprocess;
mod source;
pub mod unpack;
pub mod verify;

use crate::error::one_line;
use crate::ui::Ui;
use anyhow::{Context, Result, anyhow, bail, ensure};
use catalog::{Dataset, Format, Part};
use download::Downloader;
use locate::Located;
pub use source::{FOLDER_VARIABLE, NamedFolder, Source};
use std::ops::Range;
use std::path::{Path, PathBuf};
use tch::Tensor;

/// The two parts that a data set is published in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// The images to train on.
    Train,
    /// The images to test on.
    Test,
}

impl Split {
    /// Both of them.
    pub const BOTH: [Self; 2] = [Self::Train, Self::Test];
}

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

/// The part `[n, …]` of a tensor `[N, …]` that belongs to a range of images. It shares the tensor's memory.
pub(crate) fn range_of(tensor: &Tensor, range: &Range<usize>) -> Tensor {
    tensor.narrow(0, range.start as i64, range.len() as i64)
}

/// The images of a split, downloaded where they are not on this machine yet.
///
/// # Errors
/// As for [`obtain`] and [`read`].
pub fn load(dataset: &Dataset, split: Split, source: &Source, ui: &Ui) -> Result<Images> {
    read(dataset, split, &obtain(dataset, &[split], source, ui)?, source)
}

/// The folder that holds the files of some splits, downloaded where they are not on this machine yet.
///
/// # Errors
/// A folder that the user named and that cannot be the one; files that are missing and cannot be
/// downloaded, or beside which damaged ones lie. The message names folder or file, what is wrong and the
/// remedy.
pub fn obtain(dataset: &Dataset, splits: &[Split], source: &Source, ui: &Ui) -> Result<PathBuf> {
    let parts = dataset.parts(splits);
    if let Some(located) = locate::find(dataset, &parts, source)? {
        return Ok(located.folder);
    }
    // Only `resnet data fetch` replaces what is there.
    match damage(dataset, &parts, &locate::download_folder(dataset, source)?) {
        Some(error) => Err(with_remedy(&error, dataset, source)),
        None => download(dataset, &parts, source, ui),
    }
}

/// Reads the images of a split out of the folder that holds its files. `source` is where that folder was
/// looked for, which decides what an error advises.
///
/// # Errors
/// Files that are not the published ones. The message names the file, what is wrong and the remedy.
pub fn read(dataset: &Dataset, split: Split, folder: &Path, source: &Source) -> Result<Images> {
    let parts = dataset.parts(&[split]);
    locate::find_in(folder, &parts)
        .with_context(|| format!("files of {} vanished from {}", dataset.name, folder.display()))
        .and_then(|located| read_images(dataset, split, &parts, &located))
        .map_err(|error| with_remedy(&error, dataset, source))
}

fn with_remedy(error: &anyhow::Error, dataset: &Dataset, source: &Source) -> anyhow::Error {
    let fetch = locate::fetch_command(dataset, source);
    anyhow!("{}; `{fetch}` gets the published files", one_line(error))
}

/// Downloads what is missing or damaged of a data set, and gives the folder that holds it.
///
/// A good copy is left alone: one in the user's folder where the user names one, else also one in
/// the system's. A folder that the user names is made.
///
/// # Errors
/// Where a file cannot be downloaded or written, or no mirror has the published one.
pub fn fetch(dataset: &Dataset, source: &Source, ui: &Ui) -> Result<PathBuf> {
    source.check_no_file()?;
    let parts = dataset.parts(&Split::BOTH);
    let folder = locate::download_folder(dataset, source)?;
    let to_be_made = source.folder.as_ref().is_some_and(|folder| !folder.path().exists());
    let located = if to_be_made { None } else { locate::find(dataset, &parts, source)? };
    let folder = located.as_ref().map_or(&folder, |located| &located.folder);
    match damage(dataset, &parts, folder).as_ref().map(one_line) {
        None if located.is_some() => return Ok(folder.clone()),
        None => {}
        Some(damage) if source.offline => bail!("{damage}; --offline forbids a download"),
        Some(damage) => ui.warn(format!("{damage}; downloading the published file")),
    }
    download(dataset, &parts, source, ui)
}

/// What is wrong with the first damaged one of the files that lie in a folder.
fn damage(dataset: &Dataset, parts: &[Part], folder: &Path) -> Option<anyhow::Error> {
    let present = parts.iter().filter_map(|part| Some((part, locate::find_part(folder, part)?)));
    present.map(|(part, found)| verify::read(dataset, part, &found)).find_map(Result::err)
}

fn download(dataset: &Dataset, parts: &[Part], source: &Source, ui: &Ui) -> Result<PathBuf> {
    if source.offline {
        return Err(locate::missing(dataset, parts, source));
    }
    let folder = locate::download_folder(dataset, source)?;
    Downloader::new(dataset)?.fetch(parts, &folder, ui)?;
    Ok(folder)
}

fn read_images(
    dataset: &Dataset,
    split: Split,
    parts: &[Part],
    located: &Located,
) -> Result<Images> {
    let mut files = Vec::new();
    for (part, found) in parts.iter().zip(&located.files) {
        files.extend(verify::read(dataset, part, found)?.members);
    }
    let images = parse(dataset, files).and_then(|images| {
        images.check(dataset, split)?;
        Ok(images)
    });
    images.with_context(|| {
        let names: Vec<&str> = parts.iter().map(|part| part.file.name).collect();
        format!("{} in {}", names.join(" and "), located.folder.display())
    })
}

fn parse(dataset: &Dataset, files: Vec<Vec<u8>>) -> Result<Images> {
    let Dataset { channels, height, width, .. } = *dataset;
    match dataset.format {
        Format::Idx { .. } => {
            let Ok([images, labels]) = <[Vec<u8>; 2]>::try_from(files) else {
                bail!("a split is a file of images and one of labels");
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
    }
}

impl Images {
    /// Whether these are as many images and labels as the data set has, of its shape and classes.
    fn check(&self, dataset: &Dataset, split: Split) -> Result<()> {
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
    use super::*;

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
