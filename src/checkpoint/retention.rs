//! Which checkpoints stay: a pure function, so that its tests need no disk.

/// The steps of the checkpoints to delete: all but the newest `keep` and the best one.
pub fn superseded(steps: &[u64], keep: usize, best: Option<u64>) -> Vec<u64> {
    let mut newest_first = steps.to_vec();
    newest_first.sort_unstable_by(|a, b| b.cmp(a));
    newest_first.into_iter().skip(keep.max(1)).filter(|&step| Some(step) != best).collect()
}

#[cfg(test)]
mod tests {
    use super::superseded;

    #[test]
    fn the_newest_and_the_best_stay() {
        assert_eq!(superseded(&[10, 30, 20, 40], 2, Some(10)), [20]);
        assert_eq!(superseded(&[10, 20, 30], 3, None), [0u64; 0]);
        assert_eq!(superseded(&[10, 20, 30], 1, Some(30)), [20, 10]);
    }

    #[test]
    fn the_last_one_is_never_deleted() {
        assert_eq!(superseded(&[10, 20], 0, None), [10]);
    }
}
