//! The network that the options describe.

use super::defaults;
use crate::cli::NetworkOptions;
use crate::data::catalog::DatasetInfo;
use crate::error::usage;
use crate::model::Spec;
use crate::model::spec::Choices;
use anyhow::Result;

// For a network without a data set: the values of Fashion-MNIST.
const CHANNELS: usize = 1;
const CLASSES: usize = 10;

/// The network that the options describe. If there is a data set, it decides the channels and classes.
///
/// # Errors
/// A usage error that names the flag, the value and what is possible.
pub fn resolve_network(options: &NetworkOptions, dataset: Option<&DatasetInfo>) -> Result<Spec> {
    let channels = dataset.map_or(CHANNELS, |dataset| dataset.channels);
    let classes = dataset.map_or(CLASSES, |dataset| dataset.classes.len());
    let spec = Spec::resolve(&Choices {
        depth: options.depth,
        blocks: options.blocks.clone(),
        block: options.block,
        placement: options.placement,
        residual: options.residual,
        residual_scale: options.residual_scale,
        width: options.width,
        widen: options.widen,
        groups: options.groups,
        group_width: options.group_width,
        se: options.se,
        dropout: options.dropout,
        head_dropout: options.head_dropout,
        stochastic_depth: options.stochastic_depth,
        stem: options.stem,
        shortcut: options.shortcut,
        conv_bias: options.conv_bias,
        channels: options.channels.unwrap_or(channels),
        classes: options.classes.unwrap_or(classes),
        size: options.size.unwrap_or(defaults::SIZE),
    })?;
    if let Some(dataset) = dataset {
        for (flag, value, actual) in
            [("--channels", spec.channels, channels), ("--classes", spec.classes, classes)]
        {
            if value != actual {
                return Err(usage(format!(
                    "{flag} {value}: the data set {} has {actual}; remove the flag",
                    dataset.name
                )));
            }
        }
    }
    Ok(spec)
}
