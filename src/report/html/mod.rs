//! A report of runs as one HTML page that needs no other file and no network.

mod figure;
mod results;
mod runs;

use super::curves::charts;
use super::figures::images_per_second;
use super::gather::RunReport;
use crate::model::shape::totals;
use crate::run::compare::{RunFigures, groups};
use crate::run::overview::Overview;
use crate::ui::{counted, duration, grouped, loss, short};
use anyhow::Result;
use maud::{DOCTYPE, Markup, PreEscaped, html};

/// What a browser may load for the page: nothing from outside. Its style, its script and its pictures are in it.
const POLICY: &str =
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'";
/// How the page looks, and what it does when someone points at a curve.
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The page about these runs.
///
/// # Errors
/// A chart cannot be drawn.
pub fn page(reports: &[RunReport]) -> Result<String> {
    let title = match reports {
        [report] => report.figures.name(),
        _ => counted(reports.len() as u64, "run"),
    };
    let all: Vec<RunFigures> = reports.iter().map(|report| report.figures.clone()).collect();
    let charts = charts(&groups(all));
    let charts: Vec<Markup> = charts
        .iter()
        .filter(|chart| !chart.chart.lines.is_empty())
        .map(|chart| figure::chart(&chart.chart, chart.name))
        .collect::<Result<_>>()?;
    let details: Vec<Markup> = reports
        .iter()
        .map(|report| run_section(report, reports.len() == 1))
        .collect::<Result<_>>()?;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                // Without an icon of its own, a page from a server asks for one.
                link rel="icon" href="data:,";
                title { (title) " – resnet report" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    p.kicker { "resnet report" }
                    h1 { (title) }
                    @match reports {
                        [report] => (summary(report)),
                        _ => p.what { (subjects(reports).join(", ")) },
                    }
                }
                main {
                    @if reports.len() > 1 { (runs::comparison(reports)) }
                    section {
                        h2 { "Curves" }
                        @if reports.len() > 1 {
                            p.note { "Runs that differ by their seed alone are one curve: their mean." }
                        }
                        @if charts.is_empty() { p.empty { "No epoch is over yet." } }
                        div.charts { @for chart in &charts { (chart) } }
                    }
                    @for detail in &details { (detail) }
                }
                footer { "Written by resnet " (env!("CARGO_PKG_VERSION")) "." }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    Ok(page.into_string())
}

/// What the runs are about: each network and data set once, in the order of the runs.
fn subjects(reports: &[RunReport]) -> Vec<String> {
    let mut subjects = Vec::new();
    for Overview { network, dataset, .. } in reports.iter().map(|report| &report.overview) {
        if let (Some(network), Some(dataset)) = (network, dataset) {
            let subject = format!("{} on {dataset}", short(network));
            if !subjects.contains(&subject) {
                subjects.push(subject);
            }
        }
    }
    subjects
}

/// The state of a run and its most important figures.
fn summary(report: &RunReport) -> Markup {
    let Overview {
        state,
        network,
        dataset,
        epochs_done,
        epochs,
        test_accuracy,
        seconds,
        fault,
        ..
    } = &report.overview;
    let last = report.figures.epochs.iter().rev();
    let test_loss = last.clone().find_map(|epoch| epoch.test_loss);
    let validation = last.clone().find_map(|epoch| epoch.validation_accuracy);
    let epochs = match epochs {
        Some(epochs) => format!("{epochs_done} of {epochs}"),
        None => epochs_done.to_string(),
    };
    let accuracy = |accuracy: f64| format!("{:.2} %", 100.0 * accuracy);
    let tiles = [
        ("test accuracy", test_accuracy.map(accuracy)),
        ("test loss", test_loss.map(loss)),
        ("validation accuracy", validation.map(accuracy)),
        ("epochs", Some(epochs)),
        ("time", Some(duration(*seconds))),
        ("images/s", images_per_second(&report.figures.epochs).map(|rate| grouped(rate as usize))),
        ("parameters", (!report.layers.is_empty()).then(|| grouped(totals(&report.layers).0))),
    ];
    html! {
        p.what {
            span class=(format!("state {}", state.name())) { (state.name()) }
            @if let Some(network) = network { " " (short(network)) }
            @if let Some(dataset) = dataset { " on " (dataset) }
        }
        @if let Some(fault) = fault { p.fault { (fault) } }
        dl.tiles {
            @for (name, value) in tiles {
                @if let Some(value) = value { div { dt { (name) } dd { (value) } } }
            }
        }
    }
}

