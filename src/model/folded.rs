//! A network for inference only: batch norm is folded into the convolutions. The convolutions also compute the block's
//! sum and the ReLU (docs/decisions/0014).

use super::layers::{BatchNorm2d, Linear, SqueezeExcite, geometry};
use super::module::{Mode, Module, Pass};
use super::network::Network;
use super::parameters::{Layout, Parameter};
use super::plan::{self, BlockPlan, Conv, Layer, Norm, Plan, PlannedTensor};
use crate::kernels::PreparedConvolution;
use crate::precision::multiplied_in;
use anyhow::{Result, anyhow};
use std::collections::HashMap;
use tch::{Device, Kind, Tensor};

/// This number of images is enough to find out that a network has diverged.
const CHECKED_IMAGES: i64 = 16;

/// A network with the weights that it had when it was folded. It must not be trained after folding.
#[derive(Debug)]
pub struct Folded {
    network: Network,
    /// `None` if fused convolutions are not available: on a GPU, in row-major order, or in a dtype that the CPU cannot
    /// multiply.
    fused: Option<Fused>,
}

impl Folded {
    /// Folds a network for images of the dtype `kind`.
    ///
    /// # Errors
    /// The plan cannot be folded, or folding does not use a tensor of the network.
    pub fn new(network: &Network, kind: Kind) -> Result<Self> {
        let can = network.device() == Device::Cpu
            && network.layout() == Layout::ChannelsLast
            && multiplied_in(kind, Device::Cpu) == kind;
        let fuse = || tch::no_grad(|| Fused::new(network.plan(), network.parameters(), kind));
        let fused = if can { Some(fuse()?) } else { None };
        Ok(Self { network: network.clone(), fused })
    }

    /// Folds a network for images like these, [N, channels, size, size]. If folding would hide that the network has
    /// diverged, the network is not folded.
    ///
    /// # Errors
    /// As for [`Folded::new`].
    pub fn for_images(network: &Network, images: &Tensor) -> Result<Self> {
        let folded = Self::new(network, images.kind())?;
        Ok(if folded.hides_divergence(images) { Self::plain(network) } else { folded })
    }

    /// The network itself, without folding.
    pub fn plain(network: &Network) -> Self {
        Self { network: network.clone(), fused: None }
    }

    /// Whether folded inference would hide that the network has diverged. oneDNN's ReLU turns NaN into 0, so folded
    /// logits can be finite although the network's own logits are not. This computes the network's own logits of the
    /// first of these images [N, channels, size, size], and returns true if a logit is not finite. `false` without
    /// folding.
    fn hides_divergence(&self, images: &Tensor) -> bool {
        let checked = images.size().first().map_or(0, |&count| count.min(CHECKED_IMAGES));
        self.fused.is_some() && {
            let logits = self.network.forward(&images.narrow(0, 0, checked), Mode::Evaluate);
            logits.isfinite().all().int64_value(&[]) == 0
        }
    }

    /// Logits of a batch: [N, channels, size, size] → floats [N, classes]. Except for rounding, they equal the logits
    /// of [`Network::forward`] in evaluation mode.
    ///
    /// # Panics
    /// Panics like tch's own operations if an operation of libtorch fails.
    pub fn forward(&self, images: &Tensor) -> Tensor {
        let fused = self.fused.as_ref().and_then(|fused| tch::no_grad(|| fused.forward(images)));
        // If a prepared convolution fails, such as for want of memory, the unfolded network computes the logits, or fails
        // with libtorch's message.
        fused.unwrap_or_else(|| self.network.forward(images, Mode::Evaluate))
    }
}

/// The steps of a folded network.
#[derive(Debug)]
struct Fused {
    stem: Vec<Step>,
    blocks: Vec<FusedBlock>,
    head: Vec<Step>,
}

#[derive(Debug)]
struct FusedBlock {
    before: Vec<Step>,
    main: Vec<Step>,
    sum: Sum,
    after: Vec<Step>,
}

/// How a block's paths are added.
#[derive(Debug)]
enum Sum {
    /// There is no shortcut.
    None,
    /// The sum with the shortcut.
    Plain(Vec<Step>),
    /// The convolution that ends the main path also computes the sum with the shortcut, and the ReLU after it.
    Convolution { convolution: PreparedConvolution, shortcut: Vec<Step>, relu: bool },
}

