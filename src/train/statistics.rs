//! The running statistics of a network's batch norms: kept for a step that may be repeated, and computed for weights
//! that were averaged.

use crate::model::Network;
use crate::model::layers::BatchNorm2d;
use crate::model::parameters::Role;
use anyhow::Result;
use tch::Tensor;

/// A copy of all running statistics. A step that is repeated starts from it.
#[derive(Debug)]
pub struct Statistics {
    /// All statistics one after the other, in the network's order.
    flat: Tensor,
}

impl Statistics {
    /// Copies the statistics of a network.
    pub fn of(network: &Network) -> Self {
        let flat: Vec<Tensor> = buffers(network).map(|buffer| buffer.view([-1])).collect();
        Self { flat: Tensor::cat(&flat, 0) }
    }

    /// Copies the statistics back into the network.
    pub fn restore(&self, network: &Network) {
        let sizes: Vec<i64> = buffers(network).map(|buffer| buffer.numel() as i64).collect();
        for (buffer, values) in buffers(network).zip(self.flat.split_with_sizes(sizes, 0)) {
            buffer.shallow_clone().copy_(&values.view_as(buffer));
        }
    }
}

/// Replaces the running statistics of a network by the means over the batches that `passes` runs through it one after
/// the other, each in training mode. A pass gets its index, and returns false if there are no more batches.
///
/// # Errors
/// A pass failed.
pub fn recompute(network: &Network, mut pass: impl FnMut(usize) -> Result<bool>) -> Result<()> {
    let _no_grad = tch::no_grad_guard();
    let of = || buffers(network).map(Tensor::shallow_clone);
    let sums: Vec<Tensor> = of().map(|buffer| buffer.zeros_like()).collect();
    let mut batches = 0;
    loop {
        // Batch norm adds its fraction of the batch's statistics to zero.
        of().for_each(|mut buffer| drop(buffer.zero_()));
        if !pass(batches)? {
            break;
        }
        sums.iter().zip(of()).for_each(|(sum, buffer)| drop(sum.shallow_clone().g_add_(&buffer)));
        batches += 1;
    }
    let factor = 1.0 / (BatchNorm2d::MOMENTUM * batches as f64);
    for (mut buffer, sum) in of().zip(sums) {
        buffer.copy_(&(sum * factor));
    }
    Ok(())
}

fn buffers(network: &Network) -> impl Iterator<Item = &Tensor> {
    let parameters = network.parameters().iter();
    parameters.filter(|p| p.role == Role::Buffer).map(|parameter| &parameter.tensor)
}
