//! `resnet bench`: how fast a network trains or answers here, on images that are made up.

mod floor;

use crate::cli::{BenchArgs, BenchMode, Options};
use crate::config::{Config, resolve_network};
use crate::data::Images;
use crate::data::dataset::Dataset;
use crate::data::preprocess::Preprocess;
use crate::device;
use crate::error::{at_least_one, in_range, one_line, usage};
use crate::libtorch;
use crate::model::parameters::Creation;
use crate::model::shape::measure;
use crate::model::spec::{Init, value_name};
use crate::model::{Folded, Network, Spec};
use crate::precision::multiplied_in;
use crate::report::throughput::{Step, Throughput};
use crate::train::Trainer;
use crate::train::epoch::EpochSums;
use crate::train::memory::{BatchMemory, check_batches};
use crate::train::trainer::{Notice, Phase};
use crate::ui::{Ui, grouped};
use anyhow::Result;
use rand::RngExt;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// The largest batch; its bytes are made before anything is measured.
const MAX_BATCH: usize = 1 << 16;
/// The most steps whose phases are measured.
const MAX_PHASE_STEPS: usize = 5;
/// Matrix products that are measured.
const MATRIX_PRODUCTS: usize = 9;
/// Batches that an epoch of made-up images has.
const BATCHES: usize = 4;

/// Runs `resnet bench`.
pub fn run(args: &BenchArgs, ui: &Ui) -> Result<()> {
    let spec = resolve_network(&mut args.network.clone(), None)?;
    in_range("--batch-size", args.batch_size, 1..=MAX_BATCH)?;
    at_least_one("--steps", args.steps)?;
    if args.recompute && args.mode == BenchMode::Inference {
        return Err(usage("--recompute: inference has no backward pass; drop one of the two"));
    }
    if args.floor && args.mode == BenchMode::Inference {
        return Err(usage(
            "--floor: inference folds batch norm into its convolutions, and has no part of convolutions alone; expected --mode train",
        ));
    }
    device::check_threads(args.threads)?;
    let mode = value_name(args.mode);
    let work = json!({
        "mode": mode,
        "network": spec.to_string(),
        "size": spec.size,
        "channels": spec.channels,
        "classes": spec.classes,
        "batch_size": args.batch_size,
    });
    let earlier = args.compare.as_deref().map(|path| read_earlier(path, &work)).transpose()?;
    let device = device::choose(&args.device)?;
    device::set_threads(args.threads);
    let precision = args.precision.resolve(device, spec.favours_fp32())?;
    precision.apply();
    let memory = match args.mode {
        BenchMode::Train => BatchMemory::of_training(&spec, precision, args.recompute),
        BenchMode::Inference => BatchMemory::of_inference(&spec, precision),
    };
    check_batches(memory, args.batch_size, device)?;
    if device.is_cuda() {
        libtorch::set_deterministic(false);
    }
    precision.warn_if_slow(device, ui);
    ui.say(format!(
        "{spec}, {mode}, batch {}, {}×{size}×{size}, {precision}, on {}",
        args.batch_size,
        spec.channels,
        device::describe(device),
        size = spec.size,
    ));

    let (throughput, graphs) = match args.mode {
        BenchMode::Train => train(args, &spec, (precision.kind(), device), ui)?,
        BenchMode::Inference => (infer(args, &spec, (precision.kind(), device))?, false),
    };
    // Before the matrices of the next measurement.
    let peak_memory = libtorch::peak_memory_bytes(device);
    let layers = measure(&spec, args.batch_size);
    let macs: f64 = layers.iter().map(|layer| layer.layer.cost.macs as f64).sum();
    // A multiply-add is two operations; the gradients of inputs and of weights cost as much as the
    // forward pass each.
    let passes = if args.mode == BenchMode::Train { 3.0 } else { 1.0 };
    let step = throughput.median();
    let images_per_second = args.batch_size as f64 / step;
    let gflops = 2.0 * macs * passes / step / 1e9;
    let matrix_gflops = matrix_gflops((precision.kind(), device));
    let floor = args
        .floor
        .then(|| floor::floor(&spec, args.batch_size, (precision.kind(), device)))
        .transpose()?;

    let parts = throughput.fractions();
    let ratio = earlier.as_ref().map(|earlier| images_per_second / earlier.images_per_second);
    let mut result = work;
    let figures = json!({
        "depth": spec.depth(),
        "precision": precision.to_string(),
        "recompute": args.recompute,
        "cuda_graphs": graphs,
        "device": device::describe(device),
        "threads": tch::get_num_threads(),
        "images_per_second": images_per_second,
        "step_seconds": step,
        "gflops": gflops,
        "matrix_gflops": matrix_gflops,
        "fraction_of_matrix_rate": gflops / matrix_gflops,
        "phases": parts.iter().map(|(name, part)| (*name, *part)).collect::<HashMap<_, _>>(),
        "peak_memory_bytes": peak_memory,
        "floor_seconds": floor,
        "fraction_of_floor": floor.map(|floor| floor / step),
        "ratio": ratio,
    });
    if let (Value::Object(result), Value::Object(figures)) = (&mut result, figures) {
        result.extend(figures);
    }
    if ui.is_json() {
        ui.json(&result);
        return Ok(());
    }
    let (fastest, slowest) = throughput.range();
    ui.out(format!(
        "{images_per_second:.1} images/s, {:.1} ms a step (median of {}; {:.1} to {:.1})",
        1e3 * step,
        args.steps,
        1e3 * fastest,
        1e3 * slowest
    ));
    ui.out(format!(
        "{gflops:.0} GFLOP/s, {:.2} times the {matrix_gflops:.0} of a product of large matrices here{}",
        gflops / matrix_gflops,
        // Winograd's convolutions multiply less than is counted.
        if gflops > matrix_gflops { ", by convolutions that need fewer multiplications" } else { "" }
    ));
    if let Some(floor) = floor {
        ui.out(format!(
            "convolutions alone {:.1} ms, {:.2} of the step",
            1e3 * floor,
            floor / step
        ));
    }
    let parts: Vec<String> =
        parts.iter().map(|(name, part)| format!("{name} {:.1} %", 100.0 * part)).collect();
    ui.out(parts.join(", "));
    if let Some(bytes) = peak_memory {
        ui.out(format!("peak memory {} MiB", grouped((bytes >> 20) as usize)));
    }
    if let Some(ratio) = ratio {
        let before = earlier.map(|earlier| earlier.conditions).unwrap_or_default();
        ui.out(format!("{ratio:.3} times the images a second of before ({before})"));
    }
    Ok(())
}

