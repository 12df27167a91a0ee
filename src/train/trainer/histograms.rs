//! Histograms of a network's learned tensors and of their gradients.

use super::{BatchPass, Trainer};
use crate::train::epoch::Epoch;
use crate::train::histogram::{Histogram, TensorHistograms};
use crate::train::loss_scale::LossScale;
use crate::train::out_of_memory::{Attempt, attempt};
use crate::train::statistics::Statistics;
use anyhow::Result;
use tch::Tensor;

impl Trainer<'_> {
    /// The distributions of all learned tensors after the last step of an epoch, and of the gradients there. The
    /// gradients come from one more pass with the epoch's last batch, without an update, so that the run does not
    /// change. There are none if the device has too little memory for it.
    ///
    /// # Errors
    /// An operation of libtorch failed.
    pub fn histograms(&self, epoch: &Epoch) -> Result<Vec<TensorHistograms>> {
        let gradients = self.gradients_after(epoch)?;
        let mut gradients = gradients.iter();
        let learned = self.network.learned();
        learned
            .map(|parameter| {
                let gradient = gradients.next().map(Histogram::of).transpose()?;
                Ok(TensorHistograms {
                    name: parameter.name.clone(),
                    weights: Histogram::of(&parameter.tensor)?,
                    gradients: gradient.flatten(),
                })
            })
            .collect()
    }

    /// The gradients of the mean loss of the epoch's last batch, one for each learned tensor.
    fn gradients_after(&self, epoch: &Epoch) -> Result<Vec<Tensor>> {
        let last = self.steps_per_epoch().saturating_sub(1);
        let Some(batch) = epoch.batch(last, self.dataset)? else { return Ok(Vec::new()) };
        let statistics = Statistics::of(self.network);
        let step = epoch.step().saturating_sub(1);
        let pass = attempt(|| self.pass(&batch, step, &mut |_| {}));
        statistics.restore(self.network);
        let Attempt::Done(BatchPass { gradients, .. }) = pass? else { return Ok(Vec::new()) };
        Ok(match &self.loss_scale {
            None => gradients,
            Some(scale) => unscaled(&gradients, scale),
        })
    }
}

fn unscaled(gradients: &[Tensor], scale: &LossScale) -> Vec<Tensor> {
    gradients.iter().map(|gradient| gradient / scale.scale()).collect()
}
