//! The description of a network: the table of depths, the user's choices, and the validated result. It has no tensors.

use crate::error::{in_range, usage};
use anyhow::Result;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The kind of residual block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Block {
    /// Two 3×3 convolutions (He et al. 2016, figure 5 left).
    Basic,
    /// 1×1, 3×3, 1×1 convolutions (He et al. 2016, figure 5 right), with the stride on the 3×3 as in
    /// torchvision.
    Bottleneck,
}

impl Block {
    /// Channels of a block's output, as a multiple of its width.
    pub fn expansion(self) -> usize {
        match self {
            Block::Basic => 1,
            Block::Bottleneck => 4,
        }
    }

    /// Number of layers with weights on a block's main path. The depth in a network's name counts these layers.
    pub fn layers(self) -> usize {
        match self {
            Block::Basic => 2,
            Block::Bottleneck => 3,
        }
    }
}

/// The layers before the first stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Stem {
    /// 7×7 convolution of stride 2 and 3×3 max pooling of stride 2 (He et al. 2016, table 1).
    Imagenet,
    /// 3×3 convolution of stride 1 (He et al. 2016, section 4.2).
    Cifar,
}

/// The shortcut of a block whose input and output have different shapes (He et al. 2016, section 3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Shortcut {
    /// 1×1 convolution with batch norm, as in torchvision (option B).
    Projection,
    /// 1×1 convolution with bias and no batch norm, and biases in every other convolution too: the
    /// network of the ResNet chapter of Dive into Deep Learning.
    PlainConv,
    /// Every second pixel, and zeros for the new channels: no parameters (option A).
    ZeroPad,
}

/// How weights are drawn before training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Init {
    /// Normal with the variance 2 / fan-out for convolutions (He et al. 2015), as in torchvision.
    He,
    /// Xavier uniform for all weights (Glorot and Bengio 2010), as in Dive into Deep Learning.
    Xavier,
}

/// A row of [`VARIANTS`].
#[derive(Debug, Clone, Copy)]
pub struct Variant {
    /// Number of layers with weights, as in the network's name.
    pub depth: usize,
    /// The kind of every block.
    pub block: Block,
    /// Blocks in each stage.
    pub blocks: &'static [usize],
}

/// The depths of the papers: four stages for ImageNet (He et al. 2016, table 1; 200 from He et al.
/// 2016b), three for CIFAR (He et al. 2016, section 4.2).
pub const VARIANTS: [Variant; 12] = [
    Variant { depth: 18, block: Block::Basic, blocks: &[2, 2, 2, 2] },
    Variant { depth: 34, block: Block::Basic, blocks: &[3, 4, 6, 3] },
    Variant { depth: 50, block: Block::Bottleneck, blocks: &[3, 4, 6, 3] },
    Variant { depth: 101, block: Block::Bottleneck, blocks: &[3, 4, 23, 3] },
    Variant { depth: 152, block: Block::Bottleneck, blocks: &[3, 8, 36, 3] },
    Variant { depth: 200, block: Block::Bottleneck, blocks: &[3, 24, 36, 3] },
    Variant { depth: 20, block: Block::Basic, blocks: &[3, 3, 3] },
    Variant { depth: 32, block: Block::Basic, blocks: &[5, 5, 5] },
    Variant { depth: 44, block: Block::Basic, blocks: &[7, 7, 7] },
    Variant { depth: 56, block: Block::Basic, blocks: &[9, 9, 9] },
    Variant { depth: 110, block: Block::Basic, blocks: &[18, 18, 18] },
    Variant { depth: 1202, block: Block::Basic, blocks: &[200, 200, 200] },
];

/// The user's choices. [`Spec::resolve`] derives the rest and returns a [`Spec`].
#[derive(Debug, Clone, Default)]
pub struct Choices {
    /// A depth of [`VARIANTS`].
    pub depth: Option<usize>,
    /// Blocks in each stage, instead of a depth.
    pub blocks: Option<Vec<usize>>,
    /// The kind of block.
    pub block: Option<Block>,
    /// Channels of the first stage.
    pub width: Option<usize>,
    /// The layers before the first stage.
    pub stem: Option<Stem>,
    /// The shortcut of blocks that change the shape.
    pub shortcut: Option<Shortcut>,
    /// Channels of an image.
    pub channels: usize,
    /// Number of classes.
    pub classes: usize,
    /// Height and width of an image, in pixels.
    pub size: usize,
}

/// A network that can be built. Every field is valid, and no field can be derived from the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The kind of every block.
    pub block: Block,
    /// Blocks in each stage.
    pub blocks: Vec<usize>,
    /// Channels of the first stage. Each later stage has twice as many as the stage before it.
    pub width: usize,
    /// The layers before the first stage.
    pub stem: Stem,
    /// The shortcut of blocks that change the shape.
    pub shortcut: Shortcut,
    /// Channels of an image.
    pub channels: usize,
    /// Number of classes.
    pub classes: usize,
    /// Height and width of an image, in pixels.
    pub size: usize,
}

// These limits are far beyond any published network. They keep a typing error from allocating terabytes.
const MAX_STAGE_BLOCKS: usize = 2000;
const MAX_WIDTH: usize = 4096;
const MAX_CHANNELS: usize = 1024;
const MAX_CLASSES: usize = 100_000;
const MAX_SIZE: usize = 4096;

