//! `resnet runs`: the runs in a folder, newest first.

use crate::cli::RunsArgs;
use crate::error::usage;
use crate::run::overview::{Overview, runs};
use crate::ui::{Ui, duration, short, table};
use anyhow::Result;
use std::path::Path;

/// Runs `resnet runs`.
///
/// # Errors
/// A usage error if the folder does not exist.
pub fn run(args: &RunsArgs, ui: &Ui) -> Result<()> {
    let folder = args.folder.as_path();
    if !folder.is_dir() {
        return Err(usage(format!(
            "{}: no such folder; expected a folder with runs in it, such as the ./runs that `resnet train` makes",
            folder.display()
        )));
    }
    let found = runs(folder);
    if ui.is_json() {
        found.iter().for_each(|run| ui.json(run));
        return Ok(());
    }
    if found.is_empty() {
        ui.say(format!("{}: no runs", folder.display()));
        return Ok(());
    }
    let heads = ["run", "network", "data", "epochs", "test", "best", "time", "changed", "state"];
    let mut lines = vec![heads.map(String::from)];
    lines.extend(found.iter().map(|run| line(run, folder)));
    ui.out(table(&lines, 3..7));
    for run in &found {
        run.fault.iter().for_each(|fault| ui.warn(fault));
    }
    Ok(())
}

fn line(run: &Overview, folder: &Path) -> [String; 9] {
    let name = run.run.strip_prefix(folder).unwrap_or(&run.run).display().to_string();
    let accuracy = |accuracy: Option<f64>| accuracy.map_or_else(String::new, |a| format!("{a:.4}"));
    let epochs = match run.epochs {
        Some(epochs) => format!("{}/{epochs}", run.epochs_done),
        None => run.epochs_done.to_string(),
    };
    [
        short(if name.is_empty() { "." } else { &name }),
        run.network.as_deref().map_or_else(String::new, short),
        run.dataset.clone().unwrap_or_default(),
        epochs,
        accuracy(run.test_accuracy),
        accuracy(run.best_accuracy),
        duration(run.seconds),
        when(run.changed),
        run.state.name().to_owned(),
    ]
}

/// A time in this machine's time zone, to the minute.
fn when(seconds: u64) -> String {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).map_or_else(
        |_| String::new(),
        |time| {
            time.to_zoned_datetime(jiff::tz::TimeZone::system())
                .strftime("%Y-%m-%d %H:%M")
                .to_string()
        },
    )
}
