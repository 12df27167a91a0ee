//! One file a subcommand; each parses nothing and prints through [`Ui`].

mod data;
mod doctor;

use crate::cli::{Cli, Command};
use crate::ui::Ui;
use anyhow::Result;

/// Runs the command that the user typed.
pub fn run(cli: &Cli) -> Result<()> {
    let ui = Ui::new(cli.quiet, cli.json);
    match &cli.command {
        Command::Data(command) => data::run(command, &ui),
        Command::Doctor => doctor::run(&ui),
    }
}
