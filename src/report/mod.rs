//! What a run leaves behind to look at: metric sinks, classification figures and speed.

pub mod classification;
pub mod metrics;
pub mod throughput;
