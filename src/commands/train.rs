//! `resnet train`: a run from its configuration to its last checkpoint.

mod finish;
mod introduce;
mod load;
mod plan;
mod stop;

use crate::cli::TrainArgs;
use crate::data::preprocess::Preprocess;
use crate::run::Keeper;
use crate::sinks::{Bars, JsonLines};
use crate::train::run::EvalSets;
use crate::train::{Event, Run, Sink, Trainer};
use crate::ui::Ui;
use anyhow::{Context, Result};
use load::RunImages;
use plan::Plan;
use std::time::Instant;
use stop::Stop;

/// Runs `resnet train`.
///
/// # Errors
/// The command or the configuration is wrong; the run diverged, or an operation of libtorch or of the system failed.
pub fn run(args: &TrainArgs, ui: &Ui) -> Result<()> {
    let start = Instant::now();
    let mut plan = Plan::new(args)?;
    let (device, precision) = plan.prepare_device(ui)?;
    plan.check_memory(precision, device, ui)?;
    let plan = &plan;
    let config = &plan.config;

    let images = RunImages::load(config, &args.data.source(), device, ui)?;
    let card = load::model_card(config, precision);
    let network = load::network(plan, &card, device)?;
    let options = (precision.kind(), device);
    let preprocess = Preprocess::new(&card.mean, &card.std, config.spec.size, options);
    let mut trainer = Trainer::new(&network, &images.train, &preprocess, &config.recipe);
    load::state(plan, &mut trainer)?;

    let stop = Stop::listen(start, args.time_limit, *ui)?;
    let state = plan.state();
    let mut keeper = Keeper::open(&plan.folder, config, card, state, start, *ui)?;
    introduce::introduce(plan, &network, &images, device, ui);
    if let Some(changes) = plan.changes() {
        keeper.resumed_with(changes, &trainer);
    }
    let sets = EvalSets { test: &images.test, validation: images.validation.as_ref() };
    let mut run = Run::new(trainer, sets, keeper.position());
    let is_over = train(&mut run, &mut keeper, sinks(plan, *ui), &stop, ui)
        .with_context(|| finish::what_is_left(&plan.folder))?;
    match is_over {
        true => finish::end(&run, &mut keeper, &plan.folder, ui),
        false => finish::stop(&run, &mut keeper, &plan.folder, stop, ui),
    }
}

/// The sinks that take the events, besides the run's folder.
fn sinks(plan: &Plan, ui: Ui) -> Vec<Box<dyn Sink>> {
    let bars = Box::new(Bars::new(&plan.config, ui));
    if ui.is_json() { vec![Box::new(JsonLines::new(ui)), bars] } else { vec![bars] }
}

/// Trains until the run is over, or until it must stop and is saved. Returns whether it is over.
fn train(
    run: &mut Run,
    keeper: &mut Keeper,
    mut sinks: Vec<Box<dyn Sink>>,
    stop: &Stop,
    ui: &Ui,
) -> Result<bool> {
    while let Some(event) = run.next().transpose()? {
        keeper.take(&event, run.trainer());
        for sink in &mut sinks {
            sink.take(&event).unwrap_or_else(|error| ui.warn(format!("{error:#}")));
        }
        let stops = match event {
            Event::Step { .. } => stop.reason().is_some(),
            // A time limit does not end an evaluation. If it did, a run whose time limit is always shorter than an
            // evaluation would never get past it.
            Event::Evaluated { .. } => stop.is_signalled(),
            _ => false,
        };
        let is_due = match event {
            // At the end of an epoch the evaluation comes first.
            Event::Step { step, steps_left, .. } => steps_left > 0 && keeper.is_due(step),
            _ => false,
        };
        if stops || is_due {
            let position = run.pause()?;
            keeper.save(run.trainer(), position, stops);
        }
        if stops {
            return Ok(false);
        }
    }
    Ok(true)
}
