//! The scale of a chart's axis: where values lie, and where the ticks are.

use crate::ui::{grouped, rounded};

/// The vertical axis has a logarithmic scale if its largest value is more than this many times its smallest.
const LOGARITHMIC: f64 = 50.0;

/// A scale from a lowest to a highest value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    /// The lowest value, or its logarithm with the base 10.
    low: f64,
    /// The highest value, or its logarithm with the base 10. It is above `low`.
    high: f64,
    logarithmic: bool,
}

impl Scale {
    /// A scale in equal steps.
    pub fn linear(low: f64, high: f64) -> Self {
        Self { low, high: if high > low { high } else { low + 1.0 }, logarithmic: false }
    }

    /// A scale on which all finite values lie, with some room around them. None if there is no such value.
    pub fn around(values: impl Iterator<Item = f64>, may_be_logarithmic: bool) -> Option<Self> {
        let finite = values.filter(|value| value.is_finite());
        let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        if low > high {
            return None;
        }
        let logarithmic = may_be_logarithmic && low > 0.0 && high / low > LOGARITHMIC;
        let (low, high) = if logarithmic { (low.log10(), high.log10()) } else { (low, high) };
        let room = match high - low {
            0.0 if high == 0.0 => 1.0,
            0.0 => 0.1 * high.abs(),
            // The span of the largest numbers is infinite.
            span => (0.04 * span).min(f64::MAX / 4.0),
        };
        let (low, high) = ((low - room).max(f64::MIN / 4.0), (high + room).min(f64::MAX / 4.0));
        Some(Self { low, high, logarithmic })
    }

    /// The same scale within limits. The limits must be outside of it, or cut only the room around the values.
    pub fn within(self, lowest: f64, highest: f64) -> Self {
        Self { low: self.low.max(lowest), high: self.high.min(highest), ..self }
    }

    /// Whether equal factors have equal lengths.
    pub fn is_logarithmic(&self) -> bool {
        self.logarithmic
    }

    /// Where a value lies: 0 is the lowest value, 1 the highest.
    pub fn place(&self, value: f64) -> f64 {
        let value = if self.logarithmic { value.log10() } else { value };
        (value - self.low) / (self.high - self.low)
    }

    /// Ticks from low to high with at most `most` steps between them, each with its place and its label.
    pub fn ticks(&self, most: usize) -> Vec<(f64, String)> {
        let most = most.max(1);
        if self.logarithmic { self.factors(most) } else { self.steps(most) }
    }

    /// The ticks of a logarithmic scale: powers of ten, and between them 2 and 5 times a power if there is room.
    fn factors(&self, most: usize) -> Vec<(f64, String)> {
        let exponents = self.low.floor() as i32..=self.high.ceil() as i32;
        let is_on_scale = |value: &f64| (0.0..=1.0).contains(&self.place(*value));
        let on_scale = |factors: &[f64]| -> Vec<f64> {
            let times = |power: f64| factors.iter().map(move |factor| factor * power);
            let values = exponents.clone().flat_map(|exponent| times(10f64.powi(exponent)));
            values.filter(is_on_scale).collect()
        };
        let (fine, powers) = (on_scale(&[1.0, 2.0, 5.0]), on_scale(&[1.0]));
        let values = if fine.len() <= most + 1 { fine } else { powers };
        let every = values.len().div_ceil(most + 1).max(1);
        let ticks = values.into_iter().step_by(every);
        ticks.map(|value| (self.place(value), rounded(value))).collect()
    }

    /// The ticks of a linear scale: multiples of a round step.
    fn steps(&self, most: usize) -> Vec<(f64, String)> {
        let step = round_step((self.high - self.low) / most as f64);
        let first = (self.low / step).ceil();
        let count = (self.high / step).floor() - first + 1.0;
        let count = count.clamp(0.0, most as f64 + 1.0) as usize;
        // Adding zero makes 0 of -0.
        let values = (0..count).map(|index| (first + index as f64) * step + 0.0);
        values.map(|value| (self.place(value), label(value, step))).collect()
    }
}

/// The smallest of the numbers 1, 2 and 5 times a power of ten that is not below `step`.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= step);
    factor.unwrap_or(10.0) * power
}

