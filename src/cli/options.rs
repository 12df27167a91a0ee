//! The settings of a run: each field is a flag of `train` and, under the same name, a key of a config file.
//! The default of a setting is not written here: `config::help` adds it to the help text.

use super::values::{dataset_name, number, whole_number};
use crate::checkpoint::cadence::Cadence;
use crate::data::augment::Augment;
use crate::kernels::Tuning;
use crate::model::spec::{Block, Init, Placement, Shortcut, Stem};
use crate::precision::PrecisionChoice;
use crate::train::milestones::Milestones;
use crate::train::rates::Rates;
use crate::train::recipe::OptimizerKind;
use crate::train::schedule::ScheduleKind;
use crate::train::sizes::Sizes;
use clap::Args;
use serde::{Deserialize, Serialize};

/// The network; the `[network]` section of a config file has the same keys.
#[derive(Debug, Clone, Default, PartialEq, Args, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[command(next_help_heading = "Network")]
pub struct NetworkOptions {
    /// Number of layers: 18, 34, 50, 101, 152 or 200 (ImageNet layout); 6n+2, such as 20, 56 or 110, or
    /// 9n+2, such as 164 or 1001 (CIFAR layout); 6n+4 with --widen, such as 28 (Wide ResNet)
    #[arg(long, short, value_parser = whole_number::<usize>)]
    pub depth: Option<usize>,

    /// Number of blocks in each stage, for a custom network, such as 2,2,2,2
    #[arg(long, value_delimiter = ',', value_name = "N,N,…", value_parser = whole_number::<usize>, action = clap::ArgAction::Set)]
    pub blocks: Option<Vec<usize>>,

    /// Type of block, for use with --blocks
    #[arg(long)]
    pub block: Option<Block>,

    /// Order of batch norm, ReLU, convolution and sum in a block (He et al. 2016b, figure 4)
    #[arg(long)]
    pub placement: Option<Placement>,

    /// Blocks have shortcuts; false makes the plain network, to compare with
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub residual: Option<bool>,

    /// Factor of each block's main path before the sum
    #[arg(long, value_name = "FACTOR", value_parser = number)]
    pub residual_scale: Option<f64>,

    /// Channels of the first stage; each later stage has twice as many as the stage before it
    #[arg(long, value_parser = whole_number::<usize>)]
    pub width: Option<usize>,

    /// Factor of the channels of every stage; the stem keeps its width (Wide ResNet)
    #[arg(long, value_name = "FACTOR", value_parser = whole_number::<usize>)]
    pub widen: Option<usize>,

    /// Groups of the 3×3 convolutions in bottleneck blocks (ResNeXt)
    #[arg(long, value_parser = whole_number::<usize>)]
    pub groups: Option<usize>,

    /// Channels of each group in the first stage; each later stage has twice as many
    #[arg(long, value_name = "CHANNELS", value_parser = whole_number::<usize>)]
    pub group_width: Option<usize>,

    /// Squeeze-and-excitation at the end of each block's main path, with the reduction 16 (SE-ResNet)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub se: Option<bool>,

    /// Probability of dropout before the last convolution of each block (Wide ResNet)
    #[arg(long, value_name = "RATE", value_parser = number)]
    pub dropout: Option<f64>,

    /// Probability of dropout before the last layer
    #[arg(long, value_name = "RATE", value_parser = number)]
    pub head_dropout: Option<f64>,

    /// Stochastic depth: probability that the last block is left out for an image in training; it
    /// falls linearly to zero for earlier blocks
    #[arg(long, value_name = "RATE", value_parser = number)]
    pub stochastic_depth: Option<f64>,

    /// Layers before the first stage: a 7×7 convolution (imagenet) or three 3×3 convolutions (deep,
    /// ResNet-C; tiered, with fewer channels, ResNet-T), then 3×3 max pooling, together of stride 4, or a 3×3 convolution of stride 1 (cifar)
    #[arg(long)]
    pub stem: Option<Stem>,

    /// Shortcut of a block that changes the shape: a 1×1 convolution with batch norm (projection, option
    /// B), a 1×1 convolution with bias and no batch norm (plain-conv, Dive into Deep Learning), every
    /// second pixel with channels of zeros added (zero-pad, option A), or 2×2 average pooling before
    /// the 1×1 convolution (avg-pool, ResNet-D)
    #[arg(long)]
    pub shortcut: Option<Shortcut>,

    /// Every convolution has a bias
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub conv_bias: Option<bool>,

    /// Number of image channels
    #[arg(long, value_parser = whole_number::<usize>)]
    pub channels: Option<usize>,

    /// Number of classes
    #[arg(long, value_parser = whole_number::<usize>)]
    pub classes: Option<usize>,

    /// Height and width of the images in pixels; images of another size are resized (bilinear,
    /// antialiased)
    #[arg(long, short, value_parser = whole_number::<usize>)]
    pub size: Option<usize>,
}

