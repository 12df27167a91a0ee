//! The running statistics of a network's batch norms, as they were before a step.

use crate::model::Network;
use crate::model::parameters::Role;
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

fn buffers(network: &Network) -> impl Iterator<Item = &Tensor> {
    let parameters = network.parameters().iter();
    parameters.filter(|p| p.role == Role::Buffer).map(|parameter| &parameter.tensor)
}
