//! `resnet bench`: the speed of training or inference on this machine, measured on synthetic images.

mod compare;
mod floor;
mod matrix;
mod report;
mod steps;
mod throughput;
mod work;

use crate::cli::{BenchArgs, BenchMode};
use crate::config::resolve_network;
use crate::device;
use crate::error::{at_least_one, in_range, usage};
use crate::libtorch;
use crate::model::Spec;
use crate::model::shape::measure;
use crate::model::spec::value_name;
use crate::train::memory::{BatchMemory, check_batches};
use crate::ui::Ui;
use anyhow::Result;
use compare::Earlier;
use report::Report;
use steps::Measurement;
use work::Work;

/// The largest batch: all its images are drawn before the measurement.
const MAX_BATCH: usize = 1 << 16;

/// Runs `resnet bench`.
pub fn run(args: &BenchArgs, ui: &Ui) -> Result<()> {
    let spec = resolve_network(&args.network, None)?;
    check(args)?;
    let work = Work::new(args, &spec);
    let earlier = args.compare.as_deref().map(|path| Earlier::read(path, &work)).transpose()?;
    let device = device::choose(&args.device.device)?;
    device::set_threads(args.device.threads);
    let precision = args.precision.resolve(device, spec.favours_fp32())?;
    precision.apply();
    args.cuda_tuning.apply(device)?;
    let memory = match args.mode {
        BenchMode::Train => BatchMemory::of_training(&spec, precision, args.recompute),
        BenchMode::Inference => BatchMemory::of_inference(&spec, precision),
    };
    check_batches(memory, args.batch_size, device)?;
    if device.is_cuda() {
        libtorch::set_deterministic(false);
    }
    precision.slow_warning(device).iter().for_each(|warning| ui.warn(warning));
    ui.say(format!(
        "{spec}, {}, batch {}, {}×{size}×{size}, {precision}, on {}",
        value_name(args.mode),
        args.batch_size,
        spec.channels,
        device::describe(device),
        size = spec.size,
    ));

    let options = (precision.kind(), device);
    let Measurement { throughput, cuda_graphs } = match args.mode {
        BenchMode::Train => steps::train(args, &spec, options, ui)?,
        BenchMode::Inference => steps::infer(args, &spec, options)?,
    };
    // Read here, because the next measurements use memory too.
    let peak_memory_bytes = libtorch::peak_memory_bytes(device);
    let step_seconds = throughput.median();
    let images_per_second = args.batch_size as f64 / step_seconds;
    let gflops = operations(args, &spec) / step_seconds / 1e9;
    let matrix_gflops = matrix::gflops(options);
    let floor_seconds = match args.floor {
        true => Some(floor::floor(&spec, args.batch_size, options)?),
        false => None,
    };
    let report = Report {
        work,
        depth: spec.depth(),
        precision: precision.to_string(),
        recompute: args.recompute,
        cuda_graphs,
        cuda_tuning: args.cuda_tuning,
        device: device::describe(device),
        threads: tch::get_num_threads(),
        images_per_second,
        step_seconds,
        gflops,
        matrix_gflops,
        fraction_of_matrix_rate: gflops / matrix_gflops,
        phases: throughput.fractions(),
        peak_memory_bytes,
        floor_seconds,
        fraction_of_floor: floor_seconds.map(|floor| floor / step_seconds),
        ratio: earlier.as_ref().map(|earlier| images_per_second / earlier.images_per_second),
    };
    if ui.is_json() {
        ui.json(&report);
    } else {
        report.lines(&throughput, earlier.as_ref()).iter().for_each(|line| ui.out(line));
    }
    Ok(())
}

fn check(args: &BenchArgs) -> Result<()> {
    in_range("--batch-size", args.batch_size, 1..=MAX_BATCH)?;
    at_least_one("--steps", args.steps)?;
    if args.recompute && args.mode == BenchMode::Inference {
        return Err(usage(
            "--recompute: inference has no backward pass; remove the flag, or use --mode train",
        ));
    }
    if args.floor && args.mode == BenchMode::Inference {
        return Err(usage(
            "--floor: inference folds batch norm into its convolutions, so the convolutions cannot be measured alone; expected --mode train",
        ));
    }
    device::check_threads(args.device.threads)
}

/// Number of floating-point operations in a step: two for each multiply-add. In training, the gradients of
/// the inputs need as many as the forward pass, and so do the gradients of the weights.
fn operations(args: &BenchArgs, spec: &Spec) -> f64 {
    let layers = measure(spec, args.batch_size);
    let macs: f64 = layers.iter().map(|layer| layer.layer.cost.macs as f64).sum();
    let passes = if args.mode == BenchMode::Train { 3.0 } else { 1.0 };
    2.0 * macs * passes
}
