//! `resnet doctor`: what this installation can do, and why not more.

use crate::ui::Ui;
use anyhow::Result;

/// Runs `resnet doctor`.
pub fn run(_ui: &Ui) -> Result<()> {
    Ok(())
}
