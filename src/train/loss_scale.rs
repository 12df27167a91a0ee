//! Dynamic loss scaling (Micikevicius et al. 2018, section 3.2): half floats have no place for small
//! gradients, so that the loss is multiplied before the backward pass and the gradients divided after it. A
//! step whose gradients overflow is left out, and the scale halved; the defaults are
//! `torch.amp.GradScaler`'s.

use crate::libtorch;
use anyhow::Result;
use tch::{Device, Kind, Tensor};

/// The scale of the loss, on the network's device, so that no step waits for it.
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
    /// A scale that no run comes to whose gradients are finite.
    const LEAST: f64 = 1.0 / 16_777_216.0;
    /// Steps without overflow after which the scale grows.
    const INTERVAL: i64 = 2000;

    /// The scale that a run begins with.
    pub fn new(device: Device) -> Self {
        Self {
            scale: Tensor::full([], Self::FIRST, (Kind::Float, device)),
            steps: Tensor::zeros([], (Kind::Int, device)),
        }
    }

    /// What a run needs to go on, by name.
    pub fn state(&self) -> [(String, Tensor); 2] {
        [("loss_scale.scale", &self.scale), ("loss_scale.steps", &self.steps)]
            .map(|(name, tensor)| (name.to_owned(), tensor.shallow_clone()))
    }

    /// What the loss is multiplied with.
    pub fn scale(&self) -> &Tensor {
        &self.scale
    }

    /// Whether gradients overflowed so often that the scale has no meaning left.
    pub fn is_lost(&self) -> bool {
        self.scale.double_value(&[]) < Self::LEAST
    }

    /// Divides gradients by the scale, and adapts it. Returns a number that is 1 where one of them is not
    /// finite, and 0 elsewhere.
    ///
    /// # Errors
    /// What libtorch could not do.
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

        // As many as torch.amp.GradScaler takes, to the step.
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