/// Everything about one run. Of several runs, each is closed until it is opened.
fn run_section(report: &RunReport, alone: bool) -> Result<Markup> {
    let parts = html! {
        (results::results(report)?)
        (runs::time(report))
        (runs::epochs(report))
        (runs::network(report))
        (runs::settings(report))
    };
    Ok(match alone {
        true => parts,
        false => html! {
            details.run {
                summary { h2 { (report.figures.name()) } }
                (summary(report))
                (parts)
            }
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::gather::TestResults;
    use crate::report::outcome::Outcome;
    use crate::run::compare::RunFigures;
    use crate::run::overview::State;
    use crate::train::evaluate::Evaluation;
    use crate::train::event::EpochFigures;
    use std::path::Path;

    fn report(classes: usize, epochs: u64, loss: f64) -> RunReport {
        let mut figures = RunFigures::unknown(Path::new("runs/<b>&"));
        figures.epochs = (1..=epochs)
            .map(|epoch| EpochFigures {
                epoch,
                step: epoch,
                lr: 0.1,
                train_loss: loss,
                train_accuracy: 0.5,
                test_loss: Some(loss),
                test_accuracy: Some(0.5),
                test_images: None,
                validation_loss: None,
                validation_accuracy: None,
                validation_images: None,
                images_per_second: 100.0,
                seconds: 1.0,
                evaluation_seconds: Some(0.5),
            })
            .collect();
        let overview = Overview {
            run: figures.folder.clone(),
            state: State::Finished,
            network: Some("ResNet-18".to_owned()),
            dataset: Some("synthetic".to_owned()),
            epochs_done: epochs,
            epochs: Some(epochs),
            test_accuracy: Some(0.5),
            best_accuracy: Some(0.5),
            seconds: 2.0 * epochs as f64,
            changed: 0,
            fault: None,
        };
        let evaluation = Evaluation {
            images: 0,
            loss,
            top_k_correct: 0,
            confusion: (0..classes).map(|row| vec![row as u64; classes]).collect(),
            calibration_error: 0.0,
            probabilities: Vec::new(),
        };
        let names = (0..classes).map(|class| format!("class {class}")).collect();
        let outcome = Outcome { names, evaluation, labels: Vec::new() };
        let test = Ok(TestResults { outcome, wrong: Vec::new() });
        RunReport { overview, figures, layers: Vec::new(), test }
    }

    #[test]
    fn runs_of_any_length_and_number_of_classes_have_a_page_of_reasonable_size() {
        for (classes, epochs, loss) in
            [(2, 0, 1.0), (10, 1, 1.0), (100, 1_000, 1.0), (1_000, 3, 1.0), (10, 100_000, f64::NAN)]
        {
            let page = page(&[report(classes, epochs, loss)]).unwrap();
            let what = format!("{classes} classes, {epochs} epochs: {} bytes", page.len());
            assert!(page.len() < 2_000_000, "{what}");
            assert!(page.contains("class 1<") && page.contains("&lt;b&gt;&amp;"), "{what}");
            assert!(!page.contains("<b>&"), "{what}");
            assert_eq!(page.contains("No epoch is over yet"), epochs == 0, "{what}");
            // The names of many classes cannot be read in a matrix.
            assert_eq!(page.contains("table class=\"confusion\""), classes <= 20, "{what}");
        }
    }
}
