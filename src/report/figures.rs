//! The figures of a run as a whole, for tables.

use crate::train::event::EpochFigures;
use crate::ui::{duration, loss};

/// A figure of a run.
pub struct Figure {
    /// Its name in a table.
    pub name: &'static str,
    /// Its key in JSON.
    pub key: &'static str,
    /// Computes it from the epochs of a run; `None` if they do not have it.
    pub of: fn(&[EpochFigures]) -> Option<f64>,
    /// Writes it.
    pub text: fn(f64) -> String,
}

/// The figures in the order of the table.
pub const FIGURES: [Figure; 9] = [
    Figure {
        name: "epochs",
        key: "epochs",
        of: |epochs| epochs.last().map(|last| last.epoch as f64),
        text: |epochs| epochs.to_string(),
    },
    Figure {
        name: "train loss",
        key: "train_loss",
        of: |epochs| Some(epochs.last()?.train_loss),
        text: loss,
    },
    Figure {
        name: "train accuracy",
        key: "train_accuracy",
        of: |epochs| Some(epochs.last()?.train_accuracy),
        text: accuracy,
    },
    Figure {
        name: "validation loss",
        key: "validation_loss",
        of: |epochs| epochs.iter().rev().find_map(|epoch| epoch.validation_loss),
        text: loss,
    },
    Figure {
        name: "validation accuracy",
        key: "validation_accuracy",
        of: |epochs| epochs.iter().rev().find_map(|epoch| epoch.validation_accuracy),
        text: accuracy,
    },
    Figure {
        name: "test loss",
        key: "test_loss",
        of: |epochs| epochs.iter().rev().find_map(|epoch| epoch.test_loss),
        text: loss,
    },
    Figure {
        name: "test accuracy",
        key: "test_accuracy",
        of: |epochs| epochs.iter().rev().find_map(|epoch| epoch.test_accuracy),
        text: accuracy,
    },
    Figure {
        name: "images/s",
        key: "images_per_second",
        of: images_per_second,
        text: |rate| format!("{rate:.0}"),
    },
    Figure {
        name: "training time",
        key: "seconds",
        of: |epochs| (!epochs.is_empty()).then(|| training_seconds(epochs)),
        text: duration,
    },
];

/// Seconds of training over all epochs.
pub fn training_seconds(epochs: &[EpochFigures]) -> f64 {
    epochs.iter().map(|epoch| epoch.seconds).sum()
}

/// Training images per second over all epochs; `None` before the first one.
pub fn images_per_second(epochs: &[EpochFigures]) -> Option<f64> {
    let seconds = training_seconds(epochs);
    let images = epochs.iter().map(|epoch| epoch.images_per_second * epoch.seconds);
    (seconds > 0.0).then(|| images.sum::<f64>() / seconds)
}

fn accuracy(accuracy: f64) -> String {
    format!("{accuracy:.4}")
}
