//! Stateless randomness: every draw is a pure function of (seed, purpose, index). A resumed run draws the same numbers
//! as an uninterrupted one, and no state of a generator has to be saved.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// What a draw is for. The draws of a seed depend on these numbers: never change or reuse one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Initial weights; the index is the hash of the parameter's name.
    Init = 1,
    /// The order of the training images; the index is the epoch.
    Order = 2,
    /// Augmentation; the index is the optimizer step.
    Augment = 3,
    /// Which training images are held out for validation.
    Validation = 4,
    /// The images of the synthetic data set; the index is the number of the image.
    Synthetic = 5,
    /// The pixels of the images that `resnet bench` measures on.
    Bench = 6,
    /// Dropout and stochastic depth; the index is the optimizer step, then the hash of the layer's name.
    Noise = 7,
    /// Which images an alternating flip mirrors in the first epoch; the index is 0.
    AlternatingFlip = 8,
    /// Rectangles that are erased; the index is the optimizer step, as for the next four.
    Erase = 9,
    /// Squares that are erased.
    Cutout = 10,
    /// Which images are mixed, and how.
    Mix = 11,
    /// Rotations and changes of scale.
    Affine = 12,
    /// TrivialAugment.
    Trivial = 13,
    /// The settings of a sweep that are drawn; the index is the number of the trial.
    Sweep = 14,
    /// Which images `resnet data show` shows.
    Show = 15,
}

/// A generator that depends only on its arguments. ChaCha8 gives the same numbers on every platform and in every
/// version of its crate.
pub fn generator(seed: u64, purpose: Purpose, index: u64) -> ChaCha8Rng {
    let mut key = [0u8; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&(purpose as u64).to_le_bytes());
    key[16..24].copy_from_slice(&index.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}

/// The 64-bit FNV-1a hash of a name, as an index for [`generator`].
pub fn name_index(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// A random permutation of `0..count`.
pub fn permutation(seed: u64, purpose: Purpose, index: u64, count: usize) -> Vec<i64> {
    use rand::seq::SliceRandom;
    let mut order: Vec<i64> = (0..count as i64).collect();
    order.shuffle(&mut generator(seed, purpose, index));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permutations_hold_every_index_once_and_depend_on_every_argument() {
        let base = permutation(7, Purpose::Order, 0, 100);
        let mut sorted = base.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<i64>>());
        assert_eq!(base, permutation(7, Purpose::Order, 0, 100));
        assert_ne!(base, permutation(8, Purpose::Order, 0, 100));
        assert_ne!(base, permutation(7, Purpose::Order, 1, 100));
        assert_ne!(base, permutation(7, Purpose::Validation, 0, 100));
    }

    // A seed in a published result must always give the same run.
    #[test]
    fn draws_are_pinned() {
        assert_eq!(permutation(0, Purpose::Order, 0, 8), [0, 7, 6, 4, 1, 2, 3, 5]);
        assert_eq!(name_index("fc.weight"), 0x79fb_28a7_5603_c7a0);
    }
}
