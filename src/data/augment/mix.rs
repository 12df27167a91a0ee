//! Mixed images: each image of a batch is mixed with another one of the batch, and so are their classes. Mixup adds the
//! pixels of both (Zhang et al. 2018), CutMix replaces a rectangle (Yun et al. 2019). With both, each image gets one of
//! them with probability ½.

use super::rectangle::{Rectangle, Rectangles};
use super::{Augment, Change, EpochImages, Transform};
use crate::data::batch::Batch;
use crate::data::range_of;
use crate::random::{self, Purpose};
use rand::RngExt;
use rand::seq::SliceRandom;
use rand_distr::{Beta, Distribution};
use std::ops::Range;
use tch::{Kind, Tensor};

/// The draws of an epoch.
#[derive(Debug)]
pub(super) struct Mix {
    /// The other image: its place in the batch, 64-bit integers `[N]`.
    partners: Tensor,
    /// The image's share of the sum of pixels, `[N, 1, 1, 1]`; 1 for an image that is not added to another one.
    weights: Tensor,
    /// The rectangles that are taken from the other image.
    rectangles: Rectangles,
    /// The image's share of the target, `[N]`.
    shares: Tensor,
}

/// How an image is mixed.
struct Draw {
    partner: i64,
    weight: f64,
    rectangle: Rectangle,
    share: f64,
}

impl Draw {
    fn added(partner: i64, weight: f64) -> Self {
        Self { partner, weight, rectangle: Rectangle::default(), share: weight }
    }
}

impl Mix {
    /// Draws for an epoch; `None` if the list mixes no images. In epochs after `epochs`, each image has the share 1.
    pub(super) fn draw(
        augment: &Augment,
        epochs: Option<u64>,
        images: &EpochImages,
    ) -> Option<Self> {
        let beta =
            |change: Change| augment.number(change).and_then(|alpha| Beta::new(alpha, alpha).ok());
        let (mixup, cutmix) = (beta(Change::Mixup), beta(Change::Cutmix));
        if !augment.mixes() {
            return None;
        }
        let is_over = epochs.is_some_and(|epochs| images.epoch > epochs);
        let [height, width] = images.size;
        let mut draws = Vec::new();
        for &(step, count) in images.batches {
            let mut random = random::generator(images.seed, Purpose::Mix, step);
            let mut partners: Vec<i64> = (0..count as i64).collect();
            if is_over {
                draws.extend(partners.into_iter().map(|itself| Draw::added(itself, 1.0)));
                continue;
            }
            partners.shuffle(&mut random);
            for partner in partners {
                let by_chance = random.random::<bool>();
                draws.push(match (&mixup, &cutmix) {
                    (Some(mixup), cutmix) if cutmix.is_none() || by_chance => {
                        Draw::added(partner, mixup.sample(&mut random))
                    }
                    (_, Some(cutmix)) => {
                        let side = (1.0 - cutmix.sample(&mut random)).sqrt();
                        let sides = images.size.map(|whole| (whole as f64 * side) as i64);
                        let rectangle = Rectangle::around(&mut random, sides, images.size);
                        let taken = rectangle.area() as f64 / (height * width) as f64;
                        Draw { partner, weight: 1.0, rectangle, share: 1.0 - taken }
                    }
                    _ => Draw::added(partner, 1.0),
                });
            }
        }
        let device = images.device();
        let floats = |of: fn(&Draw) -> f64| {
            let values: Vec<f32> = draws.iter().map(|draw| of(draw) as f32).collect();
            Tensor::from_slice(&values).to_device(device)
        };
        let partners: Vec<i64> = draws.iter().map(|draw| draw.partner).collect();
        let rectangles: Vec<Rectangle> = draws.iter().map(|draw| draw.rectangle).collect();
        Some(Self {
            partners: Tensor::from_slice(&partners).to_device(device),
            weights: floats(|draw| draw.weight).view([-1, 1, 1, 1]),
            rectangles: Rectangles::new(&rectangles, images),
            shares: floats(|draw| draw.share),
        })
    }
}

