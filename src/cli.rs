//! What the user typed. Nothing here reads a file or checks one value against another.

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Build and train residual networks on libtorch.
#[derive(Debug, Parser)]
#[command(name = "resnet", version, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,

    /// Print results only: no progress and no talk
    #[arg(long, short, global = true)]
    pub quiet: bool,

    /// Print results as JSON lines on stdout
    #[arg(long, global = true)]
    pub json: bool,
}

/// The subcommands; each has a file in `commands`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List, fetch and verify data sets
    #[command(subcommand)]
    Data(DataCommand),
    /// Show versions, devices and why CUDA is or isn't usable
    Doctor,
}

/// Where data sets are looked for.
#[derive(Debug, Clone, Default, Args)]
pub struct DataArgs {
    /// Folder of the data sets [default: the platform's cache folder]
    #[arg(long, value_name = "DIR", env = "RESNET_DATA")]
    pub data_dir: Option<PathBuf>,

    /// Never connect: use only what is on this machine
    #[arg(long)]
    pub offline: bool,
}

/// `resnet data …`
#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// List the data sets: images, size, classes and whether they are on this machine
    List(DataArgs),
    /// Download a data set and verify it
    ///
    /// Only what is missing or damaged is downloaded. The published mirrors are tried in turn;
    /// RESNET_MIRROR in the environment is a base URL that is tried before them, for example
    /// `https://example.org/{dataset}`, where {dataset} stands for the data set's name.
    Fetch(NamedDataset),
    /// Check the files of a data set against their checksums
    Verify(NamedDataset),
    /// Print the folder that holds a data set
    Path(NamedDataset),
}

/// A data set and where to look for it.
#[derive(Debug, Args)]
pub struct NamedDataset {
    /// Name of the data set
    #[arg(value_name = "NAME", default_value = "fashion-mnist")]
    pub dataset: String,

    /// Where to look for it.
    #[command(flatten)]
    pub data: DataArgs,
}
