//! A network against labelled images.

use super::out_of_memory::{Attempt, attempt};
use crate::data::batches::{DeviceImages, Preprocess, batch_ranges};
use crate::model::{Frozen, Network};
use anyhow::{Result, anyhow};
use tch::{Device, Kind, Reduction, Tensor};

/// How well a network did.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// Images looked at.
    pub images: usize,
    /// Mean cross-entropy in nats, without label smoothing.
    pub loss: f64,
    /// Images whose class was among the [`TOP_K`] most likely, or all classes where there are fewer.
    pub top_k_correct: u64,
    /// Counts by [true class][predicted class].
    pub confusion: Vec<Vec<u64>>,
}

/// The k of top-k accuracy.
pub const TOP_K: usize = 5;

/// Whether a mean loss in nats can be one of a network that learned or is learning. A guess among 100 classes
/// costs 4.6; one that is sure and wrong every time some tens.
pub fn is_plausible(loss: f64) -> bool {
    loss < 1e6
}

impl Evaluation {
    /// Images whose most likely class was the right one.
    pub fn correct(&self) -> u64 {
        self.confusion.iter().enumerate().filter_map(|(class, row)| row.get(class)).sum()
    }

    /// Fraction of the images that were classified right.
    pub fn accuracy(&self) -> f64 {
        self.correct() as f64 / self.images.max(1) as f64
    }

    /// Fraction of the images whose class was among the [`TOP_K`] most likely.
    pub fn top_k_accuracy(&self) -> f64 {
        self.top_k_correct as f64 / self.images.max(1) as f64
    }
}

/// Runs the network, in evaluation mode, over `images` or the first `limit` of them. `goes_on` is
/// told how many images are done, and may break it off: then there is no result. Where the device has
/// too little memory for a batch, it begins again with batches of half the size.
///
/// # Errors
/// What libtorch could not do, such as to find memory for one image.
pub fn evaluate(
    network: &Network,
    images: &DeviceImages,
    preprocess: &Preprocess,
    mut batch_size: usize,
    limit: Option<usize>,
    goes_on: &mut dyn FnMut(usize) -> bool,
) -> Result<Option<Evaluation>> {
    let count = images.len().min(limit.unwrap_or(usize::MAX));
    loop {
        let work = || evaluate_in(batch_size, count, network, images, preprocess, goes_on);
        match attempt(work)? {
            Attempt::Done(evaluation) => return Ok(evaluation),
            Attempt::OutOfMemory(error) if batch_size == 1 => return Err(error),
            Attempt::OutOfMemory(_) => batch_size /= 2,
        }
    }
}

/// Evaluates the first `count` images in batches of `batch_size`. Results stay on the device until the
/// end.
fn evaluate_in(
    batch_size: usize,
    count: usize,
    network: &Network,
    images: &DeviceImages,
    preprocess: &Preprocess,
    goes_on: &mut dyn FnMut(usize) -> bool,
) -> Result<Option<Evaluation>> {
    let classes = network.spec().classes as i64;
    let device = network.device();
    let mut losses = Vec::new();
    let mut top_k_correct = Tensor::zeros([], (Kind::Int64, device));
    // Counts below 2²⁴, which 32-bit floats hold exactly, batch by batch.
    let mut confusion = Tensor::zeros([classes, classes], (Kind::Int64, device));
    let all_classes = Tensor::arange(classes, (Kind::Int64, device));
    let one_hot =
        |chosen: &Tensor| chosen.unsqueeze(1).eq_tensor(&all_classes).to_kind(Kind::Float);
    let mut done = 0;
    let _no_grad = tch::no_grad_guard();
    let frozen = Frozen::new(network, preprocess.kind());
    for range in batch_ranges(count, batch_size) {
        let batch = images.range(&range);
        let inputs = preprocess.apply(&batch);
        // The first batch goes through the network itself: oneDNN's ReLU makes 0 of a NaN, and so would
        // hide that a network has diverged.
        let logits =
            if done == 0 { network.forward(&inputs, false) } else { frozen.forward(&inputs) };
        let labels = batch.labels();
        losses.push(logits.cross_entropy_loss::<Tensor>(labels, None, Reduction::Sum, -100, 0.0));
        let (_, likely) = logits.topk((TOP_K as i64).min(classes), 1, true, true);
        top_k_correct += likely.eq_tensor(&labels.unsqueeze(1)).sum(Kind::Int64);
        // Not by bincount, for which the host waits on CUDA.
        let pairs = one_hot(labels).transpose(0, 1).matmul(&one_hot(&likely.select(1, 0)));
        confusion += pairs.to_kind(Kind::Int64);
        done += range.len();
        if !goes_on(done) {
            return Ok(None);
        }
    }
    let counts = Vec::<i64>::try_from(confusion.flatten(0, -1))
        .map_err(|error| anyhow!("confusion matrix: {error}"))?;
    let confusion = counts
        .chunks(classes as usize)
        .map(|row| row.iter().map(|&count| count as u64).collect())
        .collect();
    // Summed on the host: not every device has 64-bit floats.
    let loss = match losses.is_empty() {
        true => 0.0,
        false => {
            Tensor::stack(&losses, 0).to_device(Device::Cpu).sum(Kind::Double).double_value(&[])
        }
    };
    Ok(Some(Evaluation {
        images: done,
        loss: loss / done.max(1) as f64,
        top_k_correct: top_k_correct.int64_value(&[]) as u64,
        confusion,
    }))
}