/// The data; the `[data]` section of a config file has the same keys.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[command(next_help_heading = "Data")]
pub struct DataOptions {
    /// Data set
    #[arg(long, value_name = "NAME", value_parser = dataset_name())]
    pub dataset: Option<String>,

    /// Training images to hold out; the accuracy on them decides which checkpoint is the best
    #[arg(long, value_name = "IMAGES", value_parser = whole_number::<usize>)]
    pub validation: Option<usize>,

    /// Random changes to training images: none, or a list such as flip,crop:2,erase:0.25 of flip,
    /// alternating-flip (every second epoch), crop:PIXELS, reflect-crop:PIXELS, rotate:DEGREES,
    /// scale:FRACTION, erase:PROBABILITY, cutout:PIXELS, mixup:ALPHA, cutmix:ALPHA and trivial
    /// (TrivialAugment). Crops, erase, mixup and cutmix need no number
    #[arg(long, value_name = "LIST")]
    pub augment: Option<Augment>,

    /// Only with mixup or cutmix: number of epochs in which images are mixed; in later epochs they are
    /// not [default: all epochs]
    #[arg(long, value_name = "EPOCHS", value_parser = whole_number::<u64>)]
    pub mix_epochs: Option<u64>,

    /// Subtract the data set's mean and divide by its standard deviation; false leaves pixels in
    /// [0, 1]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub normalize: Option<bool>,
}

/// The training; the `[train]` section of a config file has the same keys.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[command(next_help_heading = "Training")]
pub struct TrainOptions {
    /// Passes over the training images
    #[arg(long, short, value_parser = whole_number::<u64>)]
    pub epochs: Option<u64>,

    /// Peak learning rate
    #[arg(long, value_parser = number)]
    pub lr: Option<f64>,

    /// Batch size: images in an optimizer step
    #[arg(long, short, value_name = "IMAGES", value_parser = whole_number::<usize>)]
    pub batch_size: Option<usize>,

    /// Gradient accumulation: micro-batches in an optimizer step, to save memory
    #[arg(long, value_name = "N", value_parser = whole_number::<usize>)]
    pub accumulate: Option<usize>,

    /// Learning-rate schedule
    #[arg(long)]
    pub schedule: Option<ScheduleKind>,

    /// Warm-up: epochs in which the learning rate rises to its peak; may be a fraction
    #[arg(long, value_name = "EPOCHS", value_parser = number)]
    pub warmup_epochs: Option<f64>,

    /// Warm-up in optimizer steps, in place of epochs
    #[arg(long, value_name = "STEPS", conflicts_with = "warmup_epochs", value_parser = whole_number::<u64>)]
    pub warmup_steps: Option<u64>,

    /// Only with --schedule step: epochs between two reductions of the learning rate
    #[arg(long, value_name = "EPOCHS", value_parser = number)]
    pub step_every: Option<f64>,

    /// Only with --schedule step: the points at which the learning rate is reduced, in place of
    /// --step-every: epochs, such as 30,60, or steps, such as 32000steps,48000steps
    #[arg(long, value_name = "LIST", conflicts_with = "step_every")]
    pub milestones: Option<Milestones>,

    /// Only with --schedule step: factor by which each reduction multiplies the learning rate
    #[arg(long, value_name = "FACTOR", value_parser = number)]
    pub step_factor: Option<f64>,

    /// Optimizer: sgd, adamw (try --lr 0.002) or lars (for very large batches; try --lr 10)
    #[arg(long)]
    pub optimizer: Option<OptimizerKind>,

    /// Momentum of SGD and LARS, 0 for none; β₁ of AdamW
    #[arg(long, value_parser = number)]
    pub momentum: Option<f64>,

    /// Momentum at the end of the run; it changes from --momentum in equal steps [default: no change]
    #[arg(long, value_name = "MOMENTUM", value_parser = number)]
    pub momentum_end: Option<f64>,

    /// Only with --optimizer adamw: β₂, the fraction of the mean square that each step keeps
    #[arg(long, value_name = "FRACTION", value_parser = number)]
    pub beta2: Option<f64>,

    /// Use Nesterov momentum
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub nesterov: Option<bool>,

    /// Weight decay (L2)
    #[arg(long, value_name = "FACTOR", value_parser = number)]
    pub weight_decay: Option<f64>,

    /// Weight decay at the end of the run; it changes from --weight-decay in equal steps [default: no change]
    #[arg(long, value_name = "FACTOR", value_parser = number)]
    pub weight_decay_end: Option<f64>,

    /// Apply weight decay to biases and to batch norm's scales and shifts too
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub decay_all: Option<bool>,

    /// Label smoothing: fraction of each target that is spread over all classes
    #[arg(long, value_name = "FRACTION", value_parser = number)]
    pub label_smoothing: Option<f64>,

    /// Largest norm of the gradient; a larger gradient is scaled down to it [default: no clipping]
    #[arg(long, value_name = "NORM", value_parser = number)]
    pub clip_grad_norm: Option<f64>,

