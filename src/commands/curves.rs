//! `resnet curves`: training and test error of runs side by side, as a table and as a picture.

use crate::cli::CurvesArgs;
use crate::error::usage;
use crate::report::chart::{Chart, Line, Scale, files_of};
use crate::run::compare::{Group, Spread, groups, read_all};
use crate::train::event::EpochFigures;
use crate::ui::{Ui, table};
use anyhow::Result;
use serde_json::json;

/// Settings whose largest value is this many times the smallest are drawn on a logarithmic scale.
const WIDE: f64 = 8.0;

/// Runs `resnet curves`.
///
/// # Errors
/// A folder is not a run's folder, or the setting of `--against` is not a number that differs between the runs.
pub fn run(args: &CurvesArgs, ui: &Ui) -> Result<()> {
    let pictures = args.picture.as_ref().map(|path| files_of("--picture", path)).transpose()?;
    let mut groups = groups(read_all(&args.runs, ui)?);
    if let Some(key) = &args.against {
        let value = |group: &Group| group.number(key).unwrap_or(f64::MAX);
        groups.sort_by(|a, b| value(a).total_cmp(&value(b)));
    }
    let chart = match args.against.as_deref() {
        Some(key) => against(&groups, key)?,
        None => by_epoch(&groups),
    };
    for file in pictures.iter().flatten() {
        chart.write(file)?;
    }
    if ui.is_json() {
        for group in &groups {
            ui.json(&json!({
                "settings": group.settings,
                "runs": group.runs.iter().map(|run| &run.folder).collect::<Vec<_>>(),
                "epochs": last_epoch(group),
                "train_accuracy": group.at_end(train_accuracy),
                "test_accuracy": group.at_end(test_accuracy),
            }));
        }
        return Ok(());
    }
    let mut lines =
        vec![["settings", "runs", "epochs", "training error", "test error"].map(String::from)];
    for group in &groups {
        lines.push([
            group.name(None),
            group.runs.len().to_string(),
            last_epoch(group).to_string(),
            error_text(group, train_accuracy),
            error_text(group, test_accuracy),
        ]);
    }
    ui.out(table(&lines, 1..5));
    Ok(())
}

fn train_accuracy(epoch: &EpochFigures) -> Option<f64> {
    Some(epoch.train_accuracy)
}

fn test_accuracy(epoch: &EpochFigures) -> Option<f64> {
    epoch.test_accuracy
}

fn last_epoch(group: &Group) -> u64 {
    let last = group.runs.iter().filter_map(|run| run.epochs.last());
    last.map(|epoch| epoch.epoch).max().unwrap_or_default()
}

/// An error in per cent from an accuracy, with the standard deviation if the group has several runs.
fn error_text(group: &Group, accuracy: fn(&EpochFigures) -> Option<f64>) -> String {
    match group.at_end(accuracy) {
        None => "none".to_owned(),
        Some(Spread { mean, .. }) if group.runs.len() == 1 => {
            format!("{:.2} %", per_cent_wrong(mean))
        }
        Some(Spread { mean, sd }) => format!("{:.2} ± {:.2} %", per_cent_wrong(mean), 100.0 * sd),
    }
}

fn per_cent_wrong(accuracy: f64) -> f64 {
    100.0 * (1.0 - accuracy)
}

/// The errors of each group by epoch. The training error is a thin line.
fn by_epoch(groups: &[Group]) -> Chart {
    let mut lines = Vec::new();
    for (colour, group) in groups.iter().enumerate() {
        let points = |means: Vec<(u64, f64)>| {
            means.into_iter().map(|(epoch, mean)| (epoch as f64, per_cent_wrong(mean))).collect()
        };
        let name = |what: &str| match group.name(None) {
            name if name.is_empty() => what.to_owned(),
            name => format!("{name}: {what}"),
        };
        lines.extend([
            Line {
                name: name("test"),
                colour,
                thin: false,
                points: points(group.by_epoch(test_accuracy)),
            },
            Line {
                name: name("training"),
                colour,
                thin: true,
                points: points(group.by_epoch(train_accuracy)),
            },
        ]);
    }
    Chart {
        title: "Error by epoch (mean over seeds)".to_owned(),
        x: "epoch".to_owned(),
        y: "error in %".to_owned(),
        x_scale: Scale::Whole,
        y_scale: Scale::Linear,
        lines,
    }
}

/// The test error after the last epoch against a setting. The groups that differ in this setting alone make a line.
fn against(groups: &[Group], key: &str) -> Result<Chart> {
    let numbers: Option<Vec<f64>> = groups.iter().map(|group| group.number(key)).collect();
    let Some(numbers) = numbers.filter(|numbers| numbers.len() > 1) else {
        return Err(usage(format!(
            "--against {key}: not a number that differs between these runs; expected a key of their config.toml, such as batch-size"
        )));
    };
    let low = numbers.iter().copied().fold(f64::MAX, f64::min);
    let high = numbers.iter().copied().fold(f64::MIN, f64::max);
    let x_scale = match low > 0.0 && high / low >= WIDE {
        true if numbers.iter().all(|number| number.log2().fract() == 0.0) => Scale::Log2,
        true => Scale::Log10,
        false => Scale::Linear,
    };
    // If no two groups have the same value, they are one line, whatever else differs.
    let mut sorted = numbers.clone();
    sorted.sort_by(f64::total_cmp);
    let one_line = sorted.windows(2).all(|pair| pair.first() != pair.last());
    let mut lines: Vec<Line> = Vec::new();
    for (group, number) in groups.iter().zip(numbers) {
        let Some(Spread { mean, .. }) = group.at_end(test_accuracy) else { continue };
        let x = match x_scale {
            Scale::Linear | Scale::Whole => number,
            Scale::Log10 => number.log10(),
            Scale::Log2 => number.log2(),
        };
        let name = if one_line { "test error".to_owned() } else { group.name(Some(key)) };
        let point = (x, per_cent_wrong(mean));
        match lines.iter_mut().find(|line| line.name == name) {
            Some(line) => line.points.push(point),
            None => {
                let colour = lines.len();
                lines.push(Line { name, colour, thin: false, points: vec![point] });
            }
        }
    }
    for line in &mut lines {
        line.points.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    Ok(Chart {
        title: format!("Test error after the last epoch against {key}"),
        x: key.to_owned(),
        y: "test error in %".to_owned(),
        x_scale,
        y_scale: Scale::Linear,
        lines,
    })
}
