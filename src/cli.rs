//! The command line that the user typed. Nothing here reads a file or compares one value with another.

mod commands;
mod data;
mod options;
mod trained;
mod values;

pub use commands::{
    BenchArgs, BenchMode, DataArgs, DeviceArgs, FindLrArgs, GradientsArgs, GrowArgs, ShapesArgs,
    SweepArgs, TrainArgs,
};
pub use data::{DataCommand, NamedDataset, ShowArgs, ShowSplit};
pub use options::{DataOptions, NetworkOptions, Options, RateOptions, RunOptions, TrainOptions};
pub use trained::{
    CheckpointsArgs, CompareArgs, CurvesArgs, EvalArgs, EvalSplit, PredictArgs, ReportArgs,
    RunsArgs, WatchArgs,
};

use clap::{Parser, Subcommand};

/// Build and train residual networks on libtorch.
#[derive(Debug, Parser)]
#[command(name = "resnet", version, arg_required_else_help = true, max_term_width = 100)]
// If a flag is given twice, for example by a script and by hand, the last one counts.
#[command(args_override_self = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,

    /// Print results only: no progress bars and no messages
    #[arg(long, short, global = true)]
    pub quiet: bool,

    /// Print results as JSON lines on stdout
    #[arg(long, global = true)]
    pub json: bool,
}

/// The subcommands; each has a file in `commands`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a network and save checkpoints
    Train(Box<TrainArgs>),
    /// Evaluate a checkpoint: loss, accuracy, precision and recall of each class, confusion matrix
    Eval(EvalArgs),
    /// Classify pictures: PNG and JPEG files of any size
    Predict(PredictArgs),
    /// List a run's checkpoints and show whether each is intact
    Checkpoints(CheckpointsArgs),
    /// List the runs in a folder, newest first: network, data, epochs, accuracy, time, state
    Runs(RunsArgs),
    /// Show a run on the whole terminal: curves, figures, time left; the run may be under way or over
    Watch(WatchArgs),
    /// Print the settings in which runs differ, and their figures, side by side
    Compare(CompareArgs),
    /// Print and draw the errors of runs side by side
    Curves(CurvesArgs),
    /// Write a page about runs: curves, scores of each class, worst mistakes, settings
    Report(ReportArgs),
    /// Find a learning rate: train with rising rates, and see where the loss falls and where it explodes
    FindLr(Box<FindLrArgs>),
    /// Train every combination of some settings, with several seeds, and compare them
    Sweep(SweepArgs),
    /// Deepen a trained network by blocks that start as the identity, and continue to train it
    Grow(GrowArgs),
    /// Print the output shape, parameters and multiply-adds of every layer
    Shapes(ShapesArgs),
    /// Measure how gradients flow through a network's blocks, with and without shortcuts
    Gradients(Box<GradientsArgs>),
    /// Measure the speed of training or inference on synthetic images
    Bench(Box<BenchArgs>),
    /// List, download, verify and show data sets
    #[command(subcommand)]
    Data(DataCommand),
    /// Show versions and devices, and why CUDA is or isn't usable
    Doctor,
    /// Print a completion script for a shell
    Completions {
        /// Shell that the script is for
        shell: clap_complete::Shell,
    },
}
