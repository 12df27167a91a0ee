//! Random crop and mirroring: an image is moved by some pixels, the pixels that become free at the border are black,
//! and half of the images are mirrored left to right (He et al. 2016, section 4.2).

use super::Transform;
use crate::data::batch::Batch;
use crate::data::range_of;
use crate::random::{self, Purpose};
use rand::RngExt;
use std::ops::Range;
use tch::{Device, Kind, Tensor};

/// The largest number of pixels by which a crop moves an image.
pub const CROP_PADDING: i64 = 4;

/// The draws of an epoch.
#[derive(Debug)]
pub(super) struct ShiftFlip {
    /// Black pixels at each border.
    padding: i64,
    /// 64-bit integers `[N, 3]`. For each image: the row and the column of the padded image at which the crop
    /// begins, and whether it is mirrored (0 or 1).
    draws: Tensor,
}

impl ShiftFlip {
    /// Draws for an epoch. `batches` has (step of the run, number of images) for each batch.
    pub(super) fn draw(padding: i64, seed: u64, batches: &[(u64, usize)], device: Device) -> Self {
        let mut draws = Vec::new();
        for &(step, images) in batches {
            let mut rng = random::generator(seed, Purpose::Augment, step);
            for _ in 0..images {
                draws.push(rng.random_range(0..=2 * padding));
                draws.push(rng.random_range(0..=2 * padding));
                draws.push(i64::from(rng.random::<bool>()));
            }
        }
        Self { padding, draws: Tensor::from_slice(&draws).view([-1, 3]).to_device(device) }
    }
}

impl Transform for ShiftFlip {
    fn apply(&self, batch: Batch, range: &Range<usize>) -> Batch {
        let images = batch.pixels();
        let draws = range_of(&self.draws, range);
        let (count, height, width) = match images.size()[..] {
            [count, _, height, width] => (count, height, width),
            _ => unreachable!("a batch of images has four dimensions"),
        };
        let up_to = |end: i64| Tensor::arange(end, (Kind::Int64, images.device()));
        let column = |index: i64| draws.select(1, index).unsqueeze(1);
        let (down, right, mirrored) = (column(0), column(1), column(2));
        let rows = down + up_to(height);
        // From left to right, or from right to left.
        let direction: Tensor = 1 - 2 * &mirrored;
        let columns: Tensor = right + mirrored * (width - 1) + up_to(width) * direction;
        let (image, rows, columns) =
            (up_to(count).view([count, 1, 1]), rows.unsqueeze(2), columns.unsqueeze(1));
        let padded = images.constant_pad_nd([self.padding; 4]);
        // The index tensors stand before and after the channel dimension. libtorch then puts the channels last:
        // [N, H, W, C].
        let changed = padded.index(&[Some(image), None, Some(rows), Some(columns)]);
        batch.with_pixels(changed.permute([0, 3, 1, 2]))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::batch::Targets;
    use super::super::{Augment, Augmentation};
    use super::*;

    fn batch(images: &Tensor) -> Batch {
        let classes = Tensor::zeros([images.size()[0]], (Kind::Int64, Device::Cpu));
        Batch::new(images.shallow_clone(), Targets::new(classes))
    }

    /// The images as this step of a run changes them.
    fn augment(images: &Tensor, augment: Augment, seed: u64, step: u64) -> Tensor {
        let count = images.size()[0] as usize;
        let batches = [(step, count)];
        let augmentation = Augmentation::new(augment, seed, &batches, Device::Cpu);
        augmentation.apply(batch(images), &(0..count)).pixels().shallow_clone()
    }

    fn images(count: i64) -> Tensor {
        let pixels = Tensor::arange(count * 2 * 5 * 6, (Kind::Int64, tch::Device::Cpu));
        pixels.remainder(251).to_kind(Kind::Uint8).view([count, 2, 5, 6])
    }

    #[test]
    fn none_changes_nothing_and_draws_depend_on_seed_and_index() {
        let xs = images(16);
        assert_eq!(augment(&xs, Augment::None, 1, 2), xs);
        let base = augment(&xs, Augment::FlipCrop, 1, 2);
        assert_eq!(base, augment(&xs, Augment::FlipCrop, 1, 2));
        assert_ne!(base, augment(&xs, Augment::FlipCrop, 1, 3));
        assert_ne!(base, augment(&xs, Augment::FlipCrop, 2, 2));
        assert_eq!(base.size(), xs.size());
    }

    #[test]
    fn a_batch_is_augmented_alike_alone_and_in_its_epoch() {
        let xs = images(10);
        let batches = [(7, 6), (8, 4)];
        let epoch = Augmentation::new(Augment::FlipCrop, 5, &batches, Device::Cpu);
        let alone = augment(&xs.narrow(0, 6, 4), Augment::FlipCrop, 5, 8);
        let together = epoch.apply(batch(&xs.narrow(0, 6, 4)), &(6..10));
        assert_eq!(*together.pixels(), alone);
    }

    // A seed in a published result must always give the same images.
    #[test]
    fn draws_are_pinned() {
        let draws = ShiftFlip::draw(CROP_PADDING, 0, &[(0, 3)], Device::Cpu);
        assert_eq!(
            Vec::<i64>::try_from(draws.draws.flatten(0, -1)).unwrap(),
            [0, 8, 1, 7, 8, 1, 3, 1, 1]
        );
    }

    #[test]
    fn a_flip_mirrors_some_images_and_leaves_the_others() {
        let xs = images(64);
        let ys = augment(&xs, Augment::Flip, 0, 0);
        let mirrored = xs.flip([3]);
        let count = |reference: &Tensor| (0..64).filter(|&i| ys.get(i) == reference.get(i)).count();
        let (kept, flipped) = (count(&xs), count(&mirrored));
        assert_eq!(kept + flipped, 64);
        assert!(kept > 16 && flipped > 16, "{kept} kept, {flipped} mirrored");
    }

    #[test]
    fn a_crop_moves_the_image_whole() {
        let xs = images(1);
        // All shifts and flips that can be drawn, computed by slicing.
        let padded = xs.constant_pad_nd([CROP_PADDING; 4]);
        let mut possible = Vec::new();
        for down in 0..=2 * CROP_PADDING {
            for right in 0..=2 * CROP_PADDING {
                let moved = padded.narrow(2, down, 5).narrow(3, right, 6);
                possible.push(moved.flip([3]));
                possible.push(moved);
            }
        }
        for draw in 0..50 {
            let ys = augment(&xs, Augment::FlipCrop, 3, draw);
            assert!(possible.contains(&ys), "draw {draw}");
        }
    }
}
