//! The CPU: its model, its cores and the instructions that matter for training.

use crate::limits;
use crate::precision::multiplies_bf16;
use serde::Serialize;
use std::collections::HashSet;
use std::fmt;
use sysinfo::{CpuRefreshKind, System};

/// The instruction sets that are reported, as `/proc/cpuinfo` names them: wide vectors, and products of 16-bit
/// and 8-bit numbers.
const FEATURES: &[&str] = &[
    "avx2",
    "fma",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_bf16",
    "asimd",
    "sve",
    "bf16",
    "i8mm",
];

/// The CPU of this machine. A field is `None` if the system does not report it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cpu {
    model: Option<String>,
    architecture: &'static str,
    physical_cores: Option<usize>,
    logical_cores: Option<usize>,
    /// Cores that this process may use; a container or `taskset` can limit them.
    usable_cores: Option<usize>,
    features: Vec<&'static str>,
    /// Whether the CPU multiplies bf16 natively; if not, bf16 is emulated and slower than fp32.
    bf16: bool,
}

impl Cpu {
    /// Reads the description of the CPU from the system.
    pub fn of_this_machine() -> Self {
        let cpuinfo = cpuinfo();
        let features = features(&cpuinfo);
        Self {
            model: model(&cpuinfo),
            architecture: std::env::consts::ARCH,
            physical_cores: limits::physical_cores(),
            logical_cores: logical_cores(),
            usable_cores: limits::processors(),
            bf16: multiplies_bf16(tch::Device::Cpu),
            features,
        }
    }

    /// The instruction sets as text.
    pub fn features_text(&self) -> String {
        if self.features.is_empty() {
            "no known features".to_owned()
        } else {
            self.features.join(" ")
        }
    }

    /// Whether bf16 is fast, as text.
    pub fn bf16_text(&self) -> &'static str {
        if self.bf16 {
            "in hardware; --precision auto uses it except for wide basic blocks"
        } else {
            "emulated (slow)"
        }
    }
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.model.as_deref().unwrap_or("unknown"), self.architecture)?;
        let counts = [
            (self.physical_cores, "physical"),
            (self.logical_cores, "logical"),
            (self.usable_cores, "usable"),
        ];
        let counts: Vec<String> = counts
            .iter()
            .filter_map(|(count, kind)| count.map(|count| format!("{count} {kind}")))
            .collect();
        if counts.is_empty() { Ok(()) } else { write!(f, ", cores: {}", counts.join(", ")) }
    }
}

/// The system's description of the CPU, as lines of `key : value`.
#[cfg(target_os = "linux")]
fn cpuinfo() -> String {
    std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default()
}

/// The same description on macOS, with Linux's names.
#[cfg(not(target_os = "linux"))]
fn cpuinfo() -> String {
    let ask = |key: &str| {
        let output = std::process::Command::new("sysctl").args(["-n", key]).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    };
    let has = |key| ask(key).is_some_and(|answer| answer == "1");
    let mut features = Vec::new();
    for (key, feature) in [
        ("hw.optional.AdvSIMD", "asimd"),
        ("hw.optional.arm.FEAT_BF16", "bf16"),
        ("hw.optional.arm.FEAT_I8MM", "i8mm"),
        ("hw.optional.avx2_0", "avx2"),
        ("hw.optional.fma", "fma"),
    ] {
        if has(key) {
            features.push(feature);
        }
    }
    let model = ask("machdep.cpu.brand_string").unwrap_or_default();
    format!("model name : {model}\nflags : {}\n", features.join(" "))
}

/// The first value of a key in `cpuinfo`.
fn value<'a>(cpuinfo: &'a str, key: &str) -> Option<&'a str> {
    let mut pairs = cpuinfo.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = pairs.find(|(name, _)| name.trim() == key)?;
    Some(value.trim()).filter(|value| !value.is_empty())
}

fn model(cpuinfo: &str) -> Option<String> {
    value(cpuinfo, "model name").map(str::to_owned)
}

fn features(cpuinfo: &str) -> Vec<&'static str> {
    // The key is `flags` on x86 and `Features` on Arm.
    let flags = value(cpuinfo, "flags").or_else(|| value(cpuinfo, "Features")).unwrap_or_default();
    let flags: HashSet<&str> = flags.split_whitespace().collect();
    FEATURES.iter().copied().filter(|feature| flags.contains(feature)).collect()
}

/// The number of logical cores.
fn logical_cores() -> Option<usize> {
    let mut system = System::new();
    system.refresh_cpu_list(CpuRefreshKind::nothing());
    Some(system.cpus().len()).filter(|count| *count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const XEON: &str = "processor\t: 0\nmodel name\t: Intel(R) Xeon(R) Platinum 8481C\n\
        flags\t\t: fpu fma avx2 avx512f avx512_bf16 amx_bf16 amx_tile\n\
        processor\t: 1\nmodel name\t: Other\n";

    #[test]
    fn model_and_features_are_those_of_the_first_processor() {
        assert_eq!(model(XEON).unwrap(), "Intel(R) Xeon(R) Platinum 8481C");
        let expected = ["avx2", "fma", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16"];
        assert_eq!(features(XEON), expected);
    }

    #[test]
    fn arm_names_its_features_otherwise_and_no_model() {
        let arm = "processor\t: 0\nFeatures\t: fp asimd sve bf16\n";
        assert_eq!(model(arm), None);
        assert_eq!(features(arm), ["asimd", "sve", "bf16"]);
    }

    #[test]
    fn an_unknown_cpu_is_described_by_what_is_known() {
        let cpu = Cpu {
            model: None,
            architecture: "riscv64",
            physical_cores: None,
            logical_cores: Some(4),
            usable_cores: Some(2),
            features: vec![],
            bf16: false,
        };
        assert_eq!(cpu.to_string(), "unknown (riscv64), cores: 4 logical, 2 usable");
        assert_eq!(cpu.features_text(), "no known features");
        assert_eq!(cpu.bf16_text(), "emulated (slow)");
    }
}
