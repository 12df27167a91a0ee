//! What a run leaves behind to look at: metric sinks and classification figures.

pub mod classification;
pub mod metrics;
