//! Figures about results, and pictures of them.

pub mod cam;
mod canvas;
pub mod chart;
pub mod classification;
pub mod sheet;
