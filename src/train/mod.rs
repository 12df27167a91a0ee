//! Training: the loop, the optimizer, the schedules, and evaluation. Nothing here parses or prints.

mod backward;
pub mod divergence;
mod ema;
pub mod epoch;
pub mod evaluate;
mod loss_scale;
pub mod memory;
mod out_of_memory;
pub mod recipe;
mod replay;
pub mod run;
pub mod schedule;
pub mod sgd;
pub mod trainer;

pub use recipe::Recipe;
pub use trainer::Trainer;
