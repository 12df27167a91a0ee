//! Times of steps and of their phases.

use crate::train::step::Phase;
use std::time::Instant;
use tch::{Device, Kind, Tensor};

/// The phases of a step with their names, in order.
const PHASES: [(Phase, &str); 4] = [
    (Phase::Data, "data"),
    (Phase::Forward, "forward"),
    (Phase::Backward, "backward"),
    (Phase::Optimizer, "optimizer"),
];

/// The measured steps.
#[derive(Debug, Default)]
pub struct Throughput {
    /// Seconds of a step, for each step or for each few steps that were timed together.
    steps: Vec<f64>,
    /// Seconds of each phase, summed over the steps whose phases were measured.
    phases: [f64; PHASES.len()],
}

/// A step that is being measured.
#[derive(Debug)]
pub struct Step {
    start: Instant,
    phase_start: Instant,
    phases: [f64; PHASES.len()],
}

impl Step {
    /// Begins a step.
    pub fn begin() -> Self {
        let now = Instant::now();
        Self { start: now, phase_start: now, phases: [0.0; PHASES.len()] }
    }

    /// Ends a phase of the step; the next phase begins.
    pub fn phase_ends(&mut self, phase: Phase) {
        let now = Instant::now();
        for ((of, _), seconds) in PHASES.iter().zip(&mut self.phases) {
            if *of == phase {
                *seconds += (now - self.phase_start).as_secs_f64();
            }
        }
        self.phase_start = now;
    }
}

impl Throughput {
    /// Ends `count` steps that were timed together, and counts the mean of their times.
    pub fn add_whole(&mut self, step: &Step, count: usize) {
        self.steps.push(step.start.elapsed().as_secs_f64() / count as f64);
    }

    /// Counts the phases of a step that is over.
    pub fn add_phases(&mut self, step: &Step) {
        for (sum, seconds) in self.phases.iter_mut().zip(step.phases) {
            *sum += seconds;
        }
    }

    /// Number of times that were counted.
    pub fn count(&self) -> usize {
        self.steps.len()
    }

    /// Seconds of the median step; for an even number of steps, the mean of the two in the middle.
    pub fn median(&self) -> f64 {
        let mut steps = self.steps.clone();
        steps.sort_by(f64::total_cmp);
        let middle = |index: usize| steps.get(index).copied().unwrap_or(f64::NAN);
        let half = steps.len() / 2;
        if steps.len().is_multiple_of(2) {
            (middle(half.wrapping_sub(1)) + middle(half)) / 2.0
        } else {
            middle(half)
        }
    }

    /// Seconds of the fastest and of the slowest step.
    pub fn range(&self) -> (f64, f64) {
        self.steps.iter().fold((f64::INFINITY, 0.0), |(least, most), &seconds| {
            (seconds.min(least), seconds.max(most))
        })
    }

    /// The phases that took any time, each with its fraction of the total time.
    pub fn fractions(&self) -> Vec<(&'static str, f64)> {
        let total: f64 = self.phases.iter().sum();
        let phases = PHASES.iter().zip(self.phases).filter(|(_, seconds)| *seconds > 0.0);
        phases.map(|((_, name), seconds)| (*name, seconds / total)).collect()
    }
}

/// Waits until the device has finished all its work.
pub fn wait(device: Device) {
    match device {
        Device::Cpu => {}
        Device::Cuda(index) => tch::Cuda::synchronize(index as i64),
        // Reading a number waits for all work that was queued before.
        _ => {
            Tensor::zeros([], (Kind::Float, device)).double_value(&[]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_of_the_middle() {
        let throughput = |steps: &[f64]| Throughput { steps: steps.to_vec(), phases: [0.0; 4] };
        assert_eq!(throughput(&[3.0, 1.0, 9.0]).median(), 3.0);
        assert_eq!(throughput(&[4.0, 1.0, 2.0, 9.0]).median(), 3.0);
        assert_eq!(throughput(&[4.0, 1.0, 9.0]).range(), (1.0, 9.0));
    }

    #[test]
    fn phases_are_parts_of_the_whole() {
        let mut throughput = Throughput::default();
        let mut step = Step::begin();
        std::thread::sleep(std::time::Duration::from_millis(2));
        step.phase_ends(Phase::Data);
        step.phase_ends(Phase::Forward);
        throughput.add_phases(&step);
        let [("data", data), ("forward", forward)] = throughput.fractions()[..] else {
            panic!("{:?}", throughput.fractions());
        };
        assert!(data > forward && (data + forward - 1.0).abs() < 1e-9);
    }
}
