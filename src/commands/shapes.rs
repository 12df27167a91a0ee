//! `resnet shapes`: the output shape and the cost of every layer.

mod list;

use crate::cli::{NetworkOptions, ShapesArgs};
use crate::config::resolve_network;
use crate::error::{in_range, usage};
use crate::model::shape::{Cost, LayerShape, TopLevelShape, measure, totals};
use crate::ui::{Ui, grouped, table};
use anyhow::Result;
use serde::Serialize;
use serde_json::json;

/// The largest `--batch-size`. It keeps the number of elements of every tensor within 64 bits.
const MAX_BATCH: usize = 1 << 20;

/// Runs `resnet shapes`.
///
/// # Errors
/// A usage error for a network or batch that cannot be measured.
pub fn run(args: &ShapesArgs, ui: &Ui) -> Result<()> {
    if args.list {
        if args.network != NetworkOptions::default() {
            return Err(usage(
                "--list: prints the networks of the papers, whatever the other flags are; remove --list or the flags of a network",
            ));
        }
        return list::run(ui);
    }
    let spec = resolve_network(&args.network, None)?;
    let batch_size = args.batch_size;
    in_range("--batch-size", batch_size, 1..=MAX_BATCH)?;
    let measured = measure(&spec, batch_size);
    let (parameters, Cost { macs, .. }) = totals(&measured);
    if macs == u64::MAX {
        return Err(usage(format!(
            "--batch-size {batch_size}: the number of multiply-adds does not fit in 64 bits; expected a smaller batch"
        )));
    }
    if ui.is_json() {
        let layers: Vec<Layer> = measured.iter().map(|shape| Layer::new(shape, args.all)).collect();
        ui.json(&json!({
            "depth": spec.depth(),
            "input": [batch_size, spec.channels, spec.size, spec.size],
            "parameters": parameters,
            "macs": macs,
            "layers": layers,
        }));
        return Ok(());
    }
    let input = format!("{batch_size}×{}×{1}×{1}", spec.channels, spec.size);
    ui.out(format!("{spec}, input {input}"));
    let mut lines =
        vec![["layer", "kind", "output", "parameters", "multiply-adds"].map(String::from)];
    for shape in &measured {
        lines.push(line(&shape.layer, ""));
        if args.all && shape.units.len() > 1 {
            lines.extend(shape.units.iter().map(|unit| line(unit, "  ")));
        }
    }
    lines.push(["total", "", "", &grouped(parameters), &grouped(macs as usize)].map(String::from));
    ui.out(table(&lines, 3..5));
    Ok(())
}

/// A layer of the JSON object. Its parts are nested in it, so that the costs in `layers` add up to the total.
#[derive(Serialize)]
struct Layer<'a> {
    #[serde(flatten)]
    shape: &'a LayerShape,
    #[serde(skip_serializing_if = "Option::is_none")]
    parts: Option<&'a [LayerShape]>,
}

impl<'a> Layer<'a> {
    fn new(shape: &'a TopLevelShape, all: bool) -> Self {
        Self { shape: &shape.layer, parts: all.then_some(&shape.units) }
    }
}

fn line(layer: &LayerShape, indent: &str) -> [String; 5] {
    [
        format!("{indent}{}", layer.name),
        format!("{indent}{}", layer.kind),
        layer.output.iter().map(i64::to_string).collect::<Vec<_>>().join("×"),
        grouped(layer.parameters),
        grouped(layer.cost.macs as usize),
    ]
}
