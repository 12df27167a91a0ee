//! TrivialAugment: each image gets one change, drawn uniformly, of a strength that is drawn uniformly too (Müller and
//! Hutter 2021). The changes and their ranges are those of the paper's table 1 ("RA"). Each change computes what
//! torchvision's function of the same name computes, up to rounding.

use super::affine::{Placement, moved};
use super::{EpochImages, Transform, dimensions};
use crate::data::batch::Batch;
use crate::data::range_of;
use crate::random::{self, Purpose};
use rand::RngExt;
use std::collections::BTreeMap;
use std::ops::Range;
use tch::{Kind, Tensor};

/// What is done to the images of a part of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Operation {
    /// Moved, sheared or turned. The numbers are those of [`Placement::theta`].
    Geometry,
    Brightness,
    Color,
    Contrast,
    Sharpness,
    Posterize,
    Solarize,
    AutoContrast,
    Equalize,
}

/// The numbers of an operation; most operations need one.
type Strength = [f32; 6];

/// The change of one image, from 14 possible ones; `None` for no change.
fn draw(random: &mut impl RngExt, size: [i64; 2]) -> Option<(Operation, Strength)> {
    const CHANGES: u32 = 14;
    let change = random.random_range(0..CHANGES);
    let strength = f64::from(random.random_range(0..=30)) / 30.0;
    let signed = if random.random::<bool>() { strength } else { -strength };
    let geometry = |matrix: [f64; 4], shift: [f64; 2]| {
        Some((Operation::Geometry, Placement { matrix, shift }.theta(size)))
    };
    let one = |operation: Operation, number: f64| {
        Some((operation, [number as f32, 0.0, 0.0, 0.0, 0.0, 0.0]))
    };
    let [height, width] = size.map(|side| side as f64);
    let (shear, shift) = (0.3 * signed, 10.0 / 32.0 * signed);
    let factor = 1.0 + 0.9 * signed;
    match change {
        0 => None,
        1 => geometry([1.0, shear, 0.0, 1.0], [0.0; 2]),
        2 => geometry([1.0, 0.0, shear, 1.0], [0.0; 2]),
        3 => geometry([1.0, 0.0, 0.0, 1.0], [shift * width, 0.0]),
        4 => geometry([1.0, 0.0, 0.0, 1.0], [0.0, shift * height]),
        5 => Some((Operation::Geometry, Placement::turned(30.0 * signed, 1.0).theta(size))),
        6 => one(Operation::Brightness, factor),
        7 => one(Operation::Color, factor),
        8 => one(Operation::Contrast, factor),
        9 => one(Operation::Sharpness, factor),
        // The bits that are kept.
        10 => one(Operation::Posterize, 8.0 - (4.0 * strength).round()),
        11 => one(Operation::Solarize, 255.0 * (1.0 - strength)),
        12 => one(Operation::AutoContrast, 0.0),
        _ => one(Operation::Equalize, 0.0),
    }
}

impl Operation {
    /// Changes images, bytes `[n, C, H, W]`, by their strengths, `[n, 6]`.
    fn apply(self, pixels: &Tensor, strengths: &Tensor) -> Tensor {
        let number = strengths.select(1, 0).view([-1, 1, 1, 1]);
        let floats = pixels.to_kind(Kind::Float);
        // The image goes from `from` towards itself, or beyond: 0 is `from`, 1 is the image.
        let blend = |from: &Tensor| to_bytes(&(from + (&floats - from) * &number));
        match self {
            Self::Geometry => moved(pixels, &strengths.view([-1, 2, 3])),
            Self::Brightness => to_bytes(&(&floats * &number)),
            Self::Color => blend(&grey(&floats)),
            Self::Contrast => {
                blend(&grey(&floats).floor().mean_dim([1i64, 2, 3].as_slice(), true, Kind::Float))
            }
            Self::Sharpness => blend(&blurred(&floats)),
            Self::Posterize => {
                let unit = (number * -1.0 + 8.0).exp2();
                ((&floats / &unit).floor() * unit).to_kind(Kind::Uint8)
            }
            Self::Solarize => {
                let inverted: Tensor = 255.0 - &floats;
                inverted.where_self(&floats.ge_tensor(&number), &floats).to_kind(Kind::Uint8)
            }
            Self::AutoContrast => {
                let (least, most) = (floats.amin([2, 3], true), floats.amax([2, 3], true));
                let span = &most - &least;
                let factor: Tensor = 255.0 / span.clamp_min(1.0);
                let stretched: Tensor = (&floats - least) * factor;
                to_bytes(&stretched.where_self(&span.gt(0.0), &floats))
            }
            Self::Equalize => equalized(pixels),
        }
    }
}

