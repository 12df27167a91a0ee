//! The speed of a product of large matrices. A convolution that computes all its products is not faster than this.

use super::throughput::{Step, Throughput, wait};
use crate::precision::multiplied_in;
use tch::{Device, Kind, Tensor};

/// Number of products that are measured.
const PRODUCTS: usize = 9;

/// Floating-point operations per second of the median product, in 10⁹.
pub fn gflops((kind, device): (Kind, Device)) -> f64 {
    let kind = multiplied_in(kind, device);
    let side = if device == Device::Cpu { 2048 } else { 8192 };
    let [a, b] = [(); 2].map(|()| Tensor::rand([side, side], (kind, device)));
    let mut throughput = Throughput::default();
    for _ in 0..PRODUCTS {
        let step = Step::begin();
        let _ = a.matmul(&b);
        wait(device);
        throughput.add_whole(&step, 1);
    }
    2.0 * (side as f64).powi(3) / throughput.median() / 1e9
}