#[derive(Debug)]
enum Step {
    Convolution {
        convolution: PreparedConvolution,
        relu: bool,
    },
    /// A layer that is computed as in the network.
    Plain(Box<dyn Module>),
}

impl Fused {
    /// Folds the network of `plan` with all of its `parameters`.
    fn new(plan: &Plan, parameters: &[Parameter], kind: Kind) -> Result<Self> {
        let tensors = parameters.iter().map(|p| (p.name.as_str(), &p.tensor));
        let mut weights = Weights { unused: tensors.collect(), kind };
        let stem = weights.path(&plan.stem)?;
        let blocks = plan.blocks().map(|block| weights.block(block)).collect::<Result<_>>()?;
        let fused = Self { stem, blocks, head: weights.path(&plan.head)? };
        match parameters.iter().find(|p| weights.unused.contains_key(p.name.as_str())) {
            None => Ok(fused),
            Some(Parameter { name, .. }) => Err(anyhow!(
                "folded inference does not use the tensor {name} of this network, so its logits would be wrong"
            )),
        }
    }

    /// `None` if a prepared convolution fails.
    fn forward(&self, images: &Tensor) -> Option<Tensor> {
        let mut xs = run(&self.stem, &Layout::ChannelsLast.apply(images))?;
        for block in &self.blocks {
            xs = block.forward(&xs)?;
        }
        run(&self.head, &xs)
    }
}

impl FusedBlock {
    fn forward(&self, xs: &Tensor) -> Option<Tensor> {
        let xs = run(&self.before, xs)?;
        let ys = run(&self.main, &xs)?;
        let sum = match &self.sum {
            Sum::None => ys,
            Sum::Plain(shortcut) => ys + run(shortcut, &xs)?,
            Sum::Convolution { convolution, shortcut, relu } => {
                convolution.forward(&ys, Some(&run(shortcut, &xs)?), *relu).ok()?
            }
        };
        run(&self.after, &sum)
    }
}

fn run(steps: &[Step], xs: &Tensor) -> Option<Tensor> {
    let mut ys = xs.shallow_clone();
    for step in steps {
        ys = match step {
            Step::Convolution { convolution, relu } => {
                convolution.forward(&ys, None, *relu).ok()?
            }
            Step::Plain(module) => module.forward(&ys, Pass::EVALUATION),
        };
    }
    Some(ys)
}

/// The tensors of a network by name. Folding takes each tensor once.
struct Weights<'a> {
    unused: HashMap<&'a str, &'a Tensor>,
    /// The dtype of the folded weights.
    kind: Kind,
}

