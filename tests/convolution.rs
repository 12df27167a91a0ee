//! Convolutions by Winograd's minimal filtering, compared with libtorch's own convolutions in float64.

use resnet::kernels::{Geometry, PreparedConvolution, convolution};
use tch::{Device, Kind, Tensor};

/// A 3×3 convolution whose output has the size of its input.
const SAME: Geometry = Geometry { stride: 1, padding: 1, groups: 1 };

/// The largest difference divided by the largest absolute value.
fn error(found: &Tensor, expected: &Tensor) -> f64 {
    let expected = expected.to_kind(Kind::Double);
    let difference = (found.to_kind(Kind::Double) - &expected).abs().max();
    (difference / expected.abs().max()).double_value(&[])
}

/// Whether this program has kernels for this machine.
fn has_kernels() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

fn random(dims: &[i64]) -> Tensor {
    let values = Tensor::randn(dims, (Kind::Float, Device::Cpu));
    match dims {
        // In the memory order N, H, W, C, as in `Layout::ChannelsLast`.
        [_, _, _, _] => values.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2]),
        _ => values,
    }
}

/// The output of a convolution with a bias, and the gradients of input, weight and bias.
fn results(tensors: &[&Tensor; 3], gradient: &Tensor, kind: Kind, direct: bool) -> [Tensor; 4] {
    let [xs, weight, bias] = tensors.map(|tensor| tensor.to_kind(kind).set_requires_grad(true));
    let ys = if direct {
        xs.conv2d(&weight, Some(&bias), [1, 1], [1, 1], [1, 1], 1)
    } else {
        convolution(&xs, &weight, Some(&bias), SAME)
    };
    let loss = (&ys * gradient.to_kind(kind)).sum(kind);
    let gradients = Tensor::run_backward(&[&loss], &[&xs, &weight, &bias], false, false);
    let Ok([of_xs, of_weight, of_bias]) = <[Tensor; 3]>::try_from(gradients) else {
        panic!("expected a gradient for each tensor");
    };
    [ys.detach(), of_xs, of_weight, of_bias]
}

/// The input's size [N, I, H, W] and the number of output channels O. The shapes cover both sizes of tiles, images
/// whose size is not a multiple of the tile's, channels that do not fill a panel, weights that fit into the cache
/// and weights that do not, and more tiles than are computed at the same time.
const SHAPES: [([i64; 4], i64); 9] = [
    ([8, 16, 8, 8], 16),
    ([3, 64, 24, 24], 64),
    ([6, 24, 13, 9], 40),
    ([16, 16, 6, 6], 72),
    ([16, 40, 7, 7], 16),
    ([4, 32, 33, 5], 32),
    ([33, 136, 12, 12], 144),
    ([96, 256, 3, 3], 256),
    ([40, 64, 16, 16], 320),
];

#[test]
fn convolutions_and_gradients_agree_with_libtorch_and_do_not_depend_on_the_number_of_threads() {
    tch::manual_seed(1);
    for (input, outputs) in SHAPES {
        let [count, inputs, height, width] = input;
        let weight = random(&[outputs, inputs, 3, 3]);
        let (xs, bias) = (random(&input), random(&[outputs]));
        let gradient = random(&[count, outputs, height, width]);
        let tensors = [&xs, &weight, &bias];
        let expected = results(&tensors, &gradient, Kind::Double, true);
        let direct = results(&tensors, &gradient, Kind::Float, true);
        tch::set_num_threads(3);
        let found = results(&tensors, &gradient, Kind::Float, false);
        let names = ["output", "input", "weight", "bias"];
        for ((name, found), expected) in names.iter().zip(&found).zip(&expected) {
            let error = error(found, expected);
            assert!(error < 1e-5, "{name} of {input:?} to {outputs}: {error}");
        }
        if has_kernels() {
            assert_ne!(
                found[0], direct[0],
                "{input:?} to {outputs}: computed by the direct method"
            );
        }
        for threads in [1, 2] {
            tch::set_num_threads(threads);
            let again = results(&tensors, &gradient, Kind::Float, false);
            // libtorch computes the gradient of the bias. Its order of summation depends on the number of threads.
            for (name, (again, found)) in names.iter().zip(again.iter().zip(&found)).take(3) {
                assert_eq!(again, found, "{name} of {input:?} to {outputs}, {threads} threads");
            }
        }
    }
}

