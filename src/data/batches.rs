//! A data set on the device, and batches out of it.

use super::augment::Draws;
use super::{Images, range_of};
use crate::random::{self, Purpose};
use std::ops::Range;
use tch::{Device, Kind, Tensor};

/// Images and labels on the device that trains: all work on them is done there, in batches.
#[derive(Debug)]
pub struct DeviceImages {
    /// Bytes [N, C, H, W].
    pixels: Tensor,
    /// Classes, 64-bit integers [N].
    labels: Tensor,
}

impl DeviceImages {
    /// Copies a split to the device.
    pub fn new(images: &Images, device: Device) -> Self {
        let dims = [images.count, images.channels, images.height, images.width].map(|n| n as i64);
        Self {
            pixels: Tensor::from_slice(&images.pixels).view(dims).to_device(device),
            labels: Tensor::from_slice(&images.labels).to_kind(Kind::Int64).to_device(device),
        }
    }

    /// How many images there are.
    pub fn len(&self) -> usize {
        self.labels.numel()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes `count` images out, chosen as a pure function of the seed: (the rest, those taken).
    pub fn hold_out(&self, count: usize, seed: u64) -> (Self, Self) {
        let order = random::permutation(seed, Purpose::Validation, 0, self.len());
        let (taken, rest) = order.split_at(count.min(order.len()));
        let sorted = |part: &[i64]| {
            let mut part = part.to_vec();
            part.sort_unstable();
            self.select(&Tensor::from_slice(&part).to_device(self.labels.device()))
        };
        (sorted(rest), sorted(taken))
    }

    /// The images at `indices`, 64-bit integers `[n]` on the device.
    pub fn select(&self, indices: &Tensor) -> Self {
        Self {
            pixels: self.pixels.index_select(0, indices),
            labels: self.labels.index_select(0, indices),
        }
    }

    /// The images of a range, in the order of the file.
    pub fn range(&self, range: &Range<usize>) -> Self {
        Self { pixels: range_of(&self.pixels, range), labels: range_of(&self.labels, range) }
    }

    /// The same images in memory of their own.
    pub fn copy(&self) -> Self {
        Self { pixels: self.pixels.copy(), labels: self.labels.copy() }
    }

    /// Writes as many images of the same shape over these.
    pub fn assign(&self, images: &Self) {
        self.pixels.shallow_clone().copy_(&images.pixels);
        self.labels.shallow_clone().copy_(&images.labels);
    }

    /// The same images after the random changes that are drawn for them.
    pub fn augmented(self, draws: &Draws) -> Self {
        Self { pixels: draws.apply(&self.pixels), labels: self.labels }
    }

    /// Classes, 64-bit integers `[N]`.
    pub fn labels(&self) -> &Tensor {
        &self.labels
    }
}

/// The order in which an epoch takes the training images: 64-bit integers `[count]`.
pub fn epoch_order(seed: u64, epoch: u64, count: usize, device: Device) -> Tensor {
    Tensor::from_slice(&random::permutation(seed, Purpose::Order, epoch, count)).to_device(device)
}

/// Cuts `0..count` into batches; the last may be smaller. A last batch of a single image joins the
/// one before it: batch norm over one pixel of one image has no variance.
pub fn batch_ranges(count: usize, batch_size: usize) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = (0..count)
        .step_by(batch_size)
        .map(|start| start..(start + batch_size).min(count))
        .collect();
    if batch_size > 1 && ranges.len() > 1 && count % batch_size == 1 {
        ranges.pop();
        if let Some(last) = ranges.last_mut() {
            last.end = count;
        }
    }
    ranges
}

/// From bytes to what a network takes: normalised floats at the network's size.
#[derive(Debug)]
pub struct Preprocess {
    /// Per channel, [1, C, 1, 1]: what is subtracted from a byte.
    shift: Tensor,
    /// Per channel, [1, C, 1, 1]: what the difference is multiplied by.
    scale: Tensor,
    size: i64,
    kind: Kind,
}

