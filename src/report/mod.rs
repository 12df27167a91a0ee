//! Figures about results: by class, and speed.

pub mod classification;
pub mod throughput;
