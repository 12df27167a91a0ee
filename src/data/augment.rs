//! Random changes to training images, drawn per image and applied to a whole batch on the device.

use crate::random::{self, Purpose};
use clap::ValueEnum;
use rand::RngExt;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

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

/// Augments a batch, bytes [N, C, H, W] → [N, C, H, W]. The draws are a pure function of the seed
/// and `draw`, which no two batches of a run share.
pub fn augment(images: &Tensor, kind: Augment, seed: u64, draw: u64) -> Tensor {
    let padding = match kind {
        Augment::None => return images.shallow_clone(),
        Augment::Flip => 0,
        Augment::FlipCrop => CROP_PADDING,
    };
    let (count, _, height, width) = dims(images);
    let mut rng = random::generator(seed, Purpose::Augment, draw);
    let mut rows = Vec::with_capacity((count * height) as usize);
    let mut columns = Vec::with_capacity((count * width) as usize);
    for _ in 0..count {
        let (down, right) = (rng.random_range(0..=2 * padding), rng.random_range(0..=2 * padding));
        rows.extend(down..down + height);
        if rng.random() {
            columns.extend((right..right + width).rev());
        } else {
            columns.extend(right..right + width);
        }
    }
    gather(&images.constant_pad_nd([padding; 4]), &rows, &columns, count)
}

/// Picks `rows` [N, H] and `columns` [N, W] of each image.
fn gather(images: &Tensor, rows: &[i64], columns: &[i64], count: i64) -> Tensor {
    let device = images.device();
    let rows = Tensor::from_slice(rows).view([count, -1, 1]).to_device(device);
    let columns = Tensor::from_slice(columns).view([count, 1, -1]).to_device(device);
    let image = Tensor::arange(count, (Kind::Int64, device)).view([count, 1, 1]);
    // Index tensors on both sides of a slice put their common dimensions first: [N, H, W, C].
    images.index(&[Some(image), None, Some(rows), Some(columns)]).permute([0, 3, 1, 2])
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
