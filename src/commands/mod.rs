//! One file for each subcommand. These files parse no arguments, and print through [`Ui`].

mod bench;
mod checkpoints;
mod compare;
mod completions;
mod curves;
mod data;
mod doctor;
mod eval;
mod find_lr;
mod gradients;
mod grow;
mod predict;
mod report;
mod runs;
mod shapes;
mod sweep;
mod train;
mod trained;
mod watch;

use crate::cli::{Cli, Command};
use crate::limits;
use crate::ui::Ui;
use anyhow::Result;

/// Runs the command that the user typed.
pub fn run(cli: &Cli) -> Result<()> {
    limits::prepare()?;
    let ui = Ui::new(cli.quiet, cli.json);
    match &cli.command {
        Command::Train(args) => train::run(args, &ui),
        Command::Eval(args) => eval::run(args, &ui),
        Command::Checkpoints(args) => checkpoints::run(args, &ui),
        Command::Report(args) => report::run(args, &ui),
        Command::Runs(args) => runs::run(args, &ui),
        Command::Watch(args) => watch::run(args, &ui),
        Command::Compare(args) => compare::run(args, &ui),
        Command::Curves(args) => curves::run(args, &ui),
        Command::FindLr(args) => find_lr::run(args, &ui),
        Command::Grow(args) => grow::run(args, &ui),
        Command::Predict(args) => predict::run(args, &ui),
        Command::Shapes(args) => shapes::run(args, &ui),
        Command::Gradients(args) => gradients::run(args, &ui),
        Command::Bench(args) => bench::run(args, &ui),
        Command::Completions { shell } => completions::run(*shell, &ui),
        Command::Data(command) => data::run(command, &ui),
        Command::Sweep(args) => sweep::run(args, &ui),
        Command::Doctor => doctor::run(&ui),
    }
}
