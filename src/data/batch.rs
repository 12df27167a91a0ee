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
        let mixed = self.targets.mixed.as_ref().map(|mixed| Mixed {
            classes: range_of(&mixed.classes, range),
            shares: range_of(&mixed.shares, range),
        });
        Self {
            pixels: range_of(&self.pixels, range),
            targets: Targets { classes: range_of(&self.targets.classes, range), mixed },
        }
    }

    /// The batch with other pixels.
    #[must_use]
    pub fn with_pixels(self, pixels: Tensor) -> Self {
        Self { pixels, ..self }
    }

    /// The batch with mixed targets. `partners`, 64-bit integers `[N]`, is the place in the batch of the image with
    /// which each image was mixed, and `shares`, `[N]`, is the image's own share of the target.
    #[must_use]
    pub fn with_mixed_targets(self, partners: &Tensor, shares: Tensor) -> Self {
        let classes = self.targets.classes.index_select(0, partners);
        let targets = Targets { mixed: Some(Mixed { classes, shares }), ..self.targets };
        Self { targets, ..self }
    }
}

/// The targets of a batch: the class of each image, or two classes and a share where images are mixed.
#[derive(Debug)]
pub struct Targets {
    /// 64-bit integers `[N]`.
    classes: Tensor,
    mixed: Option<Mixed>,
}

/// The second class of each image, and the share of the first.
#[derive(Debug)]
struct Mixed {
    /// 64-bit integers `[N]`.
    classes: Tensor,
    /// Floats from 0 to 1, `[N]`.
    shares: Tensor,
}

impl Targets {
    /// Targets that are one class for each image, 64-bit integers `[N]`.
    pub fn new(classes: Tensor) -> Self {
        Self { classes, mixed: None }
    }

    /// The class of each image, 64-bit integers `[N]`; if images are mixed, the first of the two classes.
    pub fn classes(&self) -> &Tensor {
        &self.classes
    }

    /// If images are mixed: the second class of each image, 64-bit integers `[N]`, and the share of the first, floats
    /// from 0 to 1, `[N]`.
    pub fn mixed(&self) -> Option<(&Tensor, &Tensor)> {
        self.mixed.as_ref().map(|Mixed { classes, shares }| (classes, shares))
    }

    /// The cross-entropy in nats of logits `[N, classes]`. `label_smoothing` is the fraction of each target that
    /// is spread over all classes (Szegedy et al. 2016, section 7).
    pub fn loss(&self, logits: &Tensor, label_smoothing: f64, reduction: Reduction) -> Tensor {
        // PyTorch ignores targets of this value; no class has it.
        const IGNORED: i64 = -100;
        let loss = |classes: &Tensor, reduction: Reduction| {
            logits.cross_entropy_loss::<Tensor>(classes, None, reduction, IGNORED, label_smoothing)
        };
        let Some(mixed) = &self.mixed else { return loss(&self.classes, reduction) };
        let [first, second] =
            [&self.classes, &mixed.classes].map(|classes| loss(classes, Reduction::None));
        let each = &second + (first - &second) * &mixed.shares;
        match reduction {
            Reduction::Mean => each.mean(Kind::Float),
            Reduction::Sum => each.sum(Kind::Float),
            Reduction::None | Reduction::Other(_) => each,
        }
    }

    /// How many images logits `[N, classes]` classify correctly: a 64-bit integer on the device. The class of a mixed
    /// image is that with the larger share.
    pub fn correct(&self, logits: &Tensor) -> Tensor {
        let predicted = logits.argmax(1, false);
        let right = match &self.mixed {
            None => predicted.eq_tensor(&self.classes),
            Some(Mixed { classes, shares }) => {
                predicted.eq_tensor(&self.classes.where_self(&shares.ge(0.5), classes))
            }
        };
        right.sum(Kind::Int64)
    }

    /// The tensors of the targets; the same number for each batch of a run.
    fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        let mixed = self.mixed.iter().flat_map(|Mixed { classes, shares }| [classes, shares]);
        std::iter::once(&self.classes).chain(mixed)
    }
}

/// Memory for a batch, at an address that stays the same. A CUDA graph reads its images from there at each replay.
#[derive(Debug)]
pub struct BatchBuffer(Batch);

impl BatchBuffer {
    /// A buffer that holds a copy of `batch`.
    pub fn new(batch: &Batch) -> Self {
        let mixed = batch
            .targets
            .mixed
            .as_ref()
            .map(|mixed| Mixed { classes: mixed.classes.copy(), shares: mixed.shares.copy() });
        let targets = Targets { classes: batch.targets.classes.copy(), mixed };
        Self(Batch { pixels: batch.pixels.copy(), targets })
    }

    /// The batch in the buffer.
    pub fn batch(&self) -> &Batch {
        &self.0
    }

    /// Copies a batch of the same shape into the buffer.
    pub fn fill(&self, batch: &Batch) {
        self.0.pixels.shallow_clone().copy_(&batch.pixels);
        for (target, source) in self.0.targets.tensors().zip(batch.targets.tensors()) {
            target.shallow_clone().copy_(source);
        }
    }
}
