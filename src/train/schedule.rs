//! Learning-rate schedules: pure functions of the step.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// The learning rate's course over a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleKind {
    /// The same throughout.
    Constant,
    /// Half a cosine down to zero (Loshchilov and Hutter 2017).
    Cosine,
    /// Multiplied by a factor every so many epochs.
    Step,
    /// Up to the peak over the first 30 % of the run along half a cosine, then down to zero along
    /// another (Smith and Topin 2018). A warm-up replaces the way up.
    OneCycle,
}

/// The part of a one-cycle run that goes up.
const ONE_CYCLE_RISE: f64 = 0.3;
/// Where a one-cycle run starts, as a part of the peak.
const ONE_CYCLE_START: f64 = 0.04;

/// A learning-rate schedule of a run of known length.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// Its course after the warm-up.
    pub kind: ScheduleKind,
    /// The peak learning rate.
    pub peak: f64,
    /// Steps over which the rate first rises linearly.
    pub warmup_steps: u64,
    /// Steps in the whole run.
    pub total_steps: u64,
    /// For [`ScheduleKind::Step`]: steps from one cut to the next.
    pub step_every: u64,
    /// For [`ScheduleKind::Step`]: the factor of each cut.
    pub step_factor: f64,
}

impl Schedule {
    /// The learning rate of a step, counted from 0.
    pub fn rate(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.peak * (step + 1) as f64 / self.warmup_steps as f64;
        }
        let after = (step - self.warmup_steps) as f64;
        let span = (self.total_steps.saturating_sub(self.warmup_steps)).max(1) as f64;
        let progress = (after / span).min(1.0);
        let factor = match self.kind {
            ScheduleKind::Constant => 1.0,
            ScheduleKind::Cosine => falling(progress),
            ScheduleKind::Step => self.step_factor.powf((step / self.step_every.max(1)) as f64),
            ScheduleKind::OneCycle if self.warmup_steps > 0 => falling(progress),
            ScheduleKind::OneCycle if progress < ONE_CYCLE_RISE => {
                let rise = 1.0 - falling(progress / ONE_CYCLE_RISE);
                ONE_CYCLE_START + (1.0 - ONE_CYCLE_START) * rise
            }
            ScheduleKind::OneCycle => falling((progress - ONE_CYCLE_RISE) / (1.0 - ONE_CYCLE_RISE)),
        };
        self.peak * factor
    }
}

/// Half a cosine from 1 at 0 to 0 at 1.
fn falling(progress: f64) -> f64 {
    0.5 * (1.0 + (PI * progress).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(kind: ScheduleKind, warmup_steps: u64) -> Schedule {
        Schedule {
            kind,
            peak: 0.4,
            warmup_steps,
            total_steps: 100,
            step_every: 30,
            step_factor: 0.1,
        }
    }

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-12
    }

    #[test]
    fn warm_up_rises_linearly_to_the_peak() {
        for kind in [ScheduleKind::Constant, ScheduleKind::Cosine, ScheduleKind::OneCycle] {
            let schedule = schedule(kind, 10);
            assert!(close(schedule.rate(0), 0.04));
            assert!(close(schedule.rate(4), 0.2));
            assert!(close(schedule.rate(9), 0.4));
            assert!(close(schedule.rate(10), 0.4));
        }
    }

    #[test]
    fn shapes_go_where_their_papers_say() {
        assert!(close(schedule(ScheduleKind::Constant, 0).rate(99), 0.4));
        let cosine = schedule(ScheduleKind::Cosine, 0);
        assert!(close(cosine.rate(0), 0.4) && close(cosine.rate(50), 0.2));
        assert!(cosine.rate(99) < 0.001 && close(cosine.rate(100), 0.0));
        let step = schedule(ScheduleKind::Step, 0);
        assert!(close(step.rate(29), 0.4) && close(step.rate(30), 0.04));
        assert!(close(step.rate(60), 0.004));
        let cycle = schedule(ScheduleKind::OneCycle, 0);
        assert!(close(cycle.rate(0), 0.016) && close(cycle.rate(30), 0.4));
        assert!(cycle.rate(15) < 0.4 && cycle.rate(99) < 0.001);
        let rises = (0..30).all(|s| cycle.rate(s) < cycle.rate(s + 1));
        let falls = (30..100).all(|s| cycle.rate(s) > cycle.rate(s + 1));
        assert!(rises && falls);
    }
}
