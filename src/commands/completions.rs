//! `resnet completions`: a script that completes the program's commands and flags.

use crate::cli::Cli;
use crate::ui::Ui;
use anyhow::Result;
use clap::CommandFactory;
use clap_complete::Shell;

/// Runs `resnet completions`.
pub fn run(shell: Shell, ui: &Ui) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "resnet", &mut script);
    ui.out(String::from_utf8(script)?.trim_end());
    Ok(())
}
