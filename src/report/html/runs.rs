//! The parts of a page about runs: figures side by side, epochs, time, network and settings.

use crate::model::shape::{LayerShape, totals};
use crate::report::figures::{FIGURES, Figure, training_seconds};
use crate::report::gather::RunReport;
use crate::run::compare::{
    Group, RunFigures, Spread, differing, groups, key_of, spread, value_text,
};
use crate::ui::{duration, grouped, loss, rounded, short};
use maud::{Markup, html};
use std::collections::BTreeSet;

/// The most epochs in a table.
const MOST_EPOCHS: usize = 200;

/// Several runs: the figures of each group of runs that differ by their seed alone, then each run with its settings.
pub fn comparison(reports: &[RunReport]) -> Markup {
    let runs: Vec<RunFigures> = reports.iter().map(|report| report.figures.clone()).collect();
    let groups = groups(runs.clone());
    let averaged = groups.iter().any(|group| group.runs.len() > 1);
    html! {
        @if averaged {
            section {
                h2 { "Mean over seeds" }
                p.note { "Mean ± standard deviation of the runs that differ by their seed alone, after the last epoch." }
                div.scroll { (means(&groups)) }
            }
        }
        section {
            h2 { "Runs" }
            div.scroll { (side_by_side(reports, &runs)) }
        }
    }
}

fn means(groups: &[Group]) -> Markup {
    let cell = |figure: &Figure, group: &Group| {
        let values = group.runs.iter().filter_map(|run| (figure.of)(&run.epochs));
        spread(values).map(|Spread { mean, sd }| match group.runs.len() {
            1 => (figure.text)(mean),
            _ => format!("{} ± {}", (figure.text)(mean), (figure.text)(sd)),
        })
    };
    let known = |figure: &&Figure| groups.iter().any(|group| cell(figure, group).is_some());
    html! {
        table {
            thead {
                tr {
                    th {}
                    @for group in groups {
                        th.number {
                            @let name = group.name(None);
                            @if name.is_empty() { "all runs" } @else { (short(&name)) }
                            br; span.note { (group.runs.len()) " seeds" }
                        }
                    }
                }
            }
            tbody {
                @for figure in FIGURES.iter().filter(known) {
                    tr {
                        th scope="row" { (figure.name) }
                        @for group in groups { td.number { (cell(figure, group).unwrap_or_default()) } }
                    }
                }
            }
        }
    }
}

fn side_by_side(reports: &[RunReport], runs: &[RunFigures]) -> Markup {
    let differ: BTreeSet<String> = differing(runs).into_iter().collect();
    let known = |figure: &&Figure| runs.iter().any(|run| (figure.of)(&run.epochs).is_some());
    html! {
        table {
            thead { tr { th {} @for report in reports { th.number { (report.figures.name()) } } } }
            tbody {
                tr {
                    th scope="row" { "state" }
                    @for report in reports {
                        td.number { span class=(format!("state {}", report.overview.state.name())) { (report.overview.state.name()) } }
                    }
                }
                @for figure in FIGURES.iter().filter(known) {
                    tr {
                        th scope="row" { (figure.name) }
                        @for run in runs {
                            td.number { ((figure.of)(&run.epochs).map(figure.text).unwrap_or_default()) }
                        }
                    }
                }
                @for name in &differ {
                    tr.differs {
                        th scope="row" { (key_of(name)) }
                        @for run in runs { td.number { (value_text(run.setting(name))) } }
                    }
                }
            }
        }
    }
}

/// The time of a run: training, evaluations, and everything else.
pub fn time(report: &RunReport) -> Markup {
    let epochs = &report.figures.epochs;
    let training = training_seconds(epochs);
    let evaluation: f64 = epochs.iter().filter_map(|epoch| epoch.evaluation_seconds).sum();
    let other = (report.overview.seconds - training - evaluation).max(0.0);
    let total = training + evaluation + other;
    let parts = [
        ("training", training, 0),
        ("evaluation", evaluation, 2),
        ("start, checkpoints, the rest", other, 4),
    ];
    let parts = parts.into_iter().filter(|(_, seconds, _)| *seconds > 0.0);
    html! {
        @if total > 0.0 {
            section {
                h2 { "Time" }
                div.stack {
                    @for (_, seconds, colour) in parts.clone() {
                        i style=(format!("width:{:.2}%;background:var(--line-{colour})", 100.0 * seconds / total)) {}
                    }
                }
                ul.legend {
                    @for (name, seconds, colour) in parts {
                        li {
                            i.thick style=(format!("background:var(--line-{colour})")) {}
                            (name) " " b { (duration(seconds)) } (format!(" ({:.1} %)", 100.0 * seconds / total))
                        }
                    }
                }
            }
        }
    }
}

