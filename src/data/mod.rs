//! Data sets: a catalog of them, downloads to this machine, and reading of their images.
//!
//! [`obtain`] finds or downloads the files of a data set; [`read`] unpacks, verifies, parses and checks
//! them; [`load`] does both. For a data set that the program makes itself, [`obtain`] has nothing to do.

pub mod augment;
pub mod batch;
pub mod catalog;
pub mod cifar;
pub mod dataset;
pub mod download;
pub mod idx;
mod images;
pub mod locate;
mod obtain;
pub mod order;
pub mod pictures;
pub mod preprocess;
mod source;
pub mod synthetic;
pub mod unpack;
pub mod verify;

use crate::ui::Ui;
use anyhow::Result;
use catalog::DatasetInfo;
pub use images::{Images, read};
pub use obtain::{Origin, fetch, obtain};
pub use source::{FOLDER_VARIABLE, NamedFolder, Source};
use std::ops::Range;
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

/// The part `[n, …]` of a tensor `[N, …]` that belongs to a range of images. It shares the tensor's memory.
pub(crate) fn range_of(tensor: &Tensor, range: &Range<usize>) -> Tensor {
    tensor.narrow(0, range.start as i64, range.len() as i64)
}

/// The images of a split. Files that are not on this machine yet are downloaded.
///
/// # Errors
/// The errors of [`obtain`] and [`read`].
pub fn load(dataset: &DatasetInfo, split: Split, source: &Source, ui: &Ui) -> Result<Images> {
    read(dataset, split, &obtain(dataset, &[split], source, ui)?, source)
}
