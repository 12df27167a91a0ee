//! Compares networks, optimizer, preprocessing and training loop with PyTorch and torchvision.
//!
//! `scripts/golden.py` writes the files. `RESNET_GOLDEN` can name a folder with other networks, such as the networks
//! of full width that `scripts/golden.py --full` writes.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "clippy allows it in tests, but not in their helpers"
)]

use resnet::data::Images;
use resnet::data::augment::Augment;
use resnet::data::dataset::Dataset;
use resnet::data::order::epoch_order;
use resnet::data::preprocess::Preprocess;
use resnet::model::parameters::{Creation, Parameter, Role};
use resnet::model::spec::{Block, Placement, Spec};
use resnet::model::{Mode, Network, Noise, Plan};
use resnet::random::name_index;
use resnet::train::epoch::EpochSums;
use resnet::train::optimizer::{Hyperparameters, Optimizer};
use resnet::train::recipe::OptimizerOptions;
use resnet::train::schedule::ScheduleKind;
use resnet::train::{Recipe, Trainer};
use safetensors::SafeTensors;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Reduction, Tensor};

/// Largest allowed relative error in float32.
const SINGLE: f64 = 1e-4;
/// Largest allowed relative error in float64. The references are stored in float32.
const DOUBLE: f64 = 1e-6;

// --- What scripts/golden.py writes ----------------------------------------------------------------

/// A golden file. `case` is its metadata. The tensors are flattened.
struct Golden<C> {
    case: C,
    tensors: BTreeMap<String, Tensor>,
}

impl<C: DeserializeOwned> Golden<C> {
    fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap();
        let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        let case = serde_json::from_str(&metadata.metadata().as_ref().unwrap()["case"]).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let tensors =
            tensors.iter().map(|(name, view)| (name.to_owned(), floats(view.data()))).collect();
        Self { case, tensors }
    }
}

fn floats(bytes: &[u8]) -> Tensor {
    Tensor::from_data_size(bytes, &[(bytes.len() / size_of::<f32>()) as i64], Kind::Float)
}

#[derive(Deserialize)]
struct NetworkCase {
    seed: u64,
    spec: Spec,
    sgd: SgdCase,
    rate: f64,
    label_smoothing: f64,
    batch_size: i64,
    steps: usize,
    /// The approximate number of values of each tensor that the file holds after the last step.
    sample: i64,
    /// torchvision's names and shapes, in its order.
    tensors: Vec<(String, Vec<i64>)>,
    /// Whether every ReLU's input is so far from zero that float32 gets the same gradient as float64.
    steady: bool,
    /// Relative errors of PyTorch in float32, compared with PyTorch in float64.
    float32_errors: BTreeMap<String, f64>,
}

#[derive(Deserialize)]
struct SgdCase {
    momentum: f64,
    nesterov: bool,
    weight_decay: f64,
    decay_all: bool,
}

impl SgdCase {
    fn options(&self) -> OptimizerOptions {
        OptimizerOptions {
            momentum: self.momentum,
            nesterov: self.nesterov,
            weight_decay: self.weight_decay,
            decay_all: self.decay_all,
            ..OptimizerOptions::default()
        }
    }
}

#[derive(Deserialize)]
struct PreprocessCase {
    seed: u64,
    shape: [usize; 4],
    sizes: Vec<usize>,
    mean: Vec<f32>,
    std: Vec<f32>,
}

#[derive(Deserialize)]
struct TrainingCase {
    seed: u64,
    spec: Spec,
    sgd: SgdCase,
    rate: f64,
    label_smoothing: f64,
    batch_size: usize,
    accumulate: usize,
    clip_grad_norm: f64,
    shape: [usize; 4],
    mean: Vec<f32>,
    std: Vec<f32>,
}

fn golden_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The numbers that `Draw` in scripts/golden.py derives from the same seed and names.
struct Draw {
    seed: u64,
}

