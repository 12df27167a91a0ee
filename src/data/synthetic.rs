//! The synthetic data set: grey images that the program makes itself. It needs no file and no connection.
//!
//! An image shows soft stripes. The class decides their direction and distance. The position of the first
//! stripe is random, weaker stripes of another class are mixed in, and each pixel has noise. Because the
//! position is different in each image, a linear classifier is far from perfect. A small convolutional
//! network learns the classes in one or two epochs. Training and test images are drawn with different seeds.
//!
//! The images are the same on every machine and in every version of the program. For that reason only
//! random bytes and integers are used: no floats, and none of the distributions of the `rand` crate.

use super::{Images, Split};
use crate::random::{self, Purpose};
use rand::Rng;

/// Height and width of an image, in pixels.
pub const SIDE: usize = 28;

/// The period of the wave that makes the stripes: the number of steps from one stripe to the next.
const PERIOD: i32 = 64;

/// For each class, the steps of the wave from a pixel to the next one below and to the next one to the right.
const WAVES: [[i32; 2]; 10] =
    [[8, 0], [7, 3], [6, 6], [3, 7], [0, 8], [-3, 7], [-6, 6], [-7, 3], [4, 4], [-4, 4]];

/// The wave of the image's own class begins at a random step below this number. The number is less than the
/// period, so that a linear classifier is better than chance.
const STARTS: i32 = 48;

// Seeds of the draws. The images depend on them: never change one.
const TRAIN_SEED: u64 = 1;
const TEST_SEED: u64 = 2;

/// The first `count` images of a split. The label of image `i` is `i` modulo the number of classes.
pub fn images(split: Split, count: usize) -> Images {
    let seed = match split {
        Split::Train => TRAIN_SEED,
        Split::Test => TEST_SEED,
    };
    let mut pixels = Vec::with_capacity(count * SIDE * SIDE);
    let mut labels = Vec::with_capacity(count);
    for (index, (class, &own)) in (0..count).zip(WAVES.iter().enumerate().cycle()) {
        let mut rng = random::generator(seed, Purpose::Synthetic, index as u64);
        let mut draws = [0; 4];
        rng.fill_bytes(&mut draws);
        let [start, other_start, other, share] = draws.map(i32::from);
        // One of the nine classes after this one.
        let other = class + 1 + other as usize % (WAVES.len() - 1);
        let other = WAVES.iter().cycle().nth(other).copied().unwrap_or(own);
        // The share of the image's own stripes is 160/256 to 255/256.
        let share = 160 + share % 96;
        let mut noise = [0; SIDE * SIDE];
        rng.fill_bytes(&mut noise);
        let mixed = stripes(own, start % STARTS).zip(stripes(other, other_start)).zip(noise);
        pixels.extend(mixed.map(|((own, other), noise)| {
            let level = (own * share + other * (256 - share)) / 256;
            // Noise from −64 to 63.
            (level + i32::from(noise) / 2 - 64).clamp(0, 255) as u8
        }));
        labels.push(class as u8);
    }
    Images { pixels, labels, count, channels: 1, height: SIDE, width: SIDE }
}

/// The grey levels of stripes, from 0 to 248, row by row.
fn stripes([down, right]: [i32; 2], start: i32) -> impl Iterator<Item = i32> {
    let side = SIDE as i32;
    let levels = (0..side).flat_map(move |row| (0..side).map(move |column| (row, column)));
    levels.map(move |(row, column)| {
        let step = (start + row * down + column * right).rem_euclid(PERIOD);
        // Up for half of the period, and down again.
        8 * step.min(PERIOD - 1 - step)
    })
}

#[cfg(test)]
mod tests {
    use super::super::catalog;
    use super::*;
    use crate::files::sha256;
    use tch::{Kind, Tensor};

    fn split(split: Split) -> Images {
        images(split, catalog::find("synthetic").unwrap().images(split))
    }

    // Published figures and the expectations of tests depend on these images, so they must never change.
    #[test]
    fn the_images_are_pinned() {
        let sums = Split::BOTH.map(|of| {
            let images = split(of);
            [sha256(&images.pixels), sha256(&images.labels)]
        });
        let expected = [
            [
                "fa1cc6849853cb5dd82d6412b0d0d1cfc78be3179cdd68294239d430eb2025a7",
                "261f07f85a43e09458fef17af487c03eff62515ef325a86dcf3be091ce8af8f4",
            ],
            [
                "af87a6ce419c160e71f51c1b7e951863122d799cfaf46569d92982ce1f7f998c",
                "19efeabbd5fed476d80e2ce2609cdc76c23b9694a1631c6371599ab362810a91",
            ],
        ];
        assert_eq!(sums, expected);
    }

    #[test]
    fn the_images_are_those_of_the_table() {
        let dataset = catalog::find("synthetic").unwrap();
        let train = split(Split::Train);
        assert_eq!(train.pixels.len(), train.count * dataset.image_bytes());
        let pixels = || train.pixels.iter().map(|&level| f64::from(level) / 255.0);
        let mean = pixels().sum::<f64>() / train.pixels.len() as f64;
        let square = pixels().map(|pixel| pixel * pixel).sum::<f64>() / train.pixels.len() as f64;
        let std = (square - mean * mean).sqrt();
        let differences = [mean - dataset.mean[0], std - dataset.std[0]].map(f64::abs);
        assert!(differences.iter().all(|d| *d < 5e-5), "mean {mean}, standard deviation {std}");
        for images in [&train, &split(Split::Test)] {
            let per_class = images.count / WAVES.len();
            for class in 0..WAVES.len() as u8 {
                let of_class = images.labels.iter().filter(|&&label| label == class);
                assert_eq!(of_class.count(), per_class, "class {class}");
            }
        }
    }

    #[test]
    fn test_images_are_none_of_the_training_images() {
        let [train, test] = Split::BOTH.map(split);
        let train: std::collections::HashSet<&[u8]> = train.pixels.chunks(SIDE * SIDE).collect();
        assert_eq!(train.len(), 8000, "no two training images are equal");
        assert!(test.pixels.chunks(SIDE * SIDE).all(|image| !train.contains(image)));
    }

    /// Fits a linear map from pixels to classes by least squares.
    #[test]
    fn a_linear_classifier_is_above_chance_and_far_from_perfect() {
        let [train, test] = Split::BOTH.map(split);
        let inputs = |images: &Images| {
            let pixels = Tensor::from_slice(&images.pixels).to_kind(Kind::Double) / 255.0;
            let pixels = pixels.view([images.count as i64, -1]);
            Tensor::cat(&[&pixels, &pixels.narrow(1, 0, 1).ones_like()], 1)
        };
        let labels = |images: &Images| Tensor::from_slice(&images.labels).to_kind(Kind::Int64);
        let (xs, targets) = (inputs(&train), labels(&train).one_hot(WAVES.len() as i64));
        let ridge = Tensor::eye(xs.size()[1], (Kind::Double, xs.device()));
        let (gram, right) = (xs.tr().matmul(&xs), xs.tr().matmul(&targets.to_kind(Kind::Double)));
        let weights = Tensor::linalg_solve(&(gram + ridge), &right, true);
        let predicted = inputs(&test).matmul(&weights).argmax(1, false);
        let correct = predicted.eq_tensor(&labels(&test)).to_kind(Kind::Double);
        let accuracy = correct.mean(Kind::Double).double_value(&[]);
        assert!((0.2..0.9).contains(&accuracy), "{accuracy}");
    }
}
