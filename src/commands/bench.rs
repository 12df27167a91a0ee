//! `resnet bench`: how fast a network trains or answers here, on images that are made up.

use crate::cli::{BenchArgs, BenchMode, Options};
use crate::config::{Config, MAX_THREADS, resolve_network};
use crate::data::Images;
use crate::data::batches::{DeviceImages, Preprocess};
use crate::device;
use crate::error::{at_least_one, in_range, usage};
use crate::model::parameters::Creation;
use crate::model::shape::measure;
use crate::model::spec::{Init, value_name};
use crate::model::{Network, Spec};
use crate::native;
use crate::report::throughput::Throughput;
use crate::train::Trainer;
use crate::train::trainer::{EpochSums, Phase};
use crate::ui::{Ui, grouped};
use anyhow::{Context, Result};
use rand::RngExt;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::Instant;
use tch::{Device, Kind, Tensor};

/// The largest batch; its bytes are made before anything is measured.
const MAX_BATCH: usize = 1 << 16;
/// Batches that an epoch of made-up images has.
const BATCHES: usize = 4;

/// Runs `resnet bench`.
pub fn run(args: &BenchArgs, ui: &Ui) -> Result<()> {
    let spec = resolve_network(&mut args.network.clone(), None)?;
    in_range("--batch-size", args.batch_size, 1..=MAX_BATCH)?;
    at_least_one("--steps", args.steps)?;
    if let Some(threads) = args.threads {
        in_range("--threads", threads, 1..=MAX_THREADS)?;
    }
    let earlier = args.compare.as_deref().map(read_earlier).transpose()?;
    let device = device::choose(&args.device)?;
    device::set_threads(args.threads);
    let mode = value_name(args.mode);
    ui.say(format!(
        "{spec}, {mode}, batch {}, {}×{size}×{size}, fp32, on {}",
        args.batch_size,
        spec.channels,
        device::describe(device),
        size = spec.size,
    ));

    let throughput = match args.mode {
        BenchMode::Train => train(args, &spec, device)?,
        BenchMode::Inference => infer(args, &spec, device),
    };
    // Before the matrices of the next measurement.
    let peak_memory = native::peak_memory_bytes().filter(|_| device == Device::Cpu);
    let layers = measure(&spec, args.batch_size);
    let macs: f64 = layers.iter().map(|layer| layer.layer.macs as f64).sum();
    // A multiply-add is two operations; the gradients of inputs and of weights cost as much as the
    // forward pass each.
    let passes = if args.mode == BenchMode::Train { 3.0 } else { 1.0 };
    let step = throughput.median();
    let images_per_second = args.batch_size as f64 / step;
    let gflops = 2.0 * macs * passes / step / 1e9;
    let matrix_gflops = matrix_gflops(device);

    let parts = throughput.fractions();
    let result = json!({
        "mode": mode,
        "depth": spec.depth(),
        "size": spec.size,
        "batch_size": args.batch_size,
        "precision": "fp32",
        "device": device::describe(device),
        "threads": tch::get_num_threads(),
        "images_per_second": images_per_second,
        "step_seconds": step,
        "gflops": gflops,
        "matrix_gflops": matrix_gflops,
        "fraction_of_matrix_rate": gflops / matrix_gflops,
        "phases": parts.iter().map(|(name, part)| (*name, *part)).collect::<HashMap<_, _>>(),
        "peak_memory_bytes": peak_memory,
    });
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
        "{gflops:.0} GFLOP/s, {:.2} of the {matrix_gflops:.0} that matrix products reach here",
        gflops / matrix_gflops
    ));
    let parts: Vec<String> =
        parts.iter().map(|(name, part)| format!("{name} {:.1} %", 100.0 * part)).collect();
    ui.out(parts.join(", "));
    if let Some(bytes) = peak_memory {
        ui.out(format!("peak memory {} MiB", grouped((bytes >> 20) as usize)));
    }
    if let Some(earlier) = earlier {
        ui.out(format!("{:.3} times the images a second of before", images_per_second / earlier));
    }
    Ok(())
}

