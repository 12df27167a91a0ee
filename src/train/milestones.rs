//! Chosen points of a run, in epochs or in steps, such as those at which the learning rate is cut.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Rising points of a run, written as a list such as `30,60` (epochs, also fractions) or `32000steps,48000steps`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Milestones(Vec<Milestone>);

/// A point of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Milestone {
    /// After so many epochs.
    Epochs(f64),
    /// After so many steps.
    Steps(u64),
}

impl Milestones {
    /// The step of each point, counted from 0, in a run with `steps_per_epoch` optimizer steps in an epoch.
    pub fn steps(&self, steps_per_epoch: usize) -> Vec<u64> {
        let step = |milestone: &Milestone| match milestone {
            Milestone::Epochs(epochs) => (epochs * steps_per_epoch as f64).round() as u64,
            Milestone::Steps(steps) => *steps,
        };
        self.0.iter().map(step).collect()
    }

    /// Whether a point lies after the last of `epochs` epochs. It cannot be told for a point in steps.
    pub fn exceed(&self, epochs: u64) -> bool {
        let later = |milestone: &Milestone| match milestone {
            Milestone::Epochs(point) => *point >= epochs as f64,
            Milestone::Steps(_) => false,
        };
        self.0.iter().any(later)
    }
}

impl FromStr for Milestones {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let milestone = |part: &str| {
            let part = part.trim();
            match part.strip_suffix("steps") {
                Some(steps) => {
                    steps.trim().parse().ok().filter(|steps| *steps > 0).map(Milestone::Steps)
                }
                None => {
                    let epochs = part
                        .parse()
                        .ok()
                        .filter(|epochs: &f64| *epochs > 0.0 && epochs.is_finite());
                    epochs.map(Milestone::Epochs)
                }
            }
        };
        let milestones: Option<Vec<Milestone>> = text.split(',').map(milestone).collect();
        // Points in epochs and points in steps cannot be compared without the data set.
        let rises = |points: &Vec<Milestone>| {
            points.is_sorted_by(|a, b| match (a, b) {
                (Milestone::Epochs(a), Milestone::Epochs(b)) => a < b,
                (Milestone::Steps(a), Milestone::Steps(b)) => a < b,
                _ => false,
            })
        };
        milestones.filter(rises).map(Self).ok_or_else(|| {
            "expected rising numbers of epochs, such as 30,60, or of steps, such as 32000steps,48000steps".to_owned()
        })
    }
}

impl TryFrom<String> for Milestones {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Milestones> for String {
    fn from(milestones: Milestones) -> Self {
        milestones.to_string()
    }
}

impl fmt::Display for Milestones {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |milestone: &Milestone| match milestone {
            Milestone::Epochs(epochs) => epochs.to_string(),
            Milestone::Steps(steps) => format!("{steps}steps"),
        };
        let points: Vec<String> = self.0.iter().map(text).collect();
        f.write_str(&points.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_epochs_or_steps() {
        let epochs: Milestones = "1.5, 3".parse().unwrap();
        assert_eq!(epochs.to_string(), "1.5,3");
        assert_eq!(epochs.steps(100), [150, 300]);
        assert!(epochs.exceed(3) && !epochs.exceed(4));
        let steps: Milestones = "32000 steps,48000steps".parse().unwrap();
        assert_eq!(steps.to_string(), "32000steps,48000steps");
        assert_eq!(steps.steps(7), [32000, 48000]);
        for text in ["", "0", "-1", "nan", "inf", "2,1", "1,1", "0steps", "1.5steps", "1,2steps"] {
            let error = text.parse::<Milestones>().unwrap_err();
            assert!(error.starts_with("expected rising numbers of epochs"), "{text}: {error}");
        }
    }
}
