//! A lower bound for the time of a training step: the total time of its convolutions, each measured alone.
//! The rest of a step is batch norm, ReLU, sums, the optimizer and the data.

use super::throughput::{Step, Throughput, wait};
use crate::kernels;
use crate::model::parameters::Layout;
use crate::model::shape::{Convolution, convolutions};
use crate::model::{Plan, Spec};
use crate::precision::multiplied_in;
use anyhow::Result;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use tch::{Device, Kind, Tensor};

/// Number of measurements of each convolution, after one run that is not measured.
const REPEATS: usize = 3;

/// Seconds of all convolutions of a training step on a batch: the forward pass and both gradients, except
/// the gradient of the images, which training does not need.
///
/// # Errors
/// An operation of libtorch failed.
pub fn floor(spec: &Spec, batch_size: usize, options: (Kind, Device)) -> Result<f64> {
    let all = convolutions(spec, batch_size);
    let layout = Layout::of(&Plan::new(spec));
    let mut seconds: HashMap<(&Convolution, bool), f64> = HashMap::new();
    let mut sum = 0.0;
    for (index, convolution) in all.iter().enumerate() {
        let is_first = index == 0;
        sum += match seconds.entry((convolution, is_first)) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(unknown) => {
                *unknown.insert(measure(convolution, layout, !is_first, options)?)
            }
        };
    }
    Ok(sum)
}

fn measure(
    convolution: &Convolution,
    layout: Layout,
    input_gradient: bool,
    (kind, device): (Kind, Device),
) -> Result<f64> {
    let kind = multiplied_in(kind, device);
    let random = |dims: &[i64]| layout.apply(&Tensor::rand(dims, (kind, device)));
    let xs = random(&convolution.input).set_requires_grad(input_gradient);
    let weight = random(&convolution.weight).set_requires_grad(true);
    let learned: Vec<&Tensor> =
        [&weight].into_iter().chain(input_gradient.then_some(&xs)).collect();
    let mut throughput = Throughput::default();
    for repeat in 0..=REPEATS {
        wait(device);
        let step = Step::begin();
        let ys = kernels::convolution(&xs, &weight, None, convolution.geometry);
        // The gradient of the output is all ones.
        Tensor::f_run_backward(&[&ys], &learned, false, false)?;
        wait(device);
        if repeat > 0 {
            throughput.add_whole(&step, 1);
        }
    }
    Ok(throughput.median())
}
