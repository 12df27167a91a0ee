//! Estimates the memory that training and inference need on a CPU, before they start. Linux kills a process that needs
//! more memory than the machine has, and shows no message.

use super::recipe::{OptimizerKind, Recipe};
use crate::error::usage;
use crate::limits::{self, FreeMemory, gib};
use crate::model::Spec;
use crate::model::shape::{Cost, measure};
use crate::precision::{Precision, multiplied_in};
use anyhow::Result;
use tch::Device;

/// Bytes of a 32-bit float.
const FLOAT: u64 = 4;
// The constants were fitted to peaks that `resnet bench --mode train` measured on an AMD EPYC (AVX2) with libtorch
// 2.11.0 (docs/results/2026-11-24-memory). The estimates are 1 to 26 % above these peaks.
/// Bytes of the program and libtorch.
const BASE: u64 = 200 << 20;
/// Bytes of a data set while it is read.
const DATA: u64 = 100 << 20;
/// Copies of every weight in training: the weight, its momentum, and half of a gradient. The other half of the
/// gradients is computed when the activations of later layers are already freed.
const WEIGHT_COPIES: f64 = 2.5;
/// Copies of every weight in inference: the weight, the folded weight, and the reordered weight.
const INFERENCE_WEIGHT_COPIES: f64 = 4.0;
/// Tensors of the largest layer's size that exist at the same time in inference: the layer's input, its output, and the
/// shortcut that is added.
const INFERENCE_OUTPUTS: u64 = 3;

/// The memory for a batch: `fixed` bytes, and `per_image` bytes for each image of a micro-batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchMemory {
    /// Bytes that do not depend on the batch.
    pub fixed: u64,
    /// Bytes for each image.
    pub per_image: u64,
}

impl BatchMemory {
    /// Memory for a step of training. Activations are kept for the backward pass. With `recompute`, they are computed a
    /// second time, segment by segment.
    pub fn of_training(spec: &Spec, precision: Precision, recompute: bool) -> Self {
        Self::of_training_with(spec, precision, recompute, 0)
    }

    /// The same with more copies of every weight, for other averages than SGD's.
    fn of_training_with(
        spec: &Spec,
        precision: Precision,
        recompute: bool,
        more_copies: u32,
    ) -> Self {
        let layers = measure(spec, 1);
        let units = || layers.iter().flat_map(|layer| &layer.units);
        let cost = units().fold(Cost::default(), |sum, unit| sum.plus(unit.cost));
        let kept = if recompute {
            let outputs: i64 = units().map(|unit| unit.output.iter().product::<i64>()).sum();
            let block = units().map(|unit| unit.cost.activations).max().unwrap_or_default();
            outputs as u64 + block
        } else {
            cost.activations
        };
        let parameters = units().map(|unit| unit.parameters).sum();
        // The gradient of the largest layer's output also needs memory.
        let copies = WEIGHT_COPIES + f64::from(more_copies);
        Self::new(spec, precision, copies, parameters, kept + cost.largest)
    }

    /// Memory for a batch in inference.
    pub fn of_inference(spec: &Spec, precision: Precision) -> Self {
        let layers = measure(spec, 1);
        let units = || layers.iter().flat_map(|layer| &layer.units);
        let largest = units().map(|unit| unit.cost.largest).max().unwrap_or_default();
        let parameters = units().map(|unit| unit.parameters).sum();
        let numbers = INFERENCE_OUTPUTS * largest;
        Self::new(spec, precision, INFERENCE_WEIGHT_COPIES, parameters, numbers)
    }

    /// Memory for `copies` of `parameters` weights, and for `numbers` activations for each image.
    fn new(
        spec: &Spec,
        precision: Precision,
        copies: f64,
        parameters: usize,
        numbers: u64,
    ) -> Self {
        // If the CPU emulates a 16-bit dtype, each convolution keeps its input in 32 bits. The peak is then as high as
        // with fp32.
        let kind = precision.kind();
        let emulated = multiplied_in(kind, Device::Cpu) != kind;
        let number = if emulated { FLOAT } else { precision.bytes() };
        let image = (spec.channels * spec.size * spec.size) as u64;
        Self {
            fixed: BASE + FLOAT * (copies * parameters as f64) as u64,
            per_image: number.saturating_mul(numbers).saturating_add(FLOAT * image),
        }
    }

    /// The same memory plus a data set.
    pub fn with_data(self) -> Self {
        Self { fixed: self.fixed + DATA, ..self }
    }

