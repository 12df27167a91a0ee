//! The measured steps of training and of inference, on synthetic images.

use super::throughput::{Step, Throughput, wait};
use crate::cli::BenchArgs;
use crate::data::Images;
use crate::data::dataset::Dataset;
use crate::data::preprocess::Preprocess;
use crate::error::{one_line, usage};
use crate::model::parameters::Creation;
use crate::model::spec::Init;
use crate::model::{Folded, Network, Spec};
use crate::random::{Purpose, generator};
use crate::train::epoch::EpochSums;
use crate::train::step::{Notice, Phase};
use crate::train::{Recipe, Trainer};
use crate::ui::Ui;
use anyhow::Result;
use rand::RngExt;
use tch::{Device, Kind};

/// The largest number of steps whose phases are measured.
const MAX_PHASE_STEPS: usize = 5;
/// Steps between two waits for a device that computes while the host goes on.
const STEPS_TOGETHER: usize = 5;
/// Batches in an epoch of synthetic images, at least.
const BATCHES: usize = 4;
/// The most bytes of synthetic images, if there are more batches than that.
const MOST_BYTES: usize = 256 << 20;
/// Height and width of a synthetic image before it is resized, in pixels: Fashion-MNIST's.
const SIDE: usize = 28;

/// The measured steps.
#[derive(Debug)]
pub struct Measurement {
    /// Their times.
    pub throughput: Throughput,
    /// Whether they were replayed as a CUDA graph.
    pub cuda_graphs: bool,
}

/// Measures steps of training with the default recipe.
///
/// # Errors
/// An operation of libtorch failed. A usage error if the batch does not fit in the device's memory.
pub fn train(
    args: &BenchArgs,
    spec: &Spec,
    options: (Kind, Device),
    ui: &Ui,
) -> Result<Measurement> {
    let (_, device) = options;
    let recipe = Recipe {
        batch_size: args.batch_size,
        recompute: args.recompute,
        cuda_graphs: args.cuda_graphs,
        ..Recipe::default()
    };
    let network = network(spec, device);
    let images = images(spec, args.batch_size, epoch_of(args, spec, device), device);
    let preprocess = preprocess(spec, options);
    let mut trainer = Trainer::new(&network, &images, &preprocess, &recipe);
    let unmeasured = trainer.steps_before_replays();
    let mut epoch = trainer.epoch(1, EpochSums::default());
    let mut next = |step: &mut Step, in_phases: bool| {
        if epoch.is_over() {
            epoch = trainer.epoch(epoch.number() + 1, EpochSums::default());
        }
        let notices = if in_phases {
            trainer.step_in_phases(&mut epoch, &mut |phase| {
                wait(device);
                step.phase_ends(phase);
            })?
        } else {
            trainer.step(&mut epoch)?
        };
        for notice in notices {
            match notice {
                Notice::GraphsOff(reason) => {
                    ui.warn(format!("{}; measured without CUDA graphs", one_line(&reason)));
                }
                Notice::Accumulates(_) => {
                    return Err(usage(format!(
                        "--batch-size {}: the device has too little memory for this batch; {} images fit",
                        args.batch_size,
                        trainer.micro_batch_size()
                    )));
                }
            }
        }
        Ok(())
    };
    let throughput = measure(args, device, unmeasured, &mut next)?;
    Ok(Measurement { throughput, cuda_graphs: trainer.replays() })
}

/// Measures steps of inference with folded batch norm.
///
/// # Errors
/// An operation of libtorch failed.
pub fn infer(args: &BenchArgs, spec: &Spec, options: (Kind, Device)) -> Result<Measurement> {
    let (_, device) = options;
    let network = network(spec, device);
    let images = images(spec, args.batch_size, BATCHES, device);
    let preprocess = preprocess(spec, options);
    let mut starts = (0..BATCHES).map(|batch| batch * args.batch_size).cycle();
    let _no_grad = tch::no_grad_guard();
    let folded = Folded::new(&network, preprocess.dtype())?;
    let throughput = measure(args, device, 0, &mut |step, in_phases| {
        let start = starts.next().unwrap_or_default();
        let inputs = preprocess.apply(&images.range(&(start..start + args.batch_size))?);
        if in_phases {
            wait(device);
            step.phase_ends(Phase::Data);
        }
        let _ = folded.forward(&inputs);
        if in_phases {
            wait(device);
            step.phase_ends(Phase::Forward);
        }
        Ok(())
    })?;
    Ok(Measurement { throughput, cuda_graphs: false })
}

/// Computes steps in this order: the warm-up steps, a few steps whose phases are measured, `unmeasured` steps, and
/// the steps that are measured as a whole. Phases are measured in separate steps, because a GPU must then finish
/// each phase before the next begins. These steps come first, because a replayed step keeps its memory.
///
/// Training does not wait for a GPU after each step: while it computes a step, the host prepares the next one. So
/// several steps are timed together.
fn measure(
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
    wait(device);
    let together = if device == Device::Cpu { 1 } else { STEPS_TOGETHER };
    for first in (0..args.steps).step_by(together) {
        let mut step = Step::begin();
        let count = together.min(args.steps - first);
        for _ in 0..count {
            take(&mut step, false)?;
        }
        wait(device);
        throughput.add_whole(&step, count);
    }
    Ok(throughput)
}

fn network(spec: &Spec, device: Device) -> Network {
    let draw = Creation::Draw { init: Init::He, zero_init_residual: false, seed: 0, device };
    Network::new(spec, draw)
}

/// Batches in an epoch of training. At the start of an epoch the host gives the order of the images to the device, and
/// waits. A real epoch is so long that this takes no time. So with a GPU, all measured steps are in one epoch, unless
/// that takes too many images.
fn epoch_of(args: &BenchArgs, spec: &Spec, device: Device) -> usize {
    if device == Device::Cpu {
        return BATCHES;
    }
    let most = MOST_BYTES / (args.batch_size * spec.channels * SIDE * SIDE);
    // The steps before the measurement, too: those that warm up, those in phases, those before replays.
    let steps = args.steps.saturating_add(args.warmup_steps).saturating_add(2 * MAX_PHASE_STEPS);
    steps.min(most).max(BATCHES)
}

/// Images of random pixels. They are resized as in training.
fn images(spec: &Spec, batch_size: usize, batches: usize, device: Device) -> Dataset {
    let count = batches * batch_size;
    let mut random = generator(0, Purpose::Bench, 0);
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
