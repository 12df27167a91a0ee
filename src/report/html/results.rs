//! The part of a page about the test images: classes, confusion matrix, mistakes and calibration.

use super::figure::{address, chart};
use crate::report::calibration::calibration;
use crate::report::gather::{RunReport, TestResults};
use crate::report::matrix::{self, MOST_READABLE, share, strength};
use crate::report::mistakes::WrongImage;
use crate::report::outcome::{Guess, Outcome};
use crate::ui::{grouped, short};
use anyhow::Result;
use maud::{Markup, html};

/// What the network of the last checkpoint says of the test images.
///
/// # Errors
/// A picture cannot be drawn.
pub fn results(report: &RunReport) -> Result<Markup> {
    let TestResults { outcome, wrong } = match &report.test {
        Ok(results) => results,
        Err(why) => {
            return Ok(html! { section { h2 { "Test images" } p.empty { (why) } } });
        }
    };
    Ok(html! {
        (classes(outcome))
        (confusion(outcome)?)
        (mistakes(outcome, wrong)?)
        section {
            h2 { "Calibration" }
            p.note {
                "If the probabilities are right, then of the images with a probability of 80 % four in five are classified correctly. The expected calibration error is "
                (format!("{:.4}", outcome.evaluation.calibration_error)) "."
            }
            div.charts { (chart(&calibration(outcome), "calibration")?) }
        }
    })
}

fn classes(outcome: &Outcome) -> Markup {
    let bar = |share: f64| {
        html! {
            td.number {
                span.bar { i style=(format!("width:{:.1}%", 100.0 * share)) {} }
                (format!("{:.2}", 100.0 * share))
            }
        }
    };
    html! {
        section {
            h2 { "Classes" }
            p.note { "In %. Precision: of the images predicted as this class, those that belong to it. Recall: of the images of this class, those predicted as it." }
            div.scroll {
                table.classes {
                    thead { tr { th { "class" } th { "precision" } th { "recall" } th { "F1" } th { "images" } } }
                    tbody {
                        @for class in outcome.by_class() {
                            tr {
                                th scope="row" { (short(&class.name)) }
                                (bar(class.precision)) (bar(class.recall)) (bar(class.f1))
                                td.number { (grouped(class.support as usize)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn confusion(outcome: &Outcome) -> Result<Markup> {
    let confusion = &outcome.evaluation.confusion;
    let matrix = match outcome.names.len() <= MOST_READABLE {
        true => cells(outcome),
        false => {
            let png = matrix::png(confusion, &outcome.names)?;
            html! { img.matrix src=(address("png", &png)) alt="confusion matrix"; }
        }
    };
    Ok(html! {
        section {
            h2 { "Confusion matrix" }
            p.note { "Rows: the true class. Columns: the predicted class. Blue: correct; orange: mistakes." }
            (matrix)
            @if outcome.names.len() > MOST_READABLE { (pairs(outcome)) }
        }
    })
}

fn cells(outcome: &Outcome) -> Markup {
    let cell = |row: usize, column: usize, count: u64, counts: &[u64]| {
        let dark = strength(share(count, counts));
        let kind = if row == column { "right" } else { "wrong" };
        let ink = if dark > 0.6 { " dark" } else { "" };
        let title = format!("{} predicted as {}: {count}", outcome.name(row), outcome.name(column));
        html! {
            td class=(format!("{kind}{ink}")) style=(format!("--share:{:.0}%", 100.0 * dark)) title=(title) {
                @if count > 0 { (count) }
            }
        }
    };
    html! {
        div.scroll {
            table.confusion {
                thead { tr { th {} @for name in &outcome.names { th { span { (short(name)) } } } } }
                tbody {
                    @for (row, counts) in outcome.evaluation.confusion.iter().enumerate() {
                        tr {
                            th scope="row" { (short(outcome.name(row))) }
                            @for (column, &count) in counts.iter().enumerate() { (cell(row, column, count, counts)) }
                        }
                    }
                }
            }
        }
    }
}

/// The pairs of classes that are mistaken most often, for matrices whose names cannot be read.
fn pairs(outcome: &Outcome) -> Markup {
    const MOST: usize = 15;
    let rows = outcome.evaluation.confusion.iter().enumerate();
    let mut pairs: Vec<(u64, usize, usize)> = rows
        .flat_map(|(row, counts)| {
            counts.iter().enumerate().map(move |(column, &count)| (count, row, column))
        })
        .filter(|&(count, row, column)| row != column && count > 0)
        .collect();
    pairs.sort_by_key(|&(count, ..)| std::cmp::Reverse(count));
    html! {
        table {
            thead { tr { th { "class" } th { "predicted as" } th { "images" } } }
            tbody {
                @for &(count, row, column) in pairs.iter().take(MOST) {
                    tr { td { (short(outcome.name(row))) } td { (short(outcome.name(column))) } td.number { (count) } }
                }
            }
        }
    }
}

fn mistakes(outcome: &Outcome, wrong: &[WrongImage]) -> Result<Markup> {
    let guess = |of: &Guess| {
        let percent = 100.0 * of.probability;
        let digits = if percent < 10.0 { 1 } else { 0 };
        html! { (short(outcome.name(of.class))) " " span { (format!("{percent:.digits$} %")) } }
    };
    Ok(html! {
        section {
            h2 { "Worst mistakes" }
            @if wrong.is_empty() { p.empty { "No image was classified wrongly." } }
            @else {
                p.note {
                    "The " (wrong.len()) " of " (grouped(outcome.evaluation.images))
                    " test images whose true class got the lowest probability. Right: what speaks for the predicted class (Grad-CAM), from violet over red to yellow."
                }
                div.mistakes {
                    @for image in wrong {
                        @let mistake = &image.mistake;
                        figure {
                            img src=(address("png", &image.png()?)) alt=(format!("test image {}", mistake.image));
                            img src=(address("jpeg", &image.seen_jpeg()?)) alt="what the network looked at";
                            figcaption {
                                div.predicted { (guess(&mistake.predicted)) }
                                div.truth { "true: " (guess(&mistake.truth)) }
                                div.place { "image " (mistake.image) }
                            }
                        }
                    }
                }
            }
        }
    })
}
