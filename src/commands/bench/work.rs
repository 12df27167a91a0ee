//! What `resnet bench` measures.

use crate::cli::BenchArgs;
use crate::model::Spec;
use crate::model::spec::value_name;
use serde::Serialize;

/// What was measured. Two measurements can be compared only if this is the same.
#[derive(Debug, Serialize)]
pub struct Work {
    mode: String,
    network: String,
    size: usize,
    channels: usize,
    classes: usize,
    batch_size: usize,
}

impl Work {
    /// The work that the arguments describe.
    pub fn new(args: &BenchArgs, spec: &Spec) -> Self {
        Self {
            mode: value_name(args.mode),
            network: spec.to_string(),
            size: spec.size,
            channels: spec.channels,
            classes: spec.classes,
            batch_size: args.batch_size,
        }
    }
}
