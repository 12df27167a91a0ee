//! The description of a network: the user's choices, and the validated result. It has no tensors.

mod check;
mod depth;
#[cfg(test)]
mod examples;
mod kinds;
mod name;

pub use check::SE_REDUCTION;
pub use depth::{VARIANTS, Variant};
#[cfg(test)]
pub use examples::examples;
pub use kinds::{Block, Init, Placement, Shortcut, Stem};

use crate::error::usage;
use anyhow::Result;
use clap::ValueEnum;
use depth::{Blocks, blocks_of};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

/// The user's choices. [`Spec::resolve`] derives the rest and returns a [`Spec`]. The fields are those of `Spec`.
#[derive(Debug, Clone, Default)]
pub struct Choices {
    /// Number of layers, as in the network's name.
    pub depth: Option<usize>,
    /// Blocks in each stage, instead of a depth.
    pub blocks: Option<Vec<usize>>,
    /// The kind of block.
    pub block: Option<Block>,
    /// The order of the layers in a block.
    pub placement: Option<Placement>,
    /// Whether blocks have shortcuts.
    pub residual: Option<bool>,
    /// Factor of the main path.
    pub residual_scale: Option<f64>,
    /// Channels of the stem.
    pub width: Option<usize>,
    /// Factor of the channels of every stage.
    pub widen: Option<usize>,
    /// Groups of the 3×3 convolutions.
    pub groups: Option<usize>,
    /// Channels of a group in the first stage.
    pub group_width: Option<usize>,
    /// Squeeze-and-excitation.
    pub se: Option<bool>,
    /// Probability of dropout in blocks.
    pub dropout: Option<f64>,
    /// Probability of dropout before the last layer.
    pub head_dropout: Option<f64>,
    /// Probability that the last block is left out.
    pub stochastic_depth: Option<f64>,
    /// The layers before the first stage.
    pub stem: Option<Stem>,
    /// The shortcut of blocks that change the shape.
    pub shortcut: Option<Shortcut>,
    /// Whether every convolution has a bias.
    pub conv_bias: Option<bool>,
    /// Channels of an image.
    pub channels: usize,
    /// Number of classes.
    pub classes: usize,
    /// Height and width of an image, in pixels.
    pub size: usize,
}

/// A network that can be built. Every field is valid, and no field can be derived from the others.
///
/// It is part of every checkpoint. A field that older checkpoints do not have needs a default: `serde(default)`, or
/// `Spec::deserialize` if it depends on other fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct Spec {
    /// The kind of every block.
    pub block: Block,
    /// Blocks in each stage.
    pub blocks: Vec<usize>,
    /// The order of convolutions, batch norms, ReLUs and the sum in a block.
    #[serde(default = "original")]
    pub placement: Placement,
    /// Whether blocks have shortcuts. Without them it is a plain network (He et al. 2016, section 3.3).
    #[serde(default = "yes")]
    pub residual: bool,
    /// The main path of each block is multiplied by this number before the sum.
    #[serde(default = "one")]
    pub residual_scale: f64,
    /// Channels of the stem.
    pub width: usize,
    /// The first stage has `width · widen` channels; each later stage has twice as many as the stage before it
    /// (Zagoruyko and Komodakis 2016).
    #[serde(default = "single")]
    pub widen: usize,
    /// The groups of the 3×3 convolutions in bottleneck blocks, and their channels. `None` for one group that is as wide
    /// as the block.
    #[serde(default)]
    pub groups: Option<Groups>,
    /// Whether each block ends with squeeze-and-excitation (Hu et al. 2018).
    #[serde(default)]
    pub se: bool,
    /// In training, each number before the last convolution of a block is set to zero with this probability (Zagoruyko and
    /// Komodakis 2016, section 2.4).
    #[serde(default)]
    pub dropout: f64,
    /// In training, each number before the last layer is set to zero with this probability (Srivastava et al. 2014).
    #[serde(default)]
    pub head_dropout: f64,
    /// In training, the main path of the last block is left out for an image with this probability. For earlier blocks
    /// the probability falls linearly to zero (Huang et al. 2016, section 3).
    #[serde(default)]
    pub stochastic_depth: f64,
    /// The layers before the first stage.
    pub stem: Stem,
    /// The shortcut of blocks that change the shape.
    pub shortcut: Shortcut,
    /// Whether every convolution has a bias.
    pub conv_bias: bool,
    /// Channels of an image.
    pub channels: usize,
    /// Number of classes.
    pub classes: usize,
    /// Height and width of an image, in pixels.
    pub size: usize,
}

/// Groups of a convolution. Each group of output channels sees only its group of input channels (Xie et al. 2017).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Groups {
    /// Number of groups.
    pub count: usize,
    /// Channels of each group in the first stage; each later stage has twice as many as the stage before it.
    pub width: usize,
}

fn original() -> Placement {
    Placement::Original
}

