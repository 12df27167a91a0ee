//! A rival of `resnet bench`: torchvision's networks in candle, on a CPU.

#[path = "../../protocol.rs"]
mod protocol;

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{
    BatchNorm, Conv2d, Conv2dConfig, Linear, Module, ModuleT, Optimizer, SGD, VarBuilder, VarMap,
    batch_norm, conv2d_no_bias, linear,
};
use protocol::{CHANNELS, CLASSES, LEARNING_RATE, Mode, Options, WIDTH};
use std::error::Error;

/// A convolution and its batch norm. In inference, the batch norm is folded into the convolution.
enum ConvNorm {
    Train(Conv2d, BatchNorm),
    Folded(Conv2d),
}

impl ConvNorm {
    fn new(plan: &protocol::Conv, mode: Mode, vars: VarBuilder) -> Result<Self> {
        let config =
            Conv2dConfig { stride: plan.stride, padding: plan.kernel / 2, ..Default::default() };
        let conv = conv2d_no_bias(plan.from, plan.to, plan.kernel, config, vars.pp("conv"))?;
        let norm = batch_norm(plan.to, 1e-5, vars.pp("norm"))?;
        Ok(match mode {
            Mode::Train => Self::Train(conv, norm),
            Mode::Inference => {
                let folded = conv.absorb_bn(&norm)?;
                // Detached from the variables, so that no gradient graph is kept.
                let bias = folded.bias().map(Tensor::detach);
                Self::Folded(Conv2d::new(folded.weight().detach(), bias, config))
            }
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Train(conv, norm) => norm.forward_t(&conv.forward(x)?, true),
            Self::Folded(conv) => conv.forward(x),
        }
    }
}

struct Block {
    convs: Vec<ConvNorm>,
    projection: Option<ConvNorm>,
}

impl Block {
    fn new(plan: &protocol::Block, mode: Mode, vars: VarBuilder) -> Result<Self> {
        let convs = plan.convs.iter().enumerate();
        let projection = plan.projection.as_ref();
        Ok(Self {
            convs: convs
                .map(|(i, conv)| ConvNorm::new(conv, mode, vars.pp(i)))
                .collect::<Result<_>>()?,
            projection: projection
                .map(|conv| ConvNorm::new(conv, mode, vars.pp("projection")))
                .transpose()?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let shortcut = match &self.projection {
            Some(projection) => projection.forward(x)?,
            None => x.clone(),
        };
        let mut y = x.clone();
        for (place, conv) in self.convs.iter().enumerate() {
            y = conv.forward(&if place == 0 { y } else { y.relu()? })?;
        }
        (y + shortcut)?.relu()
    }
}

struct ResNet {
    mode: Mode,
    stem: ConvNorm,
    blocks: Vec<Block>,
    head: Linear,
}

impl ResNet {
    fn new(plan: &[protocol::Block], mode: Mode, vars: VarBuilder) -> Result<Self> {
        let stem = protocol::Conv { from: CHANNELS, to: WIDTH, kernel: 7, stride: 2 };
        let blocks = plan.iter().enumerate();
        Ok(Self {
            mode,
            stem: ConvNorm::new(&stem, mode, vars.pp("stem"))?,
            blocks: blocks
                .map(|(i, block)| Block::new(block, mode, vars.pp(i)))
                .collect::<Result<_>>()?,
            head: linear(protocol::features(plan), CLASSES, vars.pp("head"))?,
        })
    }

    /// The logits `[N, 10]` of images `[N, 1, H, W]`.
    fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let stem = max_pool(&self.stem.forward(images)?.relu()?, self.mode)?;
        let x = self.blocks.iter().try_fold(stem, |x, block| block.forward(&x))?;
        self.head.forward(&x.mean((2, 3))?)
    }
}

/// Max pooling, 3×3, stride 2, padding 1. `x` is the output of a ReLU, so padding with zeros is right.
fn max_pool(x: &Tensor, mode: Mode) -> Result<Tensor> {
    match mode {
        // Candle's own max pooling has no gradient if windows overlap.
        Mode::Train => max_of_three(&max_of_three(x, 2)?, 3),
        Mode::Inference => {
            x.pad_with_zeros(2, 1, 1)?.pad_with_zeros(3, 1, 1)?.max_pool2d_with_stride(3, 2)
        }
    }
}

/// The maximum of elements 2i - 1, 2i and 2i + 1 of a dimension, for each i.
fn max_of_three(x: &Tensor, dim: usize) -> Result<Tensor> {
    let count = x.dim(dim)?.div_ceil(2);
    let mut shape = x.dims().to_vec();
    shape[dim] = count + 1;
    shape.insert(dim + 1, 2);
    let pairs = x.pad_with_zeros(dim, 1, 2 * count + 1 - x.dim(dim)?)?.reshape(shape)?;
    let part =
        |from, which| pairs.narrow(dim, from, count)?.narrow(dim + 1, which, 1)?.squeeze(dim + 1);
    part(0, 0)?.maximum(&part(0, 1)?)?.maximum(&part(1, 0)?)
}

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let options = Options::read();
    let (count, size) = (options.batch_size, options.size);
    let images = Tensor::randn(0f32, 1.0, (count, CHANNELS, size, size), &Device::Cpu)?;
    let plan = protocol::blocks(options.depth)?;
    let weights = VarMap::new();
    let vars = VarBuilder::from_varmap(&weights, DType::F32, &Device::Cpu);
    let net = ResNet::new(&plan, options.mode, vars)?;
    match options.mode {
        Mode::Train => {
            let labels = (0..count).map(|image| (image % CLASSES) as u32);
            let labels = Tensor::from_iter(labels, &Device::Cpu)?;
            // Candle's SGD has neither momentum nor weight decay, so its update is a little less work.
            let mut sgd = SGD::new(weights.all_vars(), LEARNING_RATE)?;
            protocol::serve(|| {
                let loss = candle_nn::loss::cross_entropy(&net.forward(&images)?, &labels)?;
                Ok(sgd.backward_step(&loss)?)
            })
        }
        Mode::Inference => protocol::serve(|| {
            net.forward(&images)?;
            Ok(())
        }),
    }
}
