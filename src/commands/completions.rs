//! `resnet completions`: a script with which a shell completes the program's commands and flags.

use crate::config::help;
use crate::ui::Ui;
use anyhow::Result;
use clap_complete::Shell;

/// Runs `resnet completions`.
pub fn run(shell: Shell, ui: &Ui) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut help::command(), "resnet", &mut script);
    ui.out(String::from_utf8(script)?.trim_end());
    Ok(())
}
