//! The arguments of `resnet data`.

use super::commands::DataArgs;
use super::options::DataOptions;
use super::values::{dataset_name, takes_negative_numbers, whole_number};
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

/// `resnet data …`
#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// List the data sets: images, size, classes and whether they are on this machine
    List(DataArgs),
    /// Download a data set and verify it
    ///
    /// Only files that are missing or damaged are downloaded. The published mirrors are tried one
    /// after another. The environment variable RESNET_MIRROR is a base URL that is tried first, for
    /// example `https://example.org/{dataset}`, where {dataset} stands for the data set's name.
    Fetch(NamedDataset),
    /// Compare the files of a data set with their checksums
    Verify(NamedDataset),
    /// Print the folder that holds a data set
    Path(NamedDataset),
    /// Draw images of a data set, by class, or as training changes them
    ///
    /// Each class is a row with its name, so that labels can be checked by eye. With a setting of
    /// training, such as --config, --augment or --epoch, the images are those of a training epoch in
    /// its order: each stands beside its augmented image as the network gets it. The random numbers
    /// are those of a run with the same settings.
    Show(Box<ShowArgs>),
}

/// A data set and where to search for it.
#[derive(Debug, Args)]
pub struct NamedDataset {
    /// Name of the data set
    #[arg(value_name = "NAME", default_value = "fashion-mnist", value_parser = dataset_name())]
    pub dataset: String,

    /// Where to search for it.
    #[command(flatten)]
    pub data: DataArgs,
}

/// `resnet data show …`
#[derive(Debug, Args)]
#[command(mut_args(takes_negative_numbers))]
pub struct ShowArgs {
    /// PNG file to write
    #[arg(long, short, value_name = "FILE")]
    pub out: PathBuf,

    /// Number of images of each class [default: 10], or of all augmented images [default: 32]
    #[arg(long, value_name = "IMAGES", value_parser = whole_number::<usize>)]
    pub count: Option<usize>,

    /// Part of the data set, only for images by class [default: train]
    #[arg(long)]
    pub split: Option<ShowSplit>,

    /// Read settings from a TOML file, as for training; flags override it
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Epoch whose images are shown, counted from 1 [default: 1]
    #[arg(long, value_name = "EPOCH", value_parser = whole_number::<u64>)]
    pub epoch: Option<u64>,

    /// Height and width of the network's images in pixels
    #[arg(long, short, value_parser = whole_number::<usize>)]
    pub size: Option<usize>,

    /// Batch size: images in an optimizer step
    #[arg(long, short, value_name = "IMAGES", value_parser = whole_number::<usize>)]
    pub batch_size: Option<usize>,

    /// Seed of all random numbers
    #[arg(long, value_parser = whole_number::<u64>)]
    pub seed: Option<u64>,

    /// The data set, and how training changes its images.
    #[command(flatten)]
    pub options: DataOptions,

    /// Where the data set is.
    #[command(flatten)]
    pub data: DataArgs,
}

/// The images that `resnet data show` shows by class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ShowSplit {
    /// The training images
    Train,
    /// The test images
    Test,
}
