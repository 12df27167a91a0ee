//! Evaluates a network on labelled images.

use super::out_of_memory::{Attempt, attempt};
use super::views::Views;
use crate::data::dataset::Dataset;
use crate::data::order::batch_ranges;
use crate::data::preprocess::Preprocess;
use crate::model::{Folded, Network};
use anyhow::{Result, anyhow};
use std::ops::Range;
use tch::{Device, Kind, Reduction, Tensor};

/// The k of top-k accuracy.
pub const TOP_K: usize = 5;
/// The number of intervals of equal width into which probabilities are sorted (Guo et al. 2017, section 2).
pub const BINS: i64 = 15;

/// The result of an evaluation.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// Images that were evaluated.
    pub images: usize,
    /// Mean cross-entropy in nats, without label smoothing.
    pub loss: f64,
    /// Images whose class was among the [`TOP_K`] most likely ones, or among all if there are fewer.
    pub top_k_correct: u64,
    /// Counts of images by `[true class][predicted class]`.
    pub confusion: Vec<Vec<u64>>,
    /// The expected calibration error (Guo et al. 2017, equation 3, with 15 bins): the mean difference between the
    /// probability of the most likely class and how often it is the right one.
    pub calibration_error: f64,
    /// The probability of each class for each image, `[images, classes]`, in the order of the images.
    pub probabilities: Vec<f32>,
}

/// Whether a network that learned something can have this mean loss, in nats. Equal probabilities for 100 classes give
/// a loss of 4.6. A network that is always certain and always wrong has a loss of a few tens.
pub fn is_plausible(loss: f64) -> bool {
    loss < 1e6
}

impl Evaluation {
    /// Images whose most likely class was the right one.
    pub fn correct(&self) -> u64 {
        self.confusion.iter().enumerate().filter_map(|(class, row)| row.get(class)).sum()
    }

    /// Fraction of the images that were classified correctly.
    pub fn accuracy(&self) -> f64 {
        self.correct() as f64 / self.images.max(1) as f64
    }

    /// Fraction of the images whose class was among the [`TOP_K`] most likely ones.
    pub fn top_k_accuracy(&self) -> f64 {
        self.top_k_correct as f64 / self.images.max(1) as f64
    }
}

/// An evaluation under way, batch by batch. Results stay on the device until the end.
#[derive(Debug)]
pub struct Evaluator<'a> {
    network: Network,
    dataset: &'a Dataset,
    preprocess: &'a Preprocess,
    count: usize,
    batch_size: usize,
    views: Option<Views>,
    work: Work,
}

/// The results so far, in batches of one size.
#[derive(Debug)]
struct Work {
    /// Batches that are still to do. The last element is the next batch.
    batches: Vec<Range<usize>>,
    /// The network for inference; `None` before the first batch.
    folded: Option<Folded>,
    done: usize,
    /// For each batch, the sum of its images' losses.
    losses: Vec<Tensor>,
    top_k_correct: Tensor,
    /// Counts of images, 64-bit integers `[true class, predicted class]`.
    confusion: Tensor,
    /// For each bin, the sum over its images of (probability of the most likely class − 1 if that class is right).
    calibration: Tensor,
    /// For each batch, the probabilities `[N, classes]`.
    probabilities: Vec<Tensor>,
}

impl Work {
    fn new(count: usize, batch_size: usize, network: &Network) -> Self {
        let (classes, device) = (network.spec().classes as i64, network.device());
        let mut batches = batch_ranges(count, batch_size);
        batches.reverse();
        Self {
            batches,
            folded: None,
            done: 0,
            losses: Vec::new(),
            top_k_correct: Tensor::zeros([], (Kind::Int64, device)),
            confusion: Tensor::zeros([classes, classes], (Kind::Int64, device)),
            calibration: Tensor::zeros([BINS], (Kind::Float, device)),
            probabilities: Vec::new(),
        }
    }
}