fn train(args: &BenchArgs, spec: &Spec, device: Device) -> Result<Throughput> {
    let options = Options::default();
    let mut recipe = Config::load(None, &options)?.recipe;
    recipe.batch_size = args.batch_size;
    let network = network(spec, device);
    let (images, preprocess) = (images(spec, args.batch_size, device), preprocess(spec, device));
    let mut trainer = Trainer::new(&network, &images, &preprocess, &recipe);
    let mut epoch = trainer.epoch(1, EpochSums::default());
    let mut throughput = Throughput::default();
    for index in 0..args.warmup_steps + args.steps {
        if epoch.is_over() {
            epoch = trainer.epoch(epoch.number() + 1, EpochSums::default());
        }
        wait(device);
        let mut step = throughput.step();
        trainer.step_in_phases(&mut epoch, &mut |phase| {
            wait(device);
            step.phase_ends(phase);
        })?;
        if index >= args.warmup_steps {
            throughput.add(step);
        }
    }
    Ok(throughput)
}

fn infer(args: &BenchArgs, spec: &Spec, device: Device) -> Throughput {
    let network = network(spec, device);
    let (images, preprocess) = (images(spec, args.batch_size, device), preprocess(spec, device));
    let mut throughput = Throughput::default();
    let _no_grad = tch::no_grad_guard();
    for index in 0..args.warmup_steps + args.steps {
        let start = index % BATCHES * args.batch_size;
        wait(device);
        let mut step = throughput.step();
        let inputs = preprocess.apply(&images.range(&(start..start + args.batch_size)));
        wait(device);
        step.phase_ends(Phase::Data);
        let _ = network.forward(&inputs, false);
        wait(device);
        step.phase_ends(Phase::Forward);
        if index >= args.warmup_steps {
            throughput.add(step);
        }
    }
    throughput
}

fn network(spec: &Spec, device: Device) -> Network {
    let draw = Creation::Draw { init: Init::He, zero_init_residual: false, seed: 0, device };
    Network::new(spec, draw)
}

/// Random bytes of Fashion-MNIST's size, which are resized as in training.
fn images(spec: &Spec, batch_size: usize, device: Device) -> DeviceImages {
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
    DeviceImages::new(&images, device)
}

fn preprocess(spec: &Spec, device: Device) -> Preprocess {
    Preprocess::new(&vec![0.5; spec.channels], &vec![0.5; spec.channels], spec.size, device)
}

/// The rate of single-precision matrix products, the most that convolutions can hope for.
fn matrix_gflops(device: Device) -> f64 {
    let side = if device == Device::Cpu { 2048 } else { 8192 };
    let [a, b] = [(); 2].map(|()| Tensor::rand([side, side], (Kind::Float, device)));
    let mut fastest = f64::INFINITY;
    for _ in 0..8 {
        wait(device);
        let start = Instant::now();
        let _ = a.matmul(&b);
        wait(device);
        fastest = fastest.min(start.elapsed().as_secs_f64());
    }
    2.0 * (side as f64).powi(3) / fastest / 1e9
}

/// Waits until the device has done all that it was told to.
fn wait(device: Device) {
    if let Device::Cuda(index) = device {
        tch::Cuda::synchronize(index as i64);
    }
}

/// Images a second in the last line of a file that `--json` wrote.
fn read_earlier(path: &Path) -> Result<f64> {
    let text = fs::read_to_string(path)
        .map_err(|error| usage(format!("--compare {}: {error}", path.display())))?;
    let last = text.lines().rev().find(|line| !line.trim().is_empty());
    last.and_then(|line| serde_json::from_str::<Value>(line).ok())
        .and_then(|result| result.get("images_per_second")?.as_f64())
        .filter(|rate| *rate > 0.0)
        .with_context(|| "no images_per_second in its last line".to_owned())
        .map_err(|error| {
            usage(format!(
                "--compare {}: {error}; expected what resnet bench --json wrote",
                path.display()
            ))
        })
}
