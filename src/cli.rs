//! What the user typed. Nothing here reads a file or checks one value against another.

use crate::checkpoint::cadence::{Cadence, time_span};
use crate::data::Source;
use crate::data::augment::Augment;
use crate::data::catalog;
use crate::model::spec::{Block, Init, Shortcut, Stem};
use crate::precision::PrecisionChoice;
use crate::train::schedule::ScheduleKind;
use clap::builder::PossibleValuesParser;
use clap::{Arg, Args, Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// Build and train residual networks on libtorch.
#[derive(Debug, Parser)]
#[command(name = "resnet", version, arg_required_else_help = true, max_term_width = 100)]
// Of a flag that is given twice, as by a script and by hand, the last one counts.
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
    /// Train a network and keep its checkpoints
    Train(Box<TrainArgs>),
    /// Measure a checkpoint: loss, accuracy, each class's precision and recall, confusion matrix
    Eval(EvalArgs),
    /// List a run's checkpoints, and whether each is intact
    Checkpoints(CheckpointsArgs),
    /// Print the output shape, parameters and multiply-adds of every layer
    Shapes(ShapesArgs),
    /// Measure the speed of training or inference on synthetic images
    Bench(Box<BenchArgs>),
    /// List, fetch and verify data sets
    #[command(subcommand)]
    Data(DataCommand),
    /// Show versions, devices and why CUDA is or isn't usable
    Doctor,
    /// Print a completion script for a shell
    Completions {
        /// Shell to complete for
        shell: clap_complete::Shell,
    },
}

/// What network to build; the `[network]` section of a config file has the same keys.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[command(next_help_heading = "Network")]
pub struct NetworkOptions {
    /// Layers: 18, 34, 50, 101, 152, 200 for ImageNet's layout; 20, 32, 44, 56, 110, 1202 for
    /// CIFAR's [default: 18]
    #[arg(long, short, value_parser = whole_number::<usize>)]
    pub depth: Option<usize>,

    /// Blocks in each stage, for a network of your own, such as 2,2,2,2
    #[arg(long, value_delimiter = ',', value_name = "N,N,…", value_parser = whole_number::<usize>, action = clap::ArgAction::Set)]
    pub blocks: Option<Vec<usize>>,

    /// Kind of block, with --blocks [default: basic]
    #[arg(long)]
    pub block: Option<Block>,

    /// Channels of the first stage; each later one doubles them [default: 64, with three stages 16]
    #[arg(long, value_parser = whole_number::<usize>)]
    pub width: Option<usize>,

    /// Layers before the first stage: 7×7/2 and 3×3/2 max pool, or 3×3/1 [default: imagenet, with
    /// three stages cifar]
    #[arg(long)]
    pub stem: Option<Stem>,

    /// Shortcut where a block changes the shape: 1×1 convolution with batch norm (option B), 1×1
    /// convolution with bias and no batch norm (Dive into Deep Learning), or the subsampled input
    /// padded with channels of zeros (option A) [default: projection]
    #[arg(long)]
    pub shortcut: Option<Shortcut>,

    /// Channels of an image [default: the data set's, or 1]
    #[arg(long, value_parser = whole_number::<usize>)]
    pub channels: Option<usize>,

    /// Number of classes [default: the data set's, or 10]
    #[arg(long, value_parser = whole_number::<usize>)]
    pub classes: Option<usize>,

    /// Height and width of an image in pixels; others are resized to it, bilinearly, and smoothed first
    /// where they shrink (antialiased) [default: 96]
    #[arg(long, short, value_parser = whole_number::<usize>)]
    pub size: Option<usize>,
}

/// What to train on; the `[data]` section of a config file has the same keys.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[command(next_help_heading = "Data")]
pub struct DataOptions {
    /// Data set [default: fashion-mnist]
    #[arg(long, value_name = "NAME", value_parser = dataset_name())]
    pub dataset: Option<String>,