impl Preprocess {
    /// `mean` and `std` are per channel, of pixels scaled to [0, 1]; `size` is the height and width
    /// that the network takes, and `kind` what floats it computes with.
    pub fn new(mean: &[f32], std: &[f32], size: usize, (kind, device): (Kind, Device)) -> Self {
        let per_channel =
            |values: Vec<f32>| Tensor::from_slice(&values).view([1, -1, 1, 1]).to_device(device);
        Self {
            shift: per_channel(mean.iter().map(|mean| mean * 255.0).collect()),
            scale: per_channel(std.iter().map(|std| 1.0 / (std * 255.0)).collect()),
            size: size as i64,
            kind,
        }
    }

    /// The kind of floats that come out.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Bytes [N, C, H, W] → normalised floats [N, C, size, size], resized bilinearly (smoothed first
    /// where the image shrinks). Normalising comes first: it commutes with resizing, and the image
    /// is smaller before. All of it is computed in 32 bits.
    pub fn apply(&self, images: &DeviceImages) -> Tensor {
        let normalised = (images.pixels.to_kind(Kind::Float) - &self.shift) * &self.scale;
        let target = [self.size, self.size];
        let resized = match *normalised.size() {
            [.., height, width] if height == self.size && width == self.size => normalised,
            [.., height, width] if height > self.size || width > self.size => {
                normalised.internal_upsample_bilinear2d_aa(target, false, None, None)
            }
            _ => normalised.upsample_bilinear2d(target, false, None, None),
        };
        resized.to_kind(self.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images(count: usize) -> DeviceImages {
        let images = Images {
            pixels: (0..count * 4).map(|i| (i % 256) as u8).collect(),
            labels: (0..count).map(|i| (i % 10) as u8).collect(),
            count,
            channels: 1,
            height: 2,
            width: 2,
        };
        DeviceImages::new(&images, Device::Cpu)
    }

    #[test]
    fn batches_cover_every_image_once_and_none_is_a_lonely_one() {
        assert_eq!(batch_ranges(10, 4), [0..4, 4..8, 8..10]);
        assert_eq!(batch_ranges(9, 4), [0..4, 4..9]);
        assert_eq!(batch_ranges(8, 4), [0..4, 4..8]);
        assert_eq!(batch_ranges(3, 1), [0..1, 1..2, 2..3]);
        assert_eq!(batch_ranges(1, 4), vec![0..1]);
        assert_eq!(batch_ranges(60_000, 256).len(), 235);
    }

    #[test]
    fn held_out_images_and_the_rest_are_all_images() {
        let (rest, taken) = images(50).hold_out(20, 3);
        assert_eq!((rest.len(), taken.len()), (30, 20));
        let mut first_pixels: Vec<i64> = Vec::new();
        for part in [&rest, &taken] {
            let column = part.pixels.flatten(1, -1).select(1, 0).to_kind(Kind::Int64);
            first_pixels.extend(Vec::<i64>::try_from(column).unwrap());
        }
        first_pixels.sort_unstable();
        assert_eq!(first_pixels, (0..50).map(|i| i * 4).collect::<Vec<i64>>());
    }

    #[test]
    fn pixels_are_normalised_and_resized() {
        let xs = images(3).range(&(0..1));
        let plain = Preprocess::new(&[0.0], &[1.0], 2, (Kind::Float, Device::Cpu)).apply(&xs);
        let expected = [0.0, 1.0 / 255.0, 2.0 / 255.0, 3.0 / 255.0].map(|v: f32| v);
        let values = Vec::<f32>::try_from(plain.flatten(0, -1)).unwrap();
        assert!(values.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-7));
        // Bilinear with half-pixel centres: the corners stay, as torch.nn.functional.interpolate.
        let large = Preprocess::new(&[0.5], &[0.25], 4, (Kind::Float, Device::Cpu)).apply(&xs);
        assert_eq!(large.size(), [1, 1, 4, 4]);
        let corner = large.double_value(&[0, 0, 0, 0]);
        assert!((corner - (0.0 - 0.5) / 0.25).abs() < 1e-6);
        let between = large.double_value(&[0, 0, 0, 1]);
        assert!((between - (0.25 / 255.0 - 0.5) / 0.25).abs() < 1e-6);
    }
}
