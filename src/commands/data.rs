//! `resnet data`: the data sets on this machine.

use crate::cli::DataCommand;
use crate::ui::Ui;
use anyhow::Result;

/// Runs `resnet data …`.
pub fn run(_command: &DataCommand, _ui: &Ui) -> Result<()> {
    Ok(())
}
