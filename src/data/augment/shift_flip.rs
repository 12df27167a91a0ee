//! Random crop and mirroring: an image is moved by some pixels, and mirrored left to right (He et al. 2016, section 4.2).
//! The pixels that become free at the border are black, or show the border mirrored.

use super::{Augment, Change, EpochImages, Transform, dimensions};
use crate::data::batch::Batch;
use crate::data::range_of;
use crate::random::{self, Purpose};
use rand::RngExt;
use std::ops::Range;
use tch::{Kind, Tensor};

/// The draws of an epoch.
#[derive(Debug)]
pub(super) struct ShiftFlip {
    /// The largest number of pixels by which an image is moved.
    padding: i64,
    border: Border,
    /// 64-bit integers `[N, 3]`. For each image: the row and the column of the padded image at which the crop
    /// begins, and whether it is mirrored (0 or 1).
    draws: Tensor,
}

/// What a moved image shows at its border.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Border {
    Black,
    Reflection,
}

/// Which images are mirrored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mirror {
    None,
    Random,
    Alternating,
}

impl ShiftFlip {
    /// Draws for an epoch; `None` if the list has no crop and no flip.
    pub(super) fn draw(augment: &Augment, images: &EpochImages) -> Option<Self> {
        let crops = [(Change::Crop, Border::Black), (Change::ReflectCrop, Border::Reflection)];
        let crop = crops
            .into_iter()
            .find_map(|(change, border)| Some((augment.number(change)? as i64, border)));
        let flips =
            [(Change::Flip, Mirror::Random), (Change::AlternatingFlip, Mirror::Alternating)];
        let flip = flips.into_iter().find(|(change, _)| augment.number(*change).is_some());
        if crop.is_none() && flip.is_none() {
            return None;
        }
        let (padding, border) = crop.unwrap_or((0, Border::Black));
        let mirror = flip.map_or(Mirror::None, |(_, mirror)| mirror);
        let alternating = match mirror {
            Mirror::Alternating => alternating_flips(images),
            Mirror::None | Mirror::Random => Vec::new(),
        };
        let mut order = images.order.iter();
        let mut draws = Vec::new();
        for &(step, count) in images.batches {
            let mut random = random::generator(images.seed, Purpose::Augment, step);
            for image in order.by_ref().take(count) {
                draws.push(random.random_range(0..=2 * padding));
                draws.push(random.random_range(0..=2 * padding));
                let by_chance = random.random::<bool>();
                draws.push(i64::from(match mirror {
                    Mirror::None => false,
                    Mirror::Random => by_chance,
                    Mirror::Alternating => alternating.get(*image as usize) == Some(&true),
                }));
            }
        }
        let draws = Tensor::from_slice(&draws).view([-1, 3]).to_device(images.device());
        Some(Self { padding, border, draws })
    }
}

/// For each image of the data set, whether it is mirrored in this epoch: at random in the first epoch, and then in every
/// second epoch. So two epochs in a row show every image both ways (Jordan 2024, section 3.6).
fn alternating_flips(images: &EpochImages) -> Vec<bool> {
    let mut random = random::generator(images.seed, Purpose::AlternatingFlip, 0);
    let is_even = images.epoch.is_multiple_of(2);
    images.order.iter().map(|_| random.random::<bool>() ^ is_even).collect()
}