impl<'a> Evaluator<'a> {
    /// Evaluates a network in evaluation mode, on all images of a data set or on its first `limit` images. The network
    /// must not change before the evaluation ends.
    pub fn new(
        network: &Network,
        dataset: &'a Dataset,
        preprocess: &'a Preprocess,
        batch_size: usize,
        limit: Option<usize>,
    ) -> Self {
        let count = dataset.len().min(limit.unwrap_or(usize::MAX));
        let work = Work::new(count, batch_size, network);
        Self { network: network.clone(), dataset, preprocess, count, batch_size, views: None, work }
    }

    /// Evaluates the mean prediction of several views of each image (test-time augmentation).
    #[must_use]
    pub fn with_views(self, views: Views) -> Self {
        Self { views: Some(views), ..self }
    }

    /// Images to evaluate.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Images that were evaluated so far.
    pub fn done(&self) -> usize {
        self.work.done
    }

    /// Evaluates the next batch; false if all are done. If the device has too little memory, the evaluation starts
    /// again with batches of half the size.
    ///
    /// # Errors
    /// An operation of libtorch failed. For example, memory is too small for a single image.
    pub fn advance(&mut self) -> Result<bool> {
        loop {
            match attempt(|| tch::no_grad(|| self.next_batch()))? {
                Attempt::Done(advanced) => return Ok(advanced),
                Attempt::OutOfMemory(error) if self.batch_size == 1 => return Err(error),
                Attempt::OutOfMemory(_) => {
                    self.batch_size /= 2;
                    self.work = Work::new(self.count, self.batch_size, &self.network);
                }
            }
        }
    }

    fn next_batch(&mut self) -> Result<bool> {
        let work = &mut self.work;
        let Some(range) = work.batches.last() else { return Ok(false) };
        let batch = self.dataset.range(range)?;
        let inputs = self.preprocess.apply(&batch);
        let folded = match work.folded.take() {
            Some(folded) => folded,
            None => Folded::for_images(&self.network, &inputs)?,
        };
        let folded = work.folded.insert(folded);
        let logits = match &self.views {
            None => folded.forward(&inputs),
            Some(views) => {
                views.mean(&batch, |batch| folded.forward(&self.preprocess.apply(batch)))
            }
        };
        let loss = batch.targets().loss(&logits, 0.0, Reduction::Sum);
        let likely = most_likely(&logits);
        let classes = batch.targets().classes();
        let correct = likely.eq_tensor(&classes.unsqueeze(1)).sum(Kind::Int64);
        let pairs = self.pairs(classes, &likely.select(1, 0));
        let probabilities = logits.to_kind(Kind::Float).softmax(1, Kind::Float);
        let calibration = calibration(&probabilities, &likely.select(1, 0).eq_tensor(classes));
        // Nothing below can fail, so each batch is counted exactly once.
        let work = &mut self.work;
        work.losses.push(loss);
        work.top_k_correct += correct;
        work.confusion += pairs;
        work.calibration += calibration;
        work.probabilities.push(probabilities);
        work.done += batch.len();
        work.batches.pop();
        Ok(true)
    }

    /// Counts of the pairs of true and predicted class, 64-bit integers `[classes, classes]`.
    fn pairs(&self, classes: &Tensor, predicted: &Tensor) -> Tensor {
        let device = self.network.device();
        let all = Tensor::arange(self.network.spec().classes as i64, (Kind::Int64, device));
        let one_hot = |chosen: &Tensor| chosen.unsqueeze(1).eq_tensor(&all).to_kind(Kind::Float);
        // This does not use bincount, because the host would wait for it on CUDA. The counts of a batch are below 2²⁴,
        // so 32-bit floats hold them exactly.
        one_hot(classes).transpose(0, 1).matmul(&one_hot(predicted)).to_kind(Kind::Int64)
    }

