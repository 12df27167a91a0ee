//! Learning rates of the parts of a network, as multiples of the run's learning rate.

use crate::error::usage;
use crate::model::Spec;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// The key that sets all parts together.
const DECAY: &str = "decay";
const STEM: &str = "stem";
const HEAD: &str = "fc";
/// No run needs a larger factor.
const LARGEST: f64 = 1000.0;

/// Factors by part, written as a list such as `stem=2,layer1=1.5` or as a table in a file.
///
/// The parts are `stem`, `layer1` to `layer4`, and `fc` with the norm before it. `decay` is the factor from each part to
/// the part before it, from output to input: with `decay=0.9`, `fc` has 1, the last stage 0.9, and so on. A part that has
/// a factor of its own has the product of both.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "String")]
pub struct Rates(BTreeMap<String, f64>);

impl Rates {
    /// The factor for the parameter with this name, in a network with this number of stages.
    pub fn factor(&self, parameter: &str, stages: usize) -> f64 {
        let part = part_of(parameter);
        // 0 for the stem, and one more for each part after it.
        let place = match part.strip_prefix("layer") {
            Some(stage) => stage.parse::<usize>().unwrap_or(0),
            None if part == HEAD => stages + 1,
            None => 0,
        };
        let number = |key: &str| self.0.get(key).copied().unwrap_or(1.0);
        let parts_after = (stages + 1).saturating_sub(place);
        number(DECAY).powi(parts_after as i32) * number(part)
    }

    /// Refuses parts that the network does not have.
    ///
    /// # Errors
    /// A usage error that names the part.
    pub fn check(&self, spec: &Spec) -> Result<()> {
        let stages = spec.blocks.len();
        let is_missing = |part: &&String| {
            let stage = part.strip_prefix("layer").and_then(|stage| stage.parse::<usize>().ok());
            stage.is_some_and(|stage| stage > stages)
        };
        match self.0.keys().find(is_missing) {
            None => Ok(()),
            Some(part) => Err(usage(format!(
                "--rates {self}: this network has no {part}; expected {STEM}, layer1 to layer{stages}, {HEAD} or {DECAY}"
            ))),
        }
    }
}

/// The part of a network to which the parameter with this name belongs.
fn part_of(parameter: &str) -> &str {
    let first = parameter.split_once('.').map_or(parameter, |(first, _)| first);
    match first {
        "conv1" | "bn1" => STEM,
        stage if stage.starts_with("layer") => stage,
        _ => HEAD,
    }
}

/// A list in a file: a table, or a text as in the flag.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected factors by part, such as stem = 2.0 or decay = 0.9")]
enum Written {
    Table(BTreeMap<String, f64>),
    Text(String),
}

impl TryFrom<Written> for Rates {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Text(text) => text.parse(),
            Written::Table(factors) => {
                let parts = [STEM, "layer1", "layer2", "layer3", "layer4", HEAD, DECAY];
                let is_possible = |(part, factor): (&String, &f64)| {
                    parts.contains(&part.as_str()) && (0.0..=LARGEST).contains(factor)
                };
                if factors.is_empty() || !factors.iter().all(is_possible) {
                    return Err(format!(
                        "expected a list such as stem=2,layer1=1.5 of {}, with factors from 0 to {LARGEST}",
                        parts.join(", ")
                    ));
                }
                Ok(Self(factors))
            }
        }
    }
}

impl FromStr for Rates {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split(',').map(|part| {
            let (part, factor) = part.split_once('=').unwrap_or((part, ""));
            // A part that is not known and a number that is not possible are refused in the same words.
            (part.trim().to_owned(), factor.trim().parse().unwrap_or(f64::NAN))
        });
        Written::Table(parts.collect()).try_into()
    }
}

impl From<Rates> for String {
    fn from(rates: Rates) -> Self {
        rates.to_string()
    }
}

impl fmt::Display for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> =
            self.0.iter().map(|(part, factor)| format!("{part}={factor}")).collect();
        f.write_str(&parts.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(text: &str) -> Rates {
        text.parse().unwrap()
    }

    #[test]
    fn a_list_and_a_table_are_the_same() {
        #[derive(Deserialize)]
        struct File {
            rates: Rates,
        }
        let read = |text: &str| toml::from_str::<File>(text).map(|file| file.rates);
        let expected = rates("stem=2, layer1=1.5");
        assert_eq!(expected.to_string(), "layer1=1.5,stem=2");
        assert_eq!(read("[rates]\nstem = 2.0\nlayer1 = 1.5\n").unwrap(), expected);
        assert_eq!(read("rates = \"layer1=1.5,stem=2\"").unwrap(), expected);
        assert!(read("[rates]\nhead = 2.0\n").is_err());
        for text in ["", "stem", "stem=-1", "stem=nan", "head=2", "layer5=1", "stem=2,,fc=1"] {
            let error = text.parse::<Rates>().unwrap_err();
            assert!(error.starts_with("expected a list such as stem=2"), "{text}: {error}");
        }
    }

    #[test]
    fn a_decay_goes_from_output_to_input_and_a_part_has_a_factor_of_its_own() {
        let rates = rates("decay=0.5,layer2=3");
        for (parameter, factor) in [
            ("fc.weight", 1.0),
            ("norm.bias", 1.0),
            ("layer3.0.conv1.weight", 0.5),
            ("layer2.1.bn2.weight", 0.75),
            ("layer1.0.downsample.0.weight", 0.125),
            ("bn1.weight", 0.0625),
            ("conv1.weight", 0.0625),
            ("conv1.0.weight", 0.0625),
        ] {
            assert!((rates.factor(parameter, 3) - factor).abs() < 1e-12, "{parameter}");
        }
        assert!((rates.factor("layer4.0.conv1.weight", 4) - 0.5).abs() < 1e-12);
    }
}
