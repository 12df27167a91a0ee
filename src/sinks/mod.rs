//! Receivers of a run's events, one file each. [`MetricsFile`](crate::run::metrics::MetricsFile) is one more: it is a
//! part of the run's folder.

mod bars;
mod json;

pub use bars::Bars;
pub use json::JsonLines;