/// A value of a linear scale with as many decimals as its steps need.
fn label(value: f64, step: f64) -> String {
    if !(1e-4..1e7).contains(&step) {
        return rounded(value);
    }
    let decimals = (-step.log10().floor()).max(0.0) as usize;
    match decimals {
        0 if (0.0..1e15).contains(&value) => grouped(value as usize),
        _ => format!("{value:.decimals$}"),
    }
}

/// The last epoch on the horizontal axis of a run of `epochs` epochs of which `done` are over. While a run is young, the
/// axis is shorter than the run, so that the curves fill the chart; it grows in few steps.
pub fn last_epoch(done: f64, epochs: u64) -> u64 {
    let powers = (1..=19).map(|power| 10u64.saturating_pow(power));
    let lengths = powers.flat_map(|power| [1, 2, 5].map(|factor| power.saturating_mul(factor)));
    let mut fitting = lengths.filter(|length| *length as f64 >= done);
    fitting.next().unwrap_or(u64::MAX).min(epochs.max(done.ceil() as u64)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(scale: Scale, most: usize) -> Vec<String> {
        let ticks = scale.ticks(most);
        assert!(ticks.is_sorted_by(|a, b| a.0 < b.0), "{ticks:?}");
        assert!(ticks.iter().all(|(place, _)| (0.0..=1.0).contains(place)), "{ticks:?}");
        ticks.into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(
            labels(Scale::linear(0.0, 8.0), 8),
            ["0", "1", "2", "3", "4", "5", "6", "7", "8"]
        );
        assert_eq!(labels(Scale::linear(0.0, 8.0), 4), ["0", "2", "4", "6", "8"]);
        assert_eq!(labels(Scale::linear(0.31, 2.29), 4), ["0.5", "1.0", "1.5", "2.0"]);
        assert_eq!(labels(Scale::linear(0.0, 5000.0), 2), ["0", "5,000"]);
        assert_eq!(labels(Scale::linear(0.0, 0.0004), 2), ["0.0000", "0.0002", "0.0004"]);
        let accuracies = Scale::around([0.5, 1.0].into_iter(), false).unwrap().within(0.0, 1.0);
        assert_eq!(labels(accuracies, 5), ["0.6", "0.8", "1.0"]);
    }

    #[test]
    fn a_large_range_is_logarithmic() {
        let scale = Scale::around([0.02, 3.0].into_iter(), true).unwrap();
        assert_eq!(labels(scale, 8), ["0.02", "0.05", "0.1", "0.2", "0.5", "1", "2"]);
        assert_eq!(labels(scale, 2), ["0.1", "1"]);
        assert!(scale.is_logarithmic() && (0.0..0.1).contains(&scale.place(0.02)));
        let scale = Scale::around([1e-3, 1e30].into_iter(), true).unwrap();
        assert!(labels(scale, 4).len() > 1);
        assert!(!Scale::around([0.1, 3.0].into_iter(), true).unwrap().is_logarithmic());
    }

    #[test]
    fn unusual_values_have_a_scale_too() {
        let none = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
        assert_eq!(Scale::around(none.into_iter(), true), None);
        for values in [[0.0, 0.0], [1.0, f64::NAN], [f64::MIN_POSITIVE, 0.0], [-0.0, 5e-324]] {
            let scale = Scale::around(values.into_iter(), true).unwrap();
            assert!((0.0..=1.0).contains(&scale.place(values[0])), "{values:?} {scale:?}");
            labels(scale, 5);
            labels(scale, 0);
        }
        labels(Scale::around([f64::MAX, f64::MIN].into_iter(), true).unwrap(), 5);
    }

    #[test]
    fn the_horizontal_axis_grows_in_few_steps_up_to_the_length_of_the_run() {
        for (done, epochs, last) in [
            (0.0, 8, 8),
            (0.0, 1, 1),
            (0.5, 1000, 10),
            (10.0, 1000, 10),
            (10.1, 1000, 20),
            (320.0, 1000, 500),
            (501.0, 1000, 1000),
            (501.0, 600, 600),
            (3.0, 0, 3),
            (0.0, 0, 1),
            (0.0, u64::MAX, 10),
        ] {
            assert_eq!(last_epoch(done, epochs), last, "{done} of {epochs}");
        }
    }
}
