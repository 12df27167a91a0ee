//! Which images go into which batch.

use crate::random::{self, Purpose};
use std::ops::Range;

/// The order in which an epoch takes the training images. It depends only on the seed and the epoch.
pub fn epoch_order(seed: u64, epoch: u64, count: usize) -> Vec<i64> {
    random::permutation(seed, Purpose::Order, epoch, count)
}

/// Cuts `0..count` into batches; the last batch may be smaller. If only one image is left for it, that image is added
/// to the batch before, because batch norm needs a variance and one pixel of one image has none.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_cover_every_image_once_and_none_is_a_lonely_one() {
        assert_eq!(batch_ranges(10, 4), [0..4, 4..8, 8..10]);
        assert_eq!(batch_ranges(9, 4), [0..4, 4..9]);
        assert_eq!(batch_ranges(8, 4), [0..4, 4..8]);
        assert_eq!(batch_ranges(3, 1), [0..1, 1..2, 2..3]);
        assert_eq!(batch_ranges(1, 4), vec![0..1]);
        assert_eq!(batch_ranges(60_000, 256).len(), 235);
    }
}
