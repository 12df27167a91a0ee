//! Decides which checkpoints are kept. This is a pure function, so its tests need no disk.

/// The steps of the checkpoints to delete: all except the newest `keep` and those that `last` and `best` lead to.
pub fn superseded(steps: &[u64], keep: usize, named: [u64; 2]) -> Vec<u64> {
    let mut newest_first = steps.to_vec();
    newest_first.sort_unstable_by(|a, b| b.cmp(a));
    newest_first.into_iter().skip(keep).filter(|step| !named.contains(step)).collect()
}

#[cfg(test)]
mod tests {
    use super::superseded;

    #[test]
    fn the_newest_and_those_with_a_name_stay() {
        assert_eq!(superseded(&[10, 30, 20, 40], 2, [40, 10]), [20]);
        assert_eq!(superseded(&[10, 20, 30], 3, [30, 30]), [0u64; 0]);
        assert_eq!(superseded(&[10, 20, 30], 1, [30, 30]), [20, 10]);
        // Later steps can exist after a run was resumed from an older checkpoint.
        assert_eq!(superseded(&[10, 20, 30], 1, [10, 20]), [0u64; 0]);
    }
}
