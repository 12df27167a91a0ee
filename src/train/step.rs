//! What a step of training consists of, and what comes out of it.

use tch::Tensor;

/// A part of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Images are gathered, augmented, resized and normalised.
    Data,
    /// Logits and loss.
    Forward,
    /// Gradients.
    Backward,
    /// The norm of the gradients, and the update.
    Optimizer,
}

/// A change in how steps are computed from now on.
#[derive(Debug)]
pub enum Notice {
    /// The device ran out of memory, and steps are now computed in this many micro-batches.
    Accumulates(usize),
    /// Steps are not replayed from a CUDA graph, because recording failed or its memory was needed.
    GraphsOff(anyhow::Error),
}

/// The results of a step, on its device.
#[derive(Debug)]
pub struct StepOutcome {
    /// The mean loss of the images.
    pub loss: Tensor,
    /// How many images were classified correctly.
    pub correct: Tensor,
}
