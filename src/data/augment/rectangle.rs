//! Rectangles of images: drawn at random, erased, or taken from another image.

use super::{EpochImages, Transform, dimensions};
use crate::data::batch::Batch;
use crate::data::range_of;
use crate::random::{self, Purpose};
use rand::{Rng, RngExt};
use std::ops::Range;
use tch::{Kind, Tensor};

// As in Zhong et al. 2020, section 3, and in torchvision's RandomErasing.
/// Fractions of the image that an erased rectangle covers.
const AREA: Range<f64> = 0.02..0.33;
/// The largest ratio of an erased rectangle's sides.
const RATIO: f64 = 3.3;
/// Draws before an image is left as it is, because no rectangle fitted.
const TRIES: usize = 10;

/// A rectangle of pixels in an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Rectangle {
    pub(super) top: i64,
    pub(super) left: i64,
    pub(super) height: i64,
    pub(super) width: i64,
}

impl Rectangle {
    /// The part of a rectangle that lies in an image of this size, for a rectangle of `height` and `width` around a
    /// pixel that is drawn uniformly.
    pub(super) fn around(
        random: &mut impl Rng,
        [height, width]: [i64; 2],
        image: [i64; 2],
    ) -> Self {
        let mut side = |side: i64, whole: i64| {
            let first = random.random_range(0..whole) - side / 2;
            let (start, end) = (first.max(0), (first + side).min(whole));
            (start, (end - start).max(0))
        };
        let (top, height) = side(height, image[0]);
        let (left, width) = side(width, image[1]);
        Self { top, left, height, width }
    }

    /// A rectangle of a random area and shape; empty if none fits.
    fn random(random: &mut impl Rng, image: [i64; 2]) -> Self {
        let whole = (image[0] * image[1]) as f64;
        for _ in 0..TRIES {
            let area = whole * random.random_range(AREA);
            let ratio = random.random_range(-RATIO.ln()..RATIO.ln()).exp();
            let [height, width] =
                [area * ratio, area / ratio].map(|side| side.sqrt().round() as i64);
            if height < image[0] && width < image[1] {
                let top = random.random_range(0..=image[0] - height);
                let left = random.random_range(0..=image[1] - width);
                return Self { top, left, height, width };
            }
        }
        Self::default()
    }

    /// Pixels of the rectangle.
    pub(super) fn area(self) -> i64 {
        self.height * self.width
    }
}

/// A rectangle for each image of an epoch, on the device: 64-bit integers `[N, 4]`.
#[derive(Debug)]
pub(super) struct Rectangles(Tensor);

impl Rectangles {
    pub(super) fn new(rectangles: &[Rectangle], images: &EpochImages) -> Self {
        let numbers: Vec<i64> = rectangles
            .iter()
            .flat_map(|r| [r.top, r.left, r.top + r.height, r.left + r.width])
            .collect();
        Self(Tensor::from_slice(&numbers).view([-1, 4]).to_device(images.device()))
    }

    /// Which pixels of a batch lie in the rectangles: booleans `[N, 1, H, W]`.
    pub(super) fn inside(&self, pixels: &Tensor, range: &Range<usize>) -> Tensor {
        let [_, _, height, width] = dimensions(pixels);
        let corners = range_of(&self.0, range);
        let up_to = |end: i64| Tensor::arange(end, (Kind::Int64, pixels.device()));
        let column = |index: i64| corners.select(1, index).unsqueeze(1);
        let between = |places: &Tensor, start: i64, end: i64| {
            places.ge_tensor(&column(start)).logical_and(&places.lt_tensor(&column(end)))
        };
        let rows = between(&up_to(height), 0, 2).unsqueeze(2);
        let columns = between(&up_to(width), 1, 3).unsqueeze(1);
        rows.logical_and(&columns).unsqueeze(1)
    }
}

/// Erases a rectangle of each image, or of some: its pixels become zero after normalisation.
#[derive(Debug)]
pub(super) struct Erase {
    rectangles: Rectangles,
    blank: Tensor,
}

