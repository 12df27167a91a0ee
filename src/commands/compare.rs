//! `resnet compare`: runs side by side, the settings in which they differ and their figures.

use crate::cli::CompareArgs;
use crate::report::figures::{FIGURES, Figure};
use crate::run::compare::{
    RunFigures, Spread, differing, groups, key_of, read_all, spread, value_text,
};
use crate::ui::{Ui, table};
use anyhow::Result;
use serde_json::json;
use std::collections::BTreeMap;
use toml::Value;

/// Runs `resnet compare`.
///
/// # Errors
/// A folder is not a run's folder.
pub fn run(args: &CompareArgs, ui: &Ui) -> Result<()> {
    let runs = read_all(&args.runs, ui)?;
    let differ = differing(&runs);
    if ui.is_json() {
        for run in &runs {
            let settings: BTreeMap<&String, Option<&Value>> =
                differ.iter().map(|name| (name, run.setting(name))).collect();
            let figures: BTreeMap<&str, Option<f64>> =
                FIGURES.iter().map(|figure| (figure.key, (figure.of)(&run.epochs))).collect();
            ui.json(&json!({"run": run.folder, "settings": settings, "figures": figures}));
        }
        return Ok(());
    }
    // Only the runs of one group have a mean that means something.
    let averaged = runs.len() > 1 && groups(runs.clone()).len() == 1;
    let mut head = vec![String::new()];
    head.extend(runs.iter().map(RunFigures::name));
    head.extend(averaged.then(|| "mean ± sd".to_owned()));
    let mut lines = vec![head];
    for name in &differ {
        let value = |run: &RunFigures| value_text(run.setting(name));
        let mut line = vec![key_of(name).to_owned()];
        line.extend(runs.iter().map(value));
        line.extend(averaged.then(String::new));
        lines.push(line);
    }
    for Figure { name, of, text, .. } in &FIGURES {
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
