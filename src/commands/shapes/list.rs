//! `resnet shapes --list`: the networks of the papers, with the flags that make them.

use crate::cli::NetworkOptions;
use crate::config::resolve_network;
use crate::model::Spec;
use crate::model::shape::{Cost, measure, totals};
use crate::ui::{Ui, grouped, table};
use anyhow::Result;
use clap::{Args, FromArgMatches};
use serde_json::json;

/// The flags of each network.
const NETWORKS: [&str; 33] = [
    "--depth 18",
    "--depth 34",
    "--depth 50",
    "--depth 101",
    "--depth 152",
    "--depth 200",
    "--depth 50 --placement pre-activation",
    "--depth 101 --placement pre-activation",
    "--depth 152 --placement pre-activation",
    "--depth 200 --placement pre-activation",
    "--depth 50 --stem deep",
    "--depth 50 --stem deep --shortcut avg-pool",
    "--depth 50 --stem tiered --shortcut avg-pool",
    "--depth 101 --stem deep --shortcut avg-pool",
    "--depth 50 --groups 32 --group-width 4",
    "--depth 101 --groups 32 --group-width 8",
    "--depth 101 --groups 64 --group-width 4",
    "--depth 50 --group-width 128",
    "--depth 101 --group-width 128",
    "--depth 50 --se",
    "--depth 101 --se",
    "--depth 50 --groups 32 --group-width 4 --se",
    "--depth 20",
    "--depth 56",
    "--depth 110",
    "--depth 1202",
    "--depth 164",
    "--depth 164 --placement pre-activation",
    "--depth 1001 --placement pre-activation",
    "--depth 16 --widen 8",
    "--depth 28 --widen 10",
    "--depth 40 --widen 4",
    "--depth 56 --residual false",
];

/// Prints every network with its flags, its parameters and its multiply-adds for an image: colour images of 224×224
/// with 1000 classes for four stages, and of 32×32 with 10 classes for three stages, as in the papers.
///
/// # Errors
/// The flags are always valid, which a test checks.
pub fn run(ui: &Ui) -> Result<()> {
    let mut lines =
        vec![["network", "flags", "input", "parameters", "multiply-adds"].map(String::from)];
    for flags in NETWORKS {
        let spec = spec_of(flags)?;
        let (parameters, Cost { macs, .. }) = totals(&measure(&spec, 1));
        let name = spec.to_string();
        if ui.is_json() {
            ui.json(&json!({
                "network": name,
                "flags": flags,
                "depth": spec.depth(),
                "input": [1, spec.channels, spec.size, spec.size],
                "classes": spec.classes,
                "parameters": parameters,
                "macs": macs,
            }));
        }
        let input = format!("{}×{}×{}", spec.channels, spec.size, spec.size);
        let (parameters, macs) = (grouped(parameters), grouped(macs as usize));
        lines.push([name, flags.to_owned(), input, parameters, macs]);
    }
    if !ui.is_json() {
        ui.out(table(&lines, 3..5));
    }
    Ok(())
}

fn spec_of(flags: &str) -> Result<Spec> {
    let command = NetworkOptions::augment_args(clap::Command::new("resnet").no_binary_name(true));
    let matches = command.try_get_matches_from(flags.split(' '))?;
    let flags = NetworkOptions::from_arg_matches(&matches)?;
    let four_stages = resolve_network(&flags, None)?.blocks.len() == 4;
    let (size, classes) = if four_stages { (224, 1000) } else { (32, 10) };
    let options =
        NetworkOptions { channels: Some(3), classes: Some(classes), size: Some(size), ..flags };
    resolve_network(&options, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_network_of_the_list_has_a_name_of_its_own_without_notes() {
        let names: std::collections::BTreeSet<_> =
            NETWORKS.iter().map(|flags| spec_of(flags).unwrap().to_string()).collect();
        assert_eq!(names.len(), NETWORKS.len());
        assert!(names.iter().all(|name| !name.contains('(')), "{names:?}");
    }
}
