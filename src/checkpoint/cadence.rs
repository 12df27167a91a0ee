//! How often a run saves a checkpoint.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The distance between two checkpoints: `auto`, `500steps`, `2epochs` (or `2`), `10m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "String")]
pub enum Cadence {
    /// After each epoch. If saving would take over 2 % of the time, after several epochs.
    Auto,
    /// After this number of optimizer steps.
    Steps(u64),
    /// After this number of epochs.
    Epochs(u64),
    /// After this time.
    Time(Duration),
}

impl Cadence {
    /// Whether a checkpoint is due after a step of the run. `since` is the time since the last one.
    pub fn is_due_after_step(self, step: u64, since: Duration) -> bool {
        match self {
            Self::Steps(steps) => step.is_multiple_of(steps),
            Self::Auto | Self::Epochs(_) => false,
            Self::Time(time) => since >= time,
        }
    }

    /// Whether a checkpoint is due after an epoch that ended with `step`. `since` is the time since the last
    /// checkpoint, and `cost` is the time that it took to save it.
    pub fn is_due_after_epoch(
        self,
        epoch: u64,
        step: u64,
        since: Duration,
        cost: Duration,
    ) -> bool {
        match self {
            Self::Auto => since.mul_f64(LARGEST_COST) >= cost,
            Self::Epochs(epochs) => epoch.is_multiple_of(epochs),
            Self::Steps(_) | Self::Time(_) => self.is_due_after_step(step, since),
        }
    }
}

/// The largest fraction of a run's time that saving takes with [`Cadence::Auto`].
const LARGEST_COST: f64 = 0.02;

impl FromStr for Cadence {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || {
            "expected auto, steps, epochs or a time, such as 500steps, 2epochs or 10m".to_owned()
        };
        let text = text.trim();
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
        let number = text.strip_suffix(unit).and_then(|number| number.parse::<u64>().ok());
        match (number, unit.trim_start()) {
            (Some(0), _) => Err(expected()),
            (Some(steps), "step" | "steps") => Ok(Self::Steps(steps)),
            (Some(epochs), "" | "epoch" | "epochs") => Ok(Self::Epochs(epochs)),
            _ => time_span(text).map(Self::Time).map_err(|_| expected()),
        }
    }
}

impl fmt::Display for Cadence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Steps(steps) => write!(f, "{steps}steps"),
            Self::Epochs(epochs) => write!(f, "{epochs}epochs"),
            Self::Time(time) => write!(f, "{}s", time.as_secs()),
        }
    }
}

/// Parses a time span of at least a second, such as `90s`, `10m` or `2h30m`.
///
/// # Errors
/// The text is not such a time. The message says what is expected.
pub fn time_span(text: &str) -> Result<Duration, String> {
    let span = text.parse::<jiff::SignedDuration>().ok();
    let span = span.and_then(|span| u64::try_from(span.as_secs()).ok());
    match span {
        Some(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds)),
        _ => Err("expected a time of at least a second, such as 90s, 10m or 2h30m".to_owned()),
    }
}

/// A cadence in a file. A number without a unit is a number of epochs.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "expected \"auto\", steps, epochs or a time, such as \"500steps\", \"2epochs\" or \"10m\""
)]
enum Written {
    Epochs(u64),
    Text(String),
}

impl TryFrom<Written> for Cadence {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Epochs(epochs) => epochs.to_string().parse(),
            Written::Text(text) => text.parse(),
        }
    }
}

impl From<Cadence> for String {
    fn from(cadence: Cadence) -> Self {
        cadence.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cadences_are_read_and_written() {
        let minutes = |minutes: u64| Cadence::Time(Duration::from_secs(60 * minutes));
        for (text, cadence) in [
            ("auto", Cadence::Auto),
            ("500steps", Cadence::Steps(500)),
            ("1 step", Cadence::Steps(1)),
            ("2epochs", Cadence::Epochs(2)),
            ("3", Cadence::Epochs(3)),
            ("10m", minutes(10)),
            ("2h30m", minutes(150)),
            ("90s", Cadence::Time(Duration::from_secs(90))),
        ] {
            assert_eq!(text.parse(), Ok(cadence), "{text}");
            assert_eq!(cadence.to_string().parse(), Ok(cadence), "{text}");
        }
        for wrong in ["", "0", "0steps", "-1", "10 parsecs", "steps", "0s", "10ms", "-5m", "1e9"] {
            assert!(wrong.parse::<Cadence>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_checkpoint_is_due_by_steps_epochs_or_time() {
        let [none, soon, late] = [0, 1, 700].map(Duration::from_secs);
        let steps = Cadence::Steps(100);
        assert!(steps.is_due_after_step(300, soon) && !steps.is_due_after_step(310, late));
        assert!(steps.is_due_after_epoch(1, 200, soon, none));
        assert!(!steps.is_due_after_epoch(1, 235, soon, none));
        let epochs = Cadence::Epochs(2);
        assert!(!epochs.is_due_after_step(470, late));
        assert!(epochs.is_due_after_epoch(4, 940, soon, late));
        assert!(!epochs.is_due_after_epoch(3, 705, late, none));
        let time = Cadence::Time(Duration::from_secs(600));
        assert!(time.is_due_after_step(1, late) && !time.is_due_after_step(1, soon));
        let auto = Cadence::Auto;
        assert!(!auto.is_due_after_step(235, late) && auto.is_due_after_epoch(1, 235, soon, none));
        assert!(auto.is_due_after_epoch(1, 235, late, 14 * soon));
        assert!(!auto.is_due_after_epoch(1, 235, late, 15 * soon));
    }
}
