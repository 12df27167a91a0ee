//! This program's CUDA kernels, compiled for the host and run there thread by thread, against libtorch.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic makes the test fail")]

use libloading::Library;
use resnet::kernels::cuda::{self, Launch};
use resnet::kernels::{Normalization, batch_norm, batch_norm_on_cuda, max_pool_on_cuda};
use std::path::Path;
use std::process::Command;
use tch::{Device, Kind, Tensor};

/// Compiles the kernels for the host, and uses them for tensors on the CPU.
fn emulate() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("kernels.so");
    let mut compiler = Command::new(std::env::var_os("CXX").unwrap_or_else(|| "c++".into()));
    compiler.args(["-std=c++17", "-O1", "-shared", "-fPIC", "-Wall", "-o"]).arg(&library);
    let output = compiler.arg(root.join("tests/cuda_kernels/host.cpp")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // SAFETY: the library was compiled from this project's sources, and has this function. It is never unloaded.
    unsafe {
        let library = Library::new(&library).unwrap();
        cuda::emulate(Some(*library.get::<Launch>("launch").unwrap()));
        std::mem::forget(library);
    }
}

/// Numbers in channels-last order. Those of channel `c` have the mean `mean · c`.
fn images([n, c, h, w]: [i64; 4], mean: f64, kind: Kind) -> Tensor {
    let options = (Kind::Float, Device::Cpu);
    let numbers = Tensor::randn([n, h, w, c], options) + Tensor::arange(c, options) * mean;
    numbers.to_kind(kind).permute([0, 3, 1, 2])
}

fn learned(tensor: &Tensor) -> Tensor {
    tensor.detach().copy().set_requires_grad(true)
}

fn error(found: &Tensor, expected: &Tensor) -> f64 {
    let (found, expected) = (found.to_kind(Kind::Double), expected.to_kind(Kind::Double));
    let norm = expected.norm().double_value(&[]).max(1e-12);
    (found - expected).norm().double_value(&[]) / norm
}

/// Output, running statistics, and gradients of batch norm, by `compute`.
fn results(
    x: &Tensor,
    other: Option<&Tensor>,
    upstream: &Tensor,
    compute: &dyn Fn(&Tensor, &Normalization, Option<&Tensor>) -> Tensor,
) -> Vec<Tensor> {
    let channels = x.size()[1];
    let line =
        |first: f64, step: f64| Tensor::arange(channels, (Kind::Float, Device::Cpu)) * step + first;
    let (x, other) = (learned(x), other.map(learned));
    let (weight, bias) = (learned(&line(0.5, 0.01)), learned(&line(-0.3, 0.02)));
    let (mean, variance) = (line(0.1, 0.0), line(0.9, 0.0));
    let normalization = Normalization {
        weight: &weight,
        bias: &bias,
        running: Some((&mean, &variance)),
        momentum: 0.1,
        epsilon: 1e-5,
    };
    let y = compute(&x, &normalization, other.as_ref());
    let inputs: Vec<&Tensor> = [&x, &weight, &bias].into_iter().chain(&other).collect();
    let loss = (y.to_kind(Kind::Float) * upstream).sum(Kind::Float);
    let gradients = Tensor::run_backward(&[loss], &inputs, false, false);
    [y.detach(), mean, variance].into_iter().chain(gradients).collect()
}

// One test, because the emulation is for the whole process.
#[test]
fn kernels_compiled_for_the_host_agree_with_libtorch() {
    tch::manual_seed(0);
    emulate();
    batch_norms();
    large_means_cost_no_digits();
    max_pools();
    // SAFETY: ends the emulation.
    unsafe { cuda::emulate(None) };
    let x = images([2, 8, 3, 3], 0.0, Kind::Float);
    assert!(max_pool_on_cuda(&x, 3, 2, 1).unwrap().is_none(), "there are no kernels for a CPU");
}