/// The steps' times, and whether they were replayed from a recorded one.
fn train(
    args: &BenchArgs,
    spec: &Spec,
    options: (Kind, Device),
    ui: &Ui,
) -> Result<(Throughput, bool)> {
    let (_, device) = options;
    let mut recipe = Config::load(None, &Options::default())?.recipe;
    recipe.batch_size = args.batch_size;
    recipe.recompute = args.recompute;
    recipe.cuda_graphs = args.cuda_graphs;
    let network = network(spec, device);
    let (images, preprocess) = (images(spec, args.batch_size, device), preprocess(spec, options));
    let mut trainer = Trainer::new(&network, &images, &preprocess, &recipe);
    let unmeasured = trainer.steps_before_replays();
    let mut epoch = trainer.epoch(1, EpochSums::default());
    let mut next = |step: &mut Step, in_phases: bool| {
        if epoch.is_over() {
            epoch = trainer.epoch(epoch.number() + 1, EpochSums::default());
        }
        let notices;
        if in_phases {
            notices = trainer.step_in_phases(&mut epoch, &mut |phase| {
                wait(device);
                step.phase_ends(phase);
            })?;
        } else {
            notices = trainer.step(&mut epoch)?;
        }
        for notice in notices {
            match notice {
                Notice::GraphsOff(reason) => {
                    ui.warn(format!("{}; measured without CUDA graphs", one_line(&reason)));
                }
                Notice::Accumulates(_) => {
                    return Err(usage(format!(
                        "--batch-size {}: the device has too little memory; {} fit",
                        args.batch_size,
                        trainer.micro_batch_size()
                    )));
                }
            }
        }
        wait(device);
        Ok(())
    };
    let throughput = measure_steps(args, device, unmeasured, &mut next)?;
    Ok((throughput, trainer.replays()))
}

fn infer(args: &BenchArgs, spec: &Spec, options: (Kind, Device)) -> Result<Throughput> {
    let (_, device) = options;
    let network = network(spec, device);
    let (images, preprocess) = (images(spec, args.batch_size, device), preprocess(spec, options));
    let mut starts = (0..BATCHES).map(|batch| batch * args.batch_size).cycle();
    let _no_grad = tch::no_grad_guard();
    let folded = Folded::new(&network, preprocess.dtype())?;
    measure_steps(args, device, 0, &mut |step, in_phases| {
        let start = starts.next().unwrap_or_default();
        let inputs = preprocess.apply(&images.range(&(start..start + args.batch_size))?);
        if in_phases {
            wait(device);
            step.phase_ends(Phase::Data);
        }
        let _ = folded.forward(&inputs);
        wait(device);
        if in_phases {
            step.phase_ends(Phase::Forward);
        }
        Ok(())
    })
}

