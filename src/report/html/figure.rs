//! Charts and pictures in a page.

use crate::report::chart::{Chart, Frame, Inline, Line};
use anyhow::Result;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use maud::{Markup, PreEscaped, html};
use serde::Serialize;

/// The most points of a line in a page. More of them cannot be seen, and make the page slow.
const MOST_POINTS: usize = 1_000;

/// What the page's script needs to show the values of a chart.
#[derive(Serialize)]
struct Data<'a> {
    x: &'a str,
    lines: Vec<DataLine<'a>>,
    frames: [&'a Frame; 2],
}

#[derive(Serialize)]
struct DataLine<'a> {
    name: &'a str,
    colour: usize,
    points: &'a [(f64, f64)],
}

/// A chart with its title, the names of its lines, and the values of its points. `name` is the name of its files.
///
/// # Errors
/// The chart cannot be drawn.
pub fn chart(chart: &Chart, name: &str) -> Result<Markup> {
    let thin = |line: &Line| Line { points: thinned(&line.points), ..line.clone() };
    let chart = Chart { lines: chart.lines.iter().map(thin).collect(), ..chart.clone() };
    let [wide, narrow] = chart.inline()?;
    let data = Data {
        x: &chart.x,
        lines: chart
            .lines
            .iter()
            .map(|line| DataLine {
                name: &line.name,
                colour: line.colour_index(),
                points: &line.points,
            })
            .collect(),
        frames: [&wide.frame, &narrow.frame],
    };
    // A name can hold the end of the script's element.
    let data = serde_json::to_string(&data)?.replace('<', "\\u003c");
    let svg =
        |class: &str, drawn: &Inline| html! { div class=(class) { (PreEscaped(&drawn.svg)) } };
    Ok(html! {
        figure.chart id=(name) tabindex="0" aria-label=(chart.title) {
            figcaption { (chart.title) }
            // The title says what the only line is.
            @if chart.lines.len() > 1 {
                ul.legend {
                    @for line in &chart.lines {
                        li {
                            i class=(if line.thin { "thin" } else { "thick" }) style=(format!("background:var(--line-{})", line.colour_index())) {}
                            (line.name)
                        }
                    }
                }
            }
            (svg("wide", &wide))
            (svg("narrow", &narrow))
            div.values hidden {}
            script type="application/json" { (PreEscaped(data)) }
        }
    })
}

/// At most [`MOST_POINTS`] of the points, with the first and the last one.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let step = points.len().div_ceil(MOST_POINTS).max(1);
    let last = points.len().saturating_sub(1);
    let keep = |(place, _): &(usize, &(f64, f64))| place % step == 0 || *place == last;
    points.iter().enumerate().filter(keep).map(|(_, point)| *point).collect()
}

/// The address of a picture that is in the page itself. `kind` is `png` or `jpeg`.
pub fn address(kind: &str, bytes: &[u8]) -> String {
    format!("data:image/{kind};base64,{}", BASE64_STANDARD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_keep_their_ends() {
        for count in [0usize, 1, 2, 999, 1000, 1001, 100_000] {
            let points: Vec<_> = (0..count).map(|x| (x as f64, 0.0)).collect();
            let thinned = thinned(&points);
            assert_eq!((thinned.first(), thinned.last()), (points.first(), points.last()));
            assert!(thinned.len() <= MOST_POINTS + 1 && thinned.len() >= count.min(500));
        }
    }
}