impl Draw {
    fn bits(&self, name: &str, count: usize) -> impl Iterator<Item = u64> + use<> {
        let start = name_index(&format!("{}/{name}", self.seed));
        (1..=count as u64).map(move |index| {
            let mut z = start.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ (z >> 31)) >> 40
        })
    }

    fn uniform(&self, name: &str, shape: &[i64], low: f64, high: f64) -> Tensor {
        let count = shape.iter().product::<i64>() as usize;
        let unit = 0.5f64.powi(24);
        let values =
            self.bits(name, count).map(|bits| (low + bits as f64 * unit * (high - low)) as f32);
        Tensor::from_slice(&values.collect::<Vec<f32>>()).view(shape)
    }

    fn integers(&self, name: &str, count: usize, below: u64) -> impl Iterator<Item = u64> + use<> {
        self.bits(name, count).map(move |bits| bits % below)
    }

    /// Fills a network with these numbers, in the dtype `kind`.
    fn fill(&self, network: &Network, kind: Kind) {
        let spec = network.spec();
        let last = match spec.block {
            Block::Basic => "bn2.weight",
            Block::Bottleneck => "bn3.weight",
        };
        let ends_block = spec.placement == Placement::Original && spec.residual;
        for Parameter { name, tensor, .. } in network.parameters() {
            let shape = tensor.size();
            let (low, high) = if shape.len() > 1 {
                let bound = (6.0 / shape[1..].iter().product::<i64>() as f64).sqrt();
                (-bound, bound)
            } else if ends_block && name.ends_with(last) {
                (0.05, 0.15)
            } else if name.ends_with(".weight") {
                (0.5, 1.0)
            } else if name.ends_with(".running_var") {
                (0.5, 1.5)
            } else {
                (-0.1, 0.1)
            };
            let values = self.uniform(name, &shape, low, high);
            tch::no_grad(|| {
                // The layers share this tensor, so they compute in `kind` too.
                tensor.shallow_clone().set_data(&tensor.to_kind(kind));
                tensor.shallow_clone().copy_(&values);
            });
        }
    }

    fn images(&self, shape: [usize; 4], classes: usize) -> Images {
        let [count, channels, height, width] = shape;
        let bytes = |name: &str, count: usize, below: u64| {
            self.integers(name, count, below).map(|number| number as u8).collect()
        };
        Images {
            pixels: bytes("pixels", shape.iter().product(), 256),
            labels: bytes("labels", count, classes as u64),
            count,
            channels,
            height,
            width,
        }
    }
}

// --- Comparison -----------------------------------------------------------------------------------

/// Relative errors of the tensors of each kind of result.
#[derive(Default)]
struct Errors(BTreeMap<&'static str, Vec<(f64, String)>>);

impl Errors {
    /// Compares each tensor with its part of `reference`, in which the tensors are concatenated. The error is
    /// the largest difference divided by the largest absolute value.
    fn compare<'a>(
        &mut self,
        result: &'static str,
        tensors: impl IntoIterator<Item = (&'a str, Tensor)>,
        reference: &Tensor,
    ) {
        let largest = largest_magnitude(reference);
        let mut errors = Vec::new();
        let mut start = 0;
        for (name, tensor) in tensors {
            let length = tensor.numel() as i64;
            let expected = reference.narrow(0, start, length).to_kind(Kind::Double);
            start += length;
            let difference = tensor.detach().to_kind(Kind::Double).flatten(0, -1) - &expected;
            let scale = largest_magnitude(&expected);
            // The values are zero except for rounding errors, such as the gradient of a bias before batch norm.
            let scale = if scale < 1e-8 * largest { largest } else { scale };
            errors.push((largest_magnitude(&difference) / scale, name.to_owned()));
        }
        assert_eq!(start as usize, reference.numel(), "{result}: the number of values differs");
        // `total_cmp` puts a NaN last, so that it is the worst error.
        errors.sort_by(|a, b| a.0.total_cmp(&b.0));
        self.0.insert(result, errors);
    }

    /// The results with an error above `tolerance`.
    fn above(&self, tolerance: f64) -> Vec<&'static str> {
        let within = |errors: &[(f64, String)]| errors.iter().all(|(error, _)| *error <= tolerance);
        self.0.iter().filter(|(_, errors)| !within(errors)).map(|(result, _)| *result).collect()
    }

    /// The error of the worst tensor of each result, and the median if there are several tensors.
    fn describe(&self) -> String {
        let parts = self.0.iter().map(|(result, errors)| {
            let (worst, name) = &errors[errors.len() - 1];
            let median = errors[errors.len() / 2].0;
            match errors.len() {
                1 => format!("{result} {worst:.1e}"),
                _ => format!("{result} {worst:.1e} ({name}; median {median:.1e})"),
            }
        });
        parts.collect::<Vec<_>>().join(", ")
    }
}

fn largest_magnitude(tensor: &Tensor) -> f64 {
    tensor.abs().max().double_value(&[])
}

// --- Networks -------------------------------------------------------------------------------------

/// The files of the networks. The networks in the repository are so small that a second thread does not help.
fn network_files() -> Vec<PathBuf> {
    let folder = std::env::var_os("RESNET_GOLDEN").map_or_else(
        || {
            tch::set_num_threads(1);
            golden_folder().join("networks")
        },
        PathBuf::from,
    );
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "safetensors"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} holds no golden files", folder.display());
    files
}

