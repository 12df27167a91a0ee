//! Finds out when a run has diverged. A number that is not finite stops the run. A finite loss that is far too large is
//! also a divergence, because no network that learned anything has a loss that large.

use super::event::EpochFigures;
use crate::ui::rounded;
use std::fmt;

/// Advice for a run that has diverged.
pub const REMEDY: &str = "try a lower --lr, a longer --warmup-epochs or --clip-grad-norm 1";

/// A step led to a loss or weights that are not finite.
#[derive(Debug)]
pub struct Diverged {
    /// The first part of the message: which number is not finite.
    pub what: String,
    /// The step, counted from 1 over the run.
    pub step: u64,
    /// The epoch, counted from 1.
    pub epoch: u64,
    /// The step's learning rate.
    pub lr: f64,
}

impl fmt::Display for Diverged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, step, epoch, lr } = self;
        let lr = rounded(*lr);
        write!(
            f,
            "{what} at step {step} (epoch {epoch}, learning rate {lr}): the run has diverged; {REMEDY}"
        )
    }
}

impl std::error::Error for Diverged {}

/// A loss that is finite, but so large that the network has diverged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Explosion {
    /// The images on which the loss was computed.
    split: &'static str,
    loss: f64,
    /// The loss in nats of a guess that gives each class the same probability.
    guess: f64,
}

impl fmt::Display for Explosion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (loss, guess) = (rounded(self.loss), rounded(self.guess));
        write!(f, "the {} loss is {loss}, and that of a guess {guess}", self.split)
    }
}

/// No network that learns has a loss of this many times the loss of a guess.
const FAR: f64 = 100.0;
/// A network has lost what it learned if its training loss is above this factor times the loss of a guess, and its
/// accuracy is below this factor times the accuracy of a guess.
const LOST: f64 = 2.0;
/// In the first steps of a run, the network has learned nothing yet. The running statistics of batch norm do not fit
/// the network either, because each step replaces only a tenth of them.
const FIRST_STEPS: u64 = 100;

/// Checks whether the figures of an epoch show that the run has diverged.
pub fn explosion(record: &EpochFigures, classes: usize) -> Option<Explosion> {
    let guess = (classes as f64).ln();
    let settled = record.step >= FIRST_STEPS;
    let is_lost = record.train_loss > LOST * guess
        && record.train_accuracy < LOST / classes as f64
        && settled;
    let is_far = |loss: f64| loss > FAR * guess;
    let losses = [
        ("training", Some(record.train_loss), is_lost || is_far(record.train_loss)),
        (
            "validation",
            record.validation_loss,
            settled && record.validation_loss.is_some_and(is_far),
        ),
        ("test", record.test_loss, settled && record.test_loss.is_some_and(is_far)),
    ];
    let mut exploded = losses.into_iter().filter(|(_, _, exploded)| *exploded);
    exploded.find_map(|(split, loss, _)| Some(Explosion { split, loss: loss?, guess }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(step: u64, train_loss: f64, train_accuracy: f64, test_loss: f64) -> EpochFigures {
        EpochFigures {
            epoch: 1,
            step,
            lr: 0.1,
            train_loss,
            train_accuracy,
            test_loss: Some(test_loss),
            test_images: None,
            validation_images: None,
            test_accuracy: Some(0.1),
            validation_loss: None,
            validation_accuracy: None,
            images_per_second: 1.0,
            seconds: 1.0,
            evaluation_seconds: None,
        }
    }

    #[test]
    fn losses_of_networks_that_learn_are_no_explosion() {
        for (what, record) in [
            ("a run that learns", record(235, 0.7, 0.8, 0.4)),
            ("one that guesses", record(235, 2.31, 0.1, 2.303)),
            ("an epoch that began badly", record(235, 7.0, 0.3, 3.0)),
            ("an unlucky evaluation", record(235, 1.0, 0.6, 90.0)),
            ("a first step", record(1, 6.0, 0.1, 6000.0)),
        ] {
            assert_eq!(explosion(&record, 10), None, "{what}");
        }
    }

    #[test]
    fn an_explosion_is_told_with_the_loss_of_a_guess() {
        for (record, expected) in [
            (record(3, 1e15, 0.1, 2.3), "the training loss is 1e15, and that of a guess 2.303"),
            (
                record(235, 6.912345, 0.1, 2.3),
                "the training loss is 6.912, and that of a guess 2.303",
            ),
            (
                record(235, 1.9, 0.3, 3_852_291_727_687_680.0),
                "the test loss is 3.852e15, and that of a guess 2.303",
            ),
        ] {
            assert_eq!(explosion(&record, 10).unwrap().to_string(), expected);
        }
    }
}
