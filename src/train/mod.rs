//! Training: a run as an iterator of events, its steps, the optimizer, the schedules and the evaluation. This module
//! neither parses nor prints.

pub mod average;
mod backward;
pub mod divergence;
pub mod epoch;
pub mod evaluate;
pub mod event;
pub mod flow;
pub mod histogram;
mod loss_scale;
pub mod memory;
pub mod milestones;
pub mod optimizer;
mod out_of_memory;
pub mod range_test;
pub mod rates;
pub mod recipe;
mod replay;
pub mod run;
pub mod schedule;
pub mod sizes;
pub mod state;
mod statistics;
pub mod step;
pub mod trainer;
pub mod views;

pub use event::{Event, Sink};
pub use recipe::Recipe;
pub use run::Run;
pub use trainer::Trainer;
