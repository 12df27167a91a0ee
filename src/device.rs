//! The device and the CPU threads of a command.

use crate::cuda;
use crate::error::usage;
use crate::limits;
use crate::ui::counted;
use anyhow::{Result, anyhow};
use tch::Device;

/// The largest number of CPU threads per processor. oneDNN's threads wait for each other without yielding the
/// processor, and with many threads a run hardly advances (docs/decisions/0018).
const MAX_THREADS_PER_PROCESSOR: usize = 4;

/// A device as the user names it.
enum Wanted {
    Auto,
    Cpu,
    Cuda(usize),
    Mps,
}

fn parse(name: &str) -> Result<Wanted> {
    let wanted = match name.split_once(':') {
        Some(("cuda", index)) => index.parse().ok().map(Wanted::Cuda),
        Some(_) => None,
        None => match name {
            "auto" => Some(Wanted::Auto),
            "cpu" => Some(Wanted::Cpu),
            "cuda" => Some(Wanted::Cuda(0)),
            "mps" => Some(Wanted::Mps),
            _ => None,
        },
    };
    wanted.ok_or_else(|| usage(format!("--device {name}: expected auto, cpu, cuda, cuda:N or mps")))
}

/// Refuses a text that is not the name of a device.
///
/// # Errors
/// A usage error.
pub fn check_name(name: &str) -> Result<()> {
    parse(name).map(drop)
}

/// The device of that name: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`. `auto` is the first usable CUDA device,
/// else Apple's GPU, else the CPU.
///
/// # Errors
/// A usage error for any other name; an error with the reason for a device that is not usable on this machine.
pub fn choose(name: &str) -> Result<Device> {
    match parse(name)? {
        Wanted::Auto if cuda::open_cuda().is_usable() => Ok(Device::Cuda(0)),
        Wanted::Auto if tch::utils::has_mps() => Ok(Device::Mps),
        Wanted::Auto | Wanted::Cpu => Ok(Device::Cpu),
        Wanted::Mps if tch::utils::has_mps() => Ok(Device::Mps),
        Wanted::Mps => Err(anyhow!("--device mps: this libtorch or machine has no Apple GPU")),
        Wanted::Cuda(index) => choose_cuda(name, index),
    }
}

fn choose_cuda(name: &str, index: usize) -> Result<Device> {
    let cuda = cuda::open_cuda();
    let count = cuda.devices().len();
    if index < count {
        Ok(Device::Cuda(index))
    } else if count > 0 {
        Err(anyhow!(
            "--device {name}: there are {count} CUDA devices; expected cuda:0 to cuda:{}",
            count - 1
        ))
    } else {
        Err(anyhow!("--device {name}: {cuda}; --device auto chooses a usable device"))
    }
}

/// Refuses a number of CPU threads that is 0 or too large for this machine.
///
/// # Errors
/// A usage error.
pub fn check_threads(chosen: Option<usize>) -> Result<()> {
    let Some(threads) = chosen else { return Ok(()) };
    let processors = limits::processors().unwrap_or(threads);
    let most = processors.saturating_mul(MAX_THREADS_PER_PROCESSOR);
    if (1..=most).contains(&threads) {
        return Ok(());
    }
    Err(usage(format!(
        "--threads {threads}: expected a number from 1 to {most} here, {MAX_THREADS_PER_PROCESSOR} for each of the {processors} processors that this process may use; more than {processors} threads are not faster"
    )))
}

/// The device in words; for the CPU, with the number of threads.
pub fn describe(device: Device) -> String {
    match device {
        Device::Cpu => format!("cpu, {}", counted(tch::get_num_threads().unsigned_abs(), "thread")),
        Device::Cuda(index) => format!("cuda:{index}"),
        Device::Mps => "mps".to_owned(),
        Device::Vulkan => "vulkan".to_owned(),
    }
}

/// Environment variables that make OpenMP bind threads to processors. The first thread of the process is then bound
/// from its start.
const BINDING: [&str; 3] = ["OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY"];

/// Sets the number of threads of libtorch. If none is chosen, it is the smallest of: `OMP_NUM_THREADS`, the
/// processors that this process may use, the physical cores. Two threads on one physical core share its
/// multipliers.
pub fn set_threads(chosen: Option<usize>) {
    let openmp = usize::try_from(tch::get_num_threads()).unwrap_or(1);
    // This count respects the limit of a control group. OpenMP instead counts the processors of the first thread.
    let system = limits::processors();
    let binds = |name: &&str| {
        std::env::var(name).is_ok_and(|value| !value.trim().eq_ignore_ascii_case("false"))
    };
    let is_bound = BINDING.iter().any(binds);
    let allowed = system.filter(|_| !is_bound).map_or(openmp, |system| system.min(openmp));
    let physical = limits::physical_cores().unwrap_or(allowed);
    let threads = chosen.unwrap_or_else(|| physical.min(allowed).max(1));
    tch::set_num_threads(i32::try_from(threads).unwrap_or(i32::MAX));
}