/// Numbers cut to bytes, towards zero like torchvision.
fn to_bytes(values: &Tensor) -> Tensor {
    values.clamp(0.0, 255.0).to_kind(Kind::Uint8)
}

/// The brightness `[n, 1, H, W]` of images `[n, C, H, W]`, with the weights of ITU-R 601.
fn grey(pixels: &Tensor) -> Tensor {
    match dimensions(pixels)[1] {
        3 => {
            let weights = Tensor::from_slice(&[0.2989f32, 0.587, 0.114]).view([1, 3, 1, 1]);
            let weighted = pixels * weights.to_device(pixels.device());
            weighted.sum_dim_intlist([1i64].as_slice(), true, Kind::Float)
        }
        _ => pixels.shallow_clone(),
    }
}

/// The mean of each pixel, with a weight of 5, and its eight neighbours; the border stays as it is.
fn blurred(pixels: &Tensor) -> Tensor {
    let [_, _, height, width] = dimensions(pixels);
    if height < 3 || width < 3 {
        return pixels.shallow_clone();
    }
    let inner = |image: &Tensor| image.narrow(2, 1, height - 2).narrow(3, 1, width - 2);
    // 9 times the mean of 3×3 pixels, and the middle 4 times more.
    let means = pixels.avg_pool2d([3, 3], [1, 1], [0, 0], false, true, None) * 9.0;
    let blurred = pixels.copy();
    inner(&blurred).copy_(&((means + inner(pixels) * 4.0) / 13.0).round());
    blurred
}

/// Images whose bytes are spread so that each byte is about equally frequent, channel by channel.
fn equalized(pixels: &Tensor) -> Tensor {
    let [count, channels, height, width] = dimensions(pixels);
    let places = pixels.view([count * channels, -1]).to_kind(Kind::Int64);
    let options = (Kind::Int64, pixels.device());
    let counts = Tensor::zeros([count * channels, 256], options).scatter_add(
        1,
        &places,
        &places.ones_like(),
    );
    // The number of pixels of the largest byte that occurs does not count.
    let brightest = counts.gather(1, &places.amax([1], true), false);
    let total = height * width;
    let step = (total - brightest).floor_divide_scalar(255);
    let before = counts.cumsum(1, Kind::Int64) - counts;
    let half = step.floor_divide_scalar(2);
    let table = (before + half).floor_divide(&step.clamp_min(1)).clamp(0, 255);
    let spread = table.gather(1, &places, false).where_self(&step.gt(0), &places);
    spread.to_kind(Kind::Uint8).view_as(pixels)
}

/// The draws of an epoch, sorted by batch and operation.
#[derive(Debug)]
pub(super) struct Trivial {
    /// For each batch, by the place of its first image in the epoch: its operations, and which draws are theirs.
    parts: BTreeMap<usize, Vec<(Operation, Range<usize>)>>,
    /// The images' places in their batch, 64-bit integers `[n]`.
    places: Tensor,
    /// `[n, 6]`.
    strengths: Tensor,
}

