//! Convolutions do not read or write outside their memory, and they compute the right numbers, for any shape,
//! dtype, number of threads and instruction set.
//!
//! `GUARD_CASES=2000 cargo test --release --test guard_pages` tests 2000 convolutions for each instruction set,
//! with gradients and in inference.
#![cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
#![allow(clippy::print_stderr, reason = "the last line of a crashed process names the convolution")]

mod memory;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use resnet::kernels::{Geometry, PreparedConvolution, convolution};
use resnet::precision::multiplied_in;
use std::process::Command;
use tch::{Device, Kind, Tensor};

/// The environment variable that gives the instruction set to the child process.
const CHILD: &str = "GUARD_INSTRUCTION_SET";
/// The name of each instruction set in oneDNN and in libtorch. This program chooses its own kernels by libtorch's
/// name. The last row is the widest instruction set of the machine.
const INSTRUCTION_SETS: [(&str, Option<&str>); 4] =
    [("SSE41", Some("default")), ("AVX2", Some("avx2")), ("AVX512_CORE", None), ("DEFAULT", None)];

/// The environment variable with the number of convolutions for each instruction set.
const CASES: &str = "GUARD_CASES";

/// A convolution of square images.
#[derive(Debug)]
struct Case {
    count: i64,
    inputs: i64,
    outputs: i64,
    side: i64,
    kernel: i64,
    stride: i64,
    threads: i32,
    kind: Kind,
    channels_last: bool,
}

impl Case {
    fn draw(rng: &mut ChaCha8Rng) -> Self {
        let mut one_of = |count: u32| i64::from(rng.next_u32() % count);
        // In real networks the numbers of channels are multiples of 8, except for 1 or 3 input channels. In half
        // of the cases they are multiples of 8 here.
        let [mut inputs, mut outputs] = [1 + one_of(64), 1 + one_of(64)];
        if one_of(2) == 0 {
            [inputs, outputs] = [inputs, outputs].map(|channels| 8 * ((channels + 7) / 8));
        }
        // Half of the cases are strided 1×1 convolutions, because oneDNN's own algorithm has a memory error there.
        let (kernel, stride) = match one_of(8) {
            0..4 => (1, 2),
            4 => (1, 1),
            5 => (3, 1),
            6 => (3, 2),
            _ => (7, 2),
        };
        Self {
            count: 1 + one_of(40),
            inputs,
            outputs,
            side: 1 + one_of(30),
            kernel,
            stride,
            threads: 1 + one_of(4) as i32,
            kind: if one_of(2) == 0 { Kind::Float } else { Kind::BFloat16 },
            channels_last: one_of(4) > 0,
        }
    }

    fn random(&self, dims: &[i64]) -> Tensor {
        let values = Tensor::randn(dims, (Kind::Float, Device::Cpu));
        let values = values.to_kind(multiplied_in(self.kind, Device::Cpu));
        if self.channels_last && dims.len() == 4 {
            values.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
        } else {
            values
        }
    }

    fn try_out(&self) {
        tch::set_num_threads(self.threads);
        let Self { count, inputs, outputs, side, kernel, stride, .. } = *self;
        let padding = kernel / 2;
        let geometry = Geometry { stride, padding, groups: 1 };
        let xs = self.random(&[count, inputs, side, side]).set_requires_grad(true);
        let weight = self.random(&[outputs, inputs, kernel, kernel]).set_requires_grad(true);
        let bias = self.random(&[outputs]).set_requires_grad(true);
        let tensors = [&xs, &weight, &bias];
        let ys = convolution(&xs, &weight, Some(&bias), geometry);
        let towards = self.random(&ys.size());
        let found =
            Tensor::run_backward(&[&(&ys * &towards).sum(Kind::Float)], &tensors, false, false);

        let doubles = tensors.map(|t| t.detach().to_kind(Kind::Double).set_requires_grad(true));
        let [xs64, weight64, bias64] = &doubles;
        let strides = [stride; 2];
        let ys64 = xs64.conv2d(weight64, Some(bias64), strides, [padding; 2], [1, 1], 1);
        let sum = (&ys64 * towards.to_kind(Kind::Double)).sum(Kind::Double);
        let expected = Tensor::run_backward(&[&sum], &doubles.each_ref(), false, false);
        self.compare("the output", &ys, &ys64);
        for (name, (found, expected)) in
            ["input", "weight", "bias"].iter().zip(found.iter().zip(&expected))
        {
            self.compare(&format!("the gradient of the {name}"), found, expected);
        }
        if self.channels_last {
            let _no_grad = tch::no_grad_guard();
            let prepared = PreparedConvolution::new(weight.detach(), bias.detach(), geometry);
            if let Ok(ys) = prepared.forward(&xs.detach(), None, false) {
                self.compare("the output in inference", &ys, &ys64);
            }
        }
    }

    fn compare(&self, what: &str, found: &Tensor, expected: &Tensor) {
        let difference = (found.to_kind(Kind::Double) - expected).abs().max().double_value(&[]);
        let largest = expected.abs().max().double_value(&[]).max(1e-3);
        let tolerance = if found.kind() == Kind::Float { 1e-4 } else { 6e-2 };
        assert!(difference <= tolerance * largest, "{what}: {difference} of {largest}");
    }
}

/// Tests this number of convolutions in this process.
fn try_out(cases: usize) {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let before = memory::count();
    let kept = Tensor::zeros([1], (Kind::Float, Device::Cpu));
    assert_eq!(memory::count(), before + 1, "libtorch uses another allocator");
    drop(kept);
    for number in 0..cases {
        let case = Case::draw(&mut rng);
        // If the process crashes, the last line names the convolution.
        eprintln!("{number} {case:?}");
        case.try_out();
    }
}

#[test]
fn convolutions_stay_within_their_memory_with_every_instruction_set() {
    let cases = std::env::var(CASES).map_or(100, |cases| cases.parse().unwrap());
    if std::env::var_os(CHILD).is_some() {
        return try_out(cases);
    }
    for (one_dnn, libtorch) in INSTRUCTION_SETS {
        let program = std::env::current_exe().unwrap();
        let child = Command::new(program)
            .args(["--nocapture", "--test-threads=1"])
            .env("RUST_BACKTRACE", "0")
            .env(CHILD, one_dnn)
            .env("ONEDNN_MAX_CPU_ISA", one_dnn)
            .envs(libtorch.map(|name| ("ATEN_CPU_CAPABILITY", name)))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&child.stderr);
        let lines: Vec<&str> = text.lines().collect();
        let last = lines[lines.len().saturating_sub(8)..].join("\n");
        assert!(child.status.success(), "{one_dnn}: {}\n{last}", child.status);
    }
}