#[test]
fn fused_convolutions_add_the_bias_and_another_tensor_and_apply_relu() {
    tch::manual_seed(2);
    let _no_grad = tch::no_grad_guard();
    for (input, outputs) in SHAPES {
        let [count, inputs, height, width] = input;
        let (weight, bias) = (random(&[outputs, inputs, 3, 3]), random(&[outputs]));
        let (xs, other) = (random(&input), random(&[count, outputs, height, width]));
        let prepared = PreparedConvolution::new(weight.shallow_clone(), bias.shallow_clone(), SAME);
        let [xs64, weight64, bias64, other64] =
            [&xs, &weight, &bias, &other].map(|tensor| tensor.to_kind(Kind::Double));
        let plain = xs64.conv2d(&weight64, Some(&bias64), [1, 1], [1, 1], [1, 1], 1);
        let sum = &plain + other64;
        for (other, relu, expected) in [
            (None, false, plain.shallow_clone()),
            (None, true, plain.relu()),
            (Some(&other), false, sum.shallow_clone()),
            (Some(&other), true, sum.relu()),
        ] {
            let error = error(&prepared.forward(&xs, other, relu).unwrap(), &expected);
            assert!(error < 1e-5, "{input:?} to {outputs}, relu {relu}: {error}");
        }
    }
}

#[test]
fn convolutions_that_winograd_does_not_cover_equal_libtorchs_bit_for_bit() {
    tch::manual_seed(3);
    for (input, weight, stride, kind) in [
        ([8, 16, 8, 8], [16, 16, 3, 3], 2, Kind::Float),
        ([8, 16, 8, 8], [16, 16, 1, 1], 1, Kind::Float),
        ([8, 8, 8, 8], [8, 8, 3, 3], 1, Kind::Float),
        ([8, 20, 8, 8], [20, 20, 3, 3], 1, Kind::Float),
        ([1, 256, 3, 3], [256, 256, 3, 3], 1, Kind::Float),
        ([8, 16, 8, 8], [16, 16, 3, 3], 1, Kind::Double),
    ] {
        let (xs, padding) = (random(&input).to_kind(kind), weight[2] / 2);
        let weight = random(&weight).to_kind(kind);
        let direct = xs.conv2d(&weight, None::<Tensor>, [stride; 2], [padding; 2], [1, 1], 1);
        let geometry = Geometry { stride, padding, groups: 1 };
        assert_eq!(convolution(&xs, &weight, None, geometry), direct);
    }
}

#[test]
fn nan_inputs_give_nan_outputs() {
    let _no_grad = tch::no_grad_guard();
    let xs = random(&[4, 16, 8, 8]);
    let _ = xs.get(0).fill_(f64::NAN);
    let bias = Tensor::zeros([16], (Kind::Float, Device::Cpu));
    let prepared = PreparedConvolution::new(random(&[16, 16, 3, 3]), bias, SAME);
    let ys = prepared.forward(&xs, None, true).unwrap();
    if has_kernels() {
        assert!(ys.get(0).isnan().all().int64_value(&[]) == 1);
    }
    assert!(ys.get(1).isnan().any().int64_value(&[]) == 0);
}

#[test]
fn tensors_of_mismatched_shapes_are_refused() {
    let _no_grad = tch::no_grad_guard();
    let bias = Tensor::zeros([16], (Kind::Float, Device::Cpu));
    let prepared = PreparedConvolution::new(random(&[16, 16, 3, 3]), bias, SAME);
    let xs = random(&[4, 16, 8, 8]);
    assert!(prepared.forward(&xs, None, false).is_ok());
    assert!(prepared.forward(&random(&[4, 32, 8, 8]), None, false).is_err());
    assert!(prepared.forward(&xs, Some(&random(&[4, 16, 4, 4])), false).is_err());
}