impl Spec {
    /// Fills in the fields that the user did not choose, and checks every field.
    ///
    /// # Errors
    /// A usage error that names the flag, the value and the allowed values.
    pub fn resolve(choices: &Choices) -> Result<Spec> {
        let (block, blocks) = match (choices.depth, &choices.blocks) {
            (depth, Some(blocks)) => {
                let block = choices.block.unwrap_or(Block::Basic);
                check_depth_of_blocks(depth, block, blocks)?;
                (block, blocks.clone())
            }
            (depth, None) => {
                let variant = find_variant(depth.unwrap_or(18))?;
                if let Some(block) = choices.block
                    && block != variant.block
                {
                    return Err(usage(format!(
                        "--block {}: ResNet-{} has {} blocks; give --blocks to make a network of your own, such as --blocks {} --block {}",
                        value_name(block),
                        variant.depth,
                        value_name(variant.block),
                        join(variant.blocks, ","),
                        value_name(block),
                    )));
                }
                (variant.block, variant.blocks.to_vec())
            }
        };
        let (width, stem) = layout_defaults(&blocks);
        let spec = Spec {
            block,
            width: choices.width.unwrap_or(width),
            stem: choices.stem.unwrap_or(stem),
            shortcut: choices.shortcut.unwrap_or(Shortcut::Projection),
            channels: choices.channels,
            classes: choices.classes,
            size: choices.size,
            blocks,
        };
        spec.check()?;
        Ok(spec)
    }

    /// Checks every field of a spec that was read from a file.
    ///
    /// # Errors
    /// A usage error that names the flag, the value and the allowed values.
    pub fn check(&self) -> Result<()> {
        if !matches!(self.blocks.len(), 3 | 4) {
            return Err(usage(format!(
                "--blocks {}: {} stages; expected 4 numbers (ImageNet layout) or 3 (CIFAR layout), such as 2,2,2,2",
                join(&self.blocks, ","),
                self.blocks.len()
            )));
        }
        for &blocks in &self.blocks {
            in_range("--blocks", blocks, 1..=MAX_STAGE_BLOCKS)?;
        }
        in_range("--width", self.width, 1..=MAX_WIDTH)?;
        in_range("--channels", self.channels, 1..=MAX_CHANNELS)?;
        in_range("--classes", self.classes, 2..=MAX_CLASSES)?;
        in_range("--size", self.size, 1..=MAX_SIZE)?;
        self.check_size()
    }

    /// Each layer of stride 2 needs an input of more than one pixel.
    fn check_size(&self) -> Result<()> {
        let smallest = (1 << (self.halvings() - 1)) + 1;
        if self.size < smallest {
            let remedy = match self.stem {
                Stem::Imagenet => " (or --stem cifar)",
                Stem::Cifar => "",
            };
            return Err(usage(format!(
                "--size {}: too small, a layer of stride 2 would get an image of one pixel; expected at least {smallest}{remedy}",
                self.size
            )));
        }
        Ok(())
    }

    /// Number of layers of stride 2 from the image to the last stage.
    fn halvings(&self) -> u32 {
        let stem = match self.stem {
            Stem::Imagenet => 2,
            Stem::Cifar => 0,
        };
        stem + self.blocks.len() as u32 - 1
    }

    /// Number of layers with weights, as in the network's name: the convolutions of the main paths and of the stem, and
    /// the linear layer.
    pub fn depth(&self) -> usize {
        2 + self.block.layers() * self.blocks.iter().sum::<usize>()
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
        self.block == Block::Basic && self.width >= 64
    }
}

impl fmt::Display for Spec {
    /// `ResNet-18`, followed by the differences from the paper's network of that depth.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ResNet-{}", self.depth())?;
        let mut notes = Vec::new();
        let known = VARIANTS.iter().any(|v| v.block == self.block && v.blocks == self.blocks);
        if !known {
            notes.push(format!("{} blocks {}", value_name(self.block), join(&self.blocks, ",")));
        }
        let (width, stem) = layout_defaults(&self.blocks);
        if self.width != width {
            notes.push(format!("width {}", self.width));
        }
        if self.stem != stem {
            notes.push(format!("{} stem", value_name(self.stem)));
        }
        if self.shortcut != Shortcut::Projection {
            notes.push(format!("{} shortcuts", value_name(self.shortcut)));
        }
        if notes.is_empty() { Ok(()) } else { write!(f, " ({})", notes.join(", ")) }
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

fn find_variant(depth: usize) -> Result<&'static Variant> {
    VARIANTS.iter().find(|variant| variant.depth == depth).ok_or_else(|| {
        let depths: Vec<usize> = VARIANTS.iter().map(|variant| variant.depth).collect();
        usage(format!(
            "--depth {depth}: no such ResNet; expected one of {}, or --blocks for a network of your own",
            join(&depths, ", ")
        ))
    })
}

fn check_depth_of_blocks(depth: Option<usize>, block: Block, blocks: &[usize]) -> Result<()> {
    let actual = 2 + block.layers() * blocks.iter().copied().fold(0, usize::saturating_add);
    match depth {
        Some(depth) if depth != actual => Err(usage(format!(
            "--depth {depth} and --blocks {} contradict each other: these {} blocks make {actual} layers; drop one of the two flags",
            join(blocks, ","),
            value_name(block),
        ))),
        _ => Ok(()),
    }
}

fn join(values: &[usize], separator: &str) -> String {
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