    /// Bytes for micro-batches of `images` images.
    pub fn bytes(&self, images: usize) -> u64 {
        self.per_image.saturating_mul(images as u64).saturating_add(self.fixed)
    }

    /// The largest micro-batch that fits, in images.
    fn images_that_fit(&self, free: FreeMemory) -> usize {
        (free.bytes.saturating_sub(self.fixed) / self.per_image.max(1)) as usize
    }

    /// An error message if a batch of `batch_size` images, computed in micro-batches of `at_once` images, needs
    /// more memory than is free. `remedy` turns the largest micro-batch that fits into advice for the user.
    fn shortage(
        &self,
        (batch_size, at_once): (usize, usize),
        free: FreeMemory,
        remedy: impl FnOnce(usize) -> String,
    ) -> Option<String> {
        let needed = self.bytes(at_once);
        if needed <= free.bytes {
            return None;
        }
        let remedy = match self.images_that_fit(free) {
            0 => "which is too little for one image of this network".to_owned(),
            fits => remedy(fits),
        };
        Some(format!(
            "--batch-size {batch_size}: that takes about {:.1} GiB of memory, and {free}; {remedy}",
            gib(needed)
        ))
    }
}

/// An error message if a step of a run needs more memory than is free. The message says which batch size fits.
pub fn run_shortage(
    spec: &Spec,
    recipe: &Recipe,
    precision: Precision,
    free: FreeMemory,
) -> Option<String> {
    // AdamW keeps two averages of each gradient, where SGD keeps one.
    let averages = [
        recipe.optimizer.kind == OptimizerKind::AdamW,
        recipe.ema_decay.is_some() || recipe.swa_epochs.is_some(),
    ];
    let copies = averages.into_iter().map(u32::from).sum();
    let memory =
        BatchMemory::of_training_with(spec, precision, recipe.recompute, copies).with_data();
    memory.shortage((recipe.batch_size, recipe.micro_batch_size()), free, |fits| {
        let accumulate = recipe.batch_size.div_ceil(fits);
        let recompute = if recipe.recompute { "" } else { "--recompute (needs less memory), " };
        format!(
            "choose one: {recompute}--accumulate {accumulate} (computes the batch in parts; batch norm sees one part at a time), --batch-size {fits} (fits)"
        )
    })
}

/// Refuses batches that need more memory than is free.
///
/// # Errors
/// A usage error that says which batch size fits.
pub fn check_batches(memory: BatchMemory, batch_size: usize, device: Device) -> Result<()> {
    let free = limits::free_memory().filter(|_| device == Device::Cpu);
    let fits = |fits| format!("--batch-size {fits} fits");
    match free.and_then(|free| memory.shortage((batch_size, batch_size), free, fits)) {
        Some(shortage) => Err(usage(shortage)),
        None => Ok(()),
    }
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
    fn a_batch_that_does_not_fit_is_refused_with_one_that_does() {
        let memory = BatchMemory::of_training(&spec(), Precision::Fp32, false).with_data();
        let mut recipe = Recipe { batch_size: 1000, ..Recipe::default() };
        assert_eq!(
            run_shortage(
                &spec(),
                &recipe,
                Precision::Fp32,
                FreeMemory::of_machine(memory.bytes(1000))
            ),
            None
        );
        let text = run_shortage(
            &spec(),
            &recipe,
            Precision::Fp32,
            FreeMemory::of_machine(memory.bytes(300)),
        )
        .unwrap();
        assert!(text.contains("--accumulate 4") && text.contains("--batch-size 300"), "{text}");
        assert!(
            run_shortage(&spec(), &recipe, Precision::Fp32, FreeMemory::of_machine(1 << 20))
                .unwrap()
                .contains("too little")
        );
        assert!(
            BatchMemory::of_training(&spec(), Precision::Fp32, true).per_image < memory.per_image
        );
        let native = multiplies_bf16(Device::Cpu);
        let half = BatchMemory::of_training(&spec(), Precision::Bf16, false);
        assert_eq!(half.per_image < memory.per_image, native);
        let averaged = Recipe { ema_decay: Some(0.9), ..recipe.clone() };
        let free = FreeMemory::of_machine(memory.bytes(1000));
        assert!(run_shortage(&spec(), &averaged, Precision::Fp32, free).is_some());
        recipe.accumulate = 4;
        assert_eq!(
            run_shortage(
                &spec(),
                &recipe,
                Precision::Fp32,
                FreeMemory::of_machine(memory.bytes(300))
            ),
            None
        );
    }
}
