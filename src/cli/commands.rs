//! The arguments of the subcommands that train, measure or set up. Those that read a run are in `trained`.

use super::options::{NetworkOptions, Options};
use super::values::{dataset_name, number, takes_negative_numbers, whole_number};
use crate::checkpoint::cadence::time_span;
use crate::data::Source;
use crate::kernels::Tuning;
use crate::precision::PrecisionChoice;
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;

/// `resnet train …`
#[derive(Debug, Args)]
#[command(mut_args(takes_negative_numbers))]
pub struct TrainArgs {
    /// Read settings from a TOML file; flags override it
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Resume a run from its last checkpoint, or from the given checkpoint
    #[arg(long, value_name = "RUN|CHECKPOINT", conflicts_with_all = ["config", "run_dir"])]
    pub resume: Option<PathBuf>,

    /// Folder for the run.
    #[arg(
        long,
        value_name = "DIR",
        help = "Folder for the run [default: runs/<network>-<date-time>]"
    )]
    pub run_dir: Option<PathBuf>,

    /// Show curves and figures on the whole terminal while the run trains; q leaves the view
    #[arg(long)]
    pub view: bool,

    /// Save a checkpoint and stop after this time, such as 90s, 10m or 2h30m
    #[arg(long, value_name = "TIME", value_parser = time_span)]
    pub time_limit: Option<Duration>,

    /// Save a checkpoint and stop after this epoch of the run; --resume continues it
    #[arg(long, value_name = "EPOCH", value_parser = whole_number::<u64>)]
    pub stop_after: Option<u64>,

    /// The settings of the run.
    #[command(flatten)]
    pub options: Options,

    /// Where the data set is.
    #[command(flatten)]
    pub data: DataArgs,
}

/// `resnet find-lr …`
#[derive(Debug, Args)]
#[command(mut_args(takes_negative_numbers))]
pub struct FindLrArgs {
    /// Read settings from a TOML file; flags override it
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Learning rate of the first step
    #[arg(long, value_name = "RATE", default_value = "0.0001", value_parser = number)]
    pub from: f64,

    /// Learning rate of the last step; the test ends earlier if the loss explodes
    #[arg(long, value_name = "RATE", default_value = "10", value_parser = number)]
    pub to: f64,

    /// Steps of the test
    #[arg(long, default_value = "200", value_parser = whole_number::<u64>)]
    pub steps: u64,

    /// Draw the loss: NAME.png, NAME.svg, or both if NAME has no ending
    #[arg(long, value_name = "NAME")]
    pub picture: Option<PathBuf>,

    /// The settings of the run.
    #[command(flatten)]
    pub options: Options,

    /// Where the data set is.
    #[command(flatten)]
    pub data: DataArgs,
}

/// `resnet sweep …`
#[derive(Debug, Args)]
#[command(mut_args(takes_negative_numbers))]
pub struct SweepArgs {
    /// TOML file of the sweep: a configuration, seeds, and the values of settings to combine or to change
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Folder for the runs. A sweep that was stopped continues with the same folder
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,

    /// Runs at the same time; they share the CPU's cores
    #[arg(long, value_name = "N", default_value = "1", value_parser = whole_number::<usize>)]
    pub parallel: usize,

    /// Write a line for each run into this CSV file
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,

    /// Where the data set is.
    #[command(flatten)]
    pub data: DataArgs,
}

/// `resnet grow …`
#[derive(Debug, Args)]
pub struct GrowArgs {
    /// A run's folder or a checkpoint
    #[arg(value_name = "RUN|CHECKPOINT")]
    pub checkpoint: PathBuf,

    /// Number of blocks in each stage of the deeper network, such as 3,4,6,3
    #[arg(long, value_delimiter = ',', value_name = "N,N,…", required = true, value_parser = whole_number::<usize>, action = clap::ArgAction::Set)]
    pub blocks: Vec<usize>,

    /// Folder for the new run.
    #[arg(
        long,
        value_name = "DIR",
        help = "Folder for the new run [default: runs/<network>-<date-time>]"
    )]
    pub run_dir: Option<PathBuf>,

    /// Where the data set is.
    #[command(flatten)]
    pub data: DataArgs,
}

/// `resnet shapes …`
#[derive(Debug, Args)]
#[command(mut_args(takes_negative_numbers))]
pub struct ShapesArgs {
    /// The network.
    #[command(flatten)]
    pub network: NetworkOptions,

    /// Images in the batch
    #[arg(long, short, value_name = "IMAGES", default_value_t = 1, value_parser = whole_number::<usize>)]
    pub batch_size: usize,

    /// Also print every block, below its stage
    #[arg(long, short, visible_alias = "depth-first")]
    pub all: bool,

    /// Print the networks of the papers, with the flags that make them, their parameters and
    /// multiply-adds
    #[arg(long)]
    pub list: bool,
}