fn yes() -> bool {
    true
}

fn one() -> f64 {
    1.0
}

fn single() -> usize {
    1
}

impl Serialize for Spec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for Spec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut fields = Map::<String, Value>::deserialize(deserializer)?;
        // Before this field existed, the shortcut decided about it.
        let shortcut = fields.get("shortcut").map(Shortcut::deserialize);
        let bias = shortcut.and_then(Result::ok).is_some_and(Shortcut::gives_bias);
        fields.entry("conv_bias").or_insert(bias.into());
        Self::deserialize(Value::Object(fields)).map_err(D::Error::custom)
    }
}

impl Shortcut {
    /// Whether every convolution has a bias, unless the user chose otherwise. The network of Dive into Deep Learning has
    /// biases, although the batch norm after most of them cancels them.
    pub fn gives_bias(self) -> bool {
        self == Shortcut::PlainConv
    }
}

impl Spec {
    /// Fills in the fields that the user did not choose, and checks every field.
    ///
    /// # Errors
    /// A usage error that names the flag, the value and the allowed values.
    pub fn resolve(choices: &Choices) -> Result<Spec> {
        let widen = choices.widen.unwrap_or(1);
        let Blocks { block, blocks, wide } = match &choices.blocks {
            Some(blocks) => {
                let block = choices.block.unwrap_or(Block::Basic);
                Blocks { block, blocks: blocks.clone(), wide: false }
            }
            None => blocks_of(choices.depth.unwrap_or(18), choices.block, widen)?,
        };
        let placement = if wide { Placement::PreActivation } else { Placement::Original };
        let (width, stem) = layout_defaults(&blocks);
        let width = choices.width.unwrap_or(width);
        let shortcut = choices.shortcut.unwrap_or(Shortcut::Projection);
        let spec = Spec {
            block,
            blocks,
            placement: choices.placement.unwrap_or(placement),
            residual: choices.residual.unwrap_or(true),
            residual_scale: choices.residual_scale.unwrap_or(1.0),
            width,
            widen,
            groups: Groups::resolve(choices, width.saturating_mul(widen))?,
            se: choices.se.unwrap_or(false),
            dropout: choices.dropout.unwrap_or(0.0),
            head_dropout: choices.head_dropout.unwrap_or(0.0),
            stochastic_depth: choices.stochastic_depth.unwrap_or(0.0),
            stem: choices.stem.unwrap_or(stem),
            shortcut,
            conv_bias: choices.conv_bias.unwrap_or(shortcut.gives_bias()),
            channels: choices.channels,
            classes: choices.classes,
            size: choices.size,
        };
        spec.check()?;
        if let (Some(depth), Some(blocks)) = (choices.depth, &choices.blocks)
            && depth != spec.depth()
        {
            return Err(usage(format!(
                "--depth {depth} and --blocks {} contradict each other: these {} blocks make {} layers; drop one of the two flags",
                join(blocks, ","),
                value_name(block),
                spec.depth(),
            )));
        }
        Ok(spec)
    }

    /// Channels of the first stage's blocks, before the expansion.
    pub fn stage_width(&self) -> usize {
        self.width * self.widen
    }

    /// Number of layers of stride 2 from the image to the last stage.
    fn halvings(&self) -> u32 {
        self.stem.halvings() + self.blocks.len() as u32 - 1
    }

    /// Number of layers with weights, as in the network's name: the convolutions of the main paths and of the stem, and
    /// the linear layer. A deep stem counts as one layer. Wide networks for CIFAR count the three convolutions of their
    /// shortcuts instead of the linear layer.
    pub fn depth(&self) -> usize {
        let others = if self.is_wide() { 4 } else { 2 };
        others + self.block.layers() * self.blocks.iter().sum::<usize>()
    }

    /// Whether it is a wide network for CIFAR with pre-activation (Zagoruyko and Komodakis 2016).
    fn is_wide(&self) -> bool {
        self.widen > 1
            && self.block == Block::Basic
            && self.blocks.len() == 3
            && self.placement == Placement::PreActivation
            && self.residual
    }

    /// Height and width of the last stage's output, in pixels.
    pub fn last_size(&self) -> usize {
        self.size.div_ceil(1 << self.halvings())
    }

    /// The smallest micro-batch for training: batch norm needs more than one value of each channel.
    pub fn smallest_batch(&self) -> usize {
        if self.last_size() == 1 { 2 } else { 1 }
    }

    /// Whether most of the network's work is in wide 3×3 convolutions. In fp32, a CPU computes these with fewer
    /// products (docs/decisions/0015), so they are faster than in bf16 (docs/decisions/0020).
    pub fn favours_fp32(&self) -> bool {
        self.block == Block::Basic && self.stage_width() >= 64
    }

