//! How a run ends: what is saved, printed and returned.

use super::stop::{Reason, Stop};
use super::task::Task;
use crate::checkpoint;
use crate::config::Config;
use crate::error::{Interrupted, one_line};
use crate::report::gather::{RunReport, TestResults};
use crate::report::write::{REPORT, write};
use crate::run::{Keeper, RunFolder};
use crate::sinks::Sinks;
use crate::sinks::tensorboard::add_pictures;
use crate::train::divergence::REMEDY;
use crate::train::event::EndFigures;
use crate::train::run::Position;
use crate::train::{Event, Run};
use crate::ui::{Ui, accuracy_text, counted, duration, quoted};
use anyhow::{Result, bail};
use std::path::Path;

/// The text that is added to an error of a run: what is left of the run.
pub fn what_is_left(folder: &RunFolder) -> String {
    let run_dir = folder.path().display();
    match checkpoint::latest(folder.path()) {
        Ok(last) => format!("the run in {run_dir} stopped; {} is intact", last.display()),
        Err(_) => format!(
            "the run in {run_dir} stopped before its first checkpoint (delete the folder, or use another one)"
        ),
    }
}

/// Ends a run that is over.
///
/// # Errors
/// The run cannot be saved in its folder, or has diverged.
pub fn end(run: &Run, keeper: &mut Keeper, sinks: &mut Sinks, task: &Task, ui: &Ui) -> Result<()> {
    let end = keeper.finish(run.trainer())?;
    if keeper.is_out_of_patience() {
        ui.say(format!(
            "the accuracy on the held-out images has not risen for {} (--patience)",
            counted(run.trainer().recipe().patience.unwrap_or_default(), "epoch")
        ));
    }
    sinks.take(&Event::End(end.clone()));
    if !ui.is_json() {
        print_accuracies(&end, keeper, ui);
    }
    ui.say(format!("done in {}; the run is in {}", duration(end.seconds), end.run_dir));
    let step = keeper.position().step;
    show_results(run, step, &task.config, Path::new(&end.run_dir), ui);
    let quoted = quoted(task.folder.path());
    ui.say(format!("each class, and the confusion matrix: resnet eval {quoted}"));
    if keeper.best().is_some_and(|(best, _)| best.step != keeper.position().step) {
        ui.say(format!(
            "this command evaluates the best checkpoint; the checkpoint of the last epoch is {}/checkpoints/last",
            end.run_dir
        ));
    }
    match keeper.explosion() {
        None => Ok(()),
        Some(explosion) => {
            bail!("the run has diverged: after its last epoch {explosion}; {REMEDY}")
        }
    }
}

/// Writes the report of a run that is over, and pictures for TensorBoard, from the evaluation after its last epoch. The
/// run is saved already, so an error is a warning.
fn show_results(run: &Run, step: u64, config: &Config, run_dir: &Path, ui: &Ui) {
    if !config.report && !config.tensorboard {
        return;
    }
    let trainer = run.trainer();
    let names: Vec<String> = config.dataset.classes.iter().map(|&name| name.to_owned()).collect();
    let results = match run.test() {
        None => Err(format!(
            "The test images were evaluated by another process. Evaluate them again with: resnet report {}",
            quoted(run_dir)
        )),
        Some(evaluation) => {
            let (network, preprocess) = (trainer.result(), trainer.preprocess());
            TestResults::new(evaluation, network, run.sets().test, preprocess, &names)
                .map_err(|error| one_line(&error))
        }
    };
    if config.tensorboard
        && let Ok(results) = &results
        && let Err(error) = add_pictures(run_dir, step, results)
    {
        ui.warn(format!("no pictures for TensorBoard: {}", one_line(&error)));
    }
    if !config.report {
        return;
    }
    let file = run_dir.join(REPORT);
    match write(&[RunReport::new(run_dir, results)], &file) {
        Ok(()) => ui.say(format!("curves, scores and mistakes: {}", file.display())),
        Err(error) => ui.warn(format!("no report: {}", one_line(&error))),
    }
}

fn print_accuracies(end: &EndFigures, keeper: &Keeper, ui: &Ui) {
    if let Some((best, figures)) = keeper.best() {
        let limited = figures.and_then(|figures| figures.validation_images);
        let accuracy = accuracy_text(best.validation_accuracy, limited);
        ui.out(format!("best validation accuracy {accuracy} at step {}", best.step));
        if let Some(accuracy) = end.best_test_accuracy {
            let accuracy = accuracy_text(accuracy, end.test_images);
            ui.out(format!("test accuracy {accuracy} at step {}", best.step));
        }
    }
    if let Some(accuracy) = end.test_accuracy {
        let accuracy = accuracy_text(accuracy, end.test_images);
        ui.out(format!("test accuracy {accuracy} after {}", counted(end.epochs, "epoch")));
    }
}

/// Ends the part of a run that stops before its last epoch.
///
/// # Errors
/// [`Interrupted`] after a signal. The run cannot be saved in its folder.
pub fn stop(
    run: &Run,
    keeper: &mut Keeper,
    sinks: &mut Sinks,
    folder: &RunFolder,
    stop: Stop,
    ui: &Ui,
) -> Result<()> {
    keeper.stop(run.trainer())?;
    let reason = stop.reason();
    let Position { epoch, step, .. } = keeper.position();
    let run_dir = folder.path().display().to_string();
    sinks.take(&Event::Stop { run_dir, epoch, step });
    stop.wait_for_answer();
    ui.say(format!(
        "stopped at step {step}, and saved; continue with: resnet train --resume {}",
        quoted(folder.path())
    ));
    match reason {
        Some(Reason::Signal) => Err(Interrupted.into()),
        _ => Ok(()),
    }
}
