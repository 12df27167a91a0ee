//! The result of `resnet bench`, as a JSON object and as text.

use super::compare::Earlier;
use super::throughput::Throughput;
use super::work::Work;
use crate::kernels::Tuning;
use crate::ui::grouped;
use serde::Serialize;
use serde_json::{Map, Value};

/// The result; its fields are the keys of the JSON object.
#[derive(Debug, Serialize)]
pub struct Report {
    /// What was measured.
    #[serde(flatten)]
    pub work: Work,
    /// Number of layers.
    pub depth: usize,
    /// The floating-point format.
    pub precision: String,
    /// Whether activations were computed again in the backward pass.
    pub recompute: bool,
    /// Whether the measured steps were replayed as a CUDA graph.
    pub cuda_graphs: bool,
    /// Other ways to compute on CUDA.
    pub cuda_tuning: Tuning,
    /// The device.
    pub device: String,
    /// Threads of libtorch on the CPU.
    pub threads: i32,
    /// Images per second.
    pub images_per_second: f64,
    /// Seconds of the median step.
    pub step_seconds: f64,
    /// Floating-point operations of a step per second, in 10⁹.
    pub gflops: f64,
    /// The same for a product of large matrices.
    pub matrix_gflops: f64,
    /// `gflops` divided by `matrix_gflops`.
    pub fraction_of_matrix_rate: f64,
    /// Phase of a step → its fraction of the step's time.
    #[serde(serialize_with = "as_object")]
    pub phases: Vec<(&'static str, f64)>,
    /// Peak memory in bytes, if the system reports it.
    pub peak_memory_bytes: Option<u64>,
    /// Seconds of a step's convolutions alone, if they were measured.
    pub floor_seconds: Option<f64>,
    /// `floor_seconds` as a fraction of the step's time.
    pub fraction_of_floor: Option<f64>,
    /// Images per second, divided by those of an earlier measurement.
    pub ratio: Option<f64>,
}

impl Report {
    /// The report as lines of text, with the fastest and the slowest step in `throughput`.
    pub fn lines(&self, throughput: &Throughput, earlier: Option<&Earlier>) -> Vec<String> {
        let milliseconds = |seconds: f64| format!("{:.1}", 1e3 * seconds);
        let (fastest, slowest) = throughput.range();
        let mut lines = vec![
            format!(
                "{:.1} images/s, {} ms per step (median of {}; {} to {})",
                self.images_per_second,
                milliseconds(self.step_seconds),
                throughput.count(),
                milliseconds(fastest),
                milliseconds(slowest)
            ),
            format!(
                "{:.0} GFLOP/s, {:.2} times the {:.0} GFLOP/s of a product of large matrices on this machine{}",
                self.gflops,
                self.fraction_of_matrix_rate,
                self.matrix_gflops,
                // Convolutions by Winograd's method need fewer multiplications than are counted.
                if self.gflops > self.matrix_gflops {
                    " (some convolutions need fewer multiplications)"
                } else {
                    ""
                }
            ),
        ];
        if let (Some(floor), Some(fraction)) = (self.floor_seconds, self.fraction_of_floor) {
            let floor = milliseconds(floor);
            lines.push(format!("convolutions alone {floor} ms, {fraction:.2} of the step"));
        }
        let phases = self.phases.iter().map(|(name, part)| format!("{name} {:.1} %", 100.0 * part));
        lines.push(phases.collect::<Vec<_>>().join(", "));
        if let Some(bytes) = self.peak_memory_bytes {
            lines.push(format!("peak memory {} MiB", grouped((bytes >> 20) as usize)));
        }
        if let (Some(ratio), Some(earlier)) = (self.ratio, earlier) {
            let conditions = &earlier.conditions;
            lines.push(format!(
                "{ratio:.3} times the images a second of the earlier measurement ({conditions})"
            ));
        }
        lines
    }
}

fn as_object<S: serde::Serializer>(
    phases: &[(&'static str, f64)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let object: Map<String, Value> =
        phases.iter().map(|(name, part)| ((*name).to_owned(), (*part).into())).collect();
    object.serialize(serializer)
}
