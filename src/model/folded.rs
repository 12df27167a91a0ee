//! A network for inference alone: batch norm is folded into the convolutions, which also do the ReLU and
//! the block's sum (docs/decisions/0014).

use super::layers::{BatchNorm2d, GlobalAvgPool, MaxPool, ZeroPad};
use super::network::Network;
use super::parameters::Layout;
use super::spec::{Block, Stem};
use crate::kernels::PreparedConvolution;
use crate::precision::multiplied_in;
use std::collections::HashMap;
use tch::nn::ModuleT;
use tch::{Device, Kind, Tensor};

/// Images that are enough to find out that a network has diverged.
const LOOKED_AT: i64 = 16;

/// A network with its weights as they are now, for as long as they stay so.
#[derive(Debug)]
pub struct Folded<'a> {
    network: &'a Network,
    /// None where fused convolutions cannot be had: on a GPU, in row-major order or without oneDNN.
    fused: Option<Fused>,
}

impl<'a> Folded<'a> {
    /// Freezes a network for images of `kind`.
    pub fn new(network: &'a Network, kind: Kind) -> Self {
        let can = network.device() == Device::Cpu
            && network.layout() == Layout::ChannelsLast
            && multiplied_in(kind, Device::Cpu) == kind;
        let fused = can.then(|| tch::no_grad(|| Fused::new(network, kind))).flatten();
        Self { network, fused }
    }

    /// The network itself.
    pub fn plain(network: &'a Network) -> Self {
        Self { network, fused: None }
    }

    /// Whether the network makes something of the first of these images that is no number, and whose place a
    /// 0 would take here: such is oneDNN's ReLU of a NaN, and it would hide that a network has diverged.
    pub fn hides_a_nan(&self, images: &Tensor) -> bool {
        let looked_at = images.size().first().map_or(0, |&count| count.min(LOOKED_AT));
        self.fused.is_some() && {
            let logits = self.network.forward(&images.narrow(0, 0, looked_at), false);
            logits.isfinite().all().int64_value(&[]) == 0
        }
    }

    /// Logits of a batch: [N, channels, size, size] → floats [N, classes], to rounding those of
    /// [`Network::forward`] in evaluation mode.
    pub fn forward(&self, images: &Tensor) -> Tensor {
        let fused = self.fused.as_ref().and_then(|fused| tch::no_grad(|| fused.forward(images)));
        // The network itself says what is wrong where oneDNN could not.
        fused.unwrap_or_else(|| self.network.forward(images, false))
    }
}

/// A network of fused convolutions.
#[derive(Debug)]
pub struct Fused {
    stem: PreparedConvolution,
    pool: Option<MaxPool>,
    blocks: Vec<FusedBlock>,
    weight: Tensor,
    bias: Tensor,
}

#[derive(Debug)]
struct FusedBlock {
    /// All convolutions but the last, each followed by ReLU.
    main: Vec<PreparedConvolution>,
    /// The last one, followed by the sum and ReLU.
    last: PreparedConvolution,
    shortcut: FusedShortcut,
}

#[derive(Debug)]
enum FusedShortcut {
    Identity,
    Convolution(PreparedConvolution),
    ZeroPad(ZeroPad),
}

impl Fused {
    fn new(network: &Network, kind: Kind) -> Option<Self> {
        let spec = network.spec();
        let parameters = network.parameters().iter();
        let tensors = parameters.map(|parameter| (parameter.name.as_str(), &parameter.tensor));
        let fuse = Fuse { tensors: tensors.collect(), kind };
        let (stride, pool) = match spec.stem {
            Stem::Imagenet => (2, Some(MaxPool)),
            Stem::Cifar => (1, None),
        };
        let stem = fuse.convolution("conv1", "bn1", stride)?;
        let mut blocks = Vec::new();
        for (stage, &count) in spec.blocks.iter().enumerate() {
            for block in 0..count {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                let name = format!("layer{}.{block}", stage + 1);
                blocks.push(fuse.block(&name, spec.block, stride)?);
            }
        }
        let detached = |name| Some(fuse.tensors.get(name)?.detach());
        Some(Self {
            stem,
            pool,
            blocks,
            weight: detached("fc.weight")?,
            bias: detached("fc.bias")?,
        })
    }

    fn forward(&self, images: &Tensor) -> Option<Tensor> {
        let mut xs = self.stem.forward(&Layout::ChannelsLast.apply(images), None, true).ok()?;
        if let Some(pool) = &self.pool {
            xs = pool.forward_t(&xs, false);
        }
        for block in &self.blocks {
            xs = block.forward(&xs)?;
        }
        let features = GlobalAvgPool.forward_t(&xs, false).flatten(1, -1);
        let features = features.to_kind(self.weight.kind());
        Some(features.linear(&self.weight, Some(&self.bias)))
    }
}

impl FusedBlock {
    fn forward(&self, xs: &Tensor) -> Option<Tensor> {
        let shortcut = match &self.shortcut {
            FusedShortcut::Identity => xs.shallow_clone(),
            FusedShortcut::Convolution(convolution) => convolution.forward(xs, None, false).ok()?,
            FusedShortcut::ZeroPad(zero_pad) => zero_pad.forward_t(xs, false),
        };
        let mut ys = xs.shallow_clone();
        for convolution in &self.main {
            ys = convolution.forward(&ys, None, true).ok()?;
        }
        self.last.forward(&ys, Some(&shortcut), true).ok()
    }
}

/// The tensors of a network, on their way into fused convolutions.
struct Fuse<'a> {
    tensors: HashMap<&'a str, &'a Tensor>,
    kind: Kind,
}

