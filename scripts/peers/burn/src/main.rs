//! A rival of `resnet bench`: torchvision's networks in burn, on its CPU backend flex.

#[path = "../../protocol.rs"]
mod protocol;

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Distribution, Int, Tensor};
use protocol::{CHANNELS, CLASSES, LEARNING_RATE, Mode, Options, WIDTH};
use std::error::Error;

#[derive(Module, Debug)]
struct ConvNorm {
    conv: Conv2d,
    norm: BatchNorm,
}

impl ConvNorm {
    fn new(plan: &protocol::Conv, device: &Device) -> Self {
        let pad = plan.kernel / 2;
        let conv = Conv2dConfig::new([plan.from, plan.to], [plan.kernel; 2])
            .with_stride([plan.stride; 2])
            .with_padding(PaddingConfig2d::Explicit(pad, pad, pad, pad))
            .with_bias(false);
        Self { conv: conv.init(device), norm: BatchNormConfig::new(plan.to).init(device) }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.norm.forward(self.conv.forward(x))
    }
}

#[derive(Module, Debug)]
struct Block {
    convs: Vec<ConvNorm>,
    projection: Option<ConvNorm>,
}

impl Block {
    fn new(plan: &protocol::Block, device: &Device) -> Self {
        Self {
            convs: plan.convs.iter().map(|conv| ConvNorm::new(conv, device)).collect(),
            projection: plan.projection.as_ref().map(|conv| ConvNorm::new(conv, device)),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let shortcut = match &self.projection {
            Some(projection) => projection.forward(x.clone()),
            None => x.clone(),
        };
        let mut y = x;
        for (place, conv) in self.convs.iter().enumerate() {
            y = conv.forward(if place == 0 { y } else { relu(y) });
        }
        relu(y + shortcut)
    }
}

#[derive(Module, Debug)]
struct ResNet {
    stem: ConvNorm,
    pool: MaxPool2d,
    blocks: Vec<Block>,
    head: Linear,
}

impl ResNet {
    fn new(depth: usize, device: &Device) -> Result<Self, String> {
        let stem = protocol::Conv { from: CHANNELS, to: WIDTH, kernel: 7, stride: 2 };
        let pool = MaxPool2dConfig::new([3, 3])
            .with_strides([2, 2])
            .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1));
        let blocks = protocol::blocks(depth)?;
        Ok(Self {
            stem: ConvNorm::new(&stem, device),
            pool: pool.init(),
            head: LinearConfig::new(protocol::features(&blocks), CLASSES).init(device),
            blocks: blocks.iter().map(|block| Block::new(block, device)).collect(),
        })
    }

    /// The logits `[N, 10]` of images `[N, 1, H, W]`.
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let stem = self.pool.forward(relu(self.stem.forward(images)));
        let x = self.blocks.iter().fold(stem, |x, block| block.forward(x));
        self.head.forward(x.mean_dims(&[2, 3]).flatten(1, 3))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::read();
    let device = match options.mode {
        Mode::Train => Device::flex().autodiff(),
        Mode::Inference => Device::flex(),
    };
    let net = ResNet::new(options.depth, &device)?;
    let count = options.batch_size;
    let normal = Distribution::Normal(0.0, 1.0);
    let images =
        Tensor::<4>::random([count, CHANNELS, options.size, options.size], normal, &device);
    match options.mode {
        Mode::Train => {
            let labels = Tensor::<1, Int>::arange(0..count as i64, &device) % CLASSES as i64;
            let loss = CrossEntropyLossConfig::new().init(&device);
            let momentum =
                MomentumConfig::new().with_momentum(0.9).with_dampening(0.0).with_nesterov(true);
            let mut sgd = SgdConfig::new()
                .with_momentum(Some(momentum))
                .with_weight_decay(Some(WeightDecayConfig::new(5e-4)))
                .init();
            // An update consumes the network and returns a new one.
            let mut net = Some(net);
            protocol::serve(|| {
                let current = net.take().ok_or("the step before failed")?;
                let loss = loss.forward(current.forward(images.clone()), labels.clone());
                let grads = GradientsParams::from_grads(loss.backward(), &current);
                net = Some(sgd.step(LEARNING_RATE, current, grads));
                Ok(device.sync()?)
            })
        }
        Mode::Inference => protocol::serve(|| {
            net.forward(images.clone());
            Ok(device.sync()?)
        }),
    }
}
