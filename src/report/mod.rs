//! Figures about results.

pub mod classification;