    /// Evaluate and save an exponential moving average (EMA) of the weights; each step keeps this
    /// fraction of the average, such as 0.998 [default: no average]
    #[arg(long, value_name = "FRACTION", value_parser = number)]
    pub ema_decay: Option<f64>,

    /// Stochastic weight averaging: evaluate and save the mean of the weights of all steps of this number
    /// of last epochs; batch norm's statistics are computed for it [default: no average]
    #[arg(long, value_name = "EPOCHS", value_parser = number)]
    pub swa_epochs: Option<f64>,

    /// Smaller images in earlier parts of the run, such as 20:0.4,24:0.7: 20 pixels until 40 % of the
    /// run, 24 until 70 %, and --size after that [default: one size]
    #[arg(long, value_name = "LIST")]
    pub sizes: Option<Sizes>,

    /// Weight initialization
    #[arg(long)]
    pub init: Option<Init>,

    /// Floating-point format of activations: auto is bf16 if the device computes it natively and faster
    /// than fp32, else fp32
    #[arg(long)]
    pub precision: Option<PrecisionChoice>,

    /// Initialize each block as the identity function
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub zero_init_residual: Option<bool>,

    /// Seed of all random numbers
    #[arg(long, value_parser = whole_number::<u64>)]
    pub seed: Option<u64>,

    /// Epochs from one evaluation to the next; the last epoch is always evaluated
    #[arg(long, value_name = "EPOCHS", value_parser = whole_number::<u64>)]
    pub eval_every: Option<u64>,

    /// Early stopping, only with --validation: end the run if the accuracy on the held-out images has not
    /// risen for this number of epochs [default: no early stopping]
    #[arg(long, value_name = "EPOCHS", value_parser = whole_number::<u64>)]
    pub patience: Option<u64>,

    /// End each epoch and each evaluation after this number of batches, for short trial runs
    #[arg(long, value_name = "BATCHES", value_parser = whole_number::<usize>)]
    pub limit_batches: Option<usize>,
}

/// The learning rates of parts of the network; the `[optimizer]` section of a config file has the same key, and may have
/// the factors as a table `[optimizer.rates]`.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[command(next_help_heading = "Training")]
pub struct RateOptions {
    /// Factors of the learning rate for parts of the network, such as stem=2,layer1=1.5,fc=1, or
    /// decay=0.9 for a factor from each part to the part before it [default: one rate]
    #[arg(long, value_name = "LIST")]
    pub rates: Option<Rates>,
}

/// The device and the checkpoints; the `[run]` section of a config file has the same keys.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[command(next_help_heading = "Run")]
pub struct RunOptions {
    /// Device to compute on: auto (a GPU if one is usable), cpu, cuda, cuda:N or mps
    #[arg(long)]
    pub device: Option<String>,

    /// CPU threads [default: the physical cores, or OMP_NUM_THREADS if that is less]
    #[arg(long, value_parser = whole_number::<usize>)]
    pub threads: Option<usize>,

    /// Save memory: recompute the activations inside each block in the backward pass. The result is
    /// the same; each step needs a second forward pass
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub recompute: Option<bool>,

    /// On CUDA, use only algorithms that give the same bits each time; they are slower. On a CPU the
    /// bits are always the same for the same number of threads
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub deterministic: Option<bool>,

    /// On CUDA, record a step as a CUDA graph and replay it, which saves the time to launch each kernel;
    /// not with --deterministic
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub cuda_graphs: Option<bool>,

    /// On CUDA, other ways to compute: none, or a list of batch-norm, max-pool and pad-channels.
    /// scripts/gpu-check measures which of them are faster on a GPU
    #[arg(long, value_name = "LIST")]
    pub cuda_tuning: Option<Tuning>,

    /// How often to save a checkpoint: 500steps, 2epochs (or 2), 10m, or auto (every epoch, or less
    /// often if saving would take more than 2 % of the time). The end of a run is always saved
    #[arg(long, value_name = "CADENCE")]
    pub checkpoint_every: Option<Cadence>,

    /// Number of checkpoints to keep, besides the best
    #[arg(long, value_name = "N", value_parser = whole_number::<usize>)]
    pub keep: Option<usize>,

    /// At the end of a run, write a page with curves, scores and mistakes: report.html in the run's folder
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub report: Option<bool>,

    /// Write figures for TensorBoard into the run's folder: of each epoch and of steps, the settings, and
    /// histograms
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub tensorboard: Option<bool>,

    /// Only with --tensorboard: epochs from one histogram of weights and gradients to the next, 0 for
    /// none. Each takes about the time of a step
    #[arg(long, value_name = "EPOCHS", value_parser = whole_number::<u64>)]
    pub tensorboard_histograms: Option<u64>,
}

/// All settings of a run: the content of a config file, or the flags of `train`.
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
    /// `[optimizer]`
    #[command(flatten)]
    #[serde(default)]
    pub optimizer: RateOptions,
    /// `[run]`
    #[command(flatten)]
    #[serde(default)]
    pub run: RunOptions,
}
