//! Follows a run's events, and knows how far the epoch under way is and how much time is left.

use crate::config::Config;
use crate::run::progress::Progress;
use crate::train::Event;
use crate::train::epoch::EpochSums;
use std::time::Instant;

/// What the events so far say about the epoch under way.
#[derive(Debug)]
pub struct Tracker {
    /// Epochs in the run.
    epochs: u64,
    /// The epoch under way. None before the first one and between two.
    progress: Option<Progress>,
    /// When the last step was done.
    last_step: Option<Instant>,
    /// Seconds of evaluations and checkpoints so far.
    seconds_between: f64,
    /// Number of epochs that are over in this process.
    epochs_seen: u64,
}

impl Tracker {
    /// The tracker of a run that has not begun in this process.
    pub fn new(config: &Config) -> Self {
        Self {
            epochs: config.recipe.epochs,
            progress: None,
            last_step: None,
            seconds_between: 0.0,
            epochs_seen: 0,
        }
    }

    /// The epoch under way. None before the first one and between two.
    pub fn progress(&self) -> Option<&Progress> {
        self.progress.as_ref()
    }

    /// Takes an event that happened at `now`.
    pub fn take(&mut self, event: &Event, now: Instant) {
        match event {
            Event::EpochStart { epoch, steps } => {
                let (epoch, epochs, steps) = (*epoch, self.epochs, *steps);
                self.progress = Some(Progress { epoch, epochs, steps, ..Progress::default() });
            }
            Event::Step { lr, sums: Some(sums), .. } => {
                self.last_step = Some(now);
                self.take_sums(*lr, sums);
            }
            Event::Evaluated { images, of } => {
                if let Some(progress) = &mut self.progress {
                    (progress.evaluated, progress.to_evaluate) = (Some(*images), Some(*of));
                }
            }
            Event::Epoch(_) => {
                let between = self.last_step.map(|step| now.saturating_duration_since(step));
                self.seconds_between += between.unwrap_or_default().as_secs_f64();
                self.epochs_seen += 1;
                self.progress = None;
            }
            _ => {}
        }
    }

    fn take_sums(&mut self, lr: f64, sums: &EpochSums) {
        let between = self.seconds_between / self.epochs_seen.max(1) as f64;
        let Some(progress) = &mut self.progress else { return };
        let per_step = sums.seconds / sums.steps as f64;
        let epoch_left = per_step * progress.steps.saturating_sub(sums.steps) as f64;
        let later_epochs = progress.epochs.saturating_sub(progress.epoch);
        let run_left = epoch_left
            + per_step * (later_epochs * progress.steps as u64) as f64
            + between * (later_epochs + 1) as f64;
        *progress = Progress {
            step: sums.steps,
            loss: Some(sums.mean_loss()),
            accuracy: Some(sums.accuracy()),
            images_per_second: Some(sums.images_per_second()),
            lr: Some(lr),
            epoch_seconds_left: Some(epoch_left),
            run_seconds_left: Some(run_left),
            ..std::mem::take(progress)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Options;
    use crate::train::event::EpochFigures;
    use std::path::Path;
    use std::time::Duration;

    #[test]
    fn the_time_left_counts_steps_and_what_is_between_epochs() {
        let text = "[train]\nepochs = 4\nschedule = \"constant\"\nlr = 0.5\nwarmup-epochs = 0.0\n";
        let config = Config::parse(text, Path::new("config.toml"), &Options::default()).unwrap();
        let mut tracker = Tracker::new(&config);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let step = |step, steps, seconds| {
            let sums = EpochSums { steps, images: 20 * steps, loss: 30.0, correct: 5, seconds };
            Event::Step { epoch: 1, step, lr: 0.5, steps_left: 10 - steps, sums: Some(sums) }
        };
        assert_eq!(tracker.progress(), None);
        tracker.take(&Event::EpochStart { epoch: 1, steps: 10 }, start);
        tracker.take(&step(4, 4, 8.0), at(8));
        let progress = tracker.progress().unwrap();
        // 2 seconds for each of 6 and then 30 steps. How long an evaluation takes is not known yet.
        assert_eq!(progress.epoch_seconds_left, Some(12.0));
        assert_eq!(progress.run_seconds_left, Some(72.0));
        assert_eq!((progress.step, progress.lr, progress.loss), (4, Some(0.5), Some(0.375)));
        tracker.take(&step(10, 10, 20.0), at(20));
        tracker.take(&Event::Evaluated { images: 7, of: 9 }, at(22));
        assert_eq!(tracker.progress().unwrap().evaluated, Some(7));
        let figures = EpochFigures { epoch: 1, ..EpochFigures::default() };
        tracker.take(&Event::Epoch(figures), at(25));
        assert_eq!(tracker.progress(), None);
        tracker.take(&Event::EpochStart { epoch: 2, steps: 10 }, at(25));
        tracker.take(&step(11, 1, 2.0), at(27));
        let progress = tracker.progress().unwrap();
        assert_eq!(progress.evaluated, None);
        assert_eq!(progress.run_seconds_left, Some(2.0 * 29.0 + 5.0 * 3.0));
    }
}