impl Erase {
    /// A rectangle of random area and shape, with this probability (Zhong et al. 2020).
    pub(super) fn random(probability: f64, images: &EpochImages) -> Self {
        Self::draw(Purpose::Erase, images, |random| match random.random_bool(probability) {
            true => Rectangle::random(random, images.size),
            false => Rectangle::default(),
        })
    }

    /// A square with sides of this number of pixels, whose middle is any pixel of the image (DeVries and Taylor 2017).
    pub(super) fn square(side: i64, images: &EpochImages) -> Self {
        Self::draw(Purpose::Cutout, images, |random| {
            Rectangle::around(random, [side, side], images.size)
        })
    }

    fn draw<F>(purpose: Purpose, images: &EpochImages, mut one: F) -> Self
    where
        F: FnMut(&mut rand_chacha::ChaCha8Rng) -> Rectangle,
    {
        let mut rectangles = Vec::new();
        for &(step, count) in images.batches {
            let mut random = random::generator(images.seed, purpose, step);
            rectangles.extend((0..count).map(|_| one(&mut random)));
        }
        Self {
            rectangles: Rectangles::new(&rectangles, images),
            blank: images.blank.shallow_clone(),
        }
    }
}

impl Transform for Erase {
    fn apply(&self, batch: Batch, range: &Range<usize>) -> Batch {
        let pixels = batch.pixels();
        let inside = self.rectangles.inside(pixels, range);
        let erased = self.blank.where_self(&inside, pixels);
        batch.with_pixels(erased)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{augment, blank, images};
    use super::*;

    /// The pixels of each image that differ from those of `xs`: (rows, columns, number of pixels).
    fn changed(xs: &Tensor, ys: &Tensor) -> Vec<[i64; 3]> {
        let differ = xs.ne_tensor(ys).any_dim(1, false);
        let count = |t: Tensor| t.sum(Kind::Int64).int64_value(&[]);
        (0..xs.size()[0])
            .map(|image| {
                let differ = differ.get(image);
                let [rows, columns] = [1, 0].map(|dim| count(differ.any_dim(dim, false)));
                [rows, columns, count(differ)]
            })
            .collect()
    }

    #[test]
    fn an_erased_rectangle_has_the_blank_value_and_the_rest_is_kept() {
        // No pixel of these images is blank.
        let xs = images(200).clamp(81, 255);
        let ys = augment(&xs, "erase:0.5", 1, 2);
        let is_blank = ys.eq_tensor(&blank());
        assert_eq!(ys.where_self(&is_blank.logical_not(), &xs), xs);
        let rectangles = changed(&xs, &ys);
        let erased: Vec<_> = rectangles.iter().filter(|[_, _, pixels]| *pixels > 0).collect();
        assert!((70..130).contains(&erased.len()), "{} of 200 are erased", erased.len());
        for [rows, columns, pixels] in &erased {
            assert_eq!(rows * columns, *pixels, "not a rectangle");
            // Sides are rounded, so the area may be a little above a third.
            assert!(*pixels <= 12, "{pixels} of 30 pixels");
        }
        assert!(erased.iter().any(|r| r[0] > r[1]) && erased.iter().any(|r| r[0] < r[1]));
    }

    #[test]
    fn a_cutout_is_a_square_whose_middle_is_any_pixel() {
        let xs = images(300).clamp(81, 255);
        let rectangles = changed(&xs, &augment(&xs, "cutout:3", 1, 2));
        for [rows, columns, pixels] in &rectangles {
            assert_eq!(rows * columns, *pixels);
            assert!((2..=3).contains(rows) && (2..=3).contains(columns), "{rows}×{columns}");
        }
        // At the border the square is cut off.
        for pixels in [4, 6, 9] {
            assert!(rectangles.iter().any(|r| r[2] == pixels), "no square of {pixels} pixels");
        }
    }
}