    /// Training images to hold out, which then choose the best checkpoint [default: 0]
    #[arg(long, value_name = "IMAGES", value_parser = whole_number::<usize>)]
    pub validation: Option<usize>,

    /// Random changes to training images [default: flip,crop; for mnist, kmnist and synthetic none]
    #[arg(long)]
    pub augment: Option<Augment>,

    /// Subtract the data set's mean and divide by its standard deviation; false leaves pixels in
    /// [0, 1] [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub normalize: Option<bool>,
}

/// How to train; the `[train]` section of a config file has the same keys.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[command(next_help_heading = "Training")]
pub struct TrainOptions {
    /// Passes over the training images [default: 10]
    #[arg(long, short, value_parser = whole_number::<u64>)]
    pub epochs: Option<u64>,

    /// Peak learning rate [default: 0.05]
    #[arg(long, value_parser = number)]
    pub lr: Option<f64>,

    /// Batch size: images in an optimizer step [default: 256]
    #[arg(long, short, value_name = "IMAGES", value_parser = whole_number::<usize>)]
    pub batch_size: Option<usize>,

    /// Gradient accumulation: micro-batches in an optimizer step, to save memory [default: 1]
    #[arg(long, value_name = "N", value_parser = whole_number::<usize>)]
    pub accumulate: Option<usize>,

    /// Learning-rate schedule [default: cosine]
    #[arg(long)]
    pub schedule: Option<ScheduleKind>,

    /// Epochs over which the learning rate first rises; may be a fraction [default: 0.5, at most
    /// a tenth of the run; with a constant or one-cycle schedule 0]
    #[arg(long, value_name = "EPOCHS", value_parser = number)]
    pub warmup_epochs: Option<f64>,

    /// With --schedule step alone: epochs from one cut to the next [default: a third of the run]
    #[arg(long, value_name = "EPOCHS", value_parser = number)]
    pub step_every: Option<f64>,

    /// With --schedule step alone: factor of each cut [default: 0.1]
    #[arg(long, value_name = "FACTOR", value_parser = number)]
    pub step_factor: Option<f64>,

    /// Momentum of SGD; 0 for none [default: 0.9]
    #[arg(long, value_parser = number)]
    pub momentum: Option<f64>,

    /// Nesterov's momentum [default: true where there is momentum]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub nesterov: Option<bool>,

    /// Weight decay (L2) [default: 0.0005]
    #[arg(long, value_name = "FACTOR", value_parser = number)]
    pub weight_decay: Option<f64>,

    /// Decay biases and batch norm's scales and shifts too [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub decay_all: Option<bool>,

    /// Fraction of each target that is spread over all classes [default: 0.1]
    #[arg(long, value_name = "FRACTION", value_parser = number)]
    pub label_smoothing: Option<f64>,

    /// Clip the gradient's norm to this [default: no clipping]
    #[arg(long, value_name = "NORM", value_parser = number)]
    pub clip_grad_norm: Option<f64>,

    /// Evaluate and save an exponential moving average of the weights that keeps this fraction of itself at
    /// each step, such as 0.998 [default: no average]
    #[arg(long, value_name = "FRACTION", value_parser = number)]
    pub ema_decay: Option<f64>,

    /// Weight initialization [default: he]
    #[arg(long)]
    pub init: Option<Init>,

    /// Floating-point format of activations: auto takes bf16 where the device multiplies it natively,
    /// else fp32 [default: auto]
    #[arg(long)]
    pub precision: Option<PrecisionChoice>,

    /// Start each block as the identity [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub zero_init_residual: Option<bool>,

    /// Seed of every random draw [default: 0]
    #[arg(long, value_parser = whole_number::<u64>)]
    pub seed: Option<u64>,

    /// Evaluate every so many epochs, and after the last [default: 1]
    #[arg(long, value_name = "EPOCHS", value_parser = whole_number::<u64>)]
    pub eval_every: Option<u64>,

