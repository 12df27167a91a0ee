//! The least that a step can take: its convolutions alone, each by itself, as the program computes
//! it. What a step takes beyond that is all else: batch norm, ReLU, sums, the update, the data.

use super::throughput::{Step, Throughput, wait};
use crate::kernels;
use crate::model::Spec;
use crate::model::layers::Convolution;
use crate::model::parameters::Layout;
use crate::model::shape::convolutions;
use crate::precision::multiplied_in;
use anyhow::Result;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use tch::{Device, Kind, Tensor};

/// Times that each convolution is measured, after one that is not.
const REPEATS: usize = 3;

/// Seconds of all convolutions of a step of training on a batch: forward and their two gradients, but for
/// the gradient of the images, which nobody needs.
///
/// # Errors
/// What libtorch could not compute.
pub fn floor(spec: &Spec, batch_size: usize, options: (Kind, Device)) -> Result<f64> {
    let all = convolutions(spec, batch_size);
    let mut seconds: HashMap<(&Convolution, bool), f64> = HashMap::new();
    let mut sum = 0.0;
    for (index, convolution) in all.iter().enumerate() {
        let is_first = index == 0;
        sum += match seconds.entry((convolution, is_first)) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(unknown) => {
                let layout = Layout::of(spec);
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
        let ys = kernels::convolution(&xs, &weight, None, convolution.stride, convolution.padding);
        // The gradient of what comes out is all ones.
        Tensor::f_run_backward(&[&ys], &learned, false, false)?;
        wait(device);
        if repeat > 0 {
            throughput.add_whole(&step);
        }
    }
    Ok(throughput.median())
}
