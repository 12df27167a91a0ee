//! How the numbers of a tensor are distributed.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// The bins of a histogram.
const BINS: i64 = 30;

/// The distributions of a learned tensor and of its gradient.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TensorHistograms {
    /// The tensor's name, such as `layer1.0.conv1.weight`.
    pub name: String,
    /// Its numbers. None if a number is not finite.
    pub weights: Option<Histogram>,
    /// The gradient of a batch's mean loss. None if a number is not finite, or if there is no gradient.
    pub gradients: Option<Histogram>,
}

/// How many numbers are in each of some bins of equal width, from the smallest to the largest number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// The smallest number.
    pub min: f64,
    /// The largest number.
    pub max: f64,
    /// The sum of all numbers.
    pub sum: f64,
    /// The sum of their squares.
    pub sum_squares: f64,
    /// The numbers in each bin. If all numbers are equal, there is one bin.
    pub counts: Vec<u64>,
}

impl Histogram {
    /// The histogram of a tensor. None if it is empty, or if a number is not finite. It is computed on the CPU, where it
    /// is always the same.
    ///
    /// # Errors
    /// An operation of libtorch failed.
    pub fn of(tensor: &Tensor) -> Result<Option<Self>> {
        let _no_grad = tch::no_grad_guard();
        let numbers = tensor.detach().to_device(Device::Cpu).to_kind(Kind::Float).flatten(0, -1);
        if numbers.numel() == 0 {
            return Ok(None);
        }
        let [min, max] = [numbers.f_min()?, numbers.f_max()?].map(|t| t.double_value(&[]));
        if !min.is_finite() || !max.is_finite() {
            return Ok(None);
        }
        let counts = match min < max {
            true => Vec::<f64>::try_from(numbers.f_histc(BINS)?.to_kind(Kind::Double))?,
            false => vec![numbers.numel() as f64],
        };
        let sum = |numbers: &Tensor| numbers.sum(Kind::Double).double_value(&[]);
        Ok(Some(Self {
            min,
            max,
            sum: sum(&numbers),
            sum_squares: sum(&numbers.square()),
            counts: counts.into_iter().map(|count| count as u64).collect(),
        }))
    }

    /// The upper end of each bin.
    pub fn limits(&self) -> Vec<f64> {
        let bins = self.counts.len();
        let width = (self.max - self.min) / bins as f64;
        (1..=bins)
            .map(|bin| if bin == bins { self.max } else { self.min + width * bin as f64 })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_counted_in_bins_of_equal_width() {
        let numbers = Tensor::arange(60, (Kind::Float, Device::Cpu)).view([2, 30]) / 59.0;
        let found = Histogram::of(&numbers).unwrap().unwrap();
        assert_eq!((found.min, found.max, found.counts), (0.0, 1.0, vec![2; 30]));
        assert!((found.sum - 30.0).abs() < 1e-5);
        let squares = (0..60).map(|i| f64::from(i * i) / 3481.0).sum::<f64>();
        assert!((found.sum_squares - squares).abs() < 1e-5);
        let equal = Histogram::of(&Tensor::from_slice(&[2.5f32; 7])).unwrap().unwrap();
        assert_eq!((equal.counts.clone(), equal.limits(), equal.sum), (vec![7], vec![2.5], 17.5));
        for number in [f32::NAN, f32::INFINITY] {
            assert_eq!(Histogram::of(&Tensor::from_slice(&[1.0, number])).unwrap(), None);
        }
        let limits = Histogram { counts: vec![1, 2], min: -1.0, max: 3.0, ..equal }.limits();
        assert_eq!(limits, [1.0, 3.0]);
    }
}
