//! `resnet gradients`: how the gradient flows through the blocks of a network, with and without shortcuts.

mod show;

use crate::checkpoint::{self, Checkpoint};
use crate::cli::{GradientsArgs, NetworkOptions};
use crate::config::resolve_network;
use crate::data::catalog::{self, DatasetInfo};
use crate::data::dataset::Dataset;
use crate::data::order::epoch_order;
use crate::data::preprocess::Preprocess;
use crate::data::{self, Split, augment::Augment};
use crate::device;
use crate::error::{above_zero, in_range, one_line, usage};
use crate::model::parameters::Creation;
use crate::model::spec::Init;
use crate::model::{Network, Spec};
use crate::precision::Precision;
use crate::report::chart::files_of;
use crate::train::epoch::EpochSums;
use crate::train::flow::{self, BlockFlow};
use crate::train::memory::{BatchMemory, check_batches};
use crate::train::schedule::ScheduleKind;
use crate::train::{Recipe, Trainer};
use crate::ui::Ui;
use anyhow::{Context, Result};
use serde::Serialize;
use tch::{Device, Kind, Reduction, Tensor};

/// The flow through a network at one time.
#[derive(Debug, Serialize)]
struct NetworkFlow {
    /// The network's name.
    network: String,
    /// Whether its blocks have shortcuts.
    residual: bool,
    /// Steps of training before the measurement.
    steps: usize,
    /// Why training ended early, if it diverged.
    #[serde(skip_serializing_if = "Option::is_none")]
    diverged: Option<String>,
    /// The factor by which the gradient's norm changes from a block to the block before it.
    factor_per_block: Option<f64>,
    /// The blocks, from the output to the input.
    blocks: Vec<BlockFlow>,
}

/// What all networks are measured on.
struct Setting<'a> {
    args: &'a GradientsArgs,
    train: Dataset,
    device: Device,
}

/// Runs `resnet gradients`.
///
/// # Errors
/// A usage error for flags that contradict each other, or the data or the checkpoint cannot be read.
pub fn run(args: &GradientsArgs, ui: &Ui) -> Result<()> {
    above_zero("--lr", args.lr)?;
    device::check_threads(args.device.threads)?;
    let pictures = args.picture.as_ref().map(|path| files_of("--picture", path)).transpose()?;
    let resolved = args.checkpoint.as_deref().map(checkpoint::resolve).transpose()?;
    let checkpoint = resolved.as_deref().map(checkpoint::open).transpose()?;
    if checkpoint.is_some() && args.network != NetworkOptions::default() {
        return Err(usage(
            "a checkpoint and flags of a network contradict each other: the checkpoint decides the network; remove one of the two",
        ));
    }
    let name = checkpoint.as_ref().map_or(args.dataset.as_str(), |found| &found.card.dataset);
    let dataset = catalog::find(name).map_err(|error| usage(format!("--dataset {error}")))?;
    let specs = match &checkpoint {
        Some(checkpoint) => vec![checkpoint.card.spec.clone()],
        None => with_and_without_shortcuts(resolve_network(&args.network, Some(dataset))?)?,
    };
    let device = device::choose(&args.device.device)?;
    device::set_threads(args.device.threads);
    in_range("--batch-size", args.batch_size, 2..=dataset.train_images)?;
    for spec in &specs {
        check_batches(
            BatchMemory::of_training(spec, Precision::Fp32, args.steps == 0).with_data(),
            args.batch_size,
            device,
        )?;
    }
    let images = data::load(dataset, Split::Train, &args.data.source(), ui)?;
    let setting = Setting { args, train: Dataset::new(&images, device), device };
    let mut flows = Vec::new();
    for spec in &specs {
        let network = match &checkpoint {
            Some(checkpoint) => checkpoint.network(device)?,
            None => Network::new(spec, drawn(args.seed, device)),
        };
        flows.extend(setting.flows(
            &network,
            &preprocess(spec, dataset, &checkpoint, device),
            ui,
        )?);
    }
    if let Some(files) = pictures {
        let chart = show::chart(&flows, dataset.title);
        files.iter().try_for_each(|file| chart.write(file))?;
    }
    show::print(args, dataset, &flows, ui);
    Ok(())
}

