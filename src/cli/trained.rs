//! The arguments of the subcommands that read what was trained: runs and checkpoints.

use super::commands::{DataArgs, DeviceArgs};
use super::values::{takes_negative_numbers, whole_number};
use crate::precision::PrecisionChoice;
use crate::train::views::Views;
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::path::PathBuf;

/// `resnet eval …`
#[derive(Debug, Args)]
#[command(mut_args(takes_negative_numbers))]
pub struct EvalArgs {
    /// A run's folder (its best checkpoint is used), a checkpoint's folder or a model.safetensors file
    #[arg(value_name = "RUN|CHECKPOINT")]
    pub checkpoint: PathBuf,

    /// Images to evaluate on
    #[arg(long, default_value = "test")]
    pub split: EvalSplit,

    /// Test-time augmentation: also evaluate the mean prediction of several views of each image, such as
    /// flip, or flip,shift:1 with the number of pixels. Its figures stand beside the plain ones
    #[arg(long, value_name = "LIST")]
    pub tta: Option<Views>,

    /// Floating-point format to compute in [default: as in training]
    #[arg(long)]
    pub precision: Option<PrecisionChoice>,

    /// Images in a batch [default: as in training]
    #[arg(long, short, value_name = "IMAGES", value_parser = whole_number::<usize>)]
    pub batch_size: Option<usize>,

    /// Where to compute.
    #[command(flatten)]
    pub device: DeviceArgs,

    /// Where the data set is.
    #[command(flatten)]
    pub data: DataArgs,
}

/// The images that `resnet eval` evaluates on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum EvalSplit {
    /// The images that the network was trained on
    Train,
    /// The training images that were held out with --validation
    Validation,
    /// The test images
    Test,
}

/// `resnet predict …`
#[derive(Debug, Args)]
pub struct PredictArgs {
    /// A run's folder (its best checkpoint is used), a checkpoint's folder or a model.safetensors file
    #[arg(value_name = "RUN|CHECKPOINT")]
    pub checkpoint: PathBuf,

    /// PNG and JPEG files, folders of them, patterns such as 'images/*.png', or - for standard input
    #[arg(value_name = "IMAGE", required = true)]
    pub images: Vec<PathBuf>,

    /// Number of classes to show, the most likely ones first
    #[arg(long, value_name = "K", default_value_t = 3, value_parser = whole_number::<usize>)]
    pub top: usize,

    /// Make bright pixels dark and dark ones bright first
    #[arg(long)]
    pub invert: bool,

    /// Write a picture for each image into this folder: what speaks for its class (Grad-CAM)
    #[arg(long, value_name = "DIR")]
    pub explain: Option<PathBuf>,

    /// Write the predictions into a CSV file
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,

    /// Floating-point format to compute in [default: as in training]
    #[arg(long)]
    pub precision: Option<PrecisionChoice>,

    /// Where to compute.
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// `resnet checkpoints …`
#[derive(Debug, Args)]
pub struct CheckpointsArgs {
    /// A run's folder
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
}

/// `resnet curves …`
#[derive(Debug, Args)]
pub struct CurvesArgs {
    /// Folders of runs. Runs that differ by their seed alone are averaged
    #[arg(value_name = "RUN", required = true)]
    pub runs: Vec<PathBuf>,

    /// Draw the errors: NAME.png, NAME.svg, or both if NAME has no ending
    #[arg(long, value_name = "NAME")]
    pub picture: Option<PathBuf>,

    /// Draw the last epoch's test error against this setting, such as batch-size, instead of by epoch
    #[arg(long, value_name = "KEY", requires = "picture")]
    pub against: Option<String>,
}

/// `resnet runs …`
#[derive(Debug, Args)]
pub struct RunsArgs {
    /// A folder with runs in it, also in folders of this folder
    #[arg(value_name = "FOLDER", default_value = "runs")]
    pub folder: PathBuf,
}

/// `resnet watch …`
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// A run's folder
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
}

/// `resnet compare …`
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Folders of runs
    #[arg(value_name = "RUN", required = true, num_args = 2..)]
    pub runs: Vec<PathBuf>,
}

/// `resnet report …`
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Folders of runs. Runs that differ by their seed alone are averaged
    #[arg(value_name = "RUN", required = true)]
    pub runs: Vec<PathBuf>,

    /// File to write; its pictures go into a folder beside it that has its name without .html
    /// [default: report.html in the run's folder; in the current folder for several runs]
    #[arg(long, value_name = "FILE.html")]
    pub out: Option<PathBuf>,

    /// Where to compute.
    #[command(flatten)]
    pub device: DeviceArgs,

    /// Where the data set is.
    #[command(flatten)]
    pub data: DataArgs,
}