impl Transform for Mix {
    fn apply(&self, batch: Batch, range: &Range<usize>) -> Batch {
        let pixels = batch.pixels();
        let partners = range_of(&self.partners, range);
        let others = pixels.index_select(0, &partners);
        let (first, second) = (pixels.to_kind(Kind::Float), others.to_kind(Kind::Float));
        let sum = &second + (first - &second) * range_of(&self.weights, range);
        let sum = sum.round().to_kind(Kind::Uint8);
        let mixed = others.where_self(&self.rectangles.inside(pixels, range), &sum);
        batch.with_pixels(mixed).with_mixed_targets(&partners, range_of(&self.shares, range))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Augmentation;
    use super::super::testing::{batch, blank, changed, epoch_of, images};
    use super::*;
    use tch::{Device, Reduction};

    /// Images whose pixels all have the number of the image, so that a mixed image shows how it was mixed.
    fn numbered(count: i64) -> Tensor {
        let numbers = Tensor::arange(count, (Kind::Uint8, Device::Cpu)).view([-1, 1, 1, 1]);
        numbers.expand([count, 2, 5, 6], false).contiguous()
    }

    /// The share of each image's own class in its target, and the other class, from losses of logits that are certain
    /// of one class.
    fn target(batch: &Batch, image: i64, class: i64) -> f64 {
        let logits = Tensor::zeros([batch.len() as i64, 4], (Kind::Float, Device::Cpu));
        let _ = logits.select(1, class).fill_(1.0);
        let loss = batch.targets().loss(&logits, 0.0, Reduction::None).double_value(&[image]);
        // −log softmax is L − 1 for the class, and L for the others.
        let whole = (1f64.exp() + 3.0).ln();
        whole - loss
    }

    #[test]
    fn mixup_adds_pixels_and_targets_in_the_same_shares() {
        let xs = numbered(64) * 4;
        let mixed = changed(&xs, "mixup:1", 1, 2);
        let mut halves = 0;
        for image in 0..64 {
            let value = mixed.pixels().get(image);
            assert_eq!(value.min(), value.max());
            let share = target(&mixed, image, image % 4);
            let other =
                (0..4).find(|&class| class != image % 4 && target(&mixed, image, class) > 0.01);
            if let Some(other) = other {
                let sum = share + target(&mixed, image, other);
                assert!((sum - 1.0).abs() < 1e-5, "image {image}: {sum}");
                halves += usize::from((0.25..0.75).contains(&share));
            }
            // The pixel lies between those of two images; one of them is the image itself.
            let value = value.double_value(&[0, 0, 0]);
            let partner = (value - share * 4.0 * image as f64) / (1.0 - share) / 4.0;
            if share < 0.9 {
                assert!(
                    (partner - partner.round()).abs() < 0.6 / (1.0 - share),
                    "image {image}: {partner}"
                );
            }
        }
        assert!(halves > 10, "{halves} of 64 are really mixed");
    }

    #[test]
    fn cutmix_takes_a_rectangle_and_its_share_of_the_target() {
        let xs = numbered(64);
        let mixed = changed(&xs, "cutmix", 1, 2);
        let mut cut = 0;
        for image in 0..64 {
            let own = mixed.pixels().get(image).eq(image).sum(Kind::Int64).int64_value(&[]);
            let share = own as f64 / 60.0;
            let partner = mixed
                .pixels()
                .get(image)
                .max()
                .int64_value(&[])
                .max(mixed.pixels().get(image).min().int64_value(&[]));
            let same_class = (partner % 4 == image % 4) && own < 60;
            let found = target(&mixed, image, image % 4);
            if !same_class && own < 60 {
                let others =
                    mixed.pixels().get(image).masked_select(&mixed.pixels().get(image).ne(image));
                assert_eq!(others.min(), others.max());
                if others.int64_value(&[0]) % 4 != image % 4 {
                    assert!((found - share).abs() < 1e-5, "image {image}: {found}, {share}");
                    cut += 1;
                }
            }
        }
        assert!(cut > 20, "{cut} of 64 are mixed with another class");
    }

    #[test]
    fn with_both_each_image_gets_one_and_after_the_last_mixed_epoch_none() {
        let xs = numbered(64) * 3;
        let mixed = changed(&xs, "mixup:1,cutmix", 1, 2);
        let whole = (0..64).filter(|&image| {
            let pixels = mixed.pixels().get(image);
            pixels.min() == pixels.max()
        });
        assert!((16..48).contains(&whole.count()));

        let (order, batches, blank): (Vec<i64>, _, _) = ((0..64).collect(), [(7, 64)], blank());
        let draw = |epoch| {
            let images = epoch_of(1, epoch, &order, &batches, &blank);
            Augmentation::new(&"mixup,cutmix".parse().unwrap(), Some(2), &images)
                .apply(batch(&xs), &(0..64))
        };
        assert_ne!(*draw(2).pixels(), xs);
        let plain = draw(3);
        assert_eq!(*plain.pixels(), xs);
        let logits = Tensor::randn([64, 4], (Kind::Float, Device::Cpu));
        let loss = |batch: &Batch| batch.targets().loss(&logits, 0.1, Reduction::Mean);
        let difference = loss(&plain) - loss(&batch(&xs));
        assert!(difference.abs().double_value(&[]) < 1e-6);
        assert_eq!(plain.targets().correct(&logits), batch(&xs).targets().correct(&logits));
    }

    #[test]
    fn a_micro_batch_has_its_part_of_the_mixed_targets() {
        let mixed = changed(&images(10), "mixup:1", 1, 2);
        let logits = Tensor::randn([10, 4], (Kind::Float, Device::Cpu));
        let whole = mixed.targets().loss(&logits, 0.1, Reduction::Sum);
        let parts = [0..4, 4..10].map(|range| {
            let logits = range_of(&logits, &range);
            mixed.range(&range).targets().loss(&logits, 0.1, Reduction::Sum)
        });
        assert!((whole - parts.iter().sum::<Tensor>()).abs().double_value(&[]) < 1e-4);
    }
}
