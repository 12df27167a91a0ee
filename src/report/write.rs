//! Writes a report: the page, and its pictures as files beside it.

use super::calibration::calibration;
use super::chart::Chart;
use super::curves::charts;
use super::gather::RunReport;
use super::mistakes::sheet;
use super::{html, matrix};
use crate::files::{numbered, write_atomically};
use crate::run::compare::{RunFigures, groups};
use anyhow::{Context, Result};
use std::collections::HashSet;
use std::fs;
use std::path::Path;

/// The name of the page in a run's folder.
pub const REPORT: &str = "report.html";

/// Writes the page into `file`, and its pictures as PNG and SVG (photographs as PNG alone) into a folder beside it that has the file's name without
/// its ending.
///
/// # Errors
/// A picture cannot be drawn, or a file cannot be written.
pub fn write(reports: &[RunReport], file: &Path) -> Result<()> {
    let pictures = file.with_extension("");
    fs::create_dir_all(&pictures)
        .with_context(|| format!("cannot make the folder {}", pictures.display()))?;
    let runs: Vec<RunFigures> = reports.iter().map(|report| report.figures.clone()).collect();
    for named in charts(&groups(runs)).iter().filter(|named| !named.chart.lines.is_empty()) {
        write_chart(&named.chart, &pictures, named.name)?;
    }
    let mut taken = HashSet::new();
    for report in reports {
        let Ok(results) = &report.test else { continue };
        let run = match reports {
            [_] => String::new(),
            _ => prefix(&report.figures.name(), &mut taken),
        };
        write_chart(&calibration(&results.outcome), &pictures, &format!("{run}calibration"))?;
        let confusion = &results.outcome.evaluation.confusion;
        let names = &results.outcome.names;
        let file = |name: &str| pictures.join(format!("{run}{name}"));
        write_bytes(&file("confusion.png"), &matrix::png(confusion, names)?)?;
        write_bytes(&file("confusion.svg"), matrix::svg(confusion, names)?.as_bytes())?;
        write_bytes(&file("mistakes.png"), &sheet(&results.outcome, &results.wrong).png()?)?;
    }
    write_bytes(file, html::page(reports)?.as_bytes())
}

fn write_chart(chart: &Chart, folder: &Path, name: &str) -> Result<()> {
    for ending in ["png", "svg"] {
        chart.write(&folder.join(format!("{name}.{ending}")))?;
    }
    Ok(())
}

fn write_bytes(file: &Path, bytes: &[u8]) -> Result<()> {
    write_atomically(file, bytes).with_context(|| format!("cannot write {}", file.display()))
}

/// The beginning of the names of a run's pictures. Runs of different folders can have the same name.
fn prefix(run: &str, taken: &mut HashSet<String>) -> String {
    let plain = |c: char| if c.is_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let run: String = run.chars().map(plain).collect();
    let free = numbered(&run).find(|name| !taken.contains(name)).unwrap_or_default();
    taken.insert(free.clone());
    format!("{free}-")
}