fn batch_norms() {
    for (kind, tolerance) in [(Kind::Float, 5e-6), (Kind::BFloat16, 6e-3), (Kind::Half, 8e-4)] {
        // Rows of few and of many blocks, channels of one vector, of a part of a warp, and of several columns of blocks.
        for dims in [
            [2, 8, 1, 3],
            [3, 8, 5, 7],
            [2, 24, 9, 11],
            [16, 64, 13, 13],
            [2, 520, 3, 3],
            [2, 2048, 3, 3],
        ] {
            for (with_sum, relu) in [(false, false), (false, true), (true, false), (true, true)] {
                let x = images(dims, 0.01, kind);
                let other = with_sum.then(|| images(dims, 0.0, kind));
                let upstream = images(dims, 0.0, Kind::Float);
                let own = |x: &Tensor, normalization: &Normalization, other: Option<&Tensor>| {
                    batch_norm_on_cuda(x, normalization, other, relu).unwrap().unwrap()
                };
                // In 32 bits, so that the tolerance is only for the rounding of the kernels.
                let exact = |x: &Tensor, normalization: &Normalization, other: Option<&Tensor>| {
                    let other = other.map(|other| other.to_kind(Kind::Float));
                    batch_norm(&x.to_kind(Kind::Float), normalization, other.as_ref(), relu, true)
                };
                let found = results(&x, other.as_ref(), &upstream, &own);
                let expected = results(&x, other.as_ref(), &upstream, &exact);
                for (place, (found, expected)) in found.iter().zip(&expected).enumerate() {
                    let error = error(found, expected);
                    let what = format!("{kind:?} {dims:?} sum {with_sum} relu {relu} {place}");
                    assert!(error <= tolerance, "{what}: error {error:e}");
                }
            }
        }
    }
}

fn large_means_cost_no_digits() {
    let dims = [8, 16, 10, 10];
    let x = images(dims, 0.0, Kind::Float) * 0.01 + 1000.0;
    let x = x.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2]);
    let own = |x: &Tensor, normalization: &Normalization, _: Option<&Tensor>| {
        batch_norm_on_cuda(x, normalization, None, false).unwrap().unwrap()
    };
    let found = results(&x, None, &images(dims, 0.0, Kind::Float), &own);
    let exact = x.to_kind(Kind::Double).var_dim(Some([0, 2, 3].as_slice()), true, false);
    let expected = exact * 0.1 + 0.9 * 0.9;
    assert!(error(&found[2], &expected) < 1e-6, "{:e}", error(&found[2], &expected));
}

fn max_pools() {
    for kind in [Kind::Float, Kind::BFloat16, Kind::Half] {
        for dims in [[2, 8, 8, 8], [1, 16, 7, 9], [3, 64, 5, 3]] {
            for [kernel, stride, padding] in [[3, 2, 1], [2, 2, 0], [3, 1, 1], [5, 3, 2]] {
                // Few different numbers, so that many are equal; and a NaN.
                let numbers = (images(dims, 0.0, Kind::Float) * 2.0).round();
                let _ = numbers.get(0).get(1).get(2).get(1).fill_(f64::NAN);
                let x = numbers.to_kind(kind);
                if kernel > x.size()[2].min(x.size()[3]) + 2 * padding {
                    continue;
                }
                let pools: [&dyn Fn(&Tensor) -> Tensor; 2] =
                    [&|x| max_pool_on_cuda(x, kernel, stride, padding).unwrap().unwrap(), &|x| {
                        x.max_pool2d([kernel; 2], [stride; 2], [padding; 2], [1, 1], false)
                    }];
                let [found, expected] = pools.map(|pool| {
                    let x = learned(&x);
                    let y = pool(&x);
                    // Whole numbers, whose sums are exact in every dtype.
                    let upstream = (Tensor::arange(y.numel() as i64, (Kind::Float, Device::Cpu)))
                        .remainder(7.0)
                        .view(y.size().as_slice());
                    let loss = (y.nan_to_num(0.0, 0.0, 0.0).to_kind(Kind::Float) * upstream)
                        .sum(Kind::Float);
                    let gradient = Tensor::run_backward(&[loss], &[&x], false, false).remove(0);
                    (y.detach().nan_to_num(99.0, None, None), gradient)
                });
                let what = format!("{kind:?} {dims:?} {kernel} {stride} {padding}");
                assert_eq!(found, expected, "{what}");
            }
        }
    }
}