    /// End each epoch and each evaluation after so many batches, for trials
    #[arg(long, value_name = "BATCHES", value_parser = whole_number::<usize>)]
    pub limit_batches: Option<usize>,
}

/// Where to train and what to keep; the `[run]` section of a config file has the same keys.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[command(next_help_heading = "Run")]
pub struct RunOptions {
    /// Device to compute on: auto (a GPU if one is usable), cpu, cuda, cuda:N or mps [default: auto]
    #[arg(long)]
    pub device: Option<String>,

    /// CPU threads [default: the physical cores, or fewer if OMP_NUM_THREADS says so]
    #[arg(long, value_parser = whole_number::<usize>)]
    pub threads: Option<usize>,

    /// Compute activations inside of a block again in the backward pass: the same result with a
    /// fraction of the memory, and a forward pass more [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub recompute: Option<bool>,

    /// Compute on CUDA with algorithms that give the same bits each time, which are slower; a CPU always
    /// does [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub deterministic: Option<bool>,

    /// On CUDA, record a step and replay it, which spares the time that telling each of its kernels takes;
    /// not with --deterministic [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub cuda_graphs: Option<bool>,

    /// How often to save a checkpoint: 500steps, 2epochs (or 2), 10m, or auto, which is each epoch, or less
    /// often where that would take over 2 % of the time; the end of the run always leaves one [default: auto]
    #[arg(long, value_name = "CADENCE")]
    pub checkpoint_every: Option<Cadence>,

    /// Checkpoints to keep, besides the best [default: 3]
    #[arg(long, value_name = "N", value_parser = whole_number::<usize>)]
    pub keep: Option<usize>,
}

/// Everything that decides what a run does: a config file, or the flags of `train`.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// `[network]`
    #[command(flatten)]
    #[serde(default)]
    pub network: NetworkOptions,
    /// `[data]`
    #[command(flatten)]
    #[serde(default)]
    pub data: DataOptions,
    /// `[train]`
    #[command(flatten)]
    #[serde(default)]
    pub train: TrainOptions,
    /// `[run]`
    #[command(flatten)]
    #[serde(default)]
    pub run: RunOptions,
}

/// `resnet train …`
#[derive(Debug, Args)]
#[command(mut_args(takes_negative_numbers))]
pub struct TrainArgs {
    /// Read settings from a TOML file; flags override it
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Resume a run from its last checkpoint, or from the checkpoint given
    #[arg(long, value_name = "RUN|CHECKPOINT", conflicts_with_all = ["config", "run_dir"])]
    pub resume: Option<PathBuf>,

    /// Folder for the run.
    #[arg(
        long,
        value_name = "DIR",
        help = "Folder for the run [default: runs/<network>-<date-time>]"
    )]
    pub run_dir: Option<PathBuf>,

    /// Save and stop after this long, such as 90s, 10m or 2h30m
    #[arg(long, value_name = "TIME", value_parser = time_span)]
    pub time_limit: Option<Duration>,

    /// What the run does.
    #[command(flatten)]
    pub options: Options,

    /// Where the data set lies.
    #[command(flatten)]
    pub data: DataArgs,
}

/// `resnet eval …`
#[derive(Debug, Args)]
#[command(mut_args(takes_negative_numbers))]
pub struct EvalArgs {
    /// A run's folder (its best checkpoint), a checkpoint's folder or a model.safetensors
    #[arg(value_name = "RUN|CHECKPOINT")]
    pub checkpoint: PathBuf,

    /// Images to measure on
    #[arg(long, default_value = "test")]
    pub split: EvalSplit,

    /// Floating-point format to compute in [default: as in training]
    #[arg(long)]
    pub precision: Option<PrecisionChoice>,

    /// Images in a batch [default: as in training]
    #[arg(long, short, value_name = "IMAGES", value_parser = whole_number::<usize>)]
    pub batch_size: Option<usize>,

    /// Device to compute on: auto (a GPU if one is usable), cpu, cuda, cuda:N or mps
    #[arg(long, default_value = "auto")]
    pub device: String,

