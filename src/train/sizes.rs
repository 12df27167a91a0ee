//! The size of the images during a run: small images at first, because they are faster (Howard 2018, "progressive
//! resizing"; Tan and Le 2021, section 4).

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Sizes with the fraction of the run until which each is used, written as a list such as `20:0.4,24:0.7`. After the
/// last fraction, images have the size of the network's input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sizes(Vec<Part>);

/// A part of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Part {
    /// Height and width in pixels.
    size: usize,
    /// The part ends at this fraction of the run's steps.
    until: f64,
}

impl Sizes {
    /// The size of images in a step, counted from 0, of a run of `total` steps; `None` for the size of the network's
    /// input.
    pub fn at(&self, step: u64, total: u64) -> Option<usize> {
        let done = step as f64 / total.max(1) as f64;
        self.0.iter().find(|part| done < part.until).map(|part| part.size)
    }

    /// The smallest and the largest size, in pixels.
    pub fn range(&self) -> Option<(usize, usize)> {
        let sizes = || self.0.iter().map(|part| part.size);
        Some((sizes().min()?, sizes().max()?))
    }
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let part = |part: &str| {
            let (size, until) = part.split_once(':')?;
            let (size, until) = (size.trim().parse().ok()?, until.trim().parse().ok()?);
            (size > 0 && until > 0.0 && until < 1.0).then_some(Part { size, until })
        };
        let parts: Option<Vec<Part>> = text.split(',').map(part).collect();
        let rises = |parts: &Vec<Part>| parts.is_sorted_by(|a, b| a.until < b.until);
        parts.filter(rises).map(Self).ok_or_else(|| {
            "expected a list such as 20:0.4,24:0.7 of sizes in pixels, each with the fraction of the run until which it is used, above 0, below 1 and rising".to_owned()
        })
    }
}

impl TryFrom<String> for Sizes {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Sizes> for String {
    fn from(sizes: Sizes) -> Self {
        sizes.to_string()
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> =
            self.0.iter().map(|Part { size, until }| format!("{size}:{until}")).collect();
        f.write_str(&parts.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_size_is_used_until_its_fraction_of_the_run() {
        let sizes: Sizes = "20:0.4, 24:0.7".parse().unwrap();
        assert_eq!(sizes.to_string(), "20:0.4,24:0.7");
        let at = |step| sizes.at(step, 10);
        assert_eq!(
            [0, 3, 4, 6, 7, 9, 10].map(at),
            [Some(20), Some(20), Some(24), Some(24), None, None, None]
        );
        assert_eq!(sizes.range(), Some((20, 24)));
        for text in ["", "20", "20:0", "20:1", "0:0.5", "20:nan", "20:0.5,24:0.5", "20:0.5,24:0.4"]
        {
            let error = text.parse::<Sizes>().unwrap_err();
            assert!(error.starts_with("expected a list such as 20:0.4"), "{text}: {error}");
        }
    }
}
