//! The state of a trainer that a checkpoint saves, and whether it is worth saving.

use super::Trainer;
use crate::train::divergence::Diverged;
use crate::train::epoch::Epoch;
use crate::train::loss_scale::LossScale;
use crate::train::state::NamedTensors;
use anyhow::Result;
use tch::Tensor;

impl Trainer<'_> {
    /// The state of the run besides [`Trainer::result`], by name: the momentum; with half floats, also the loss scale;
    /// with an average of the weights, also the weights in training.
    pub fn save(&self) -> NamedTensors {
        let mut state = NamedTensors::default();
        self.optimizer.save(&mut state);
        if let Some(loss_scale) = &self.loss_scale {
            loss_scale.save(&mut state);
        }
        for (name, tensor) in self.weights_beside_average() {
            state.insert(name, tensor);
        }
        state
    }

    /// Loads the state that [`Trainer::save`] returned.
    ///
    /// # Errors
    /// A tensor is missing, has another shape, or is not part of this run.
    pub fn load(&mut self, mut state: NamedTensors) -> Result<()> {
        self.optimizer.load(&mut state)?;
        if let Some(loss_scale) = &mut self.loss_scale {
            loss_scale.load(&mut state)?;
        }
        for (name, tensor) in self.weights_beside_average() {
            state.load(&name, tensor)?;
        }
        state.finish()
    }

    /// With an average, the weights in training. A checkpoint saves them in addition to their average.
    fn weights_beside_average(&self) -> impl Iterator<Item = (String, &Tensor)> {
        let parameters = self.average.iter().flat_map(|_| self.network.parameters());
        parameters.map(|parameter| (format!("training.{}", parameter.name), &parameter.tensor))
    }

    /// Checks that a checkpoint's tensors and evaluation losses are finite. A step's loss is computed before its update, so the weights are checked too.
    ///
    /// # Errors
    /// The run has [diverged](Diverged).
    pub fn check_finite(&self, epoch: &Epoch, losses: &[f64]) -> Result<()> {
        let last = epoch.step().saturating_sub(1);
        if let Some(loss) = losses.iter().find(|loss| !loss.is_finite()) {
            let what = format!("the evaluation's loss became {loss}");
            return Err(self.diverged(what, epoch.number(), last));
        }
        if self.loss_scale.as_ref().is_some_and(LossScale::is_lost) {
            let what = "the gradients overflowed half floats at every scale of the loss".to_owned();
            return Err(self.diverged(what, epoch.number(), last));
        }
        let state = self.save();
        let state = state.iter().map(|(_, tensor)| tensor);
        let result = self.result().parameters().iter().map(|parameter| &parameter.tensor);
        let finite: Vec<Tensor> = result.chain(state).map(|t| t.isfinite().all()).collect();
        if Tensor::stack(&finite, 0).all().int64_value(&[]) == 1 {
            return Ok(());
        }
        let what = "the weights became infinite or NaN".to_owned();
        Err(self.diverged(what, epoch.number(), last))
    }

    pub(super) fn diverged(&self, what: String, epoch: u64, step: u64) -> anyhow::Error {
        Diverged { what, step: step + 1, epoch, lr: self.schedule.lr(step) }.into()
    }
}
