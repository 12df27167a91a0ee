//! The layers of a plan.

use std::fmt;

/// A layer with its name and sizes.
#[derive(Debug, Clone, PartialEq)]
pub enum Layer {
    /// 2-d convolution.
    Conv(Conv),
    /// Batch norm.
    Norm(Norm),
    /// ReLU that does not follow a batch norm.
    Relu(Relu),
    /// Max pooling.
    MaxPool(MaxPool),
    /// Average pooling.
    AvgPool(AvgPool),
    /// Mean over all pixels of a channel.
    GlobalAvgPool(GlobalAvgPool),
    /// All dimensions except the first become one.
    Flatten(Flatten),
    /// Affine map.
    Linear(Linear),
    /// A shortcut without parameters.
    ZeroPad(ZeroPad),
    /// Squeeze-and-excitation.
    SqueezeExcite(SqueezeExcite),
    /// Multiplication by a number.
    Scale(Scale),
    /// Dropout.
    Dropout(Dropout),
    /// Stochastic depth.
    DropPath(DropPath),
}

/// 2-d convolution with a square kernel, [N, inputs, H, W] → [N, outputs, H', W'].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conv {
    /// torchvision's name.
    pub name: String,
    /// Channels of the input.
    pub inputs: usize,
    /// Channels of the output.
    pub outputs: usize,
    /// Height and width of the kernel, in pixels.
    pub kernel: usize,
    /// Step between two positions of the kernel, in pixels.
    pub stride: usize,
    /// Zeros at each edge of the input, in pixels.
    pub padding: usize,
    /// Number of groups; inputs and outputs are multiples of it.
    pub groups: usize,
    /// Whether a bias is added.
    pub has_bias: bool,
    /// Whether it ends a block's main path. `--zero-init-residual` then starts its weight at 0.
    pub ends_main_path: bool,
}

/// Batch norm over [N, H, W], with or without a ReLU after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Norm {
    /// torchvision's name.
    pub name: String,
    /// Channels of input and output.
    pub channels: usize,
    /// Whether a ReLU follows.
    pub relu: bool,
    /// Whether it ends a block's main path. `--zero-init-residual` then starts its scale at 0.
    pub ends_main_path: bool,
}

/// max(x, 0).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relu {
    /// Its name. torchvision has one module for all ReLUs of a block.
    pub name: String,
}

/// Max pooling with a square window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaxPool {
    /// torchvision's name.
    pub name: String,
    /// Height and width of the window, in pixels.
    pub kernel: usize,
    /// Step between two positions of the window, in pixels.
    pub stride: usize,
    /// Padding at each edge of the input, in pixels.
    pub padding: usize,
}

/// Mean over square windows that do not overlap. Windows at the right and lower edge may be smaller; only pixels of the
/// image count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AvgPool {
    /// timm's name.
    pub name: String,
    /// Height and width of the window, in pixels.
    pub window: usize,
}

/// Mean over each channel's pixels, [N, C, H, W] → [N, C, 1, 1].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GlobalAvgPool {
    /// torchvision's name.
    pub name: String,
}

/// [N, C, H, W] → [N, C·H·W].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flatten {
    /// Its name. torchvision has no module for this layer.
    pub name: String,
}

/// Affine map with a bias, [N, inputs] → [N, outputs].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Linear {
    /// torchvision's name.
    pub name: String,
    /// Features of the input.
    pub inputs: usize,
    /// Features of the output.
    pub outputs: usize,
}

/// Every `stride`-th pixel in both directions, followed by `new_channels` channels of zeros (He et al. 2016,
/// section 3.3, option A).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZeroPad {
    /// Its name. torchvision has no such layer.
    pub name: String,
    /// Distance between two pixels that are kept, in pixels.
    pub stride: usize,
    /// Number of zero channels that are added to the input's channels.
    pub new_channels: usize,
}

/// Multiplies each channel by a number between 0 and 1, which two small layers compute from the means of all channels
/// (Hu et al. 2018, section 3). [N, channels, H, W] → the same shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqueezeExcite {
    /// timm's name.
    pub name: String,
    /// Channels of input and output.
    pub channels: usize,
    /// Outputs of the first of the two layers.
    pub reduced: usize,
}

/// Multiplies each number by `factor`.
#[derive(Debug, Clone, PartialEq)]
pub struct Scale {
    /// Its name. torchvision has no such layer.
    pub name: String,
    /// The factor.
    pub factor: f64,
}

/// In training, sets each number to zero with the probability `rate`, and multiplies the others by 1 / (1 − rate)
/// (Srivastava et al. 2014). Otherwise the identity.
#[derive(Debug, Clone, PartialEq)]
pub struct Dropout {
    /// Its name, from which its random numbers follow.
    pub name: String,
    /// The probability.
    pub rate: f64,
}

/// In training, sets all numbers of an image to zero with the probability `rate`, and multiplies those of the other
/// images by 1 / (1 − rate). Otherwise the identity. At the end of a block's main path, this is stochastic depth (Huang
/// et al. 2016), drawn for each image, as in torchvision and timm.
#[derive(Debug, Clone, PartialEq)]
pub struct DropPath {
    /// Its name, from which its random numbers follow.
    pub name: String,
    /// The probability.
    pub rate: f64,
}

impl Layer {
    /// Its name: torchvision's, if torchvision has such a module.
    pub fn name(&self) -> &str {
        match self {
            Layer::Conv(Conv { name, .. })
            | Layer::Norm(Norm { name, .. })
            | Layer::Relu(Relu { name })
            | Layer::MaxPool(MaxPool { name, .. })
            | Layer::AvgPool(AvgPool { name, .. })
            | Layer::GlobalAvgPool(GlobalAvgPool { name })
            | Layer::Flatten(Flatten { name })
            | Layer::Linear(Linear { name, .. })
            | Layer::ZeroPad(ZeroPad { name, .. })
            | Layer::SqueezeExcite(SqueezeExcite { name, .. })
            | Layer::Scale(Scale { name, .. })
            | Layer::Dropout(Dropout { name, .. })
            | Layer::DropPath(DropPath { name, .. }) => name,
        }
    }
}

impl fmt::Display for Layer {
    /// A short description for users, such as `conv 7×7/2`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Layer::Conv(Conv { kernel, stride, .. }) => {
                write!(f, "conv {kernel}×{kernel}/{stride}")
            }
            Layer::Norm(Norm { relu: true, .. }) => write!(f, "batch norm, relu"),
            Layer::Norm(Norm { relu: false, .. }) => write!(f, "batch norm"),
            Layer::Relu(_) => write!(f, "relu"),
            Layer::MaxPool(MaxPool { kernel, stride, .. }) => {
                write!(f, "max pool {kernel}×{kernel}/{stride}")
            }
            Layer::AvgPool(AvgPool { window, .. }) => {
                write!(f, "average pool {window}×{window}/{window}")
            }
            Layer::GlobalAvgPool(_) => write!(f, "pool"),
            Layer::Flatten(_) => write!(f, "flatten"),
            Layer::Linear(_) => write!(f, "linear"),
            Layer::ZeroPad(ZeroPad { stride, .. }) => write!(f, "zero pad/{stride}"),
            Layer::SqueezeExcite(_) => write!(f, "squeeze-and-excitation"),
            Layer::Scale(Scale { factor, .. }) => write!(f, "scale {factor}"),
            Layer::Dropout(Dropout { rate, .. }) => write!(f, "dropout {rate}"),
            Layer::DropPath(DropPath { rate, .. }) => write!(f, "drop path {rate}"),
        }
    }
}
