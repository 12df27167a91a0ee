//! Other ways to compute on CUDA devices. Only a measurement on a GPU can tell whether they are faster, so the user
//! turns them on; `scripts/gpu-check` measures each of them.

use super::cuda::{self, Source};
use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU8, Ordering};
use tch::Device;

/// A way to compute something on a CUDA device that replaces libtorch's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[repr(u8)]
pub enum Way {
    /// Batch norm with the sum and the ReLU after it in four kernels of this program, in place of libtorch's.
    BatchNorm = 1,
    /// Max pooling whose backward pass reads one byte for each value, in place of a 64-bit index.
    MaxPool = 2,
    /// In 16 bits, images and the first weight get channels of zeros, up to 8: tensor cores need multiples of 8.
    PadChannels = 4,
}

impl Way {
    /// The kernels of this program that it needs.
    fn source(self) -> Option<Source> {
        match self {
            Self::BatchNorm => Some(cuda::BATCH_NORM),
            Self::MaxPool => Some(cuda::MAX_POOL),
            Self::PadChannels => None,
        }
    }
}

/// A set of [`Way`]s, written as a list such as `batch-norm,max-pool`, or `none`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tuning(u8);

static CURRENT: AtomicU8 = AtomicU8::new(0);

impl Tuning {
    /// Whether the set has this way.
    pub fn has(self, way: Way) -> bool {
        self.0 & way as u8 != 0
    }

    /// Uses exactly these ways from now on, in the whole process, like the settings of libtorch. For those that have
    /// kernels of this program, the kernels are compiled for `device`; if that fails, they are left out, and the error
    /// says why. On another device than a GPU, no way is used.
    ///
    /// # Errors
    /// The kernels cannot be compiled or loaded.
    pub fn apply(self, device: Device) -> Result<()> {
        let Device::Cuda(index) = device else { return Ok(()) };
        let mut sources = self.ways().filter_map(Way::source);
        let loaded = sources.try_for_each(|source| source.load(index));
        let used = self.ways().filter(|way| loaded.is_ok() || way.source().is_none());
        CURRENT.store(used.fold(0, |ways, way| ways | way as u8), Ordering::Relaxed);
        loaded.with_context(|| {
            format!("--cuda-tuning {self}: the kernels of this program cannot be used")
        })
    }

    /// The ways that are used now.
    pub fn current() -> Self {
        Self(CURRENT.load(Ordering::Relaxed))
    }

    fn ways(self) -> impl Iterator<Item = Way> {
        Way::value_variants().iter().copied().filter(move |way| self.has(*way))
    }
}

fn name(way: Way) -> String {
    way.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

impl FromStr for Tuning {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::default());
        }
        text.split(',').try_fold(Self::default(), |Self(ways), part| {
            let way = Way::from_str(part.trim(), false).map_err(|_| {
                let all: Vec<String> = Way::value_variants().iter().map(|way| name(*way)).collect();
                format!("expected none or a list of {}", all.join(", "))
            })?;
            Ok(Self(ways | way as u8))
        })
    }
}

impl fmt::Display for Tuning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ways().map(name).collect::<Vec<String>>().as_slice() {
            [] => f.write_str("none"),
            names => f.write_str(&names.join(",")),
        }
    }
}

impl TryFrom<String> for Tuning {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Tuning> for String {
    fn from(tuning: Tuning) -> Self {
        tuning.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_written_as_a_list_and_read_back() {
        for text in ["none", "batch-norm", "max-pool,pad-channels"] {
            assert_eq!(text.parse::<Tuning>().unwrap().to_string(), text);
        }
        let tuning: Tuning = "pad-channels, batch-norm".parse().unwrap();
        assert_eq!(tuning.to_string(), "batch-norm,pad-channels");
        assert!(tuning.has(Way::PadChannels) && !tuning.has(Way::MaxPool));
        let error = "fast".parse::<Tuning>().unwrap_err();
        assert_eq!(error, "expected none or a list of batch-norm, max-pool, pad-channels");
        assert!("".parse::<Tuning>().is_err());
    }
}
