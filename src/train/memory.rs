//! How much memory a step of training takes on a CPU, estimated before it is tried: a process that takes
//! more than there is gets killed without a word.

use super::recipe::Recipe;
use crate::model::Spec;
use crate::model::layers::Cost;
use crate::model::shape::measure;
use crate::precision::{Precision, multiplied_in};
use tch::Device;

/// Bytes of a 32-bit float.
const FLOAT: u64 = 4;
// The constants fit the peaks that `resnet bench --mode train` measured on an AMD EPYC (AVX2) with libtorch
// 2.11.0 (docs/results/2026-11-24-memory): from 1 to 26 % above them.
/// The program and libtorch; in `bench` 200 MiB, here with a data set as it is read.
const BASE: u64 = 300 << 20;
/// Copies of every weight: itself, momentum, and half of the gradients, since the others come when the
/// activations of later layers are gone.
const WEIGHT_COPIES: f64 = 2.5;

/// What a step takes: `fixed` bytes, and `per_image` for each image of a micro-batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepMemory {
    /// Bytes whatever the batch.
    pub fixed: u64,
    /// Bytes for an image.
    pub per_image: u64,
}

impl StepMemory {
    /// Of a network whose activations are all kept, or computed again block by block.
    pub fn of(spec: &Spec, precision: Precision, recompute: bool) -> Self {
        let layers = measure(spec, 1);
        let units = || layers.iter().flat_map(|layer| &layer.units);
        let parameters: usize = units().map(|unit| unit.parameters).sum();
        let weights = (WEIGHT_COPIES * parameters as f64) as u64;
        let cost = units().fold(Cost::default(), |sum, unit| sum.plus(unit.cost));
        let kept = if recompute {
            let outputs: i64 = units().map(|unit| unit.output.iter().product::<i64>()).sum();
            let block = units().map(|unit| unit.cost.activations).max().unwrap_or_default();
            outputs as u64 + block
        } else {
            cost.activations
        };
        // Where 16 bits are emulated, each convolution keeps its input in 32, and the peaks are those of 32.
        let kind = precision.kind();
        let emulated = multiplied_in(kind, Device::Cpu) != kind;
        let number = if emulated { FLOAT } else { precision.bytes() };
        let image = (spec.channels * spec.size * spec.size) as u64;
        Self {
            fixed: BASE + FLOAT * weights,
            // And the gradient of the largest layer.
            per_image: number * (kept + cost.largest) + FLOAT * image,
        }
    }

    /// Bytes of a step with so many images in a micro-batch.
    pub fn bytes(&self, micro_batch: usize) -> u64 {
        self.per_image.saturating_mul(micro_batch as u64).saturating_add(self.fixed)
    }

    /// The most images in a micro-batch that fit.
    fn images_that_fit(&self, free: u64) -> usize {
        (free.saturating_sub(self.fixed) / self.per_image.max(1)) as usize
    }
}

/// Why a step takes more memory than is free, if it does, and what fits.
pub fn shortage(spec: &Spec, recipe: &Recipe, precision: Precision, free: u64) -> Option<String> {
    let memory = StepMemory::of(spec, precision, recipe.recompute);
    let needed = memory.bytes(recipe.micro_batch_size());
    if needed <= free {
        return None;
    }
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let fits = memory.images_that_fit(free);
    let remedy = if fits == 0 {
        "which is too little for one image of this network".to_owned()
    } else {
        let accumulate = recipe.batch_size.div_ceil(fits);
        let recompute = if recipe.recompute { "" } else { "--recompute takes less; " };
        format!(
            "{recompute}--accumulate {accumulate} takes the batch in parts that fit (batch norm then sees a part at a time), or --batch-size {fits} fits"
        )
    };
    Some(format!(
        "--batch-size {}: a step takes about {:.1} GiB, and {:.1} GiB are free; {remedy}",
        recipe.batch_size,
        gib(needed),
        gib(free)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::spec::Choices;
    use crate::precision::multiplies_bf16;

    fn spec() -> Spec {
        let choices = Choices { channels: 1, classes: 10, size: 96, ..Choices::default() };
        Spec::resolve(&choices).unwrap()
    }

    #[test]
    fn what_does_not_fit_is_told_with_what_does() {
        let memory = StepMemory::of(&spec(), Precision::Fp32, false);
        let options = crate::cli::Options::default();
        let mut recipe = crate::config::Config::load(None, &options).unwrap().recipe;
        recipe.batch_size = 1000;
        assert_eq!(shortage(&spec(), &recipe, Precision::Fp32, memory.bytes(1000)), None);
        let text = shortage(&spec(), &recipe, Precision::Fp32, memory.bytes(300)).unwrap();
        assert!(text.contains("--accumulate 4") && text.contains("--batch-size 300"), "{text}");
        assert!(
            shortage(&spec(), &recipe, Precision::Fp32, 1 << 20).unwrap().contains("too little")
        );
        assert!(StepMemory::of(&spec(), Precision::Fp32, true).per_image < memory.per_image);
        let native = multiplies_bf16(Device::Cpu);
        let half = StepMemory::of(&spec(), Precision::Bf16, false);
        assert_eq!(half.per_image < memory.per_image, native);
        recipe.accumulate = 4;
        assert_eq!(shortage(&spec(), &recipe, Precision::Fp32, memory.bytes(300)), None);
    }
}
