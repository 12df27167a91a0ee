//! What kinds of parts a network can have.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

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

/// The order of convolutions, batch norms, ReLUs and the sum in a block (He et al. 2016b, "Identity mappings in deep
/// residual networks", figure 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// Batch norm after each convolution, and a ReLU after the sum (figure 4a).
    Original,
    /// Batch norm and ReLU before each convolution, and nothing after the sum (figure 4e).
    PreActivation,
    /// As the original, but the last batch norm comes after the sum, before the ReLU (figure 4b).
    NormAfterAdd,
    /// As the original, but the last ReLU comes before the sum (figure 4c).
    ReluBeforeAdd,
    /// A ReLU before each convolution and batch norm after it, and nothing after the sum (figure 4d).
    ReluOnlyPreActivation,
}

/// The layers before the first stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Stem {
    /// 7×7 convolution of stride 2 and 3×3 max pooling of stride 2 (He et al. 2016, table 1).
    Imagenet,
    /// Three 3×3 convolutions, the first of stride 2, and 3×3 max pooling of stride 2 (He et al. 2019, "Bag of tricks",
    /// figure 2b: ResNet-C).
    Deep,
    /// As `deep`, with fewer channels in the first convolution: 24, 32 and 64 (timm's `resnet50t`: ResNet-T).
    Tiered,
    /// 3×3 convolution of stride 1 (He et al. 2016, section 4.2).
    Cifar,
}

impl Stem {
    /// Number of its layers of stride 2.
    pub fn halvings(self) -> u32 {
        match self {
            Stem::Imagenet | Stem::Deep | Stem::Tiered => 2,
            Stem::Cifar => 0,
        }
    }
}

/// The shortcut of a block whose input and output have different shapes (He et al. 2016, section 3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Shortcut {
    /// 1×1 convolution with batch norm, as in torchvision (option B).
    Projection,
    /// 1×1 convolution with bias and no batch norm, as in the ResNet chapter of Dive into Deep Learning.
    PlainConv,
    /// Every second pixel, and zeros for the new channels: no parameters (option A).
    ZeroPad,
    /// 2×2 average pooling if the block halves the image, then 1×1 convolution of stride 1 with batch norm (He et al.
    /// 2019, "Bag of tricks", figure 2c: ResNet-D).
    AvgPool,
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
