//! Dynamic loss scaling (Micikevicius et al. 2018, section 3.2). Small gradients become 0 in half floats, so the loss
//! is multiplied by a scale before the backward pass. The gradients are divided by the scale afterwards. If gradients
//! overflow, the step is skipped and the scale is halved. The defaults are those of `torch.amp.GradScaler`.

use super::state::NamedTensors;
use crate::libtorch;
use anyhow::Result;
use tch::{Device, Kind, Tensor};

/// The scale of the loss. It is on the network's device, so no step waits for it.
#[derive(Debug)]
pub struct LossScale {
    scale: Tensor,
    /// Steps since the scale last changed.
    steps: Tensor,
}

impl LossScale {
    const FIRST: f64 = 65_536.0;
    const GROWTH: f64 = 2.0;
    const BACKOFF: f64 = 0.5;
    /// If the scale falls below this value, no scale keeps the gradients finite.
    const LEAST: f64 = 1.0 / 16_777_216.0;
    /// Steps without overflow after which the scale grows.
    const INTERVAL: i64 = 2000;

    /// The scale at the start of a run.
    pub fn new(device: Device) -> Self {
        Self {
            scale: Tensor::full([], Self::FIRST, (Kind::Float, device)),
            steps: Tensor::zeros([], (Kind::Int, device)),
        }
    }

    /// Adds the scale and its count of steps to `state`.
    pub fn save(&self, state: &mut NamedTensors) {
        for (name, tensor) in self.tensors() {
            state.insert(name, tensor);
        }
    }

    /// Loads the scale and its count of steps from `state`.
    ///
    /// # Errors
    /// A tensor is missing or has another shape.
    pub fn load(&mut self, state: &mut NamedTensors) -> Result<()> {
        self.tensors().into_iter().try_for_each(|(name, tensor)| state.load(name, tensor))
    }

    fn tensors(&self) -> [(&'static str, &Tensor); 2] {
        [("loss_scale.scale", &self.scale), ("loss_scale.steps", &self.steps)]
    }

    /// The factor by which the loss is multiplied.
    pub fn scale(&self) -> &Tensor {
        &self.scale
    }

    /// Whether gradients overflowed so often that the scale is useless.
    pub fn is_lost(&self) -> bool {
        self.scale.double_value(&[]) < Self::LEAST
    }

    /// Divides gradients by the scale, and adapts the scale. Returns 1 if a gradient is not finite, else 0, as a tensor
    /// of one element.
    ///
    /// # Errors
    /// An operation of libtorch failed.
    pub fn unscale(&mut self, gradients: &[Tensor]) -> Result<Tensor> {
        let mut found_inf = Tensor::zeros([], (Kind::Float, self.scale.device()));
        libtorch::unscale(gradients, &mut found_inf, &self.scale.reciprocal())?;
        let factors = (Self::GROWTH, Self::BACKOFF);
        libtorch::update_scale(
            &mut self.scale,
            &mut self.steps,
            &found_inf,
            factors,
            Self::INTERVAL,
        )?;
        Ok(found_inf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_halves_after_overflow_and_doubles_after_enough_steps_without() {
        let mut scale = LossScale::new(Device::Cpu);
        let finite = || [Tensor::from_slice(&[65_536f32, -131_072.0])];
        let gradients = finite();
        assert_eq!(scale.unscale(&gradients).unwrap().double_value(&[]), 0.0);
        assert_eq!(Vec::<f32>::try_from(&gradients[0]).unwrap(), [1.0, -2.0]);

        for overflow in [f32::INFINITY, f32::NAN] {
            let gradients = [Tensor::from_slice(&[1f32]), Tensor::from_slice(&[overflow])];
            assert_eq!(scale.unscale(&gradients).unwrap().double_value(&[]), 1.0);
        }
        assert_eq!(scale.scale().double_value(&[]), 16_384.0);

        // torch.amp.GradScaler's scale grows after exactly the same number of steps.
        for _ in 0..1999 {
            let _ = scale.unscale(&finite()).unwrap();
        }
        assert_eq!(scale.scale().double_value(&[]), 16_384.0);
        let _ = scale.unscale(&finite()).unwrap();
        assert_eq!(scale.scale().double_value(&[]), 32_768.0);

        assert!(!scale.is_lost());
        for _ in 0..40 {
            let _ = scale.unscale(&[Tensor::from_slice(&[f32::NAN])]).unwrap();
        }
        assert!(scale.is_lost());
    }
}