impl Fuse<'_> {
    /// The block of that name.
    fn block(&self, name: &str, kind: Block, stride: i64) -> Option<FusedBlock> {
        let strides: &[i64] = match kind {
            Block::Basic => &[stride, 1],
            Block::Bottleneck => &[1, stride, 1],
        };
        let mut main = Vec::new();
        for (index, &stride) in (1..).zip(strides) {
            let (conv, bn) = (format!("{name}.conv{index}"), format!("{name}.bn{index}"));
            main.push(self.convolution(&conv, &bn, stride)?);
        }
        let last = main.pop()?;
        let channels = |conv: usize, dimension: usize| {
            let weight = self.tensors.get(format!("{name}.conv{conv}.weight").as_str())?;
            weight.size().get(dimension).copied()
        };
        let new_channels = channels(strides.len(), 0)? - channels(1, 1)?;
        let (conv, bn) = (format!("{name}.downsample.0"), format!("{name}.downsample.1"));
        let shortcut = if self.tensors.contains_key(format!("{conv}.weight").as_str()) {
            FusedShortcut::Convolution(self.convolution(&conv, &bn, stride)?)
        } else if stride == 1 && new_channels == 0 {
            FusedShortcut::Identity
        } else {
            let (stride, new_channels) = (stride as usize, new_channels as usize);
            FusedShortcut::ZeroPad(ZeroPad { stride, new_channels })
        };
        Some(FusedBlock { main, last, shortcut })
    }

    /// The convolution of that name, with the batch norm behind it if there is one of that name.
    fn convolution(&self, conv: &str, norm: &str, stride: i64) -> Option<PreparedConvolution> {
        let tensor = |of: &str, name: &str| self.tensors.get(format!("{of}.{name}").as_str());
        let weight = tensor(conv, "weight")?;
        let [outputs, _, kernel, _] = weight.size()[..] else { return None };
        let bias = match tensor(conv, "bias") {
            Some(bias) => bias.detach(),
            None => Tensor::zeros([outputs], (weight.kind(), weight.device())),
        };
        let (weight, bias) = match tensor(norm, "running_var") {
            None => (weight.detach(), bias),
            Some(variance) => {
                let scale = *tensor(norm, "weight")? / (*variance + BatchNorm2d::EPSILON).sqrt();
                let bias =
                    (bias - *tensor(norm, "running_mean")?) * &scale + *tensor(norm, "bias")?;
                (*weight * scale.view([-1, 1, 1, 1]), bias)
            }
        };
        let (weight, bias) = (weight.to_kind(self.kind), bias.to_kind(self.kind));
        Some(PreparedConvolution::new(weight, bias, kernel / 2, stride))
    }
}

#[cfg(test)]
mod tests {
    use super::super::parameters::{Creation, Role};
    use super::super::spec::{Choices, Init, Shortcut, Spec};
    use super::*;

    /// A network with statistics and scales that are not those of the start.
    fn network(choices: Choices) -> Network {
        let spec = Spec::resolve(&Choices { channels: 3, classes: 7, ..choices }).unwrap();
        let device = Device::Cpu;
        let draw = Creation::Draw { init: Init::He, zero_init_residual: false, seed: 1, device };
        let network = Network::new(&spec, draw);
        for parameter in network.parameters() {
            if parameter.tensor.dim() == 1 && parameter.role != Role::Weight {
                let count = parameter.tensor.numel() as i64;
                let values =
                    Tensor::arange(count, (Kind::Float, device)) / count as f64 * 0.5 + 0.5;
                tch::no_grad(|| parameter.tensor.shallow_clone().copy_(&values));
            }
        }
        network
    }

    #[test]
    fn a_folded_network_answers_as_the_network_does() {
        for (choices, fused) in [
            (Choices { depth: Some(18), width: Some(8), size: 33, ..Choices::default() }, true),
            (Choices { depth: Some(50), width: Some(8), size: 40, ..Choices::default() }, true),
            (Choices { depth: Some(20), size: 13, ..Choices::default() }, true),
            (
                Choices {
                    depth: Some(20),
                    shortcut: Some(Shortcut::ZeroPad),
                    size: 16,
                    ..Choices::default()
                },
                true,
            ),
            (
                Choices {
                    depth: Some(18),
                    width: Some(8),
                    shortcut: Some(Shortcut::PlainConv),
                    size: 40,
                    ..Choices::default()
                },
                true,
            ),
            (Choices { depth: Some(18), width: Some(4), size: 40, ..Choices::default() }, false),
        ] {
            let network = network(choices);
            for (kind, tolerance) in
                [(Kind::Float, 1e-5), (Kind::BFloat16, 0.05), (Kind::Half, 0.01)]
            {
                let folded = Folded::new(&network, kind);
                assert_eq!(
                    folded.fused.is_some(),
                    fused && multiplied_in(kind, Device::Cpu) == kind
                );
                for count in [4, 3, 1] {
                    let size = network.spec().size as i64;
                    let images = Tensor::randn([count, 3, size, size], (Kind::Float, Device::Cpu));
                    let expected = tch::no_grad(|| network.forward(&images, false));
                    let images = images.to_kind(kind);
                    let plain = tch::no_grad(|| network.forward(&images, false));
                    // oneDNN takes brain floats on some processors only.
                    if fused && kind == Kind::Float && tch::utils::has_mkldnn() {
                        let fused = folded.fused.as_ref().unwrap();
                        assert!(tch::no_grad(|| fused.forward(&images)).is_some());
                    }
                    for answer in [plain, folded.forward(&images)] {
                        assert_eq!(answer.kind(), Kind::Float);
                        let error = (answer - &expected).abs().max() / expected.abs().max();
                        let error = error.double_value(&[]);
                        assert!(error < tolerance, "{}, {kind:?}: {error}", network.spec());
                    }
                }
            }
        }
    }
}
