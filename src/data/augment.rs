//! Random changes to training images, drawn per image and applied to a whole batch on the device.

use super::range_of;
use crate::random::{self, Purpose};
use clap::ValueEnum;
use rand::RngExt;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use tch::{Device, Kind, Tensor};

/// What is done to training images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
pub enum Augment {
    /// Nothing.
    #[serde(rename = "none")]
    #[value(name = "none")]
    None,
    /// Mirrored left to right, with probability ½.
    #[serde(rename = "flip")]
    #[value(name = "flip")]
    Flip,
    /// Mirrored, and moved by up to 4 pixels with black coming in at the border
    /// (He et al. 2016, section 4.2).
    #[serde(rename = "flip,crop")]
    #[value(name = "flip,crop")]
    FlipCrop,
}

/// Pixels of the original image by which a crop moves at most.
pub const CROP_PADDING: i64 = 4;

/// What is drawn for images, on their device: 64-bit integers `[N, 3]`, for each image the pixels by which a
/// crop begins further down and further right in the padded image, and whether it is mirrored.
#[derive(Debug)]
pub struct Draws {
    padding: i64,
    draws: Tensor,
}

impl Draws {
    /// For batches of an epoch, each given by its index in the run and its count of images; none where
    /// nothing is random. The draws are a pure function of the seed and the batch's index. All are copied to
    /// the device at once, so that no step waits for that.
    pub fn new(
        kind: Augment,
        seed: u64,
        batches: impl Iterator<Item = (u64, usize)>,
        device: Device,
    ) -> Option<Self> {
        let padding = match kind {
            Augment::None => return None,
            Augment::Flip => 0,
            Augment::FlipCrop => CROP_PADDING,
        };
        let mut draws = Vec::new();
        for (batch, images) in batches {
            let mut rng = random::generator(seed, Purpose::Augment, batch);
            for _ in 0..images {
                draws.push(rng.random_range(0..=2 * padding));
                draws.push(rng.random_range(0..=2 * padding));
                draws.push(i64::from(rng.random::<bool>()));
            }
        }
        let draws = Tensor::from_slice(&draws).view([-1, 3]).to_device(device);
        Some(Self { padding, draws })
    }

    /// Those for a range of the images.
    pub fn range(&self, range: &Range<usize>) -> Self {
        Self { padding: self.padding, draws: range_of(&self.draws, range) }
    }

    /// Augments as many images, bytes [N, C, H, W] → [N, C, H, W].
    pub fn apply(&self, images: &Tensor) -> Tensor {
        let (count, _, height, width) = dims(images);
        let to = |end: i64| Tensor::arange(end, (Kind::Int64, images.device()));
        let column = |index: i64| self.draws.select(1, index).unsqueeze(1);
        let (down, right, mirrored) = (column(0), column(1), column(2));
        let rows = down + to(height);
        // From left to right, or from right to left.
        let direction: Tensor = 1 - 2 * &mirrored;
        let columns: Tensor = right + mirrored * (width - 1) + to(width) * direction;
        let (image, rows, columns) =
            (to(count).view([count, 1, 1]), rows.unsqueeze(2), columns.unsqueeze(1));
        let padded = images.constant_pad_nd([self.padding; 4]);
        // Index tensors on both sides of a slice put their common dimensions first: [N, H, W, C].
        padded.index(&[Some(image), None, Some(rows), Some(columns)]).permute([0, 3, 1, 2])
    }
}

fn dims(images: &Tensor) -> (i64, i64, i64, i64) {
    match images.size()[..] {
        [count, channels, height, width] => (count, channels, height, width),
        _ => unreachable!("a batch of images has four dimensions"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the batch of that index in a run.
    fn augment(images: &Tensor, kind: Augment, seed: u64, batch: u64) -> Tensor {
        let batches = [(batch, images.size()[0] as usize)].into_iter();
        let draws = Draws::new(kind, seed, batches, Device::Cpu);
        draws.map_or_else(|| images.shallow_clone(), |draws| draws.apply(images))
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
        let batches = [(7, 6), (8, 4)].into_iter();
        let epoch = Draws::new(Augment::FlipCrop, 5, batches, Device::Cpu).unwrap();
        let alone = augment(&xs.narrow(0, 6, 4), Augment::FlipCrop, 5, 8);
        assert_eq!(epoch.range(&(6..10)).apply(&xs.narrow(0, 6, 4)), alone);
    }

    // A seed in a published result must mean the same images for ever.
    #[test]
    fn draws_are_pinned() {
        let draws = Draws::new(Augment::FlipCrop, 0, [(0, 3)].into_iter(), Device::Cpu).unwrap();
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
        // Every move and mirroring that can be drawn, by plain slicing.
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