fn named<'a>(network: &'a Network, roles: &[Role]) -> Vec<(&'a str, Tensor)> {
    network
        .parameters()
        .iter()
        .filter(|parameter| roles.contains(&parameter.role))
        .map(|parameter| (parameter.name.as_str(), parameter.tensor.shallow_clone()))
        .collect()
}

const LEARNED: [Role; 2] = [Role::Weight, Role::BiasOrNorm];
const ALL: [Role; 3] = [Role::Weight, Role::BiasOrNorm, Role::Buffer];

/// Repeats what golden.py did with a network, in the dtype `kind`. Returns the errors of the results.
fn errors_of_network(golden: &Golden<NetworkCase>, kind: Kind) -> Errors {
    let Golden { case, tensors } = golden;
    let draw = Draw { seed: case.seed };
    let network = Network::new(&case.spec, Creation::Empty { device: Device::Cpu });
    draw.fill(&network, kind);
    let options = case.sgd.options();
    let mut sgd = Optimizer::new(&network, options, None);
    let mut errors = Errors::default();
    let mut losses = Vec::new();
    for step in 0..case.steps {
        let size = case.spec.size as i64;
        let shape = [case.batch_size, case.spec.channels as i64, size, size];
        let images = draw.uniform(&format!("images.{step}"), &shape, -2.0, 2.0).to_kind(kind);
        let labels = draw.integers(
            &format!("labels.{step}"),
            case.batch_size as usize,
            case.spec.classes as u64,
        );
        let labels = Tensor::from_slice(&labels.map(|label| label as i64).collect::<Vec<_>>());
        if step == 0 {
            let logits = tch::no_grad(|| network.forward(&images, Mode::Evaluate));
            errors.compare("eval logits", [("fc", logits)], &tensors["eval_logits"]);
        }
        let logits = network.forward(&images, Mode::Train(Noise::default()));
        let loss = logits.cross_entropy_loss::<Tensor>(
            &labels,
            None,
            Reduction::Mean,
            -100,
            case.label_smoothing,
        );
        let learned = named(&network, &LEARNED);
        let wanted: Vec<&Tensor> = learned.iter().map(|(_, tensor)| tensor).collect();
        let gradients = Tensor::f_run_backward(&[&loss], &wanted, false, false).unwrap();
        losses.push(loss.detach());
        if step == 0 {
            errors.compare("train logits", [("fc", logits)], &tensors["train_logits"]);
            errors.compare("loss", [("loss", loss.detach())], &tensors["losses"].narrow(0, 0, 1));
            let names = learned.iter().map(|(name, _)| *name);
            let named_gradients = names.zip(gradients.iter().map(Tensor::shallow_clone));
            errors.compare("gradients", named_gradients, &tensors["gradients"]);
            errors.compare("statistics", named(&network, &[Role::Buffer]), &tensors["statistics"]);
        }
        let OptimizerOptions { momentum, weight_decay, .. } = options;
        sgd.set(Hyperparameters { lr: case.rate, momentum, weight_decay });
        sgd.step(&gradients, None).unwrap();
    }
    errors.compare("losses", [("losses", Tensor::stack(&losses, 0))], &tensors["losses"]);
    let trained = named(&network, &ALL).into_iter().map(|(name, tensor)| {
        let every = (tensor.numel() as i64 / case.sample).max(1);
        (name, tensor.detach().flatten(0, -1).slice(0, None, None, every))
    });
    errors.compare("trained", trained, &tensors["trained"]);
    errors
}

#[test]
fn names_shapes_and_order_of_tensors_are_those_of_torchvision() {
    for file in network_files() {
        let case = Golden::<NetworkCase>::read(&file).case;
        let network = Network::new(&case.spec, Creation::Meta);
        let ours: Vec<(String, Vec<i64>)> = network
            .parameters()
            .iter()
            .map(|parameter| (parameter.name.clone(), parameter.tensor.size()))
            .collect();
        assert_eq!(ours, case.tensors, "{}", file.display());
        let planned = Plan::new(&case.spec).tensors().into_iter();
        let planned: Vec<_> = planned.map(|tensor| (tensor.name, tensor.shape)).collect();
        assert_eq!(planned, case.tensors, "{}", file.display());
    }
}