    /// The result over all images that were evaluated. This waits until the device is done.
    ///
    /// # Errors
    /// An operation of libtorch failed.
    pub fn finish(self) -> Result<Evaluation> {
        let Work { done, losses, top_k_correct, confusion, calibration, probabilities, .. } =
            self.work;
        let counts = Vec::<i64>::try_from(confusion.flatten(0, -1))
            .map_err(|error| anyhow!("confusion matrix: {error}"))?;
        let confusion = counts
            .chunks(self.network.spec().classes)
            .map(|row| row.iter().map(|&count| count as u64).collect())
            .collect();
        // The sum is computed on the host, because not every device has 64-bit floats.
        let loss = match losses.is_empty() {
            true => 0.0,
            false => {
                Tensor::stack(&losses, 0).to_device(Device::Cpu).sum(Kind::Double).double_value(&[])
            }
        };
        let probabilities = match probabilities.is_empty() {
            true => Vec::new(),
            false => Vec::<f32>::try_from(
                Tensor::cat(&probabilities, 0).to_device(Device::Cpu).flatten(0, -1),
            )
            .map_err(|error| anyhow!("probabilities: {error}"))?,
        };
        Ok(Evaluation {
            images: done,
            loss: loss / done.max(1) as f64,
            top_k_correct: top_k_correct.int64_value(&[]) as u64,
            confusion,
            calibration_error: calibration.abs().sum(Kind::Float).double_value(&[])
                / done.max(1) as f64,
            probabilities,
        })
    }
}

/// The sums of [`Work::calibration`] for the probabilities `[N, classes]` of a batch. `right`, booleans `[N]`, says
/// whether the most likely class is the right one.
fn calibration(probabilities: &Tensor, right: &Tensor) -> Tensor {
    let largest = probabilities.amax([1].as_slice(), false);
    let bins = (&largest * BINS as f64).ceil().to_kind(Kind::Int64).clamp(1, BINS) - 1;
    let differences = largest - right.to_kind(Kind::Float);
    Tensor::zeros([BINS], (Kind::Float, probabilities.device())).index_add(0, &bins, &differences)
}

/// The [`TOP_K`] most likely classes of each image, or all if there are fewer, the most likely one first:
/// logits `[N, classes]` → 64-bit integers `[N, K]`.
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

    fn images() -> Dataset {
        let pixels = (0..COUNT * 100).map(|i| (i * i % 251) as u8).collect();
        let labels = (0..COUNT).map(|i| (i % 3) as u8).collect();
        let images = Images { count: COUNT, channels: 1, height: 10, width: 10, pixels, labels };
        Dataset::new(&images, Device::Cpu)
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
        let images = images();
        let mut evaluator = Evaluator::new(network, &images, &preprocess, batch_size, None);
        while evaluator.advance().unwrap() {}
        assert_eq!((evaluator.done(), evaluator.count()), (COUNT, COUNT));
        evaluator.finish().unwrap()
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
                let batch = images.range(&range).unwrap();
                let logits = folded.forward(&preprocess.apply(&batch));
                sum += batch.targets().loss(&logits, 0.0, Reduction::Sum).double_value(&[]);
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
    fn the_calibration_error_is_the_mean_difference_of_probability_and_accuracy() {
        // Two images of 90 %, one of them right, and two of 60 % that are both wrong: |1.8 − 1| + |1.2 − 0|.
        let logit = |probability: f32| (probability / (1.0 - probability)).ln();
        let logits = Tensor::from_slice(&[0.9, 0.9, 0.6, 0.6].map(logit)).unsqueeze(1);
        let logits = Tensor::cat(&[&logits, &logits.zeros_like()], 1);
        let right = Tensor::from_slice(&[true, false, false, false]);
        let probabilities = logits.softmax(1, Kind::Float);
        let sum = calibration(&probabilities, &right).abs().sum(Kind::Float).double_value(&[]);
        assert!((sum - 2.0).abs() < 1e-5, "{sum}");
        // A certain network that is always right is well calibrated.
        let certain = Tensor::from_slice(&[1f32, 0.0]).view([1, 2]);
        let none = calibration(&certain, &Tensor::from_slice(&[true])).abs().sum(Kind::Float);
        assert_eq!(none.double_value(&[]), 0.0);
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
