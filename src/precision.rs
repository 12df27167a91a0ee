//! The floating-point format of activations. Weights, their gradients and momentum, batch-norm statistics,
//! logits and loss are always 32-bit floats.

use crate::cuda;
use crate::error::usage;
use crate::libtorch;
use anyhow::Result;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::fmt;
use tch::{Device, Kind};

/// The format of activations, and of the copies of weights that they are multiplied with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    Fp32,
    /// 32-bit floats, which a CUDA device rounds to 10 bits of fraction before it multiplies them (TensorFloat-32).
    Tf32,
    /// bfloat16: 16 bits with the range of 32-bit floats (Kalamkar et al. 2019).
    Bf16,
    /// Half floats: 16 bits, with three more bits of fraction than bfloat16 and a smaller range, so that the loss
    /// must be scaled (Micikevicius et al. 2018).
    Fp16,
}

impl Precision {
    /// The dtype of a network's input, and so of its activations.
    pub fn kind(self) -> Kind {
        match self {
            Self::Fp32 | Self::Tf32 => Kind::Float,
            Self::Bf16 => Kind::BFloat16,
            Self::Fp16 => Kind::Half,
        }
    }

    /// Bytes of a number of that dtype.
    pub fn bytes(self) -> u64 {
        self.kind().elt_size_in_bytes() as u64
    }
}

/// The choice of the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum PrecisionChoice {
    /// bf16 if the device computes it natively and is faster with it, else fp32.
    Auto,
    /// 32-bit floats.
    Fp32,
    /// 32-bit floats, rounded to 10 bits of fraction in multiplications; only on CUDA.
    Tf32,
    /// bfloat16: 16 bits with the range of 32-bit floats.
    Bf16,
    /// 16-bit half floats, with automatic loss scaling.
    Fp16,
}

impl PrecisionChoice {
    /// The precision on a device. `favours_fp32` is the network's
    /// [`Spec::favours_fp32`](crate::model::Spec::favours_fp32).
    ///
    /// # Errors
    /// A usage error for a precision that the device does not support.
    pub fn resolve(self, device: Device, favours_fp32: bool) -> Result<Precision> {
        // docs/decisions/0020
        let fp32_is_faster = favours_fp32 && device == Device::Cpu && cfg!(kernels) && !has_amx();
        match (self, device) {
            (Self::Auto, device) if multiplies_bf16(device) && !fp32_is_faster => {
                Ok(Precision::Bf16)
            }
            (Self::Auto | Self::Fp32, _) => Ok(Precision::Fp32),
            (Self::Tf32, Device::Cuda(_)) => Ok(Precision::Tf32),
            (Self::Tf32, _) => Err(usage(
                "--precision tf32: only CUDA devices support it; expected auto, fp32, bf16 or fp16 here",
            )),
            (Self::Bf16, _) => Ok(Precision::Bf16),
            (Self::Fp16, _) => Ok(Precision::Fp16),
        }
    }
}

/// Whether a device multiplies bfloat16 natively. Other devices emulate it, which is slow.
pub fn multiplies_bf16(device: Device) -> bool {
    match device {
        Device::Cpu => cpu_multiplies_bf16(),
        Device::Cuda(index) => cuda::open_cuda().devices().get(index).is_some_and(|gpu| {
            let major = gpu.compute_capability.split('.').next().unwrap_or_default();
            // Ampere (8.0) was the first to have it.
            major.parse::<u32>().is_ok_and(|major| major >= 8)
        }),
        _ => false,
    }
}

/// The dtype in which a device multiplies numbers of dtype `kind`. A CPU converts half floats to 32 bits,
/// multiplies, and rounds the result back. It does the same for bfloat16 if it cannot multiply bfloat16 natively. If it
/// can, it adds the products in 32 bits.
pub fn multiplied_in(kind: Kind, device: Device) -> Kind {
    match kind {
        Kind::Half if device == Device::Cpu => Kind::Float,
        Kind::BFloat16 if device == Device::Cpu && !multiplies_bf16(device) => Kind::Float,
        kind => kind,
    }
}

#[cfg(target_arch = "x86_64")]
fn cpu_multiplies_bf16() -> bool {
    is_x86_feature_detected!("avx512bf16")
}

/// Whether the processor has instructions for products of bfloat16 matrices. They are many times as fast as the
/// instructions for vectors.
#[cfg(target_arch = "x86_64")]
fn has_amx() -> bool {
    // AMX-BF16, bit 22 of EDX (Intel's manual, volume 2A, CPUID, leaf 7).
    // SAFETY: every processor has the CPUID instruction. The result is used only for processors with
    // AVX-512 BF16, and these have leaf 7.
    #[allow(unused_unsafe, reason = "not unsafe in later versions of Rust")]
    let features = unsafe { std::arch::x86_64::__cpuid_count(7, 0) };
    features.edx >> 22 & 1 == 1
}

#[cfg(not(target_arch = "x86_64"))]
fn has_amx() -> bool {
    false
}

#[cfg(target_arch = "aarch64")]
fn cpu_multiplies_bf16() -> bool {
    std::arch::is_aarch64_feature_detected!("bf16")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn cpu_multiplies_bf16() -> bool {
    false
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fp32 => "fp32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
            Self::Fp16 => "fp16",
        })
    }
}

impl Precision {
    /// A warning for the user, if the device emulates the format and is faster with fp32.
    pub fn slow_warning(self, device: Device) -> Option<String> {
        let is_emulated = self.kind() != multiplied_in(self.kind(), device)
            || self == Self::Bf16 && !multiplies_bf16(device);
        is_emulated.then(|| {
            format!("--precision {self}: this device emulates it, and is faster with fp32")
        })
    }

    /// Sets whether libtorch may use TF32 on CUDA devices.
    pub fn apply(self) {
        libtorch::allow_tf32(self == Self::Tf32);
    }
}

impl From<Precision> for PrecisionChoice {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::Fp32 => Self::Fp32,
            Precision::Tf32 => Self::Tf32,
            Precision::Bf16 => Self::Bf16,
            Precision::Fp16 => Self::Fp16,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_takes_bf16_where_the_processor_has_it_and_the_network_gains() {
        let auto = |favours_fp32| PrecisionChoice::Auto.resolve(Device::Cpu, favours_fp32).unwrap();
        let native = multiplies_bf16(Device::Cpu);
        assert_eq!(auto(false) == Precision::Bf16, native);
        assert_eq!(auto(true) == Precision::Bf16, native && (has_amx() || !cfg!(kernels)));
        assert_eq!(PrecisionChoice::Bf16.resolve(Device::Cpu, true).unwrap(), Precision::Bf16);
    }
}