/// The figures of each epoch. Of a long run, some epochs are left out.
pub fn epochs(report: &RunReport) -> Markup {
    let epochs = &report.figures.epochs;
    let step = epochs.len().div_ceil(MOST_EPOCHS).max(1);
    let last = epochs.len().saturating_sub(1);
    let shown = epochs.iter().enumerate().filter(|(place, _)| place % step == 0 || *place == last);
    let shown: Vec<_> = shown.map(|(_, epoch)| epoch).collect();
    let has_validation = epochs.iter().any(|epoch| epoch.validation_loss.is_some());
    let optional = |number: Option<f64>| number.map_or_else(String::new, loss);
    html! {
        @if !epochs.is_empty() {
            section {
                details {
                    summary { h2 { "Epochs" } }
                    @if step > 1 { p.note { "One of " (step) " epochs, and the last one." } }
                    div.scroll {
                        table.epochs {
                            thead {
                                tr {
                                    th.number { "epoch" } th.number { "learning rate" }
                                    th.number { "training loss" } th.number { "accuracy" }
                                    @if has_validation { th.number { "validation loss" } th.number { "accuracy" } }
                                    th.number { "test loss" } th.number { "accuracy" }
                                    th.number { "images/s" } th.number { "time" }
                                }
                            }
                            tbody {
                                @for epoch in shown {
                                    tr {
                                        td.number { (epoch.epoch) } td.number { (rounded(epoch.lr)) }
                                        td.number { (loss(epoch.train_loss)) } td.number { (format!("{:.4}", epoch.train_accuracy)) }
                                        @if has_validation {
                                            td.number { (optional(epoch.validation_loss)) } td.number { (optional(epoch.validation_accuracy)) }
                                        }
                                        td.number { (optional(epoch.test_loss)) } td.number { (optional(epoch.test_accuracy)) }
                                        td.number { (format!("{:.0}", epoch.images_per_second)) } td.number { (duration(epoch.seconds)) }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The layers of the network, as `resnet shapes` prints them.
pub fn network(report: &RunReport) -> Markup {
    let (parameters, cost) = totals(&report.layers);
    let row = |layer: &LayerShape, class: &str| {
        let output = layer.output.iter().map(i64::to_string).collect::<Vec<_>>().join("×");
        html! {
            tr class=(class) {
                th scope="row" { (layer.name) } td { (layer.kind) } td.number { (output) }
                td.number { (grouped(layer.parameters)) } td.number { (grouped(layer.cost.macs as usize)) }
            }
        }
    };
    html! {
        @if !report.layers.is_empty() {
            section {
                details {
                    summary { h2 { "Network" } }
                    div.scroll {
                        table.network {
                            thead { tr { th { "layer" } th { "kind" } th.number { "output" } th.number { "parameters" } th.number { "multiply-adds" } } }
                            tbody {
                                @for shape in &report.layers {
                                    (row(&shape.layer, "top"))
                                    @if shape.units.len() > 1 { @for unit in &shape.units { (row(unit, "unit")) } }
                                }
                            }
                            tfoot {
                                tr { th { "total" } td {} td {} td.number { (grouped(parameters)) } td.number { (grouped(cost.macs as usize)) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The settings that decide the result of a run.
pub fn settings(report: &RunReport) -> Markup {
    let settings = report.figures.settings();
    html! {
        @if !settings.is_empty() {
            section {
                details {
                    summary { h2 { "Settings" } }
                    div.settings {
                        @for (name, value) in settings {
                            div { span { (name) } " " b { (value_text(Some(value))) } }
                        }
                    }
                }
            }
        }
    }
}
