//! A batch: pixels and targets, as the trainer and the evaluation take them.

use super::range_of;
use std::ops::Range;
use tch::{Kind, Reduction, Tensor};

/// Images and their targets.
#[derive(Debug)]
pub struct Batch {
    /// Bytes `[N, C, H, W]`.
    pixels: Tensor,
    targets: Targets,
}

impl Batch {
    /// A batch of `pixels`, bytes `[N, C, H, W]`, and one target for each image.
    pub fn new(pixels: Tensor, targets: Targets) -> Self {
        Self { pixels, targets }
    }

    /// The number of images.
    pub fn len(&self) -> usize {
        self.targets.classes.numel()
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes `[N, C, H, W]`.
    pub fn pixels(&self) -> &Tensor {
        &self.pixels
    }

    /// The targets of the images.
    pub fn targets(&self) -> &Targets {
        &self.targets
    }

    /// A part of the batch, such as a micro-batch. It shares the memory of the batch.
    #[must_use]
    pub fn range(&self, range: &Range<usize>) -> Self {
        Self {
            pixels: range_of(&self.pixels, range),
            targets: Targets { classes: range_of(&self.targets.classes, range) },
        }
    }

    /// The batch with other pixels.
    #[must_use]
    pub fn with_pixels(self, pixels: Tensor) -> Self {
        Self { pixels, ..self }
    }
}

/// The targets of a batch: the class of each image.
#[derive(Debug)]
pub struct Targets {
    /// 64-bit integers `[N]`.
    classes: Tensor,
}

impl Targets {
    /// Targets that are one class for each image, 64-bit integers `[N]`.
    pub fn new(classes: Tensor) -> Self {
        Self { classes }
    }

    /// The class of each image, 64-bit integers `[N]`.
    pub fn classes(&self) -> &Tensor {
        &self.classes
    }

    /// The cross-entropy in nats of logits `[N, classes]`. `label_smoothing` is the fraction of each target that
    /// is spread over all classes (Szegedy et al. 2016, section 7).
    pub fn loss(&self, logits: &Tensor, label_smoothing: f64, reduction: Reduction) -> Tensor {
        // PyTorch ignores targets of this value; no class has it.
        const IGNORED: i64 = -100;
        logits.cross_entropy_loss::<Tensor>(
            &self.classes,
            None,
            reduction,
            IGNORED,
            label_smoothing,
        )
    }

    /// How many images logits `[N, classes]` classify correctly: a 64-bit integer on the device.
    pub fn correct(&self, logits: &Tensor) -> Tensor {
        logits.argmax(1, false).eq_tensor(&self.classes).sum(Kind::Int64)
    }
}

/// Memory for a batch, at an address that stays the same. A CUDA graph reads its images from there at each replay.
#[derive(Debug)]
pub struct BatchBuffer(Batch);

impl BatchBuffer {
    /// A buffer that holds a copy of `batch`.
    pub fn new(batch: &Batch) -> Self {
        let targets = Targets { classes: batch.targets.classes.copy() };
        Self(Batch { pixels: batch.pixels.copy(), targets })
    }

    /// The batch in the buffer.
    pub fn batch(&self) -> &Batch {
        &self.0
    }

    /// Copies a batch of the same shape into the buffer.
    pub fn fill(&self, batch: &Batch) {
        self.0.pixels.shallow_clone().copy_(&batch.pixels);
        self.0.targets.classes.shallow_clone().copy_(&batch.targets.classes);
    }
}