impl Transform for ShiftFlip {
    fn apply(&self, batch: Batch, range: &Range<usize>) -> Batch {
        let images = batch.pixels();
        let draws = range_of(&self.draws, range);
        let [count, _, height, width] = dimensions(images);
        let up_to = |end: i64| Tensor::arange(end, (Kind::Int64, images.device()));
        let column = |index: i64| draws.select(1, index).unsqueeze(1);
        let (down, right, mirrored) = (column(0), column(1), column(2));
        let rows = down + up_to(height);
        // From left to right, or from right to left.
        let direction: Tensor = 1 - 2 * &mirrored;
        let columns: Tensor = right + mirrored * (width - 1) + up_to(width) * direction;
        let (padded, rows, columns) = match self.border {
            Border::Black => (images.constant_pad_nd([self.padding; 4]), rows, columns),
            // Places beyond the border are replaced by places as far inside it.
            Border::Reflection => {
                let reflected = |places: Tensor, side: i64| {
                    let places: Tensor = places - self.padding;
                    let last = side - 1;
                    let from_end: Tensor = last - places.abs();
                    (last - from_end.abs()).clamp(0, last)
                };
                (images.shallow_clone(), reflected(rows, height), reflected(columns, width))
            }
        };
        let (image, rows, columns) =
            (up_to(count).view([count, 1, 1]), rows.unsqueeze(2), columns.unsqueeze(1));
        // The index tensors stand before and after the channel dimension. libtorch then puts the channels last:
        // [N, H, W, C].
        let changed = padded.index(&[Some(image), None, Some(rows), Some(columns)]);
        batch.with_pixels(changed.permute([0, 3, 1, 2]))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{augment, augment_in_epoch, epoch_of, images};
    use super::*;

    /// The number of pixels by which a crop moves an image at most, if the user gives no number.
    const CROP_PADDING: i64 = 4;

    // A seed in a published result must always give the same images.
    #[test]
    fn draws_are_pinned() {
        let blank = Tensor::zeros([1, 1, 1, 1], (Kind::Uint8, tch::Device::Cpu));
        let augment = "flip,crop".parse().unwrap();
        let draws =
            ShiftFlip::draw(&augment, &epoch_of(0, 1, &[2, 0, 1], &[(0, 3)], &blank)).unwrap();
        assert_eq!(
            Vec::<i64>::try_from(draws.draws.flatten(0, -1)).unwrap(),
            [0, 8, 1, 7, 8, 1, 3, 1, 1]
        );
    }

    #[test]
    fn a_flip_mirrors_some_images_and_leaves_the_others() {
        let xs = images(64);
        let ys = augment(&xs, "flip", 0, 0);
        let mirrored = xs.flip([3]);
        let count = |reference: &Tensor| (0..64).filter(|&i| ys.get(i) == reference.get(i)).count();
        let (kept, flipped) = (count(&xs), count(&mirrored));
        assert_eq!(kept + flipped, 64);
        assert!(kept > 16 && flipped > 16, "{kept} kept, {flipped} mirrored");
    }

    #[test]
    fn an_alternating_flip_shows_each_image_both_ways_in_any_two_epochs() {
        let xs = images(64);
        let order: Vec<i64> = (0..64).rev().collect();
        let in_epoch =
            |epoch, order: &[i64]| augment_in_epoch(&xs, "alternating-flip", (3, epoch), order);
        let file_order: Vec<i64> = (0..64).collect();
        let (first, second, third) =
            (in_epoch(1, &file_order), in_epoch(2, &file_order), in_epoch(3, &file_order));
        assert_eq!(second, first.flip([3]));
        assert_eq!(third, first);
        let flipped = (0..64).filter(|&i| first.get(i) != xs.get(i)).count();
        assert!((16..48).contains(&flipped), "{flipped} mirrored");
        // The image decides, not its place in the epoch's order.
        assert_eq!(in_epoch(1, &order), augment_in_epoch(&xs, "alternating-flip", (3, 1), &order));
        let other_order = in_epoch(1, &order);
        for (place, image) in order.iter().enumerate() {
            let mirrored = first.get(*image) != xs.get(*image);
            let expected =
                if mirrored { xs.get(place as i64).flip([2]) } else { xs.get(place as i64) };
            assert_eq!(other_order.get(place as i64), expected);
        }
    }

    #[test]
    fn a_crop_moves_the_image_whole() {
        let xs = images(1);
        // All shifts and flips that can be drawn, computed by slicing.
        let possible = |padded: &Tensor, largest: i64, flips: bool| {
            let mut possible = Vec::new();
            for down in 0..=2 * largest {
                for right in 0..=2 * largest {
                    let moved = padded.narrow(2, down, 5).narrow(3, right, 6);
                    if flips {
                        possible.push(moved.flip([3]));
                    }
                    possible.push(moved);
                }
            }
            possible
        };
        let black = |padding: i64| xs.constant_pad_nd([padding; 4]);
        let mirrored = xs.to_kind(Kind::Float).reflection_pad2d([2; 4]).to_kind(Kind::Uint8);
        for (changes, possible) in [
            ("flip,crop", possible(&black(CROP_PADDING), CROP_PADDING, true)),
            ("crop:2", possible(&black(2), 2, false)),
            ("reflect-crop:2", possible(&mirrored, 2, false)),
        ] {
            let mut different = 0;
            for draw in 0..50 {
                let ys = augment(&xs, changes, 3, draw);
                assert!(possible.contains(&ys), "{changes}, draw {draw}");
                different += usize::from(ys != xs);
            }
            assert!(different > 25, "{changes}: {different} of 50 are moved");
        }
    }
}