    /// Whether layers of the network draw random numbers in training.
    pub fn draws_noise(&self) -> bool {
        [self.dropout, self.head_dropout, self.stochastic_depth].iter().any(|rate| *rate > 0.0)
    }
}

impl Groups {
    /// The groups that the user chose. `None` if they are one group of the block's own width.
    fn resolve(choices: &Choices, stage_width: usize) -> Result<Option<Self>> {
        let count = choices.groups.unwrap_or(1);
        if count == 0 {
            return Err(usage("--groups 0: expected a number from 1"));
        }
        let width = match choices.group_width {
            Some(width) => width,
            None if stage_width.is_multiple_of(count) => stage_width / count,
            None => {
                return Err(usage(format!(
                    "--groups {count}: does not divide the {stage_width} channels of the first stage; expected a divisor of {stage_width}, or --group-width for the channels of a group"
                )));
            }
        };
        let groups = Self { count, width };
        Ok((groups != Self { count: 1, width: stage_width }).then_some(groups))
    }
}

/// The name of an enum's value on the command line.
pub fn value_name(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default()
}

/// Width and stem of the papers' networks with this number of stages. Networks for CIFAR have three stages.
fn layout_defaults(blocks: &[usize]) -> (usize, Stem) {
    if blocks.len() == 3 { (16, Stem::Cifar) } else { (64, Stem::Imagenet) }
}

/// The numbers as text, with a separator between them.
pub(super) fn join(values: &[usize], separator: &str) -> String {
    values.iter().map(usize::to_string).collect::<Vec<_>>().join(separator)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choices() -> Choices {
        Choices { channels: 1, classes: 10, size: 96, ..Choices::default() }
    }

    fn refusal(choices: Choices) -> String {
        Spec::resolve(&choices).unwrap_err().to_string()
    }

    #[test]
    fn every_variant_has_the_depth_of_its_name() {
        for variant in VARIANTS {
            let spec = Spec::resolve(&Choices { depth: Some(variant.depth), ..choices() }).unwrap();
            assert_eq!(spec.depth(), variant.depth);
            assert_eq!(spec.to_string(), format!("ResNet-{}", variant.depth));
        }
    }

    #[test]
    fn what_is_not_chosen_follows_the_layout() {
        let imagenet = Spec::resolve(&Choices { depth: Some(50), ..choices() }).unwrap();
        assert_eq!((imagenet.width, imagenet.stem, imagenet.blocks.len()), (64, Stem::Imagenet, 4));
        let cifar = Spec::resolve(&Choices { depth: Some(20), ..choices() }).unwrap();
        assert_eq!((cifar.width, cifar.stem, cifar.blocks.len()), (16, Stem::Cifar, 3));
    }

    #[test]
    fn impossible_networks_are_refused_by_flag() {
        assert!(refusal(Choices { depth: Some(19), ..choices() }).starts_with("--depth 19: "));
        assert!(refusal(Choices { width: Some(0), ..choices() }).starts_with("--width 0: "));
        assert!(refusal(Choices { size: 16, ..choices() }).starts_with("--size 16: "));
        assert!(refusal(Choices { size: 0, ..choices() }).starts_with("--size 0: "));
        assert!(refusal(Choices { classes: 1, ..choices() }).starts_with("--classes 1: "));
        let blocks = |blocks: &[usize]| Choices { blocks: Some(blocks.to_vec()), ..choices() };
        assert!(refusal(blocks(&[2, 2])).starts_with("--blocks 2,2: 2 stages"));
        assert!(refusal(blocks(&[2, 0, 2, 2])).starts_with("--blocks 0: "));
        assert!(refusal(blocks(&[usize::MAX, 2, 2])).contains("expected a number from 1"));
        let both = Choices { depth: Some(34), ..blocks(&[2, 2, 2, 2]) };
        assert!(refusal(both).contains("make 18 layers"));
        let other = Choices { depth: Some(18), block: Some(Block::Bottleneck), ..choices() };
        assert!(refusal(other).starts_with("--block bottleneck: ResNet-18 has basic blocks"));
    }

    #[test]
    fn the_smallest_size_leaves_a_pixel_to_halve() {
        assert!(Spec::resolve(&Choices { size: 17, ..choices() }).is_ok());
        assert!(Spec::resolve(&Choices { depth: Some(20), size: 3, ..choices() }).is_ok());
        assert!(Spec::resolve(&Choices { depth: Some(20), size: 2, ..choices() }).is_err());
    }

    #[test]
    fn names_say_what_differs_from_the_paper() {
        let spec = Spec::resolve(&Choices {
            blocks: Some(vec![1, 1, 1, 1]),
            width: Some(8),
            shortcut: Some(Shortcut::ZeroPad),
            ..choices()
        })
        .unwrap();
        let name = "ResNet-10 (basic blocks 1,1,1,1, width 8, zero-pad shortcuts)";
        assert_eq!(spec.to_string(), name);
    }
}
