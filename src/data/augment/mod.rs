//! Random changes to training images: a list of transforms, applied to whole batches on the device.
//!
//! To add a transform, add a variant to [`Augment`], and a file in this folder with its [`Transform`].

mod shift_flip;

pub use shift_flip::CROP_PADDING;

use super::batch::Batch;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use shift_flip::ShiftFlip;
use std::fmt::Debug;
use std::ops::Range;
use tch::Device;

/// How training images are changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
pub enum Augment {
    /// No change.
    #[serde(rename = "none")]
    #[value(name = "none")]
    None,
    /// Mirrored left to right, with probability ½.
    #[serde(rename = "flip")]
    #[value(name = "flip")]
    Flip,
    /// Mirrored in the same way, and moved by up to 4 pixels; the pixels that become free at the
    /// border are black (He et al. 2016, section 4.2).
    #[serde(rename = "flip,crop")]
    #[value(name = "flip,crop")]
    FlipCrop,
}

/// A random change to the batches of one epoch. All its random numbers are drawn in advance.
pub trait Transform: Debug {
    /// Changes a batch. `range` is its place in the epoch's order of images.
    fn apply(&self, batch: Batch, range: &Range<usize>) -> Batch;
}

/// The transforms of one epoch, in the order in which they are applied.
#[derive(Debug)]
pub struct Augmentation(Vec<Box<dyn Transform>>);

impl Augmentation {
    /// Draws all random numbers of an epoch. `batches` has (step of the run, number of images) for each batch. The
    /// draws depend only on the seed and the step. They are copied to the device all together, so that no step
    /// waits for a copy.
    pub fn new(augment: Augment, seed: u64, batches: &[(u64, usize)], device: Device) -> Self {
        let shift_flip = |padding| -> Box<dyn Transform> {
            Box::new(ShiftFlip::draw(padding, seed, batches, device))
        };
        Self(match augment {
            Augment::None => Vec::new(),
            Augment::Flip => vec![shift_flip(0)],
            Augment::FlipCrop => vec![shift_flip(CROP_PADDING)],
        })
    }

    /// Applies all transforms to a batch. `range` is its place in the epoch's order of images.
    pub fn apply(&self, batch: Batch, range: &Range<usize>) -> Batch {
        self.0.iter().fold(batch, |batch, transform| transform.apply(batch, range))
    }
}
