//! Figures about results, and pictures of them.

pub mod cam;
pub mod chart;
pub mod classification;
