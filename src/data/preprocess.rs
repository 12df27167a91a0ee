//! Converts the bytes of a batch into the input of a network.

use super::batch::Batch;
use tch::{Device, Kind, Tensor};

/// Normalises and resizes the images of a batch.
#[derive(Debug)]
pub struct Preprocess {
    /// Per channel, `[1, C, 1, 1]`: this is subtracted from a byte.
    shift: Tensor,
    /// Per channel, `[1, C, 1, 1]`: the difference is multiplied by this.
    scale: Tensor,
    size: i64,
    dtype: Kind,
}

impl Preprocess {
    /// `mean` and `std` are per channel, of pixels scaled to [0, 1]. `size` is the height and width of the network's
    /// input, in pixels, and `dtype` is the dtype that the network computes in.
    pub fn new(mean: &[f32], std: &[f32], size: usize, (dtype, device): (Kind, Device)) -> Self {
        let per_channel =
            |values: Vec<f32>| Tensor::from_slice(&values).view([1, -1, 1, 1]).to_device(device);
        Self {
            shift: per_channel(mean.iter().map(|mean| mean * 255.0).collect()),
            scale: per_channel(std.iter().map(|std| 1.0 / (std * 255.0)).collect()),
            size: size as i64,
            dtype,
        }
    }

    /// Height and width of the images that are evaluated, in pixels.
    pub fn size(&self) -> i64 {
        self.size
    }

    /// The dtype of the result.
    pub fn dtype(&self) -> Kind {
        self.dtype
    }

    /// The bytes that are nearest to zero after normalisation, `[1, C, 1, 1]`.
    pub fn blank(&self) -> Tensor {
        self.shift.round().clamp(0.0, 255.0).to_kind(Kind::Uint8)
    }

    /// The images of a batch as normalised floats `[N, C, size, size]`, with the size that they are evaluated in.
    pub fn apply(&self, batch: &Batch) -> Tensor {
        self.apply_at(batch, self.size)
    }

    /// The images of a batch as normalised floats `[N, C, size, size]`, for any size in pixels.
    ///
    /// Images are resized bilinearly, and smoothed first if they shrink (antialiasing). They are normalised before
    /// they are resized: the other order would give the same result, but most images have fewer pixels before they
    /// are resized. Everything is computed in 32 bits.
    pub fn apply_at(&self, batch: &Batch, size: i64) -> Tensor {
        let normalised = (batch.pixels().to_kind(Kind::Float) - &self.shift) * &self.scale;
        let target = [size, size];
        let resized = match *normalised.size() {
            [.., height, width] if height == size && width == size => normalised,
            [.., height, width] if height > size || width > size => {
                normalised.internal_upsample_bilinear2d_aa(target, false, None, None)
            }
            _ => normalised.upsample_bilinear2d(target, false, None, None),
        };
        resized.to_kind(self.dtype)
    }

    /// The bytes `[N, C, H, W]` that normalised images show, for people to look at.
    pub fn bytes(&self, normalised: &Tensor) -> Tensor {
        let levels = normalised.to_kind(Kind::Float) / &self.scale + &self.shift;
        levels.round().clamp(0.0, 255.0).to_kind(Kind::Uint8)
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch::Targets;
    use super::*;

    #[test]
    fn pixels_are_normalised_and_resized() {
        let pixels = Tensor::from_slice(&[0u8, 1, 2, 3]).view([1, 1, 2, 2]);
        let batch = Batch::new(pixels, Targets::new(Tensor::from_slice(&[0i64])));
        let plain = Preprocess::new(&[0.0], &[1.0], 2, (Kind::Float, Device::Cpu)).apply(&batch);
        let expected = [0.0, 1.0 / 255.0, 2.0 / 255.0, 3.0 / 255.0].map(|v: f32| v);
        let values = Vec::<f32>::try_from(plain.flatten(0, -1)).unwrap();
        assert!(values.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-7));
        // Bilinear interpolation with half-pixel centres keeps the corners, as in torch.nn.functional.interpolate.
        let large = Preprocess::new(&[0.5], &[0.25], 4, (Kind::Float, Device::Cpu)).apply(&batch);
        assert_eq!(large.size(), [1, 1, 4, 4]);
        let corner = large.double_value(&[0, 0, 0, 0]);
        assert!((corner - (0.0 - 0.5) / 0.25).abs() < 1e-6);
        let between = large.double_value(&[0, 0, 0, 1]);
        assert!((between - (0.25 / 255.0 - 0.5) / 0.25).abs() < 1e-6);
    }

    #[test]
    fn the_bytes_of_a_normalised_image_are_its_own() {
        let pixels = Tensor::arange(512, (Kind::Int64, Device::Cpu)).remainder(256);
        let pixels = pixels.to_kind(Kind::Uint8).view([1, 2, 16, 16]);
        let batch = Batch::new(pixels.shallow_clone(), Targets::new(Tensor::from_slice(&[0i64])));
        let options = (Kind::Float, Device::Cpu);
        let preprocess = Preprocess::new(&[0.4914, 0.2860], &[0.247, 0.3530], 16, options);
        assert_eq!(preprocess.bytes(&preprocess.apply(&batch)), pixels);
    }
}
