//! Random changes to training images: a list of transforms, applied to whole batches on the device.
//!
//! To add a change, add it to [`Change`], and a file in this folder with its [`Transform`].

mod affine;
mod list;
mod mix;
mod rectangle;
mod shift_flip;
mod trivial;

pub use list::{Augment, Change};

use super::batch::Batch;
use std::fmt::Debug;
use std::ops::Range;
use tch::{Device, Tensor};

/// A random change to the batches of one epoch. All its random numbers are drawn in advance.
pub trait Transform: Debug {
    /// Changes a batch. `range` is its place in the epoch's order of images.
    fn apply(&self, batch: Batch, range: &Range<usize>) -> Batch;
}

/// What the draws of an epoch depend on, and what they are for.
#[derive(Debug, Clone, Copy)]
pub struct EpochImages<'a> {
    /// The seed of the run.
    pub seed: u64,
    /// The epoch, counted from 1.
    pub epoch: u64,
    /// The training images in the order of this epoch.
    pub order: &'a [i64],
    /// (step of the run, number of images) for each batch.
    pub batches: &'a [(u64, usize)],
    /// Height and width of an image in pixels, before it is resized.
    pub size: [i64; 2],
    /// The bytes that are nearest to zero after normalisation, `[1, C, 1, 1]`, for pixels that are erased.
    pub blank: &'a Tensor,
}

impl EpochImages<'_> {
    fn device(&self) -> Device {
        self.blank.device()
    }
}

/// The transforms of one epoch, in the order in which they are applied.
#[derive(Debug)]
pub struct Augmentation(Vec<Box<dyn Transform>>);

impl Augmentation {
    /// Draws all random numbers of an epoch. They depend only on the seed and the step; those of an alternating flip on
    /// the seed, the image and the epoch. They are copied to the device all together, so that no step waits for a copy.
    /// After `mix_epochs` epochs, no images are mixed.
    pub fn new(augment: &Augment, mix_epochs: Option<u64>, images: &EpochImages) -> Self {
        let mut transforms: Vec<Box<dyn Transform>> = Vec::new();
        let [trivial, erase, cutout] =
            [Change::Trivial, Change::Erase, Change::Cutout].map(|change| augment.number(change));
        if trivial.is_some() {
            transforms.push(Box::new(trivial::Trivial::draw(images)));
        }
        transforms
            .extend(affine::Affine::draw(augment, images).map(|affine| Box::new(affine) as _));
        transforms
            .extend(shift_flip::ShiftFlip::draw(augment, images).map(|both| Box::new(both) as _));
        transforms
            .extend(mix::Mix::draw(augment, mix_epochs, images).map(|mix| Box::new(mix) as _));
        if let Some(probability) = erase {
            transforms.push(Box::new(rectangle::Erase::random(probability, images)));
        }
        if let Some(side) = cutout {
            transforms.push(Box::new(rectangle::Erase::square(side as i64, images)));
        }
        Self(transforms)
    }

    /// Applies all transforms to a batch. `range` is its place in the epoch's order of images.
    pub fn apply(&self, batch: Batch, range: &Range<usize>) -> Batch {
        self.0.iter().fold(batch, |batch, transform| transform.apply(batch, range))
    }
}

/// Number, channels, height and width of a batch of images.
fn dimensions(images: &Tensor) -> [i64; 4] {
    match images.size()[..] {
        [count, channels, height, width] => [count, channels, height, width],
        _ => unreachable!("a batch of images has four dimensions"),
    }
}

#[cfg(test)]
mod testing {
    //! What the tests of the transforms share.

    use super::super::batch::Targets;
    use super::*;
    use tch::Kind;