/// `resnet gradients …`
#[derive(Debug, Args)]
#[command(mut_args(takes_negative_numbers))]
pub struct GradientsArgs {
    /// A run's folder or a checkpoint, instead of a new network
    #[arg(value_name = "RUN|CHECKPOINT")]
    pub checkpoint: Option<PathBuf>,

    /// The network; it is measured with and without shortcuts.
    #[command(flatten)]
    pub network: NetworkOptions,

    /// Data set
    #[arg(long, value_name = "NAME", default_value = "fashion-mnist", value_parser = dataset_name())]
    pub dataset: String,

    /// Images in the batch
    #[arg(long, short, value_name = "IMAGES", default_value_t = 128, value_parser = whole_number::<usize>)]
    pub batch_size: usize,

    /// Also measure after this number of training steps
    #[arg(long, value_name = "STEPS", default_value_t = 0, value_parser = whole_number::<usize>)]
    pub steps: usize,

    /// Learning rate of these steps
    #[arg(long, default_value_t = 0.05, value_parser = number)]
    pub lr: f64,

    /// Seed of the weights and of the order of the images
    #[arg(long, default_value_t = 0, value_parser = whole_number::<u64>)]
    pub seed: u64,

    /// Draw the norms of the gradients: NAME.png, NAME.svg, or both if NAME has no ending
    #[arg(long, value_name = "NAME")]
    pub picture: Option<PathBuf>,

    /// Where to compute.
    #[command(flatten)]
    pub device: DeviceArgs,

    /// Where the data set is.
    #[command(flatten)]
    pub data: DataArgs,
}

/// `resnet bench …`
#[derive(Debug, Args)]
#[command(mut_args(takes_negative_numbers))]
pub struct BenchArgs {
    /// The network.
    #[command(flatten)]
    pub network: NetworkOptions,

    /// What to measure
    #[arg(long, default_value = "train")]
    pub mode: BenchMode,

    /// Images in a batch
    #[arg(long, short, value_name = "IMAGES", default_value_t = 256, value_parser = whole_number::<usize>)]
    pub batch_size: usize,

    /// Number of steps to measure; on a GPU, each time is the mean of five steps
    #[arg(long, value_name = "STEPS", default_value_t = 10, value_parser = whole_number::<usize>)]
    pub steps: usize,

    /// Number of steps before the measurement
    #[arg(long, value_name = "STEPS", default_value_t = 2, value_parser = whole_number::<usize>)]
    pub warmup_steps: usize,

    /// Floating-point format to compute in
    #[arg(long, default_value = "auto")]
    pub precision: PrecisionChoice,

    /// Save memory: recompute the activations inside each block in the backward pass
    #[arg(long)]
    pub recompute: bool,

    /// On CUDA, record a step as a CUDA graph and replay it
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub cuda_graphs: bool,

    /// On CUDA, other ways to compute: none, or a list of batch-norm, max-pool and pad-channels
    #[arg(long, value_name = "LIST", default_value_t)]
    pub cuda_tuning: Tuning,

    /// Also measure only the convolutions of a step: a lower bound for a step's time on this machine
    #[arg(long)]
    pub floor: bool,

    /// File with earlier output of --json, to compare with
    #[arg(long, value_name = "FILE")]
    pub compare: Option<PathBuf>,

    /// Where to compute.
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// Where a command computes.
#[derive(Debug, Args)]
pub struct DeviceArgs {
    /// Device to compute on: auto (a GPU if one is usable), cpu, cuda, cuda:N or mps
    #[arg(long, default_value = "auto")]
    pub device: String,

    /// CPU threads [default: the physical cores, or OMP_NUM_THREADS if that is less]
    #[arg(long, value_parser = whole_number::<usize>)]
    pub threads: Option<usize>,
}

/// What `resnet bench` measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum BenchMode {
    /// A training step: data, forward, backward, optimizer.
    Train,
    /// Data and forward, as in evaluation.
    Inference,
}

/// Where data sets are searched for.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Data location")]
pub struct DataArgs {
    /// Folder of the data sets; no other folder is searched [env: RESNET_DATA] [default:
    /// ~/.cache/resnet/datasets, or the platform's cache folder, and /usr/share/datasets]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// Never connect to the network: use only files on this machine
    #[arg(long)]
    pub offline: bool,
}

impl DataArgs {
    /// These arguments as a value of the `data` module.
    pub fn source(&self) -> Source {
        Source::new(self.data_dir.clone(), self.offline)
    }

    /// The same arguments for another process of this program.
    pub fn arguments(&self) -> Vec<String> {
        let folder = self.data_dir.iter().map(|path| format!("--data-dir={}", path.display()));
        folder.chain(self.offline.then(|| "--offline".to_owned())).collect()
    }
}