impl Weights<'_> {
    fn take(&mut self, planned: &PlannedTensor) -> Result<Tensor> {
        let tensor = self.unused.remove(planned.name.as_str());
        let tensor = tensor.filter(|tensor| tensor.size() == planned.shape);
        let missing = || {
            let PlannedTensor { name, shape, .. } = planned;
            anyhow!(
                "folded inference needs a tensor {name} of shape {shape:?}, which this network does not have"
            )
        };
        Ok(tensor.ok_or_else(missing)?.detach())
    }

    fn block(&mut self, block: &BlockPlan) -> Result<FusedBlock> {
        let before = self.path(&block.before)?;
        let Some(shortcut) = &block.shortcut else {
            let layers: Vec<Layer> = block.main.iter().chain(&block.after).cloned().collect();
            let main = self.path(&layers)?;
            return Ok(FusedBlock { before, main, sum: Sum::None, after: Vec::new() });
        };
        // Layers that have an effect in training only.
        let is_computed = |layer: &&Layer| !matches!(layer, Layer::Dropout(_) | Layer::DropPath(_));
        let main: Vec<Layer> = block.main.iter().filter(is_computed).cloned().collect();
        let (main, last) = match main.as_slice() {
            [main @ .., Layer::Conv(conv), Layer::Norm(norm)] if !norm.relu => {
                (main, Some((conv, Some(norm))))
            }
            [main @ .., Layer::Conv(conv)] => (main, Some((conv, None))),
            main => (main, None),
        };
        let main = self.path(main)?;
        let shortcut = self.path(shortcut)?;
        let Some((conv, norm)) = last else {
            let (sum, after) = (Sum::Plain(shortcut), self.path(&block.after)?);
            return Ok(FusedBlock { before, main, sum, after });
        };
        let convolution = self.convolution(conv, norm)?;
        let (relu, after) = match block.after.split_first() {
            Some((Layer::Relu(_), after)) => (true, after),
            _ => (false, block.after.as_slice()),
        };
        let sum = Sum::Convolution { convolution, shortcut, relu };
        Ok(FusedBlock { before, main, sum, after: self.path(after)? })
    }

    fn path(&mut self, layers: &[Layer]) -> Result<Vec<Step>> {
        let mut steps = Vec::new();
        let mut layers = layers.iter().peekable();
        while let Some(layer) = layers.next() {
            steps.push(match layer {
                Layer::Conv(conv) => {
                    let norm = match layers.peek() {
                        Some(Layer::Norm(norm)) => Some(norm),
                        _ => None,
                    };
                    let convolution = self.convolution(conv, norm)?;
                    if norm.is_some() {
                        layers.next();
                    }
                    let relu = norm.is_some_and(|norm| norm.relu)
                        || layers.next_if(|layer| matches!(layer, Layer::Relu(_))).is_some();
                    Step::Convolution { convolution, relu }
                }
                // No convolution comes before it, as at the start of a pre-activation block.
                Layer::Norm(norm) => Step::Plain(Box::new(self.norm(norm)?)),
                Layer::Linear(linear) => Step::Plain(Box::new(self.linear(linear)?)),
                Layer::SqueezeExcite(gate) => {
                    let [weight1, bias1, weight2, bias2] = gate.tensors();
                    let tensors = [
                        self.take(&weight1)?,
                        self.take(&bias1)?,
                        self.take(&weight2)?,
                        self.take(&bias2)?,
                    ];
                    Step::Plain(Box::new(SqueezeExcite { tensors }))
                }
                Layer::Relu(relu) => Step::Plain(Box::new(relu.clone())),
                Layer::Scale(scale) => Step::Plain(Box::new(scale.clone())),
                Layer::MaxPool(pool) => Step::Plain(Box::new(pool.clone())),
                Layer::AvgPool(pool) => Step::Plain(Box::new(pool.clone())),
                // They have an effect in training only.
                Layer::Dropout(_) | Layer::DropPath(_) => continue,
                Layer::GlobalAvgPool(pool) => Step::Plain(Box::new(pool.clone())),
                Layer::Flatten(flatten) => Step::Plain(Box::new(flatten.clone())),
                Layer::ZeroPad(pad) => Step::Plain(Box::new(pad.clone())),
            });
        }
        Ok(steps)
    }

    /// A convolution with the batch norm after it, if there is one.
    fn convolution(&mut self, conv: &Conv, norm: Option<&Norm>) -> Result<PreparedConvolution> {
        let weight = self.take(&conv.weight())?;
        let bias = match conv.bias() {
            Some(bias) => self.take(&bias)?,
            None => Tensor::zeros([conv.outputs as i64], (weight.kind(), weight.device())),
        };
        let (weight, bias) = match norm {
            None => (weight, bias),
            Some(norm) => {
                let [scale, shift, mean, variance] = norm.tensors();
                let scale =
                    self.take(&scale)? / (self.take(&variance)? + BatchNorm2d::EPSILON).sqrt();
                let bias = (bias - self.take(&mean)?) * &scale + self.take(&shift)?;
                (weight * scale.view([-1, 1, 1, 1]), bias)
            }
        };
        let (weight, bias) = (weight.to_kind(self.kind), bias.to_kind(self.kind));
        Ok(PreparedConvolution::new(weight, bias, geometry(conv)))
    }

    fn norm(&mut self, norm: &Norm) -> Result<BatchNorm2d> {
        let [weight, bias, running_mean, running_var] = norm.tensors();
        Ok(BatchNorm2d {
            weight: self.take(&weight)?,
            bias: self.take(&bias)?,
            running_mean: self.take(&running_mean)?,
            running_var: self.take(&running_var)?,
            relu: norm.relu,
        })
    }

    fn linear(&mut self, linear: &plan::Linear) -> Result<Linear> {
        let [weight, bias] = linear.tensors();
        Ok(Linear { weight: self.take(&weight)?, bias: self.take(&bias)? })
    }
}

