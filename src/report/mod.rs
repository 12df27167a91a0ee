//! Figures about results.

pub mod chart;
pub mod classification;
