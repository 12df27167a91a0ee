//! Figures about results, and pictures and pages of them.

pub mod calibration;
pub mod cam;
mod canvas;
pub mod chart;
pub mod classification;
pub mod curves;
pub mod figures;
pub mod gather;
pub mod html;
pub mod matrix;
pub mod mistakes;
pub mod outcome;
mod outlines;
pub mod sheet;
pub mod write;
