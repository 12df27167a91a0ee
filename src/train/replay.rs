//! Steps that are recorded once as a CUDA graph, and then replayed. A GPU can finish a kernel before the host has
//! started the next one. Replaying a graph starts all kernels of a step in one call (docs/decisions/0017).

use super::step::StepOutcome;
use crate::cuda::CudaGraph;
use crate::data::batch::{Batch, BatchBuffer};
use crate::error::take_panic;
use anyhow::{Result, anyhow};
use std::panic::{self, AssertUnwindSafe};
use tch::Device;

/// Number of steps that are computed before a step is recorded. In the first of them, libraries initialise and search
/// for the fastest algorithm.
const WARM_UP: usize = 3;

/// How whole batches are computed.
#[derive(Debug)]
pub enum Replay {
    /// Each step is computed.
    Off,
    /// Some more steps are computed, and then a step is recorded.
    After {
        /// Steps before the recorded one.
        steps: usize,
        /// The index of the CUDA device.
        index: usize,
    },
    /// Each step is a replay of a recorded one.
    Recorded(Box<Recorded>),
}

/// A recorded step.
#[derive(Debug)]
pub struct Recorded {
    /// The index of the CUDA device.
    index: usize,
    graph: CudaGraph,
    /// Where the graph reads its batch.
    buffer: BatchBuffer,
    /// Where the graph writes its results.
    outcome: StepOutcome,
}

impl Replay {
    /// Replay on a CUDA device. Other devices cannot record a step.
    pub fn on(device: Device) -> Self {
        match device {
            Device::Cuda(index) => Self::After { steps: WARM_UP, index },
            _ => Self::Off,
        }
    }

    /// Starts to count the warm-up steps again, because the work of a step has changed.
    pub fn restart(&mut self) {
        if let Self::After { steps, .. } = self {
            *steps = WARM_UP;
        }
    }

    /// Number of steps before every step is a replay, including the recorded one; 0 if steps are never replayed.
    pub fn steps_before(&self) -> usize {
        match self {
            Self::After { steps, .. } => steps + 1,
            Self::Off | Self::Recorded(_) => 0,
        }
    }

    /// Gives up a recorded step, because the steps that follow have another shape, and records one of these after a
    /// warm-up.
    pub fn record_again(&mut self) {
        if let Self::Recorded(recorded) = self {
            *self = Self::After { steps: WARM_UP, index: recorded.index };
        }
        self.restart();
    }

    /// The index of the device, if the next step is to be recorded. Each call counts as a step.
    pub fn record_now(&mut self) -> Option<usize> {
        let Self::After { steps, index } = self else { return None };
        if *steps == 0 {
            return Some(*index);
        }
        *steps -= 1;
        None
    }
}

impl Recorded {
    /// Records the work of `compute` for a batch with the shape of `like`. Nothing is computed yet, so weights and
    /// statistics are unchanged after an error.
    ///
    /// # Errors
    /// Recording failed, or `compute` failed or panicked.
    pub fn new(
        index: usize,
        like: &Batch,
        compute: impl FnOnce(&Batch) -> Result<StepOutcome>,
    ) -> Result<Self> {
        let buffer = BatchBuffer::new(like);
        let record = AssertUnwindSafe(|| CudaGraph::record(index, || compute(buffer.batch())));
        let (graph, outcome) = panic::catch_unwind(record).unwrap_or_else(|_| {
            Err(anyhow!(take_panic().unwrap_or_else(|| "libtorch failed".to_owned())))
        })?;
        Ok(Self { index, graph, buffer, outcome })
    }

    /// Replays the step with another batch.
    ///
    /// # Errors
    /// An operation of libtorch failed.
    pub fn replay(&self, batch: &Batch) -> Result<StepOutcome> {
        self.buffer.fill(batch);
        self.graph.replay()?;
        // The next replay overwrites the originals.
        let StepOutcome { loss, correct } = &self.outcome;
        Ok(StepOutcome { loss: loss.copy(), correct: correct.copy() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_recorded_after_those_that_warm_up_and_again_after_a_restart() {
        assert!(matches!(Replay::on(Device::Cpu), Replay::Off));
        let mut replay = Replay::on(Device::Cuda(1));
        for _ in 0..2 {
            for step in 0..WARM_UP {
                assert_eq!(replay.steps_before(), WARM_UP + 1 - step);
                assert_eq!(replay.record_now(), None);
            }
            assert_eq!(replay.record_now(), Some(1));
            replay.restart();
        }
    }
}
