//! `resnet doctor`: versions, devices, and why a device is not usable.

mod cpu;

use crate::cuda;
use crate::cuda::{Cuda, CudaGraph, Gpu};
use crate::data::{Source, Split, catalog, locate};
use crate::device;
use crate::error::one_line;
use crate::kernels::cuda::SOURCES;
use crate::libtorch;
use crate::ui::Ui;
use anyhow::Result;
use cpu::Cpu;
use serde::Serialize;
use std::path::PathBuf;

/// Runs `resnet doctor`.
pub fn run(ui: &Ui) -> Result<()> {
    let report = Report::new();
    if ui.is_json() {
        ui.json(&report);
    } else {
        for (name, value) in report.lines() {
            ui.out(format!("{name:<10}{value}"));
        }
    }
    Ok(())
}

/// The report; its fields are the keys of the JSON object.
#[derive(Debug, Serialize)]
struct Report {
    resnet: &'static str,
    tch: &'static str,
    libtorch: Libtorch,
    cpu: Cpu,
    threads: Threads,
    cuda: CudaReport,
    /// The folder that holds Fashion-MNIST, if it is on this machine.
    data: Option<PathBuf>,
    /// Why the folder that the user named cannot be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    data_problem: Option<String>,
}

#[derive(Debug, Serialize)]
struct Libtorch {
    version: String,
    /// Where it was loaded from.
    folder: Option<PathBuf>,
    /// The instruction set of its own CPU kernels.
    cpu_capability: String,
    /// Whether it has oneDNN, which computes convolutions on a CPU.
    onednn: bool,
}

/// The default number of threads of `train` and `eval`.
#[derive(Debug, Serialize)]
struct Threads {
    within_operations: i32,
    between_operations: i32,
}

#[derive(Debug, Serialize)]
struct CudaReport {
    usable: bool,
    /// Why it is or isn't usable.
    status: String,
    library: Option<PathBuf>,
    /// The newest CUDA version that the driver supports.
    driver_version: Option<String>,
    devices: Vec<Gpu>,
    /// Whether this libtorch can record steps as CUDA graphs and replay them.
    graphs: bool,
    /// Why kernels cannot be compiled while the program runs; `null` if they can.
    compiler_problem: Option<String>,
}

impl Report {
    fn new() -> Self {
        // This comes before any other call, because libtorch decides at the first query whether it has CUDA.
        let cuda = CudaReport::new(cuda::open_cuda());
        device::set_threads(None);
        let data = fashion_mnist();
        Self {
            resnet: env!("CARGO_PKG_VERSION"),
            tch: env!("RESNET_TCH_VERSION"),
            libtorch: Libtorch {
                version: libtorch::libtorch_version(),
                folder: libtorch::libtorch_folder(),
                cpu_capability: libtorch::cpu_capability(),
                onednn: tch::utils::has_mkldnn(),
            },
            cpu: Cpu::of_this_machine(),
            threads: Threads {
                within_operations: tch::get_num_threads(),
                between_operations: tch::get_num_interop_threads(),
            },
            cuda,
            data_problem: data.as_ref().err().map(one_line),
            data: data.unwrap_or_default(),
        }
    }

    /// The report as text: name and value of each line.
    fn lines(&self) -> Vec<(&'static str, String)> {
        let Self { libtorch, cpu, threads, .. } = self;
        let folder = libtorch
            .folder
            .as_ref()
            .map_or_else(String::new, |folder| format!(" in {}", folder.display()));
        let onednn = if libtorch.onednn { "oneDNN" } else { "no oneDNN: convolutions are slow" };
        let mut lines = vec![
            ("resnet", self.resnet.to_owned()),
            ("tch", self.tch.to_owned()),
            ("libtorch", format!("{}{folder}", libtorch.version)),
            ("cpu", cpu.to_string()),
            ("", format!("{}; bf16 {}", cpu.features_text(), cpu.bf16_text())),
            ("", format!("libtorch kernels for {}, {onednn}", libtorch.cpu_capability)),
            (
                "threads",
                format!(
                    "{} within operations, {} between them",
                    threads.within_operations, threads.between_operations
                ),
            ),
            ("cuda", self.cuda.status.clone()),
        ];
        for (index, gpu) in self.cuda.devices.iter().enumerate() {
            lines.push(("", gpu_line(index, gpu)));
        }
        if self.cuda.library.is_some() {
            let graphs = if self.cuda.graphs { "" } else { "no " };
            let compiler = match &self.cuda.compiler_problem {
                None => "kernels can be compiled".to_owned(),
                Some(problem) => format!("kernels cannot be compiled: {problem}"),
            };
            lines.push(("", format!("{graphs}CUDA graphs; {compiler}")));
        }
        let data = match (&self.data, &self.data_problem) {
            (Some(folder), _) => format!("Fashion-MNIST in {}", folder.display()),
            (None, Some(problem)) => problem.clone(),
            (None, None) => {
                "Fashion-MNIST is not on this machine; `resnet data fetch` gets it".to_owned()
            }
        };
        lines.push(("data", data));
        lines
    }
}

impl CudaReport {
    fn new(cuda: &Cuda) -> Self {
        let driver_version = match cuda {
            Cuda::Usable { driver_version, .. } => Some(driver_version.clone()),
            _ => None,
        };
        Self {
            usable: cuda.is_usable(),
            status: cuda.to_string(),
            library: cuda.library().map(PathBuf::from),
            driver_version,
            devices: cuda.devices().to_vec(),
            graphs: CudaGraph::problem().is_none(),
            compiler_problem: compiler_problem(cuda.devices()).err().as_ref().map(one_line),
        }
    }
}

/// Compiles this program's kernels. cuDNN compiles others with the same compiler.
fn compiler_problem(devices: &[Gpu]) -> Result<()> {
    // The compiler needs no device.
    const H100: (i32, i32) = (9, 0);
    let architecture = devices.first().map_or(H100, Gpu::architecture);
    SOURCES.iter().try_for_each(|source| source.compile(architecture).map(|_| ()))
}

/// The folder in which `resnet train` would find Fashion-MNIST without a download.
fn fashion_mnist() -> Result<Option<PathBuf>> {
    let dataset = catalog::find("fashion-mnist")?;
    let located = locate::find(dataset, &dataset.parts(&Split::BOTH), &Source::new(None, true))?;
    Ok(located.map(|located| located.folder))
}

fn gpu_line(index: usize, gpu: &Gpu) -> String {
    let gib = gpu.memory_bytes as f64 / (1u64 << 30) as f64;
    format!("cuda:{index} {}, {gib:.1} GiB, compute {}", gpu.name, gpu.compute_capability)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_told_by_index_name_memory_and_capability() {
        let gpu = Gpu {
            name: "NVIDIA H100".to_owned(),
            memory_bytes: 85_899_345_920,
            compute_capability: "9.0".to_owned(),
        };
        assert_eq!(gpu_line(1, &gpu), "cuda:1 NVIDIA H100, 80.0 GiB, compute 9.0");
    }
}