impl Trivial {
    /// Draws for an epoch.
    pub(super) fn draw(images: &EpochImages) -> Self {
        let (mut parts, mut places, mut strengths) = (BTreeMap::new(), Vec::new(), Vec::new());
        let mut first = 0;
        for &(step, count) in images.batches {
            let mut random = random::generator(images.seed, Purpose::Trivial, step);
            let mut drawn: Vec<(Operation, i64, Strength)> = (0..count as i64)
                .filter_map(|image| {
                    let (operation, strength) = draw(&mut random, images.size)?;
                    Some((operation, image, strength))
                })
                .collect();
            drawn.sort_by_key(|(operation, image, _)| (*operation, *image));
            let of_batch: Vec<(Operation, Range<usize>)> = drawn
                .chunk_by(|a, b| a.0 == b.0)
                .filter_map(|chunk| {
                    let start = places.len();
                    places.extend(chunk.iter().map(|(_, image, _)| *image));
                    strengths.extend(chunk.iter().flat_map(|(_, _, strength)| *strength));
                    Some((chunk.first()?.0, start..places.len()))
                })
                .collect();
            parts.insert(first, of_batch);
            first += count;
        }
        let device = images.device();
        Self {
            parts,
            places: Tensor::from_slice(&places).to_device(device),
            strengths: Tensor::from_slice(&strengths).view([-1, 6]).to_device(device),
        }
    }
}