    /// CPU threads [default: the physical cores, or fewer if OMP_NUM_THREADS says so]
    #[arg(long, value_parser = whole_number::<usize>)]
    pub threads: Option<usize>,

    /// Where the data set lies.
    #[command(flatten)]
    pub data: DataArgs,
}

/// Which images `resnet eval` measures on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum EvalSplit {
    /// The images that it was trained on
    Train,
    /// The training images that were held out with --validation
    Validation,
    /// The test images
    Test,
}

/// `resnet checkpoints …`
#[derive(Debug, Args)]
pub struct CheckpointsArgs {
    /// A run's folder
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
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

    /// Print every block, below the layer that it belongs to
    #[arg(long, short, visible_alias = "depth-first")]
    pub all: bool,
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

    /// Steps to measure
    #[arg(long, value_name = "STEPS", default_value_t = 10, value_parser = whole_number::<usize>)]
    pub steps: usize,

    /// Steps before the measurement
    #[arg(long, value_name = "STEPS", default_value_t = 2, value_parser = whole_number::<usize>)]
    pub warmup_steps: usize,

    /// Floating-point format to compute in
    #[arg(long, default_value = "auto")]
    pub precision: PrecisionChoice,

    /// Train with activations computed again in the backward pass
    #[arg(long)]
    pub recompute: bool,

    /// On CUDA, replay a recorded step
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub cuda_graphs: bool,

    /// Measure the step's convolutions alone too: the least that a step can take here
    #[arg(long)]
    pub floor: bool,

    /// Earlier output of --json to compare with
    #[arg(long, value_name = "FILE")]
    pub compare: Option<PathBuf>,

    /// Device to compute on: auto (a GPU if one is usable), cpu, cuda, cuda:N or mps
    #[arg(long, default_value = "auto")]
    pub device: String,

    /// CPU threads [default: the physical cores, or fewer if OMP_NUM_THREADS says so]
    #[arg(long, value_parser = whole_number::<usize>)]
    pub threads: Option<usize>,
}

/// What `resnet bench` measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum BenchMode {
    /// A whole step: data, forward, backward, update.
    Train,
    /// Data and forward, as in evaluation.
    Inference,
}

/// Where data sets are looked for.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Data location")]
pub struct DataArgs {
    /// Folder of the data sets, the only one to look in [env: RESNET_DATA] [default:
    /// ~/.cache/resnet/datasets, or the platform's cache folder, and /usr/share/datasets]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// Never connect: use only what is on this machine
    #[arg(long)]
    pub offline: bool,
}

/// Takes the name of a data set that there is, so that shells complete it too.
fn dataset_name() -> PossibleValuesParser {
    PossibleValuesParser::new(catalog::DATASETS.iter().map(|dataset| dataset.name))
}

/// Parses a number; its range is checked where its meaning is known.
fn number(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| "expected a number, such as 0.05".to_owned())
}

/// Lets `-1` behind a flag be its value rather than a flag of its own, so that the message is about
/// the number.
fn takes_negative_numbers(flag: Arg) -> Arg {
    let takes_values = flag.get_action().takes_values();
    flag.allow_negative_numbers(takes_values)
}

/// Parses a count; TOML, which a run's settings are saved in, has 63 bits for it.
fn whole_number<N: TryFrom<u64>>(text: &str) -> Result<N, String> {
    let number = text.parse().ok().filter(|&number| number <= i64::MAX as u64);
    number
        .and_then(|number| N::try_from(number).ok())
        .ok_or_else(|| format!("expected a whole number, at most {}", i64::MAX))
}

impl DataArgs {
    /// The same for the `data` module.
    pub fn source(&self) -> Source {
        Source::new(self.data_dir.clone(), self.offline)
    }
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
    #[arg(value_name = "NAME", default_value = "fashion-mnist", value_parser = dataset_name())]
    pub dataset: String,

    /// Where to look for it.
    #[command(flatten)]
    pub data: DataArgs,
}
