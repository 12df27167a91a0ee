//! Small rotations and changes of scale, and the geometry of TrivialAugment: each output pixel is read from a place in
//! the input that is an affine function of the pixel's place, with bilinear interpolation and a black border.

use super::{Augment, Change, EpochImages, Transform, dimensions};
use crate::data::batch::Batch;
use crate::data::range_of;
use crate::random::{self, Purpose};
use rand::RngExt;
use std::ops::Range;
use tch::{Kind, Tensor};

/// Where an image's pixels are read from. Places are in pixels, from the middle of the image, and are (right, down).
#[derive(Debug, Clone, Copy)]
pub(super) struct Placement {
    /// The 2×2 matrix by which an output pixel's place is multiplied, row by row.
    pub(super) matrix: [f64; 4],
    /// What is added to it.
    pub(super) shift: [f64; 2],
}

impl Placement {
    /// The image is turned by this angle, in degrees, and enlarged by this factor.
    pub(super) fn turned(degrees: f64, factor: f64) -> Self {
        let (sin, cos) = degrees.to_radians().sin_cos();
        let matrix = [cos, -sin, sin, cos].map(|number| number / factor);
        Self { matrix, shift: [0.0; 2] }
    }

    /// The six numbers of libtorch's `affine_grid`, in which the image reaches from −1 to 1.
    pub(super) fn theta(&self, [height, width]: [i64; 2]) -> [f32; 6] {
        let (height, width) = (height as f64, width as f64);
        let [a, b, c, d] = self.matrix;
        let [right, down] = self.shift;
        [a, b * height / width, 2.0 * right / width, c * width / height, d, 2.0 * down / height]
            .map(|number| number as f32)
    }
}

/// Reads the images, bytes `[N, C, H, W]`, at the places of `theta`, `[N, 2, 3]`.
pub(super) fn moved(pixels: &Tensor, theta: &Tensor) -> Tensor {
    const BILINEAR: i64 = 0;
    const ZEROS: i64 = 0;
    let grid = Tensor::affine_grid_generator(theta, dimensions(pixels), false);
    let read = pixels.to_kind(Kind::Float).grid_sampler(&grid, BILINEAR, ZEROS, false);
    read.round().to_kind(Kind::Uint8)
}

/// The draws of an epoch.
#[derive(Debug)]
pub(super) struct Affine {
    /// `[N, 2, 3]`.
    theta: Tensor,
}

impl Affine {
    /// Draws for an epoch; `None` if the list has no rotation and no change of scale.
    pub(super) fn draw(augment: &Augment, images: &EpochImages) -> Option<Self> {
        let [rotate, scale] = [Change::Rotate, Change::Scale].map(|change| augment.number(change));
        if rotate.is_none() && scale.is_none() {
            return None;
        }
        let (degrees, fraction) = (rotate.unwrap_or(0.0), scale.unwrap_or(0.0));
        let mut theta = Vec::new();
        for &(step, count) in images.batches {
            let mut random = random::generator(images.seed, Purpose::Affine, step);
            for _ in 0..count {
                let angle = random.random_range(-degrees..=degrees);
                let factor = 1.0 + random.random_range(-fraction..=fraction);
                theta.extend(Placement::turned(angle, factor).theta(images.size));
            }
        }
        Some(Self { theta: Tensor::from_slice(&theta).view([-1, 2, 3]).to_device(images.device()) })
    }
}

impl Transform for Affine {
    fn apply(&self, batch: Batch, range: &Range<usize>) -> Batch {
        let changed = moved(batch.pixels(), &range_of(&self.theta, range));
        batch.with_pixels(changed)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{augment, images};
    use super::super::trivial::tests::X;
    use super::*;

    fn at(placement: Placement) -> Vec<u8> {
        let theta = Tensor::from_slice(&placement.theta([5, 5])).view([1, 2, 3]);
        Vec::try_from(moved(&Tensor::from_slice(&X).view([1, 1, 5, 5]), &theta).flatten(0, -1))
            .unwrap()
    }

    /// `rotate(30)` and `affine(scale=1.25)` of torchvision 0.26, bilinear.
    #[test]
    fn a_turn_and_a_change_of_scale_are_torchvisions() {
        let turned = [
            6, 24, 53, 87, 30, 24, 58, 96, 125, 120, 63, 101, 200, 168, 197, 79, 135, 173, 131,
            106, 39, 128, 64, 26, 11,
        ];
        assert_eq!(at(Placement::turned(30.0, 1.0)), turned);
        let enlarged = [
            34, 42, 50, 58, 66, 74, 85, 104, 101, 106, 114, 136, 200, 152, 146, 154, 165, 184, 181,
            186, 77, 85, 93, 101, 179,
        ];
        assert_eq!(at(Placement::turned(0.0, 1.25)), enlarged);
        assert_eq!(at(Placement::turned(0.0, 1.0)), X);
    }

    #[test]
    fn small_angles_and_scales_change_little() {
        let xs = images(8);
        let off = |changes: &str| {
            let ys = augment(&xs, changes, 1, 2).to_kind(Kind::Float);
            (ys - xs.to_kind(Kind::Float)).abs().mean(Kind::Float).double_value(&[])
        };
        assert!(off("rotate:0.01") < 0.5 && off("scale:0.001") < 0.5);
        assert!(off("rotate:30") > 5.0 && off("scale:0.5") > 5.0);
    }
}
