//! A network against labelled images.

use super::out_of_memory::{Attempt, attempt};
use crate::data::batches::{DeviceImages, Preprocess, batch_ranges};
use crate::model::{Folded, Network};
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
    let mut folded = Folded::new(network, preprocess.kind())?;
    for range in batch_ranges(count, batch_size) {
        let batch = images.range(&range);
        let inputs = preprocess.apply(&batch);
        if done == 0 && folded.hides_divergence(&inputs) {
            folded = Folded::plain(network);
        }
        let logits = folded.forward(&inputs);
        let labels = batch.labels();
        losses.push(logits.cross_entropy_loss::<Tensor>(labels, None, Reduction::Sum, -100, 0.0));
        let likely = most_likely(&logits);
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

/// The [`TOP_K`] most likely classes of each image, or all where there are fewer, the likeliest first:
/// logits [N, classes] → 64-bit integers [N, K].
fn most_likely(logits: &Tensor) -> Tensor {
    let classes = logits.size().last().copied().unwrap_or_default();
    let (_, likely) = logits.topk((TOP_K as i64).min(classes), 1, true, true);
    likely
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Images;
    use crate::model::parameters::Creation;
    use crate::model::spec::{Choices, Init, Spec};

    const COUNT: usize = 12;

    fn images() -> DeviceImages {
        let pixels = (0..COUNT * 100).map(|i| (i * i % 251) as u8).collect();
        let labels = (0..COUNT).map(|i| (i % 3) as u8).collect();
        let images = Images { count: COUNT, channels: 1, height: 10, width: 10, pixels, labels };
        DeviceImages::new(&images, Device::Cpu)
    }

    fn network() -> Network {
        let choices = Choices {
            depth: Some(20),
            width: Some(16),
            channels: 1,
            classes: 3,
            size: 10,
            ..Choices::default()
        };
        let device = Device::Cpu;
        let draw = Creation::Draw { init: Init::He, zero_init_residual: false, seed: 1, device };
        Network::new(&Spec::resolve(&choices).unwrap(), draw)
    }

    fn evaluation(network: &Network, kind: Kind, batch_size: usize) -> Evaluation {
        let preprocess = Preprocess::new(&[0.3], &[0.4], 10, (kind, Device::Cpu));
        let evaluation = evaluate(network, &images(), &preprocess, batch_size, None, &mut |_| true);
        evaluation.unwrap().unwrap()
    }

    #[test]
    fn the_first_batch_is_computed_as_all_others_are() {
        let (network, images) = (network(), images());
        for kind in [Kind::Float, Kind::BFloat16] {
            let preprocess = Preprocess::new(&[0.3], &[0.4], 10, (kind, Device::Cpu));
            let _no_grad = tch::no_grad_guard();
            let folded = Folded::new(&network, kind).unwrap();
            let mut sum = 0.0;
            for range in batch_ranges(COUNT, 5) {
                let batch = images.range(&range);
                let logits = folded.forward(&preprocess.apply(&batch));
                let labels = batch.labels();
                let loss =
                    logits.cross_entropy_loss::<Tensor>(labels, None, Reduction::Sum, -100, 0.0);
                sum += loss.double_value(&[]);
            }
            assert_eq!(evaluation(&network, kind, 5).loss, sum / COUNT as f64, "{kind:?}");
        }
    }

    #[test]
    fn a_network_that_has_diverged_has_no_finite_loss() {
        let network = network();
        for parameter in network.parameters() {
            if parameter.name == "layer1.0.conv1.weight" {
                let _ = tch::no_grad(|| parameter.tensor.shallow_clone().fill_(f64::NAN));
            }
        }
        for kind in [Kind::Float, Kind::BFloat16] {
            assert!(evaluation(&network, kind, 5).loss.is_nan(), "{kind:?}");
        }
    }

    #[test]
    fn the_most_likely_classes_are_five_in_order() {
        let likely = |logits: &[f32]| {
            let likely = most_likely(&Tensor::from_slice(logits).unsqueeze(0));
            Vec::<i64>::try_from(likely.view(-1)).unwrap()
        };
        assert_eq!(likely(&[0.1, 0.9, 0.3, 0.8, 0.2, 0.7, 0.6, 0.0]), [1, 3, 5, 6, 2]);
        assert_eq!(likely(&[0.1, 0.9, 0.3]), [1, 2, 0]);
    }
}
