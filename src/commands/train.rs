//! `resnet train`: a run from its configuration to its last checkpoint.

mod finish;
mod introduce;
pub(super) mod load;
mod stop;
pub(super) mod task;

use crate::checkpoint::State;
use crate::cli::TrainArgs;
use crate::data::preprocess::Preprocess;
use crate::error::one_line;
use crate::run::Keeper;
use crate::run::overview::overview;
use crate::sinks::view::board::{Board, Viewer};
use crate::sinks::{Bars, JsonLines, ProgressFile, Sinks, TensorBoard, View};
use crate::train::run::{EvalSets, Position};
use crate::train::{Event, Run, Sink, Trainer};
use crate::ui::Ui;
use anyhow::{Context, Result};
use load::RunImages;
use std::time::Instant;
use stop::Stop;
use task::Task;
use tch::Device;

/// Runs `resnet train`.
///
/// # Errors
/// The command or the configuration is wrong; the run diverged, or an operation of libtorch or of the system failed.
pub fn run(args: &TrainArgs, ui: &Ui) -> Result<()> {
    let start = Instant::now();
    let mut task = Task::new(args)?;
    let (device, precision) = task.prepare_device(ui)?;
    task.check_memory(precision, device, ui)?;
    let task = &task;
    let (config, folder) = (&task.config, &task.folder);

    let images = RunImages::load(config, &args.data.source(), device, ui)?;
    let card = load::model_card(config, precision);
    let network = load::network(task, &card, device)?;
    let options = (precision.kind(), device);
    let preprocess = Preprocess::new(&card.mean, &card.std, config.spec.size, options);
    let mut trainer = Trainer::new(&network, &images.train, &preprocess, &config.recipe);
    load::state(task, &mut trainer)?;

    let stop = Stop::listen(start, args.time_limit, *ui)?;
    let mut keeper = Keeper::open(folder, config, card, task.state(), start, *ui)?;
    let mut sinks = sinks(task, args.view, device, *ui);
    introduce::introduce(task, &network, &images, device, ui);
    if let Some(changes) = task.changes() {
        sinks.take(&keeper.resumed_with(changes, &trainer));
    }
    let sets = EvalSets { test: &images.test, validation: images.validation.as_ref() };
    let every = if config.tensorboard { config.tensorboard_histograms } else { 0 };
    let mut run = Run::new(trainer, sets, keeper.position()).with_histograms(every);
    let is_over = train(&mut run, &mut keeper, &mut sinks, (&stop, args.stop_after))
        .with_context(|| finish::what_is_left(folder))?;
    match is_over {
        true => finish::end(&run, &mut keeper, &mut sinks, task, ui),
        false => finish::stop(&run, &mut keeper, &mut sinks, folder, stop, ui),
    }
}

/// The sinks that take the events, besides the run's folder.
fn sinks(task: &Task, view: bool, device: Device, ui: Ui) -> Sinks {
    let (config, run_dir) = (&task.config, task.folder.path());
    let mut sinks: Vec<Box<dyn Sink>> =
        vec![Box::new(ProgressFile::new(config, run_dir.to_owned(), device))];
    if view {
        let (overview, events) = overview(run_dir);
        let board = Board::new(Viewer::Trainer, &overview, &events);
        // At the end it closes first, so that the lines of the end come after its own.
        sinks.push(Box::new(View::new(config, board, device, ui)));
    }
    sinks.push(Box::new(Bars::new(config, ui)));
    if ui.is_json() {
        sinks.push(Box::new(JsonLines::new(ui)));
    }
    if task.config.tensorboard {
        let position = task.state().map_or(Position::START, State::position);
        match TensorBoard::open(task.folder.path(), &task.config, position) {
            Ok(sink) => sinks.push(Box::new(sink)),
            Err(error) => ui.warn(format!("{}; the run goes on without it", one_line(&error))),
        }
    }
    Sinks::new(sinks, ui)
}

/// Trains until the run is over, or until it must stop and is saved. Returns whether it is over.
fn train(
    run: &mut Run,
    keeper: &mut Keeper,
    sinks: &mut Sinks,
    (stop, stop_after): (&Stop, Option<u64>),
) -> Result<bool> {
    // The process may have been killed after the epoch that ends the run.
    if keeper.is_out_of_patience() {
        return Ok(true);
    }
    while let Some(event) = run.next().transpose()? {
        keeper.take(&event, run.trainer());
        sinks.take(&event);
        let stops = match event {
            Event::Step { .. } => stop.reason().is_some(),
            // A time limit does not end an evaluation. If it did, a run whose time limit is always shorter than an
            // evaluation would never get past it.
            Event::Evaluated { .. } => stop.is_signalled(),
            Event::Epoch(ref figures) => {
                let last = run.trainer().recipe().epochs;
                figures.epoch < last && stop_after.is_some_and(|after| figures.epoch >= after)
            }
            _ => false,
        };
        if matches!(event, Event::Epoch(_)) && keeper.is_out_of_patience() {
            return Ok(true);
        }
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