/// Compares the logits in both modes, the loss and every gradient, the running statistics, and all tensors after
/// five steps of SGD.
#[test]
fn networks_and_sgd_agree_with_pytorch() {
    let mut failures = Vec::new();
    for file in network_files() {
        let golden = Golden::<NetworkCase>::read(&file);
        let name = file.file_stem().unwrap().to_string_lossy();
        println!("{name}: PyTorch's own float32: {:?}", golden.case.float32_errors);
        for (kind, tolerance) in [(Kind::Double, DOUBLE), (Kind::Float, SINGLE)] {
            let errors = errors_of_network(&golden, kind);
            println!("{name}: {kind:?}: {}", errors.describe());
            for result in errors.above(tolerance) {
                // If a ReLU's input is near zero, float32 can get another gradient. The losses of the later steps and
                // the trained tensors depend on these gradients.
                let jumps = matches!(result, "gradients" | "losses" | "trained");
                // A very deep network magnifies rounding errors, in PyTorch as well.
                let key = if result == "loss" { "losses" } else { &result.replace(' ', "_") };
                let own = golden.case.float32_errors.get(key);
                let magnified = own.is_some_and(|own| *own > SINGLE / 10.0);
                if kind == Kind::Float && (jumps || magnified) && !golden.case.steady {
                    continue;
                }
                failures.push(format!("{name}: {kind:?}: {result}"));
            }
        }
    }
    assert!(failures.is_empty(), "errors above the tolerance: {failures:#?}");
}

// --- Preprocessing and the training loop ----------------------------------------------------------

#[test]
fn preprocessing_agrees_with_pytorch() {
    let Golden { case, tensors } =
        Golden::<PreprocessCase>::read(&golden_folder().join("preprocess.safetensors"));
    let images = Draw { seed: case.seed }.images(case.shape, 1);
    let count = images.count;
    let images = Dataset::new(&images, Device::Cpu).range(&(0..count)).unwrap();
    for size in case.sizes {
        let result =
            Preprocess::new(&case.mean, &case.std, size, (Kind::Float, Device::Cpu)).apply(&images);
        let mut errors = Errors::default();
        errors.compare("pixels", [("pixels", result)], &tensors[&size.to_string()]);
        println!("size {size}: {}", errors.describe());
        assert!(
            errors.above(1e-5).is_empty(),
            "size {size}: errors above the tolerance: {}",
            errors.describe()
        );
    }
}

/// Compares the whole loop: preprocessing, accumulated and clipped gradients, label smoothing.
#[test]
fn the_training_loop_agrees_with_pytorch() {
    tch::set_num_threads(1);
    let Golden { case, tensors } =
        Golden::<TrainingCase>::read(&golden_folder().join("training.safetensors"));
    let draw = Draw { seed: case.seed };
    let network = Network::new(&case.spec, Creation::Empty { device: Device::Cpu });
    draw.fill(&network, Kind::Float);
    let recipe = Recipe {
        epochs: 1,
        batch_size: case.batch_size,
        accumulate: case.accumulate,
        recompute: false,
        cuda_graphs: false,
        lr: case.rate,
        schedule_kind: ScheduleKind::Constant,
        warmup_epochs: 0.0,
        warmup_steps: None,
        step_every: 1.0,
        milestones: None,
        step_factor: 1.0,
        optimizer: case.sgd.options(),
        rates: None,
        sizes: None,
        swa_epochs: None,
        label_smoothing: case.label_smoothing,
        clip_grad_norm: Some(case.clip_grad_norm),
        ema_decay: None,
        augment: Augment::NONE,
        mix_epochs: None,
        patience: None,
        seed: case.seed,
        limit_batches: None,
        eval_every: 1,
    };
    // PyTorch used the images in the order of the file. An epoch uses its own order, so the images are reordered
    // first.
    let images = Dataset::new(&draw.images(case.shape, case.spec.classes), Device::Cpu);
    let order = Tensor::from_slice(&epoch_order(recipe.seed, 1, images.len()));
    let images = images.select(&order.argsort(0, false));
    let preprocess =
        Preprocess::new(&case.mean, &case.std, case.spec.size, (Kind::Float, Device::Cpu));
    let mut trainer = Trainer::new(&network, &images, &preprocess, &recipe);
    let mut epoch = trainer.epoch(1, EpochSums::default());
    while !epoch.is_over() {
        trainer.step(&mut epoch).unwrap();
    }
    trainer.sync(&mut epoch).unwrap();
    let loss = epoch.sums().mean_loss();
    let mut errors = Errors::default();
    errors.compare("loss", [("loss", Tensor::from(loss))], &tensors["loss"]);
    errors.compare("trained", named(&network, &ALL), &tensors["trained"]);
    println!("training: {}", errors.describe());
    assert!(errors.above(SINGLE).is_empty(), "errors above the tolerance: {}", errors.describe());
}
