//! A loaded data set: labelled images that batches are taken from.

use super::Images;
use super::batch::{Batch, Targets};
use crate::random::{self, Purpose};
use anyhow::Result;
use std::ops::Range;
use tch::{Device, Kind, Tensor};

/// Images and their classes in the memory of the device that computes.
///
/// The trainer only asks it for batches. This module decides where the pixels come from.
#[derive(Debug)]
pub struct Dataset {
    /// Bytes `[N, C, H, W]`.
    pixels: Tensor,
    /// Classes, 64-bit integers `[N]`.
    classes: Tensor,
}

impl Dataset {
    /// Copies images and labels to the device.
    pub fn new(images: &Images, device: Device) -> Self {
        let dims = [images.count, images.channels, images.height, images.width].map(|n| n as i64);
        Self {
            pixels: Tensor::from_slice(&images.pixels).view(dims).to_device(device),
            classes: Tensor::from_slice(&images.labels).to_kind(Kind::Int64).to_device(device),
        }
    }

    /// The number of images.
    pub fn len(&self) -> usize {
        self.classes.numel()
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Height and width of an image in pixels.
    pub fn size(&self) -> [i64; 2] {
        match self.pixels.size()[..] {
            [.., height, width] => [height, width],
            _ => unreachable!("a data set has four dimensions"),
        }
    }

    /// The device that holds the images.
    pub fn device(&self) -> Device {
        self.pixels.device()
    }

    /// The images at `indices`, 64-bit integers `[n]` on the device.
    ///
    /// # Errors
    /// An operation of libtorch failed, for example because there is too little memory.
    pub fn batch(&self, indices: &Tensor) -> Result<Batch> {
        let pixels = self.pixels.f_index_select(0, indices)?;
        let classes = self.classes.f_index_select(0, indices)?;
        Ok(Batch::new(pixels, Targets::new(classes)))
    }

    /// The images of a range, in the order of the file. They share the memory of the data set.
    ///
    /// # Errors
    /// The data set has fewer images.
    pub fn range(&self, range: &Range<usize>) -> Result<Batch> {
        let (start, count) = (range.start as i64, range.len() as i64);
        let pixels = self.pixels.f_narrow(0, start, count)?;
        let classes = self.classes.f_narrow(0, start, count)?;
        Ok(Batch::new(pixels, Targets::new(classes)))
    }

    /// A data set of the images at `indices`, 64-bit integers `[n]` on the device.
    #[must_use]
    pub fn select(&self, indices: &Tensor) -> Self {
        Self {
            pixels: self.pixels.index_select(0, indices),
            classes: self.classes.index_select(0, indices),
        }
    }

    /// Splits the data set into (the rest, `count` held-out images). Which images are held out depends
    /// only on the seed.
    pub fn hold_out(&self, count: usize, seed: u64) -> (Self, Self) {
        let order = random::permutation(seed, Purpose::Validation, 0, self.len());
        let (held_out, rest) = order.split_at(count.min(order.len()));
        let in_file_order = |part: &[i64]| {
            let mut part = part.to_vec();
            part.sort_unstable();
            self.select(&Tensor::from_slice(&part).to_device(self.classes.device()))
        };
        (in_file_order(rest), in_file_order(held_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_out_images_and_the_rest_are_all_images() {
        let images = Images {
            pixels: (0..50 * 4).map(|i| i as u8).collect(),
            labels: (0..50).map(|i| i % 10).collect(),
            count: 50,
            channels: 1,
            height: 2,
            width: 2,
        };
        let (rest, taken) = Dataset::new(&images, Device::Cpu).hold_out(20, 3);
        assert_eq!((rest.len(), taken.len()), (30, 20));
        let mut first_pixels: Vec<i64> = Vec::new();
        for part in [&rest, &taken] {
            let column = part.pixels.flatten(1, -1).select(1, 0).to_kind(Kind::Int64);
            first_pixels.extend(Vec::<i64>::try_from(column).unwrap());
        }
        first_pixels.sort_unstable();
        assert_eq!(first_pixels, (0..50).map(|i| i * 4).collect::<Vec<i64>>());
    }
}
