//! What a network says of labelled images: the mistakes that it is most certain of, and how well its probabilities are
//! calibrated.

use super::classification::{ClassFigures, by_class};
use crate::data::dataset::Dataset;
use crate::train::evaluate::{BINS, Evaluation};
use anyhow::{Result, anyhow, ensure};

/// An evaluation with the classes of its images.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The names of the classes.
    pub names: Vec<String>,
    /// The evaluation.
    pub evaluation: Evaluation,
    /// The class of each image.
    pub(super) labels: Vec<usize>,
}

/// A class, and its probability according to the network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Guess {
    /// The class.
    pub class: usize,
    /// Its probability.
    pub probability: f32,
}

/// An image that was classified wrongly.
#[derive(Debug, Clone, PartialEq)]
pub struct Mistake {
    /// The place of the image in the data set.
    pub image: usize,
    /// Its class.
    pub truth: Guess,
    /// The most likely class according to the network.
    pub predicted: Guess,
}

/// The images whose most likely class has a probability in one interval (Guo et al. 2017, section 2).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bin {
    /// The number of images.
    pub images: usize,
    /// The mean probability of their most likely classes.
    pub probability: f64,
    /// The fraction of them whose most likely class is the right one.
    pub right: f64,
}

impl Outcome {
    /// The evaluation of the first images of a data set.
    ///
    /// # Errors
    /// The evaluation is not of this data set, or an operation of libtorch failed.
    pub fn new(evaluation: &Evaluation, images: &Dataset, names: &[String]) -> Result<Self> {
        let count = evaluation.images;
        ensure!(
            evaluation.probabilities.len() == count * names.len() && count <= images.len(),
            "the evaluation of {count} images is not of these {} images",
            images.len()
        );
        let batch = images.range(&(0..count))?;
        let labels = Vec::<i64>::try_from(batch.targets().classes())
            .map_err(|error| anyhow!("classes: {error}"))?;
        Ok(Self {
            names: names.to_vec(),
            evaluation: evaluation.clone(),
            labels: labels.into_iter().map(|label| label as usize).collect(),
        })
    }

    /// The figures of each class.
    pub fn by_class(&self) -> Vec<ClassFigures> {
        by_class(&self.names, &self.evaluation.confusion)
    }

    /// The name of a class.
    pub fn name(&self, class: usize) -> &str {
        self.names.get(class).map_or("", String::as_str)
    }

    /// The images that were classified wrongly, first those whose own class has the lowest probability; at most `most`.
    pub fn mistakes(&self, most: usize) -> Vec<Mistake> {
        let mut mistakes: Vec<Mistake> = self
            .guesses()
            .enumerate()
            .filter(|(_, (truth, predicted))| truth.class != predicted.class)
            .map(|(image, (truth, predicted))| Mistake { image, truth, predicted })
            .collect();
        mistakes.sort_by(|a, b| a.truth.probability.total_cmp(&b.truth.probability));
        mistakes.truncate(most);
        mistakes
    }

    /// The intervals of probability that have images, from low to high.
    pub fn calibration(&self) -> Vec<Bin> {
        let mut sums = vec![(0usize, 0f64, 0usize); BINS as usize];
        for (truth, predicted) in self.guesses() {
            let bin = (f64::from(predicted.probability) * BINS as f64).ceil() as usize;
            if let Some((images, probability, right)) = sums.get_mut(bin.max(1) - 1) {
                *images += 1;
                *probability += f64::from(predicted.probability);
                *right += usize::from(truth.class == predicted.class);
            }
        }
        let bin = |(images, probability, right): (usize, f64, usize)| Bin {
            images,
            probability: probability / images as f64,
            right: right as f64 / images as f64,
        };
        sums.into_iter().filter(|(images, ..)| *images > 0).map(bin).collect()
    }

    /// For each image, its own class and its most likely one.
    fn guesses(&self) -> impl Iterator<Item = (Guess, Guess)> {
        let rows = self.evaluation.probabilities.chunks(self.names.len().max(1));
        self.labels.iter().zip(rows).filter_map(|(&label, row)| {
            let guess = |class: usize| Some(Guess { class, probability: row.get(class).copied()? });
            // The first of equal probabilities counts.
            let likely =
                (1..row.len()).fold(0, |best, class| match (row.get(best), row.get(class)) {
                    (Some(high), Some(other)) if other > high => class,
                    _ => best,
                });
            Some((guess(label)?, guess(likely)?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(labels: &[usize], probabilities: &[f32]) -> Outcome {
        let classes = probabilities.len() / labels.len();
        let evaluation = Evaluation {
            images: labels.len(),
            loss: 0.0,
            top_k_correct: 0,
            confusion: vec![vec![0; classes]; classes],
            calibration_error: 0.0,
            probabilities: probabilities.to_vec(),
        };
        let names = (0..classes).map(|class| class.to_string()).collect();
        Outcome { names, evaluation, labels: labels.to_vec() }
    }

    #[test]
    fn the_worst_mistakes_are_those_whose_own_class_is_least_likely() {
        let outcome = outcome(&[0, 1, 1, 0], &[0.9, 0.1, 0.7, 0.3, 0.99, 0.01, 0.4, 0.6]);
        let mistakes = outcome.mistakes(10);
        assert_eq!(mistakes.iter().map(|mistake| mistake.image).collect::<Vec<_>>(), [2, 1, 3]);
        assert_eq!(mistakes[0].truth, Guess { class: 1, probability: 0.01 });
        assert_eq!(mistakes[0].predicted, Guess { class: 0, probability: 0.99 });
        assert_eq!(outcome.mistakes(1).len(), 1);
    }

    // The calibration error of an evaluation is made of the same intervals.
    #[test]
    fn intervals_of_probability_hold_all_images() {
        let outcome = outcome(&[0, 1, 1, 0], &[0.9, 0.1, 0.9, 0.1, 0.4, 0.6, 0.0, 1.0]);
        let bins = outcome.calibration();
        let expected = [(1, 0.6, 1.0), (2, 0.9, 0.5), (1, 1.0, 0.0)];
        assert_eq!(bins.len(), expected.len());
        for (bin, (images, probability, right)) in bins.iter().zip(expected) {
            assert_eq!((bin.images, bin.right), (images, right));
            assert!((bin.probability - probability).abs() < 1e-6);
        }
    }
}
