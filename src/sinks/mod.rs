//! Receivers of a run's events, one file for each. [`MetricsFile`](crate::run::metrics::MetricsFile) is also a
//! receiver, but it belongs to the run's folder.

mod bars;
mod json;

pub use bars::Bars;
pub use json::JsonLines;
