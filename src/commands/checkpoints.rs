//! `resnet checkpoints`: what a run has saved, and whether it is intact.

use crate::checkpoint::CHECKPOINTS;
use crate::cli::CheckpointsArgs;
use crate::error::usage;
use crate::run::listing::{self, Listed};
use crate::ui::{Ui, accuracy_text, grouped, table};
use anyhow::{Result, bail};

/// Runs `resnet checkpoints`.
///
/// # Errors
/// The folder is not a run's folder. A checkpoint or the metrics are damaged; everything is listed first.
pub fn run(args: &CheckpointsArgs, ui: &Ui) -> Result<()> {
    let folder = args.run.join(CHECKPOINTS);
    if !args.run.exists() {
        return Err(usage(format!(
            "{}: no such folder; expected a run's folder, with {CHECKPOINTS} in it",
            args.run.display()
        )));
    }
    if !folder.is_dir() {
        return Err(usage(format!(
            "{}: holds no checkpoints; expected a run's folder, with {CHECKPOINTS} in it",
            args.run.display()
        )));
    }
    let (listed, damaged_metrics) = listing::checkpoints(&args.run)?;
    if ui.is_json() {
        listed.iter().for_each(|checkpoint| ui.json(checkpoint));
    } else {
        print(&listed, ui);
    }
    let faults: Vec<_> = listed.iter().filter_map(|checkpoint| checkpoint.fault.as_ref()).collect();
    faults.iter().copied().chain(&damaged_metrics).for_each(|fault| ui.warn(fault));
    if !faults.is_empty() {
        bail!("{}: {} of {} checkpoints are damaged", folder.display(), faults.len(), listed.len());
    }
    if damaged_metrics.is_some() {
        bail!("{}: its metrics are damaged; its checkpoints are intact", args.run.display());
    }
    Ok(())
}

fn print(listed: &[Listed], ui: &Ui) {
    let mut lines =
        vec![["step", "epoch", "validation", "test", "bytes", "state", ""].map(String::from)];
    let figure = |accuracy: Option<f64>, limited| {
        accuracy.map_or_else(String::new, |accuracy| accuracy_text(accuracy, limited))
    };
    lines.extend(listed.iter().map(|checkpoint| {
        [
            checkpoint.step.to_string(),
            checkpoint.epoch.map_or_else(String::new, |epoch| epoch.to_string()),
            figure(checkpoint.validation_accuracy, checkpoint.validation_images),
            figure(checkpoint.test_accuracy, checkpoint.test_images),
            grouped(checkpoint.bytes as usize),
            if checkpoint.whole { "intact" } else { "damaged" }.to_owned(),
            checkpoint.names.join(", "),
        ]
    }));
    ui.out(table(&lines, 0..5));
}
