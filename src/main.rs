//! The `resnet` program: parse, run, exit code.

use clap::Parser;
use resnet::{cli::Cli, commands, error, ui};
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match commands::run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            ui::error(&error::one_line(&failure));
            ExitCode::from(error::exit_code(&failure))
        }
    }
}
