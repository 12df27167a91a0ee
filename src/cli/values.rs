//! Parsers of the values of flags. They check the form of a value. The modules that use the value check its
//! range.

use crate::data::catalog;
use clap::Arg;
use clap::builder::PossibleValuesParser;

/// Accepts the names of the data sets in the catalog; shells complete them too.
pub fn dataset_name() -> PossibleValuesParser {
    PossibleValuesParser::new(catalog::DATASETS.iter().map(|dataset| dataset.name))
}

/// Parses a number.
pub fn number(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| "expected a number, such as 0.05".to_owned())
}

/// Parses a whole number of at most 63 bits: a run's settings are saved as TOML, which has no larger numbers.
pub fn whole_number<N: TryFrom<u64>>(text: &str) -> Result<N, String> {
    let number = text.parse().ok().filter(|&number| number <= i64::MAX as u64);
    number
        .and_then(|number| N::try_from(number).ok())
        .ok_or_else(|| format!("expected a whole number, at most {}", i64::MAX))
}

/// Makes `-1` after a flag the value of that flag, not a flag of its own, so that the error message is about
/// the number.
pub fn takes_negative_numbers(flag: Arg) -> Arg {
    let takes_values = flag.get_action().takes_values();
    flag.allow_negative_numbers(takes_values)
}
