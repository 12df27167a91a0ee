//! The learning-rate range test: the learning rate rises by equal factors from step to step, and the loss shows which
//! rates are too small, useful and too large (Smith 2017, section 3.3).

use super::Trainer;
use super::divergence::Diverged;
use super::epoch::EpochSums;
use anyhow::Result;
use serde::Serialize;

/// The weight of earlier losses in the smoothed loss.
const SMOOTHING: f64 = 0.9;
/// The test ends early if the smoothed loss is above this multiple of its least value.
const EXPLODED: f64 = 3.0;
/// The rate that is suggested is this fraction of the rate with the least loss, which is nearly too large already.
const SAFETY: f64 = 0.25;
/// Batches differ, so a loss that falls to no less than this multiple of the first has not really fallen.
const FALLEN: f64 = 0.95;

/// A step of a range test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct RangeStep {
    /// The learning rate.
    pub lr: f64,
    /// The loss before the step, in nats.
    pub loss: f64,
    /// The mean of the losses so far, in which later ones count more.
    pub smoothed: f64,
}

/// The learning rates of a range test: from `first` to `last`, by equal factors, in `steps` steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    /// The rate of the first step.
    pub first: f64,
    /// The rate of the last step.
    pub last: f64,
    /// The number of steps.
    pub steps: u64,
}

impl Range {
    fn lr(self, step: u64) -> f64 {
        let progress = step as f64 / (self.steps.max(2) - 1) as f64;
        self.first * (self.last / self.first).powf(progress)
    }
}

/// Trains with rising learning rates. The test ends early if the loss explodes. `step_is_done` is called after each step.
///
/// # Errors
/// An operation of libtorch failed.
pub fn measure(
    trainer: &mut Trainer,
    range: Range,
    step_is_done: &mut dyn FnMut(u64),
) -> Result<Vec<RangeStep>> {
    let mut steps: Vec<RangeStep> = Vec::new();
    let mut epoch = trainer.epoch(1, EpochSums::default());
    let (mut average, mut least) = (0.0, f64::MAX);
    for step in 0..range.steps {
        if epoch.is_over() {
            epoch = trainer.epoch(epoch.number() + 1, EpochSums::default());
        }
        let before = *epoch.sums();
        let lr = range.lr(step);
        trainer.step_at(&mut epoch, lr)?;
        match trainer.sync(&mut epoch) {
            Ok(()) => {}
            Err(error) if error.is::<Diverged>() => break,
            Err(error) => return Err(error),
        }
        let images = epoch.sums().images - before.images;
        let loss = (epoch.sums().loss - before.loss) / images as f64;
        average = SMOOTHING * average + (1.0 - SMOOTHING) * loss;
        // Without this division, the first means would be too small.
        let smoothed = average / (1.0 - SMOOTHING.powi(step as i32 + 1));
        steps.push(RangeStep { lr, loss, smoothed });
        step_is_done(step + 1);
        least = least.min(smoothed);
        if smoothed > EXPLODED * least {
            break;
        }
    }
    Ok(steps)
}

/// The learning rate that a range test suggests as the peak of a schedule: a quarter of the rate with the least smoothed
/// loss. `None` if the loss never fell.
pub fn suggestion(steps: &[RangeStep]) -> Option<f64> {
    let first = steps.first()?;
    let best = steps.iter().min_by(|a, b| a.smoothed.total_cmp(&b.smoothed))?;
    (best.smoothed < FALLEN * first.smoothed).then_some(SAFETY * best.lr)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_rise_by_equal_factors() {
        let range = Range { first: 0.001, last: 10.0, steps: 5 };
        for (step, lr) in [0.001, 0.01, 0.1, 1.0, 10.0].into_iter().enumerate() {
            assert!((range.lr(step as u64) / lr - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn the_suggestion_is_a_quarter_of_the_rate_with_the_least_loss() {
        let step = |lr, smoothed| RangeStep { lr, loss: smoothed, smoothed };
        let steps = [step(0.01, 2.3), step(0.1, 1.5), step(1.0, 0.9), step(10.0, 8.0)];
        assert_eq!(suggestion(&steps), Some(0.25));
        assert_eq!(suggestion(&[step(1.0, 2.3), step(10.0, 9.0)]), None);
        assert_eq!(suggestion(&[step(1.0, 2.3), step(10.0, 2.25)]), None);
        assert_eq!(suggestion(&[]), None);
    }
}
