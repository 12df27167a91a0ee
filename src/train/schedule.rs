//! Learning-rate schedules: pure functions of the step.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// The kind of a learning-rate schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleKind {
    /// The same learning rate in the whole run.
    Constant,
    /// Falls to zero along half a cosine (Loshchilov and Hutter 2017).
    Cosine,
    /// Falls to zero along a straight line.
    Linear,
    /// Multiplied by --step-factor at each of --milestones, or every --step-every epochs.
    Step,
    /// Rises from 4 % of the peak along half a cosine over the first 30 % of the run, then falls to almost
    /// zero along half a cosine (Smith and Topin 2018). A warm-up replaces the rise.
    OneCycle,
}

// The defaults of `torch.optim.lr_scheduler.OneCycleLR`.
/// Fraction of a run in which the learning rate rises (`pct_start`).
const ONE_CYCLE_RISE: f64 = 0.3;
/// First learning rate as a fraction of the peak (1 / `div_factor`).
const ONE_CYCLE_START: f64 = 1.0 / 25.0;
/// Last learning rate as a fraction of the peak (1 / `div_factor` / `final_div_factor`).
const ONE_CYCLE_END: f64 = ONE_CYCLE_START / 1e4;

/// The steps, counted from 0, before which the learning rate is cut.
#[derive(Debug, Clone, PartialEq)]
pub enum Cuts {
    /// Every so many steps.
    Every(u64),
    /// At these steps, which rise.
    At(Vec<u64>),
}

impl Cuts {
    /// The number of cuts up to a step, counted from 0.
    fn until(&self, step: u64) -> u64 {
        match self {
            Self::Every(steps) => step / (*steps).max(1),
            Self::At(steps) => steps.partition_point(|cut| *cut <= step) as u64,
        }
    }
}

/// The learning-rate schedule of a run of known length.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// The kind of schedule after the warm-up.
    pub kind: ScheduleKind,
    /// The peak learning rate.
    pub peak: f64,
    /// Steps of the warm-up, in which the learning rate rises linearly to the peak.
    pub warmup_steps: u64,
    /// Steps in the whole run.
    pub total_steps: u64,
    /// For [`ScheduleKind::Step`]: when the learning rate is cut.
    pub cuts: Cuts,
    /// For [`ScheduleKind::Step`]: the factor by which each cut multiplies the learning rate.
    pub step_factor: f64,
}

