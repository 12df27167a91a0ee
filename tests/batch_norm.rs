//! Batch norm with the addition of another tensor and ReLU, compared with libtorch's own operations in float64.

use resnet::kernels::{Normalization, batch_norm};
use tch::{Device, Kind, Tensor};

fn random(dims: &[i64], scale: f64, shift: f64) -> Tensor {
    let values = Tensor::randn(dims, (Kind::Float, Device::Cpu)) * scale + shift;
    match dims {
        // In the memory order N, H, W, C, as in `Layout::ChannelsLast`.
        [_, _, _, _] => values.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2]),
        _ => values,
    }
}

fn error(found: &Tensor, expected: &Tensor) -> f64 {
    let difference = (found.to_kind(Kind::Double) - expected.to_kind(Kind::Double)).abs().max();
    (difference / expected.to_kind(Kind::Double).abs().max()).double_value(&[])
}

struct Case {
    xs: Tensor,
    other: Option<Tensor>,
    weight: Tensor,
    bias: Tensor,
    gradient: Tensor,
    relu: bool,
}

/// The gradients of input, weight, bias and, if there is one, the other tensor; the output; the running statistics.
fn results(case: &Case, kind: Kind) -> Vec<(&'static str, Tensor)> {
    let leaf = |tensor: &Tensor| tensor.to_kind(kind).copy().set_requires_grad(true);
    let (xs, weight, bias) = (leaf(&case.xs), leaf(&case.weight), leaf(&case.bias));
    let other = case.other.as_ref().map(leaf);
    let channels = case.weight.size();
    let mean = Tensor::ones(&channels, (kind, Device::Cpu));
    let variance = Tensor::ones(&channels, (kind, Device::Cpu)) * 2;
    let normalization = Normalization {
        weight: &weight,
        bias: &bias,
        running: Some((&mean, &variance)),
        momentum: 0.1,
        epsilon: 1e-5,
    };
    let ys = batch_norm(&xs, &normalization, other.as_ref(), case.relu, true);
    let loss = (&ys * case.gradient.to_kind(kind)).sum(kind);
    let leaves: Vec<&Tensor> = [&xs, &weight, &bias].into_iter().chain(other.as_ref()).collect();
    let names = ["input", "weight", "bias", "other"];
    let gradients = Tensor::run_backward(&[&loss], &leaves, false, false);
    let mut all: Vec<_> = names.into_iter().zip(gradients).collect();
    all.push(("output", ys.detach()));
    all.push(("running mean", mean));
    all.push(("running variance", variance));
    all
}

/// In float64 `batch_norm` calls libtorch's own operations, so this test compares our float32 kernels with
/// libtorch. The results are the same bit for bit on any number of threads.
#[test]
fn batch_norm_agrees_with_libtorch_and_does_not_depend_on_the_number_of_threads() {
    tch::manual_seed(1);
    for dims in [[64, 64, 12, 12], [8, 8, 5, 7], [3, 24, 9, 9], [2, 2048, 3, 3], [300, 16, 16, 16]]
    {
        for (has_other, relu) in [(false, false), (false, true), (true, false), (true, true)] {
            let [_, channels, _, _] = dims;
            let case = Case {
                // The values are far from zero, because there a bad formula for the variance gives only rounding
                // errors. With ReLU they are not, because then a rounding error would more often decide whether
                // ReLU passes a number near zero.
                xs: random(&dims, 2.0, if relu { 0.5 } else { 30.0 }),
                other: has_other.then(|| random(&dims, 1.0, 0.0)),
                weight: random(&[channels], 1.0, 0.0),
                bias: random(&[channels], 1.0, 0.0),
                gradient: random(&dims, 1.0, 0.1),
                relu,
            };
            tch::set_num_threads(3);
            let found = results(&case, Kind::Float);
            for ((name, found), (_, expected)) in found.iter().zip(results(&case, Kind::Double)) {
                let error = error(found, &expected);
                let at = format!("{name}, {dims:?}, sum {has_other}, relu {relu}");
                assert!(error < 2e-5, "{at}: {error}");
            }
            for threads in [1, 2] {
                tch::set_num_threads(threads);
                for ((name, again), (_, found)) in results(&case, Kind::Float).iter().zip(&found) {
                    assert_eq!(again, found, "{name}, {dims:?}, {threads} threads");
                }
            }
        }
    }
}

#[test]
fn batch_norm_works_without_running_statistics() {
    let xs = random(&[4, 16, 6, 6], 1.0, 0.0);
    let one = || Tensor::ones([16], (Kind::Float, Device::Cpu));
    let (weight, bias) = (one(), one());
    let normalization =
        Normalization { weight: &weight, bias: &bias, running: None, momentum: 0.1, epsilon: 1e-5 };
    let ys = batch_norm(&xs, &normalization, None, false, true);
    let mean = ys.mean_dim([0i64, 2, 3].as_slice(), false, Kind::Float);
    assert!(error(&mean, &bias) < 1e-5);
}

#[test]
fn a_tensor_of_another_shape_is_added_by_broadcasting() {
    let xs = random(&[4, 16, 6, 6], 1.0, 0.0);
    let (weight, bias) = (random(&[16], 1.0, 0.0), random(&[16], 1.0, 0.0));
    let normalization =
        Normalization { weight: &weight, bias: &bias, running: None, momentum: 0.1, epsilon: 1e-5 };
    let other = random(&[1, 16, 1, 1], 1.0, 0.0);
    let whole = (&xs * 0.0 + &other).contiguous();
    let found = batch_norm(&xs, &normalization, Some(&other), true, true);
    assert!(error(&found, &batch_norm(&xs, &normalization, Some(&whole), true, true)) < 1e-5);
}
