//! `resnet compare`: runs side by side, the settings in which they differ and their figures.

use crate::cli::CompareArgs;
use crate::run::compare::{RunFigures, Spread, differing, groups, spread};
use crate::train::event::EpochFigures;
use crate::ui::{Ui, duration, loss, short, table};
use anyhow::Result;
use serde_json::json;
use std::collections::BTreeMap;
use toml::Value;

/// A figure of a run: its name, and how it is computed and written.
struct Figure {
    name: &'static str,
    of: fn(&[EpochFigures]) -> Option<f64>,
    text: fn(f64) -> String,
}

/// The figures in the order of the table.
const FIGURES: [Figure; 9] = [
    Figure {
        name: "epochs",
        of: |epochs| epochs.last().map(|last| last.epoch as f64),
        text: |epochs| epochs.to_string(),
    },
    Figure { name: "train loss", of: |epochs| Some(epochs.last()?.train_loss), text: loss },
    Figure {
        name: "train accuracy",
        of: |epochs| Some(epochs.last()?.train_accuracy),
        text: accuracy,
    },
    Figure {
        name: "validation loss",
        of: |epochs| epochs.iter().rev().find_map(|epoch| epoch.validation_loss),
        text: loss,
    },
    Figure {
        name: "validation accuracy",
        of: |epochs| epochs.iter().rev().find_map(|epoch| epoch.validation_accuracy),
        text: accuracy,
    },
    Figure {
        name: "test loss",
        of: |epochs| epochs.iter().rev().find_map(|epoch| epoch.test_loss),
        text: loss,
    },
    Figure {
        name: "test accuracy",
        of: |epochs| epochs.iter().rev().find_map(|epoch| epoch.test_accuracy),
        text: accuracy,
    },
    Figure {
        name: "images/s",
        of: |epochs| {
            let seconds: f64 = epochs.iter().map(|epoch| epoch.seconds).sum();
            let images = epochs.iter().map(|epoch| epoch.images_per_second * epoch.seconds);
            (seconds > 0.0).then(|| images.sum::<f64>() / seconds)
        },
        text: |rate| format!("{rate:.0}"),
    },
    Figure {
        name: "training time",
        of: |epochs| (!epochs.is_empty()).then(|| epochs.iter().map(|epoch| epoch.seconds).sum()),
        text: duration,
    },
];

fn accuracy(accuracy: f64) -> String {
    format!("{accuracy:.4}")
}

/// Runs `resnet compare`.
///
/// # Errors
/// A folder is not a run's folder.
pub fn run(args: &CompareArgs, ui: &Ui) -> Result<()> {
    let mut runs = Vec::new();
    for folder in &args.runs {
        let (run, damage) = RunFigures::read(folder)?;
        damage.iter().for_each(|damage| ui.warn(damage));
        runs.push(run);
    }
    let differ = differing(&runs);
    if ui.is_json() {
        for run in &runs {
            let settings: BTreeMap<&String, Option<&Value>> =
                differ.iter().map(|name| (name, run.setting(name))).collect();
            let figures: BTreeMap<String, Option<f64>> = FIGURES
                .iter()
                .map(|figure| {
                    let key = figure.name.replace("images/s", "images_per_second");
                    let key = key.replace("training time", "seconds").replace(' ', "_");
                    (key, (figure.of)(&run.epochs))
                })
                .collect();
            ui.json(&json!({"run": run.folder, "settings": settings, "figures": figures}));
        }
        return Ok(());
    }
    // Only the runs of one group have a mean that means something.
    let averaged = runs.len() > 1 && groups(runs.clone()).len() == 1;
    let mut head = vec![String::new()];
    head.extend(runs.iter().map(|run| {
        let name = run.folder.file_name().unwrap_or(run.folder.as_os_str());
        short(&name.to_string_lossy())
    }));
    head.extend(averaged.then(|| "mean ± sd".to_owned()));
    let mut lines = vec![head];
    for name in &differ {
        let value = |run: &RunFigures| match run.setting(name) {
            Some(Value::String(text)) => short(text),
            Some(other) => other.to_string(),
            None => String::new(),
        };
        let key = name.split_once('.').map_or(name.as_str(), |(_, key)| key);
        let mut line = vec![key.to_owned()];
        line.extend(runs.iter().map(value));
        line.extend(averaged.then(String::new));
        lines.push(line);
    }
    for Figure { name, of, text } in &FIGURES {
        let values: Vec<Option<f64>> = runs.iter().map(|run| of(&run.epochs)).collect();
        if values.iter().all(Option::is_none) {
            continue;
        }
        let mut line = vec![(*name).to_owned()];
        line.extend(values.iter().map(|value| value.map_or_else(String::new, text)));
        line.extend(averaged.then(|| match spread(values.iter().copied().flatten()) {
            Some(Spread { mean, sd }) => format!("{} ± {}", text(mean), text(sd)),
            None => String::new(),
        }));
        lines.push(line);
    }
    let columns = lines.first().map_or(1, Vec::len);
    ui.out(table(&lines, 1..columns));
    Ok(())
}