impl Schedule {
    /// The learning rate of a step, counted from 0.
    pub fn lr(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.peak * (step + 1) as f64 / self.warmup_steps as f64;
        }
        let after = (step - self.warmup_steps) as f64;
        let span = (self.total_steps.saturating_sub(self.warmup_steps)).max(1) as f64;
        let progress = (after / span).min(1.0);
        let factor = match self.kind {
            ScheduleKind::Constant => 1.0,
            ScheduleKind::Cosine => falling(progress),
            ScheduleKind::Linear => 1.0 - progress,
            ScheduleKind::Step => self.step_factor.powf(self.cuts.until(step) as f64),
            ScheduleKind::OneCycle => self.one_cycle(step),
        };
        self.peak * factor
    }

    /// The learning rate of a step of a one-cycle run, as a fraction of the peak. As in PyTorch, the last step
    /// of the rise has the peak, and the run's last step has the lowest value.
    fn one_cycle(&self, step: u64) -> f64 {
        let last = self.total_steps as f64 - 1.0;
        let top = match self.warmup_steps {
            0 => ONE_CYCLE_RISE * self.total_steps as f64 - 1.0,
            warmup_steps => warmup_steps as f64 - 1.0,
        };
        let step = (step as f64).min(last);
        let between = |from: f64, to: f64, progress: f64| to + (from - to) * falling(progress);
        if step <= top {
            between(ONE_CYCLE_START, 1.0, step / top)
        } else {
            between(1.0, ONE_CYCLE_END, (step - top) / (last - top))
        }
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
            cuts: Cuts::Every(30),
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
            assert!(close(schedule.lr(0), 0.04));
            assert!(close(schedule.lr(4), 0.2));
            assert!(close(schedule.lr(9), 0.4));
            let after = schedule.lr(10);
            assert!(if kind == ScheduleKind::OneCycle { after < 0.4 } else { close(after, 0.4) });
        }
    }

    /// Expected values, computed in Python with the formulas in PyTorch 2.11's documentation of each class.
    #[test]
    fn rates_are_pytorchs() {
        let agrees = |schedule: Schedule, rates: &[(u64, f64)]| {
            for &(step, rate) in rates {
                assert!(close(schedule.lr(step), rate), "{schedule:?}, step {step}");
            }
        };
        // OneCycleLR(max_lr=0.4, total_steps=100), then the same with total_steps=10 and total_steps=1407.
        let cycle = schedule(ScheduleKind::OneCycle, 0);
        agrees(
            cycle.clone(),
            &[
                (0, 0.016),
                (1, 0.017_125_512_226_362_993),
                (15, 0.218_394_670_448_400_16),
                (29, 0.4),
                (30, 0.399_798_614_113_809_74),
                (50, 0.317_557_380_230_292_8),
                (98, 0.000_202_985_886_190_315_2),
                (99, 1.6e-6),
            ],
        );
        agrees(Schedule { total_steps: 10, ..cycle.clone() }, &[(1, 0.208), (2, 0.4), (9, 1.6e-6)]);
        let odd = Schedule { total_steps: 1407, ..cycle };
        agrees(odd, &[(421, 0.399_999_946_568_117_5), (422, 0.399_999_175_864_818_9)]);
        // CosineAnnealingLR(T_max=100). Then LinearLR(start_factor=0.1, total_iters=9) followed by
        // CosineAnnealingLR(T_max=90).
        let cosine = |warmup_steps| schedule(ScheduleKind::Cosine, warmup_steps);
        agrees(
            cosine(0),
            &[
                (1, 0.399_901_312_073_146_33),
                (33, 0.301_808_283_150_074_3),
                (99, 9.868_792_685_368e-5),
            ],
        );
        agrees(
            cosine(10),
            &[
                (0, 0.04),
                (5, 0.24),
                (9, 0.4),
                (10, 0.4),
                (55, 0.2),
                (99, 0.000_121_834_596_180_847_58),
            ],
        );
        // LinearLR(start_factor=1, end_factor=0, total_iters=100).
        let linear = schedule(ScheduleKind::Linear, 0);
        agrees(linear, &[(0, 0.4), (25, 0.3), (99, 0.004)]);
        // StepLR(step_size=30, gamma=0.1).
        let step = schedule(ScheduleKind::Step, 0);
        agrees(step.clone(), &[(29, 0.4), (30, 0.04), (59, 0.04), (60, 0.004), (99, 0.0004)]);
        // MultiStepLR(milestones=[50, 75], gamma=0.1).
        let milestones = Schedule { cuts: Cuts::At(vec![50, 75]), ..step };
        agrees(
            milestones,
            &[(0, 0.4), (49, 0.4), (50, 0.04), (74, 0.04), (75, 0.004), (99, 0.004)],
        );
    }

    #[test]
    fn shapes_go_where_their_papers_say() {
        assert!(close(schedule(ScheduleKind::Constant, 0).lr(99), 0.4));
        let cosine = schedule(ScheduleKind::Cosine, 0);
        assert!(close(cosine.lr(0), 0.4) && close(cosine.lr(50), 0.2));
        assert!(cosine.lr(99) < 0.001 && close(cosine.lr(100), 0.0));
        let step = schedule(ScheduleKind::Step, 0);
        assert!(close(step.lr(29), 0.4) && close(step.lr(30), 0.04));
        assert!(close(step.lr(60), 0.004));
        let cycle = schedule(ScheduleKind::OneCycle, 0);
        assert!(close(cycle.lr(0), 0.016) && close(cycle.lr(29), 0.4));
        let rises = (0..29).all(|s| cycle.lr(s) < cycle.lr(s + 1));
        let falls = (29..99).all(|s| cycle.lr(s) > cycle.lr(s + 1));
        assert!(rises && falls);
        // These runs are so short that the learning rate never rises.
        for total_steps in 1..4 {
            let cycle = Schedule { total_steps, ..cycle.clone() };
            assert!((0..total_steps).all(|s| (0.0..=0.4).contains(&cycle.lr(s))));
        }
    }
}
