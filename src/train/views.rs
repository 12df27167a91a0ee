//! Test-time augmentation: a network predicts several views of each image, and the mean of its probabilities counts
//! (Krizhevsky et al. 2012, section 4.1).

use crate::data::batch::Batch;
use std::str::FromStr;
use tch::{Kind, Tensor};

/// How images are seen, written as a list such as `flip,shift:1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Views {
    /// Whether each view is also mirrored left to right.
    flip: bool,
    /// The number of pixels by which views are moved up, down, left and right; `None` for no such views.
    shift: Option<i64>,
}

impl Views {
    /// The number of views of an image.
    pub fn count(self) -> usize {
        let places = if self.shift.is_some() { 5 } else { 1 };
        if self.flip { 2 * places } else { places }
    }

    /// The logarithms of the mean probabilities over all views of a batch, `[N, classes]`. `logits_of` gives the logits
    /// of a view.
    pub fn mean(self, batch: &Batch, logits_of: impl Fn(&Batch) -> Tensor) -> Tensor {
        let seen = self.pixels(batch.pixels()).into_iter().map(|pixels| {
            logits_of(&batch.range(&(0..batch.len())).with_pixels(pixels))
                .log_softmax(1, Kind::Float)
        });
        let seen: Vec<Tensor> = seen.collect();
        Tensor::stack(&seen, 0).logsumexp([0].as_slice(), false) - (seen.len() as f64).ln()
    }

    /// The views of images, bytes `[N, C, H, W]`.
    fn pixels(self, images: &Tensor) -> Vec<Tensor> {
        let mut places = vec![images.shallow_clone()];
        if let (Some(shift), [.., height, width]) = (self.shift, &images.size()[..]) {
            // Pixels that become free are black, as in training.
            let padded = images.constant_pad_nd([shift; 4]);
            for (down, right) in [(0, 1), (2, 1), (1, 0), (1, 2)] {
                let moved = padded.narrow(2, down * shift, *height);
                places.push(moved.narrow(3, right * shift, *width));
            }
        }
        let mirrored = |image: &Tensor| image.flip([3]);
        let flipped: Vec<Tensor> =
            if self.flip { places.iter().map(mirrored).collect() } else { Vec::new() };
        places.extend(flipped);
        places
    }
}

impl FromStr for Views {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || {
            "expected a list of flip and shift, such as flip,shift:1 with the number of pixels"
                .to_owned()
        };
        let mut views = Self { flip: false, shift: None };
        for part in text.split(',') {
            match part.trim().split_once(':') {
                None if part.trim() == "flip" => views.flip = true,
                None if part.trim() == "shift" => views.shift = Some(1),
                Some(("shift", pixels)) => {
                    let pixels = pixels.parse().ok().filter(|pixels| (1..=64).contains(pixels));
                    views.shift = Some(pixels.ok_or_else(expected)?);
                }
                _ => return Err(expected()),
            }
        }
        Ok(views)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::batch::Targets;

    #[test]
    fn views_are_mirrored_and_moved() {
        let images = Tensor::from_slice(&[1u8, 2, 3, 4]).view([1, 1, 2, 2]);
        let views = |text: &str| -> Vec<Vec<u8>> {
            let views: Views = text.parse().unwrap();
            let pixels = views.pixels(&images);
            assert_eq!(pixels.len(), views.count());
            pixels.iter().map(|image| Vec::try_from(image.flatten(0, -1)).unwrap()).collect()
        };
        assert_eq!(views("flip"), [[1, 2, 3, 4], [2, 1, 4, 3]]);
        let moved = [[1, 2, 3, 4], [0, 0, 1, 2], [3, 4, 0, 0], [0, 1, 0, 3], [2, 0, 4, 0]];
        assert_eq!(views("shift"), moved);
        assert_eq!(views("shift:1,flip")[..5], moved);
        assert_eq!(views("flip,shift:1")[9], [0, 2, 0, 4]);
        for text in ["", "mirror", "shift:0", "shift:x", "flip:1"] {
            assert!(text.parse::<Views>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_mean_is_that_of_probabilities() {
        let pixels = Tensor::from_slice(&[0u8, 255]).view([1, 1, 1, 2]);
        let batch = Batch::new(pixels, Targets::new(Tensor::from_slice(&[0i64])));
        // The first pixel decides: 0 gives the probabilities ½ and ½, 255 gives 0 and 1.
        let logits_of = |batch: &Batch| {
            let first = batch.pixels().select(3, 0).flatten(0, -1).to_kind(Kind::Float);
            Tensor::stack(&[&first * -1.0, first], 1)
        };
        let mean = Views { flip: true, shift: None }.mean(&batch, logits_of).exp();
        let expected = Tensor::from_slice(&[0.25f32, 0.75]).view([1, 2]);
        assert!((mean - expected).abs().max().double_value(&[]) < 1e-6);
    }
}