#[cfg(test)]
mod tests {
    use super::super::parameters::{Creation, Role};
    use super::super::spec::{Choices, Init, Spec, examples};
    use super::*;

    /// A network with statistics and scales that differ from the initial ones.
    fn network(spec: &Spec) -> Network {
        let device = Device::Cpu;
        let draw = Creation::Draw { init: Init::He, zero_init_residual: false, seed: 1, device };
        let network = Network::new(spec, draw);
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

    fn small(choices: Choices) -> Spec {
        Spec::resolve(&Choices { channels: 3, classes: 7, ..choices }).unwrap()
    }

    #[test]
    fn a_folded_network_gives_the_logits_of_the_network() {
        let named = [
            small(Choices { depth: Some(18), width: Some(8), size: 33, ..Choices::default() }),
            small(Choices { depth: Some(50), width: Some(8), size: 40, ..Choices::default() }),
            small(Choices { depth: Some(20), size: 13, ..Choices::default() }),
        ];
        for spec in examples().iter().chain(&named) {
            let network = network(spec);
            let fused = network.layout() == Layout::ChannelsLast;
            for (kind, tolerance) in
                [(Kind::Float, 1e-5), (Kind::BFloat16, 0.05), (Kind::Half, 0.01)]
            {
                let folded = Folded::new(&network, kind).unwrap();
                assert_eq!(
                    folded.fused.is_some(),
                    fused && multiplied_in(kind, Device::Cpu) == kind
                );
                for count in [4, 3, 1] {
                    let size = network.spec().size as i64;
                    let images = Tensor::randn([count, 3, size, size], (Kind::Float, Device::Cpu));
                    let expected = tch::no_grad(|| network.forward(&images, Mode::Evaluate));
                    let images = images.to_kind(kind);
                    let plain = tch::no_grad(|| network.forward(&images, Mode::Evaluate));
                    // oneDNN supports bf16 on some processors only.
                    if fused && kind == Kind::Float && tch::utils::has_mkldnn() {
                        let fused = folded.fused.as_ref().unwrap();
                        assert!(tch::no_grad(|| fused.forward(&images)).is_some());
                    }
                    for answer in [plain, folded.forward(&images)] {
                        assert_eq!(answer.kind(), Kind::Float);
                        let error = (answer - &expected).abs().max() / expected.abs().max();
                        let error = error.double_value(&[]);
                        assert!(error < tolerance, "{spec}, {kind:?}: {error}");
                    }
                }
            }
        }
    }

    #[test]
    fn folding_refuses_a_network_unless_it_uses_every_tensor() {
        let network = network(&small(Choices { depth: Some(20), size: 16, ..Choices::default() }));
        let plan = network.plan();
        let copies = || -> Vec<Parameter> {
            let copy = |p: &Parameter| Parameter {
                name: p.name.clone(),
                role: p.role,
                tensor: p.tensor.shallow_clone(),
            };
            network.parameters().iter().map(copy).collect()
        };
        let refusal = |plan: &Plan, parameters: &[Parameter]| {
            let fused = tch::no_grad(|| Fused::new(plan, parameters, Kind::Float));
            fused.unwrap_err().to_string()
        };
        assert!(tch::no_grad(|| Fused::new(plan, &copies(), Kind::Float)).is_ok());

        let mut more = copies();
        let name = "layer1.0.se.fc1.weight".to_owned();
        let tensor = Tensor::zeros([1, 16], (Kind::Float, Device::Cpu));
        more.insert(5, Parameter { name: name.clone(), role: Role::Weight, tensor });
        assert!(refusal(plan, &more).contains(&name));

        // A block without the tensors of its projection must not pass as a block with zero padding.
        let mut fewer = copies();
        fewer.retain(|p| p.name != "layer2.0.downsample.0.weight");
        assert!(refusal(plan, &fewer).contains("layer2.0.downsample.0.weight"));
    }
}