/// Takes steps: some to warm up, a few whose phases are measured, and those that are measured as a whole, since
/// a GPU has to be waited for after each phase. Of the latter the first are `unmeasured`. A step that is
/// replayed as a whole keeps its memory: phases come before.
fn measure_steps(
    args: &BenchArgs,
    device: Device,
    unmeasured: usize,
    take: &mut dyn FnMut(&mut Step, bool) -> Result<()>,
) -> Result<Throughput> {
    let mut throughput = Throughput::default();
    wait(device);
    for _ in 0..args.warmup_steps {
        take(&mut Step::begin(), true)?;
    }
    for _ in 0..args.steps.min(MAX_PHASE_STEPS) {
        let mut step = Step::begin();
        take(&mut step, true)?;
        throughput.add_phases(&step);
    }
    for _ in 0..unmeasured {
        take(&mut Step::begin(), false)?;
    }
    for _ in 0..args.steps {
        let mut step = Step::begin();
        take(&mut step, false)?;
        throughput.add_whole(&step);
    }
    Ok(throughput)
}

fn network(spec: &Spec, device: Device) -> Network {
    let draw = Creation::Draw { init: Init::He, zero_init_residual: false, seed: 0, device };
    Network::new(spec, draw)
}

/// Random bytes of Fashion-MNIST's size, which are resized as in training.
fn images(spec: &Spec, batch_size: usize, device: Device) -> Dataset {
    const SIDE: usize = 28;
    let count = BATCHES * batch_size;
    let mut random = crate::random::generator(0, crate::random::Purpose::Augment, 0);
    let images = Images {
        pixels: (0..count * spec.channels * SIDE * SIDE).map(|_| random.random()).collect(),
        labels: (0..count).map(|image| (image % spec.classes.min(256)) as u8).collect(),
        count,
        channels: spec.channels,
        height: SIDE,
        width: SIDE,
    };
    Dataset::new(&images, device)
}

fn preprocess(spec: &Spec, (kind, device): (Kind, Device)) -> Preprocess {
    let half = vec![0.5; spec.channels];
    Preprocess::new(&half, &half, spec.size, (kind, device))
}

/// The rate of matrix products, the most that convolutions can hope for.
fn matrix_gflops((kind, device): (Kind, Device)) -> f64 {
    let kind = multiplied_in(kind, device);
    let side = if device == Device::Cpu { 2048 } else { 8192 };
    let [a, b] = [(); 2].map(|()| Tensor::rand([side, side], (kind, device)));
    let mut throughput = Throughput::default();
    for _ in 0..MATRIX_PRODUCTS {
        let step = Step::begin();
        let _ = a.matmul(&b);
        wait(device);
        throughput.add_whole(&step);
    }
    2.0 * (side as f64).powi(3) / throughput.median() / 1e9
}

/// Waits until the device has done all that it was told to.
fn wait(device: Device) {
    match device {
        Device::Cpu => {}
        Device::Cuda(index) => tch::Cuda::synchronize(index as i64),
        // A number comes back after all that was queued before it.
        _ => {
            Tensor::zeros([], (Kind::Float, device)).double_value(&[]);
        }
    }
}

/// An earlier measurement of the same work.
struct Earlier {
    images_per_second: f64,
    /// Where and how it was done.
    conditions: String,
}

/// The last line of a file that `--json` wrote, if that measured the same `work`.
fn read_earlier(path: &Path, work: &Value) -> Result<Earlier> {
    let wrong = |what: &str| {
        let path = path.display();
        usage(format!("--compare {path}: {what}; expected what resnet bench --json wrote"))
    };
    let text = fs::read_to_string(path).map_err(|error| wrong(&error.to_string()))?;
    let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let earlier: Value = serde_json::from_str(last).map_err(|error| wrong(&error.to_string()))?;
    for (key, value) in work.as_object().into_iter().flatten() {
        let found = earlier.get(key).unwrap_or(&Value::Null);
        if found != value {
            return Err(wrong(&format!("its {key} is {found}, and {value} is to be measured")));
        }
    }
    let rate = earlier.get("images_per_second").and_then(Value::as_f64);
    let rate = rate.filter(|rate| *rate > 0.0);
    let images_per_second = rate.ok_or_else(|| wrong("it has no images_per_second"))?;
    let text = |key| earlier.get(key).and_then(Value::as_str).unwrap_or("unknown");
    let again = earlier.get("recompute").and_then(Value::as_bool).unwrap_or_default();
    let again = if again { ", recomputed" } else { "" };
    let conditions = format!("{}, {}{again}", text("precision"), text("device"));
    Ok(Earlier { images_per_second, conditions })
}
