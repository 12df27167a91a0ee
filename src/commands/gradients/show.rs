//! What `resnet gradients` prints and draws.

use super::NetworkFlow;
use crate::cli::GradientsArgs;
use crate::data::catalog::DatasetInfo;
use crate::report::chart::{Chart, Line, Scale};
use crate::train::flow::BlockFlow;
use crate::ui::{Ui, counted, table};
use serde_json::json;

/// Prints the flows as one JSON object, or as a table for each number of steps.
pub fn print(args: &GradientsArgs, dataset: &DatasetInfo, flows: &[NetworkFlow], ui: &Ui) {
    if ui.is_json() {
        ui.json(&json!({
            "dataset": dataset.name,
            "seed": args.seed,
            "batch_size": args.batch_size,
            "networks": flows,
        }));
        return;
    }
    ui.out(format!(
        "L2 norm of the gradient of the loss at the input of each block and of the block's weights,\nand standard deviation of the block's output; {} images of {}, seed {}",
        args.batch_size, dataset.title, args.seed
    ));
    let (before, after): (Vec<_>, Vec<_>) = flows.iter().partition(|flow| flow.steps == 0);
    print_side_by_side("before training", &before, ui);
    if !after.is_empty() {
        print_side_by_side("after training", &after, ui);
    }
}

/// Prints a table with the blocks from the output to the input, and the flow of each network beside each other.
fn print_side_by_side(when: &str, flows: &[&NetworkFlow], ui: &Ui) {
    ui.out("");
    let mut head = vec![when.to_owned()];
    let mut units = vec![String::new()];
    for flow in flows {
        head.extend([flow.network.clone(), String::new(), String::new()]);
        units.extend(["at input", "of weights", "std of output"].map(String::from));
    }
    let mut lines = vec![head, units];
    let count = flows.first().map_or(0, |flow| flow.blocks.len());
    for row in 0..count {
        let blocks = || flows.iter().filter_map(|flow| flow.blocks.get(row));
        let name = blocks().next().map(|block| block.name.clone()).unwrap_or_default();
        let cells = blocks().flat_map(|block| {
            [
                norm(block.log10_input_gradient),
                norm(block.log10_weight_gradient),
                block.activation_std.map_or("not finite".to_owned(), |std| format!("{std:.3}")),
            ]
        });
        lines.push([name].into_iter().chain(cells).collect());
    }
    let columns = 1 + 3 * flows.len();
    ui.out(table(&lines, 1..columns));
    for flow in flows {
        ui.out(summary(flow));
    }
}

/// What happened to the gradient on its way, in a sentence.
fn summary(flow: &NetworkFlow) -> String {
    let NetworkFlow { network, steps, diverged, .. } = flow;
    let when = match (steps, diverged) {
        (0, _) => String::new(),
        (_, Some(reason)) => format!(" after {}, when {reason}", counted(*steps as u64, "step")),
        (_, None) => format!(" after {}", counted(*steps as u64, "step")),
    };
    match flow.factor_per_block {
        Some(factor) => format!(
            "{network}{when}: from the last block to the first, the gradient is multiplied by {factor:.3} at each block, by {} in total",
            norm(total(&flow.blocks))
        ),
        None => format!("{network}{when}: the gradient is zero or not finite"),
    }
}

/// The norm at the first block divided by the norm at the last block, as a logarithm. `blocks` begin at the output.
fn total(blocks: &[BlockFlow]) -> Option<f64> {
    let mut known = blocks.iter().filter_map(|block| block.log10_input_gradient);
    let at_output = known.next()?;
    Some(known.next_back()? - at_output)
}

/// A norm, from its base-10 logarithm: `0.013`, `2.4e7` or `1.2e83`.
fn norm(log10: Option<f64>) -> String {
    let Some(log10) = log10 else { return "0 or not finite".to_owned() };
    if (-3.0..5.0).contains(&log10) {
        let number = 10f64.powf(log10);
        let decimals = (3 - log10.floor() as i32).clamp(0, 6) as usize;
        return format!("{number:.decimals$}");
    }
    let exponent = log10.floor();
    format!("{:.1}e{exponent:.0}", 10f64.powf(log10 - exponent))
}

/// The norms of the gradient at each block, on a logarithmic scale.
pub fn chart(flows: &[NetworkFlow], dataset: &str) -> Chart {
    let trained = flows.iter().any(|flow| flow.steps > 0);
    let line = |flow: &NetworkFlow| {
        let count = flow.blocks.len();
        let points = flow.blocks.iter().enumerate().map(|(from_output, block)| {
            ((count - from_output) as f64, block.log10_input_gradient.unwrap_or(f64::NAN))
        });
        let mut points: Vec<_> = points.collect();
        points.reverse();
        let when = match flow.steps {
            _ if !trained => String::new(),
            0 => ", before training".to_owned(),
            steps => format!(", after {}", counted(steps as u64, "step")),
        };
        let factor = flow.factor_per_block.map(|factor| format!(": ×{factor:.3} per block"));
        Line {
            name: format!("{}{when}{}", flow.network, factor.unwrap_or_default()),
            colour: usize::from(!flow.residual),
            thin: trained && flow.steps == 0,
            points,
        }
    };
    Chart {
        title: format!("Gradient of the loss at each block ({dataset})"),
        x: "block, from input to output".to_owned(),
        y: "L2 norm of the gradient".to_owned(),
        x_scale: Scale::Whole,
        y_scale: Scale::Log10,
        lines: flows.iter().map(line).collect(),
    }
}