    /// An epoch of images of 5×6 pixels.
    pub(super) fn epoch_of<'a>(
        seed: u64,
        epoch: u64,
        order: &'a [i64],
        batches: &'a [(u64, usize)],
        blank: &'a Tensor,
    ) -> EpochImages<'a> {
        EpochImages { seed, epoch, order, batches, size: [5, 6], blank }
    }

    pub(super) fn images(count: i64) -> Tensor {
        let pixels = Tensor::arange(count * 2 * 5 * 6, (Kind::Int64, Device::Cpu));
        pixels.remainder(251).to_kind(Kind::Uint8).view([count, 2, 5, 6])
    }

    pub(super) fn batch(images: &Tensor) -> Batch {
        let classes = Tensor::arange(images.size()[0], (Kind::Int64, Device::Cpu)).remainder(4);
        Batch::new(images.shallow_clone(), Targets::new(classes))
    }

    pub(super) fn blank() -> Tensor {
        Tensor::from_slice(&[70u8, 80]).view([1, 2, 1, 1])
    }

    /// The batch as this step of a run changes it.
    pub(super) fn changed(images: &Tensor, changes: &str, seed: u64, step: u64) -> Batch {
        let count = images.size()[0];
        let order: Vec<i64> = (0..count).collect();
        let batches = [(step, count as usize)];
        let blank = blank();
        let epoch = epoch_of(seed, 1, &order, &batches, &blank);
        let augmentation = Augmentation::new(&changes.parse().unwrap(), None, &epoch);
        augmentation.apply(batch(images), &(0..count as usize))
    }

    /// The images as this step of a run changes them.
    pub(super) fn augment(images: &Tensor, changes: &str, seed: u64, step: u64) -> Tensor {
        changed(images, changes, seed, step).pixels().shallow_clone()
    }

    /// The images as the only step of an epoch with this (seed, number) and order changes them.
    pub(super) fn augment_in_epoch(
        images: &Tensor,
        changes: &str,
        (seed, epoch): (u64, u64),
        order: &[i64],
    ) -> Tensor {
        let (batches, blank) = ([(0, order.len())], blank());
        let epoch = epoch_of(seed, epoch, order, &batches, &blank);
        let augmentation = Augmentation::new(&changes.parse().unwrap(), None, &epoch);
        augmentation.apply(batch(images), &(0..order.len())).pixels().shallow_clone()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{augment, batch, blank, epoch_of, images};
    use super::*;

    const ALL: [&str; 10] = [
        "trivial",
        "rotate:20,scale:0.2",
        "flip",
        "crop:2",
        "alternating-flip,reflect-crop:2",
        "mixup",
        "cutmix",
        "erase:1",
        "cutout:3",
        "trivial,rotate:10,scale:0.1,flip,crop:1,mixup,cutmix,erase:1,cutout:2",
    ];

    #[test]
    fn none_changes_nothing_and_draws_depend_on_seed_and_step() {
        let xs = images(16);
        assert_eq!(augment(&xs, "none", 1, 2), xs);
        for changes in ALL {
            let base = augment(&xs, changes, 1, 2);
            assert_ne!(base, xs, "{changes}");
            assert_eq!(base, augment(&xs, changes, 1, 2), "{changes}");
            assert_ne!(base, augment(&xs, changes, 2, 2), "{changes}");
            assert_eq!((base.size(), base.kind()), (xs.size(), xs.kind()), "{changes}");
            // The epoch decides about an alternating flip.
            assert_ne!(base, augment(&xs, changes, 1, 3), "{changes}");
        }
    }

    #[test]
    fn a_batch_is_changed_alike_alone_and_in_its_epoch() {
        let xs = images(10);
        let (order, blank): (Vec<i64>, _) = ((0..10).collect(), blank());
        for changes in ALL {
            let draw = |order: &[i64], batches: &[(u64, usize)]| {
                let epoch = epoch_of(5, 1, order, batches, &blank);
                Augmentation::new(&changes.parse().unwrap(), None, &epoch)
            };
            let rest = batch(&xs).range(&(6..10));
            let together = draw(&order, &[(7, 6), (8, 4)]).apply(rest, &(6..10));
            if changes.contains("alternating") {
                continue;
            }
            let rest = batch(&xs).range(&(6..10));
            let alone = draw(&order[6..], &[(8, 4)]).apply(rest, &(0..4));
            assert_eq!(together.pixels(), alone.pixels(), "{changes}");
        }
    }
}