/// The network that the user chose, and the same without shortcuts.
fn with_and_without_shortcuts(spec: Spec) -> Result<Vec<Spec>> {
    let plain =
        Spec { residual: false, residual_scale: 1.0, stochastic_depth: 0.0, ..spec.clone() };
    plain.check()?;
    Ok(if spec.residual { vec![spec, plain] } else { vec![plain] })
}

fn drawn(seed: u64, device: Device) -> Creation {
    Creation::Draw { init: Init::He, zero_init_residual: false, seed, device }
}

fn preprocess(
    spec: &Spec,
    dataset: &DatasetInfo,
    checkpoint: &Option<Checkpoint>,
    device: Device,
) -> Preprocess {
    let (mean, std) = match checkpoint {
        Some(Checkpoint { card, .. }) => (card.mean.clone(), card.std.clone()),
        None => dataset.normalisation(),
    };
    Preprocess::new(&mean, &std, spec.size, (Kind::Float, device))
}

impl Setting<'_> {
    /// The flow before training and, if the user asked for it, after some steps.
    fn flows(
        &self,
        network: &Network,
        preprocess: &Preprocess,
        ui: &Ui,
    ) -> Result<Vec<NetworkFlow>> {
        let mut flows = vec![self.flow(network, preprocess, 0, None)?];
        if self.args.steps > 0 {
            let (steps, diverged) = self.train(network, preprocess, ui)?;
            flows.push(self.flow(network, preprocess, steps, diverged)?);
        }
        Ok(flows)
    }

    /// The flow for the first batch of the first epoch, without augmentation.
    fn flow(
        &self,
        network: &Network,
        preprocess: &Preprocess,
        steps: usize,
        diverged: Option<String>,
    ) -> Result<NetworkFlow> {
        let order = epoch_order(self.args.seed, 1, self.train.len());
        let order = Tensor::from_slice(&order).to_device(self.device);
        let batch = self.train.batch(&order.narrow(0, 0, self.args.batch_size as i64))?;
        let loss_of = |logits: &Tensor| batch.targets().loss(logits, 0.0, Reduction::Mean);
        let mut blocks = flow::measure(network, &preprocess.apply(&batch), &loss_of)
            .with_context(|| format!("cannot compute the gradients of {}", network.spec()))?;
        let factor_per_block = flow::factor_per_block(&blocks);
        blocks.reverse();
        let spec = network.spec();
        Ok(NetworkFlow {
            network: spec.to_string(),
            residual: spec.residual,
            steps,
            diverged,
            factor_per_block,
            blocks,
        })
    }

    /// Trains the network. Returns the number of steps, and why it ended early, if it diverged.
    fn train(
        &self,
        network: &Network,
        preprocess: &Preprocess,
        ui: &Ui,
    ) -> Result<(usize, Option<String>)> {
        let recipe = Recipe {
            batch_size: self.args.batch_size,
            lr: self.args.lr,
            schedule_kind: ScheduleKind::Constant,
            warmup_epochs: 0.0,
            label_smoothing: 0.0,
            augment: Augment::NONE,
            cuda_graphs: false,
            seed: self.args.seed,
            ..Recipe::default()
        };
        let mut trainer = Trainer::new(network, &self.train, preprocess, &recipe);
        let mut epoch = trainer.epoch(1, EpochSums::default());
        let mut progress =
            ui.steps_progress(&format!("training {}", network.spec()), self.args.steps as u64);
        for step in 1..=self.args.steps {
            if epoch.is_over() {
                epoch = trainer.epoch(epoch.number() + 1, EpochSums::default());
            }
            trainer.step(&mut epoch)?;
            if let Err(error) = trainer.sync(&mut epoch) {
                progress.clear();
                return Ok((step, Some(one_line(&error))));
            }
            progress.set(step as u64);
        }
        progress.clear();
        Ok((self.args.steps, None))
    }
}
