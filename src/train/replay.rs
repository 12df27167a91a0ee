//! Steps that are recorded once and replayed. A GPU may be done with a kernel before the host has told it
//! the next; of a recorded step it is told all in one call (docs/decisions/0017).

use super::epoch::StepOutcome;
use crate::cuda::CudaGraph;
use crate::data::batches::DeviceImages;
use crate::error::last_panic;
use anyhow::{Result, anyhow};
use std::panic::{self, AssertUnwindSafe};
use tch::Device;

/// Steps that are computed before one is recorded: in the first of them libraries are set up, and the
/// fastest algorithm is looked for.
const WARM_UP: usize = 3;

/// How whole batches are computed.
#[derive(Debug)]
pub enum Replay {
    /// Each anew.
    Off,
    /// Each anew for some steps more, then by one that is recorded for a CUDA device.
    After {
        /// Until one is recorded.
        steps: usize,
        /// Of the device.
        index: usize,
    },
    /// By a recorded step.
    Recorded(Box<Recorded>),
}

/// A recorded step.
#[derive(Debug)]
pub struct Recorded {
    graph: CudaGraph,
    /// The images that it takes.
    batch: DeviceImages,
    /// What it comes to.
    outcome: StepOutcome,
}

impl Replay {
    /// On a CUDA device; other devices have no recording.
    pub fn on(device: Device) -> Self {
        match device {
            Device::Cuda(index) => Self::After { steps: WARM_UP, index },
            _ => Self::Off,
        }
    }

    /// Begins to count again, as the work has become another one.
    pub fn restart(&mut self) {
        if let Self::After { steps, .. } = self {
            *steps = WARM_UP;
        }
    }

    /// Steps until each is a replay, with the one that is recorded; none where none will be.
    pub fn steps_before(&self) -> usize {
        match self {
            Self::After { steps, .. } => steps + 1,
            Self::Off | Self::Recorded(_) => 0,
        }
    }

    /// The device to record the next step for, if it is time to. Each call counts a step.
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
    /// Records what `compute` does with a batch of this one's shape. Nothing is computed yet: neither weights
    /// nor statistics have changed after an error.
    ///
    /// # Errors
    /// What stood against it, panics of `compute` included.
    pub fn new(
        index: usize,
        like: &DeviceImages,
        compute: impl FnOnce(&DeviceImages) -> Result<StepOutcome>,
    ) -> Result<Self> {
        let batch = like.copy();
        let record = AssertUnwindSafe(|| CudaGraph::record(index, || compute(&batch)));
        let (graph, outcome) = panic::catch_unwind(record).unwrap_or_else(|_| {
            Err(anyhow!(last_panic().unwrap_or_else(|| "libtorch failed".to_owned())))
        })?;
        Ok(Self { graph, batch, outcome })
    }

    /// Takes the step with another batch.
    ///
    /// # Errors
    /// What libtorch could not do.
    pub fn replay(&self, batch: &DeviceImages) -> Result<StepOutcome> {
        self.batch.assign(batch);
        self.graph.replay()?;
        // The next replay overwrites them.
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
