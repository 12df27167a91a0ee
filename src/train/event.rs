//! The events of a run, as one type. The training loop produces events, and sinks receive them.

use super::epoch::EpochSums;
use super::histogram::TensorHistograms;
use anyhow::Result;
use serde::{Deserialize, Serialize};

/// Something that happened in a run. As JSON it is an object, and its key `event` names the kind. `metrics.jsonl` and
/// `--json` contain only some kinds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// An epoch begins, or continues after some of its steps.
    EpochStart {
        /// Counted from 1.
        epoch: u64,
        /// Optimizer steps in the epoch.
        steps: usize,
    },
    /// An optimizer step is done.
    Step {
        /// The epoch, counted from 1.
        epoch: u64,
        /// Steps since the start of the run.
        step: u64,
        /// Learning rate of the step.
        lr: f64,
        /// Steps of the epoch that are still to do.
        steps_left: usize,
        /// The sums of the epoch so far. None for most steps on a GPU, because reading the sums there waits for the
        /// device.
        sums: Option<EpochSums>,
    },
    /// The device had too little memory for a step. The step was repeated in more micro-batches. All later steps also
    /// use more micro-batches.
    OutOfMemory {
        /// Epochs that are over.
        epoch: u64,
        /// The step, counted from 1 over the run.
        step: u64,
        /// Micro-batches in each step from now on.
        accumulate: usize,
    },
    /// From now on, steps are not replayed from a CUDA graph.
    GraphsOff {
        /// The step, counted from 1 over the run.
        step: u64,
        /// What failed.
        reason: String,
    },
    /// A part of an evaluation is done.
    Evaluated {
        /// Images that were evaluated so far.
        images: usize,
        /// Images to evaluate.
        of: usize,
    },
    /// How weights and gradients are distributed at the end of an epoch. It comes just before the epoch's figures.
    Histograms {
        /// The epoch, counted from 1.
        epoch: u64,
        /// Steps since the start of the run.
        step: u64,
        /// One for each learned tensor.
        tensors: Vec<TensorHistograms>,
    },
    /// An epoch and its evaluation are over.
    Epoch(EpochFigures),
    /// A run continues with other settings than before.
    Resume {
        /// Epochs that are over.
        epoch: u64,
        /// Steps since the start of the run.
        step: u64,
        /// Each setting that changes, as `section.key` = [old value, new value].
        changes: toml::Table,
    },
    /// The run was stopped before its end, and was saved.
    Stop {
        /// The run's folder.
        run_dir: String,
        /// Epochs that are over.
        epoch: u64,
        /// Steps since the start of the run.
        step: u64,
    },
    /// The run is over.
    End(EndFigures),
    /// An event of another version of the program.
    #[serde(other)]
    Unknown,
}

/// The figures of an epoch.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EpochFigures {
    /// Counted from 1.
    pub epoch: u64,
    /// Optimizer steps since the start of the run.
    pub step: u64,
    /// Learning rate of the epoch's last step.
    pub lr: f64,
    /// Mean training loss of an image in nats, with label smoothing.
    pub train_loss: f64,
    /// Fraction of the training images that were classified correctly. Each image counts before the step that trains on
    /// it.
    pub train_accuracy: f64,
    /// Mean test loss in nats. None if the epoch was not evaluated.
    pub test_loss: Option<f64>,
    /// Fraction of the test images that were classified correctly.
    pub test_accuracy: Option<f64>,
    /// The number of test images, if a limit left some of them out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_images: Option<usize>,
    /// Mean loss of the held-out images in nats, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_loss: Option<f64>,
    /// Fraction of the held-out images that were classified correctly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_accuracy: Option<f64>,
    /// The number of held-out images, if a limit left some of them out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_images: Option<usize>,
    /// Training images per second.
    pub images_per_second: f64,
    /// Seconds of training, without evaluation and checkpoints.
    pub seconds: f64,
    /// Seconds of the evaluations after the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluation_seconds: Option<f64>,
}

/// The figures of a whole run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndFigures {
    /// The run's folder.
    pub run_dir: String,
    /// Epochs that were trained.
    pub epochs: u64,
    /// Fraction of the test images that were classified correctly after the last epoch.
    pub test_accuracy: Option<f64>,
    /// The number of test images, if a limit left some of them out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_images: Option<usize>,
    /// Accuracy of `checkpoints/best`. With `--validation`, it is the highest accuracy on the held-out images.
    /// Otherwise it is the test accuracy of the last epoch, because test images are never used to choose a checkpoint.
    pub best_accuracy: Option<f64>,
    /// Fraction of the test images that `checkpoints/best` classifies correctly.
    pub best_test_accuracy: Option<f64>,
    /// Whether the losses of the last epoch show that the run has diverged; see
    /// [`explosion`](super::divergence::explosion).
    pub diverged: bool,
    /// Seconds of the run over all its parts, with evaluations and checkpoints.
    pub seconds: f64,
}

/// A receiver of events: metrics, progress bars, JSON lines. Each is in a separate file. The training loop does not
/// depend on any of them.
pub trait Sink {
    /// Takes an event. A sink ignores events that it does not use.
    ///
    /// # Errors
    /// The event cannot be written. The run continues; the caller shows the error as a warning.
    fn take(&mut self, event: &Event) -> Result<()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    // Scripts read these lines, so the keys and their order must not change.
    #[test]
    fn events_are_json_objects_that_begin_with_their_name() {
        let json = |event: &Event| serde_json::to_string(event).unwrap();
        let event = Event::OutOfMemory { epoch: 1, step: 7, accumulate: 2 };
        assert_eq!(json(&event), r#"{"event":"out-of-memory","epoch":1,"step":7,"accumulate":2}"#);
        let event = Event::Stop { run_dir: "runs/a".to_owned(), epoch: 1, step: 7 };
        assert_eq!(json(&event), r#"{"event":"stop","run_dir":"runs/a","epoch":1,"step":7}"#);
        let end = EndFigures { run_dir: "a".to_owned(), epochs: 2, ..EndFigures::default() };
        assert_eq!(
            json(&Event::End(end)),
            r#"{"event":"end","run_dir":"a","epochs":2,"test_accuracy":null,"best_accuracy":null,"best_test_accuracy":null,"diverged":false,"seconds":0.0}"#
        );
        let epoch = r#"{"event":"epoch","epoch":1,"step":235,"lr":0.05,"train_loss":1.5,"train_accuracy":0.5,"test_loss":0.6,"test_accuracy":0.8,"images_per_second":171.0,"seconds":350.0}"#;
        assert_eq!(json(&serde_json::from_str(epoch).unwrap()), epoch);
        let unknown: Event = serde_json::from_str(r#"{"event":"later","step":3}"#).unwrap();
        assert_eq!(unknown, Event::Unknown);
    }
}