impl Transform for Trivial {
    fn apply(&self, batch: Batch, range: &Range<usize>) -> Batch {
        let mut pixels = batch.pixels().contiguous().copy();
        for (operation, draws) in self.parts.get(&range.start).into_iter().flatten() {
            let places = range_of(&self.places, draws);
            let chosen = pixels.index_select(0, &places);
            let changed = operation.apply(&chosen, &range_of(&self.strengths, draws));
            let _ = pixels.index_copy_(0, &places, &changed);
        }
        batch.with_pixels(pixels)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::testing::{augment, images};
    use super::*;
    use tch::Device;

    /// An image of 5×5 pixels.
    pub(in super::super) const X: [u8; 25] = [
        10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120, 200, 140, 150, 160, 170, 180, 190, 200,
        15, 25, 35, 45, 250,
    ];

    fn image() -> Tensor {
        Tensor::from_slice(&X).view([1, 1, 5, 5])
    }

    fn apply(operation: Operation, pixels: &Tensor, number: f32) -> Vec<u8> {
        let strengths = Tensor::from_slice(&[number, 0.0, 0.0, 0.0, 0.0, 0.0]).view([1, 6]);
        Vec::try_from(operation.apply(pixels, &strengths).flatten(0, -1)).unwrap()
    }

    /// Bytes may differ by one, because the order of operations decides how a number is rounded.
    fn assert_close(found: &[u8], expected: &[u8], operation: Operation) {
        assert_eq!(found.len(), expected.len());
        let close = found.iter().zip(expected).all(|(a, b)| a.abs_diff(*b) <= 1);
        assert!(close, "{operation:?}: {found:?}, expected {expected:?}");
    }

    /// Values of torchvision 0.26, `transforms.v2.functional`: adjust_brightness(x, 1.5), adjust_contrast(x, 0.5),
    /// adjust_sharpness(x, 1.6), posterize(x, 5), solarize(x, 100) and autocontrast(x // 2 + 7).
    #[test]
    fn operations_are_torchvisions() {
        let halves = image().floor_divide_scalar(2) + 7;
        for (operation, pixels, number, expected) in [
            (
                Operation::Brightness,
                image(),
                1.5,
                [
                    15, 30, 45, 60, 75, 90, 105, 120, 135, 150, 165, 180, 255, 210, 225, 240, 255,
                    255, 255, 255, 22, 37, 52, 67, 255,
                ],
            ),
            (
                Operation::Contrast,
                image(),
                0.5,
                [
                    55, 60, 65, 70, 75, 80, 85, 90, 95, 100, 105, 110, 150, 120, 125, 130, 135,
                    140, 145, 150, 58, 63, 68, 73, 175,
                ],
            ),
            (
                Operation::Sharpness,
                image(),
                1.6,
                [
                    10, 20, 30, 40, 50, 60, 67, 77, 87, 100, 110, 117, 225, 137, 150, 160, 194,
                    204, 205, 200, 15, 25, 35, 45, 250,
                ],
            ),
            (
                Operation::Posterize,
                image(),
                5.0,
                [
                    8, 16, 24, 40, 48, 56, 64, 80, 88, 96, 104, 120, 200, 136, 144, 160, 168, 176,
                    184, 200, 8, 24, 32, 40, 248,
                ],
            ),
            (
                Operation::Solarize,
                image(),
                100.0,
                [
                    10, 20, 30, 40, 50, 60, 70, 80, 90, 155, 145, 135, 55, 115, 105, 95, 85, 75,
                    65, 55, 15, 25, 35, 45, 5,
                ],
            ),
            (
                Operation::AutoContrast,
                halves,
                0.0,
                [
                    0, 10, 21, 31, 42, 53, 63, 74, 84, 95, 106, 116, 201, 138, 148, 159, 169, 180,
                    191, 201, 4, 14, 25, 36, 254,
                ],
            ),
        ] {
            assert_close(&apply(operation, &pixels, number), &expected, operation);
        }
    }

    /// `adjust_saturation(c, 0.4)` and `adjust_contrast(c, 1.5)` of an image with three channels.
    #[test]
    fn colours_are_weighted_as_in_torchvision() {
        let x = image();
        let colours = Tensor::cat(&[x.shallow_clone(), 255 - &x, x.floor_divide_scalar(2)], 1);
        let saturation = apply(Operation::Color, &colours, 0.4);
        assert_close(&saturation[..8], &[92, 95, 97, 100, 102, 105, 107, 110], Operation::Color);
        assert_close(&saturation[70..], &[90, 90, 91, 92, 104], Operation::Color);
        let contrast = apply(Operation::Contrast, &colours, 1.5);
        assert_close(
            &contrast[..12],
            &[0, 0, 0, 0, 12, 27, 42, 57, 72, 87, 102, 117],
            Operation::Contrast,
        );
        assert_close(&contrast[70..], &[0, 0, 0, 0, 124], Operation::Contrast);
    }

    /// `equalize` of an image of 40×40 pixels, in the first 12 columns of the first 3 rows.
    #[test]
    fn equalize_is_torchvisions() {
        let pixels = Tensor::arange(1600, (Kind::Int64, Device::Cpu)).remainder(97) * 2;
        let pixels = pixels.to_kind(Kind::Uint8).view([1, 1, 40, 40]);
        let spread = apply(Operation::Equalize, &pixels, 0.0);
        for (row, expected) in [
            [0, 3, 6, 9, 11, 14, 17, 20, 23, 26, 28, 31],
            [113, 116, 119, 122, 125, 128, 130, 133, 136, 139, 141, 144],
            [221, 224, 227, 229, 232, 235, 237, 240, 243, 245, 248, 251],
        ]
        .iter()
        .enumerate()
        {
            assert_eq!(spread[40 * row..][..12], *expected, "row {row}");
        }
        let flat = Tensor::full([1, 1, 5, 5], 9, (Kind::Uint8, Device::Cpu));
        assert_eq!(apply(Operation::Equalize, &flat, 0.0), [9; 25]);
        assert_eq!(apply(Operation::AutoContrast, &flat, 0.0), [9; 25]);
    }

    #[test]
    fn each_image_of_a_batch_gets_a_change_of_its_own() {
        let mut seen = std::collections::BTreeSet::new();
        let mut random = random::generator(0, Purpose::Trivial, 0);
        for _ in 0..500 {
            seen.insert(draw(&mut random, [5, 6]).map(|(operation, _)| operation));
        }
        assert_eq!(seen.len(), 10);
        let xs = images(1).expand([100, 2, 5, 6], false).contiguous();
        let ys = augment(&xs, "trivial", 1, 2);
        let kept = (0..100).filter(|&image| ys.get(image) == xs.get(image)).count();
        assert!(kept < 50, "{kept} of 100 are kept");
        let mut different = Vec::new();
        for image in 0..100 {
            let changed = ys.get(image);
            if !different.contains(&changed) {
                different.push(changed);
            }
        }
        assert!(different.len() > 40, "{} different images", different.len());
    }
}
