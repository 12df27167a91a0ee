//! Figures for each class, from a confusion matrix.

use serde::Serialize;

/// How well the network recognises one class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassFigures {
    /// Its name.
    pub name: String,
    /// Of the images that were predicted as this class, the fraction that belong to it; 0 if there are none.
    pub precision: f64,
    /// Of the images of this class, the fraction that were predicted as this class; 0 if there are none.
    pub recall: f64,
    /// Harmonic mean of precision and recall; 0 if both are 0.
    pub f1: f64,
    /// Number of images of this class.
    pub support: u64,
}

/// The figures of each class; `confusion` counts images by [true class][predicted class].
pub fn by_class(names: &[String], confusion: &[Vec<u64>]) -> Vec<ClassFigures> {
    names
        .iter()
        .zip(confusion)
        .enumerate()
        .map(|(class, (name, row))| {
            let count = |row: &Vec<u64>| row.get(class).copied().unwrap_or(0);
            let correct = count(row);
            let support: u64 = row.iter().sum();
            let predicted: u64 = confusion.iter().map(count).sum();
            let precision = ratio(correct, predicted);
            let recall = ratio(correct, support);
            let f1 = ratio(2 * correct, predicted + support);
            ClassFigures { name: name.clone(), precision, recall, f1, support }
        })
        .collect()
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The expected values are from scikit-learn's classification_report for the true classes 0 0 0 1 1 2 and the
    // predicted classes 0 0 1 1 1 0.
    #[test]
    fn figures_are_scikit_learns() {
        let names = ["a", "b", "c"].map(str::to_owned);
        let confusion = vec![vec![2, 1, 0], vec![0, 2, 0], vec![1, 0, 0]];
        let figures = by_class(&names, &confusion);
        let close = |a: f64, b: f64| (a - b).abs() < 1e-12;
        assert!(close(figures[0].precision, 2.0 / 3.0) && close(figures[0].recall, 2.0 / 3.0));
        assert!(close(figures[1].precision, 2.0 / 3.0) && close(figures[1].recall, 1.0));
        assert!(close(figures[1].f1, 0.8) && close(figures[0].f1, 2.0 / 3.0));
        assert_eq!((figures[2].precision, figures[2].recall, figures[2].f1), (0.0, 0.0, 0.0));
        assert_eq!(figures.iter().map(|f| f.support).sum::<u64>(), 6);
    }
}
