//! A run's folder on disk: its lock, its settings, its metrics and its checkpoints.
//!
//! ```text
//! .lock                    the process that trains in the folder
//! config.toml              the settings
//! metrics.jsonl            one JSON object for each epoch and for each change during the run
//! metrics.csv              the same epochs as a table
//! progress.json            how far the epoch under way is, while a process trains in the folder
//! checkpoints/             see [`checkpoint`](crate::checkpoint)
//! ```

pub mod compare;
pub mod folder;
mod growing;
pub mod keeper;
pub mod listing;
pub mod metrics;
pub mod overview;
pub mod progress;
pub mod sweep;
mod table;

pub use folder::RunFolder;
pub use keeper::Keeper;
