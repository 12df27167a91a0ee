//! Opens libtorch's CUDA part.
//!
//! A linker keeps a library only if the program uses one of its symbols. This program uses no symbol of
//! `libtorch_cuda`, so the linker would drop it, and CUDA would be missing without a message. So the library is opened
//! by name, from the folder that the rest of libtorch was loaded from. The same program then works with libtorch with
//! and without CUDA (docs/decisions/0002).

mod driver;
mod graph;
mod nvrtc;

pub use driver::Gpu;
pub use graph::CudaGraph;

use crate::libtorch;
use anyhow::{Context, Result};
use driver::Driver;
use libloading::Library;
use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

const LIBRARY: &str = "libtorch_cuda.so";

/// The result of opening CUDA. Its text is one line that says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cuda {
    /// This libtorch has no CUDA part.
    CpuBuild {
        /// The folder that has no CUDA part; `None` if the loader does not know libtorch's folder.
        looked_in: Option<PathBuf>,
        /// The CUDA devices of this machine, which this libtorch cannot use.
        idle: Vec<Gpu>,
    },
    /// The CUDA part exists, but the loader cannot load it.
    Unloadable {
        /// The library.
        library: PathBuf,
        /// The loader's message.
        reason: String,
    },
    /// The CUDA part exists, but NVIDIA's driver cannot be opened.
    NoDriver {
        /// The library.
        library: PathBuf,
        /// The loader's message.
        reason: String,
    },
    /// Library and driver exist, but there is no device that this libtorch can use.
    NoDevice {
        /// The library.
        library: PathBuf,
        /// The driver's message, or another reason if the driver gives none.
        reason: String,
    },
    /// There is at least one device to use.
    Usable {
        /// The library.
        library: PathBuf,
        /// The newest CUDA version that the driver supports.
        driver_version: String,
        /// The devices, in the order of `tch::Device::Cuda`'s index.
        devices: Vec<Gpu>,
    },
}

impl Cuda {
    /// Whether there is a CUDA device to use.
    pub fn is_usable(&self) -> bool {
        matches!(self, Self::Usable { .. })
    }

    /// The devices to use; empty unless [`is_usable`](Self::is_usable).
    pub fn devices(&self) -> &[Gpu] {
        match self {
            Self::Usable { devices, .. } => devices,
            _ => &[],
        }
    }

    /// The file of libtorch's CUDA part, if there is one.
    pub fn library(&self) -> Option<&Path> {
        match self {
            Self::CpuBuild { .. } => None,
            Self::Unloadable { library, .. }
            | Self::NoDriver { library, .. }
            | Self::NoDevice { library, .. }
            | Self::Usable { library, .. } => Some(library),
        }
    }
}

impl fmt::Display for Cuda {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CpuBuild { looked_in, idle } => {
                f.write_str("this libtorch is built for CPU")?;
                if let Some(folder) = looked_in {
                    write!(f, " (no {LIBRARY} in {})", folder.display())?;
                }
                match idle.first() {
                    Some(gpu) => write!(f, "; to use the {}, run scripts/setup --cuda", gpu.name),
                    None => Ok(()),
                }
            }
            Self::Unloadable { library, reason } => {
                write!(f, "{} can't be loaded: {reason}; ", library.display())?;
                f.write_str("delete .libtorch and run scripts/setup --cuda")
            }
            Self::NoDriver { reason, .. } => {
                write!(f, "no NVIDIA driver ({reason}); install one, or use the CPU")
            }
            Self::NoDevice { reason, .. } => write!(f, "no usable device: {reason}"),
            Self::Usable { driver_version, devices, .. } => {
                let plural = if devices.len() == 1 { "" } else { "s" };
                let count = devices.len();
                write!(f, "usable, {count} device{plural}, driver for CUDA {driver_version}")
            }
        }
    }
}

/// Opens libtorch's CUDA part, once for the process. Later calls return the result of the first one.
///
/// Call it before anything asks libtorch for a device or seeds its generators: at this moment libtorch decides for the
/// whole process whether it has CUDA.
pub fn open_cuda() -> &'static Cuda {
    static CUDA: OnceLock<Cuda> = OnceLock::new();
    CUDA.get_or_init(|| open(libtorch::libtorch_folder()))
}

fn open(folder: Option<PathBuf>) -> Cuda {
    let driver = driver::query();
    let library = folder.as_ref().map(|folder| folder.join(LIBRARY)).filter(|file| file.exists());
    let Some(library) = library else {
        let idle = driver.ok().and_then(|driver| driver.devices.ok()).unwrap_or_default();
        return Cuda::CpuBuild { looked_in: folder, idle };
    };
    library.parent().into_iter().for_each(nvrtc::open_builtins);
    // SAFETY: loading the library registers libtorch's CUDA kernels, as in any program that is linked to it.
    match unsafe { Library::new(&library) } {
        // The registered kernels must stay loaded until the process ends.
        Ok(loaded) => std::mem::forget(loaded),
        Err(error) => return Cuda::Unloadable { library, reason: driver::reason(&error) },
    }
    let visible = env::var("CUDA_VISIBLE_DEVICES").ok();
    // Only devices that libtorch can use are counted.
    judge(library, driver, visible.as_deref(), tch::Cuda::device_count())
}

/// Compiles CUDA C++ for devices of this compute capability, as (major, minor). `name` stands for the file's name in
/// the compiler's messages. It needs no device.
///
/// # Errors
/// There is no CUDA compiler, or the source has an error.
pub fn compile(name: &str, source: &str, compute_capability: (i32, i32)) -> Result<Vec<u8>> {
    let folder = libtorch::libtorch_folder().context("the folder of libtorch is unknown")?;
    nvrtc::compile(&folder, name, source, compute_capability)
}

/// The result, from the driver's answer, the value of `CUDA_VISIBLE_DEVICES`, and the number of devices that libtorch
/// can use.
fn judge(
    library: PathBuf,
    driver: Result<Driver, String>,
    visible: Option<&str>,
    libtorch_devices: i64,
) -> Cuda {
    let driver = match driver {
        Ok(driver) => driver,
        Err(reason) => return Cuda::NoDriver { library, reason },
    };
    let (major, minor) = driver.cuda_version;
    let driver_version = format!("{major}.{minor}");
    let devices = driver.devices.and_then(|devices| match devices.is_empty() {
        true => Err("the driver shows none".to_owned()),
        false => Ok(devices),
    });
    match devices {
        // This is the answer of a driver that may show no device, too.
        Err(mut reason) => {
            if let Some(visible) = visible {
                reason += &format!(
                    "; CUDA_VISIBLE_DEVICES is \"{visible}\", and the driver shows only those devices: unset it, or name others"
                );
            }
            Cuda::NoDevice { library, reason }
        }
        Ok(_) if libtorch_devices == 0 => {
            let reason = format!(
                "libtorch cannot use the devices that the driver shows; the driver supports CUDA up to \
                 {driver_version}: update it if this libtorch is built for a newer one"
            );
            Cuda::NoDevice { library, reason }
        }
        Ok(devices) => Cuda::Usable { library, driver_version, devices },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu() -> Gpu {
        Gpu {
            name: "NVIDIA H100".to_owned(),
            memory_bytes: 80 << 30,
            compute_capability: "9.0".to_owned(),
        }
    }

    fn library() -> PathBuf {
        PathBuf::from("/lib/libtorch_cuda.so")
    }

    fn driver(devices: Result<Vec<Gpu>, String>) -> Result<Driver, String> {
        Ok(Driver { cuda_version: (13, 0), devices })
    }

    #[test]
    fn what_is_opened_agrees_with_what_libtorch_says_and_stays() {
        let cuda = open_cuda();
        assert_eq!(cuda.is_usable(), tch::Cuda::is_available());
        assert_eq!(cuda.devices().len() as i64, tch::Cuda::device_count());
        assert!(std::ptr::eq(cuda, open_cuda()));
    }

    #[test]
    fn a_folder_without_the_library_is_a_cpu_build() {
        let folder = tempfile::tempdir().unwrap();
        let cuda = open(Some(folder.path().to_path_buf()));
        assert!(matches!(&cuda, Cuda::CpuBuild { looked_in: Some(f), .. } if f == folder.path()));
        assert!(
            cuda.to_string().starts_with("this libtorch is built for CPU (no libtorch_cuda.so")
        );
    }

    #[test]
    fn a_library_that_the_loader_refuses_is_not_taken_for_a_cpu_build() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(LIBRARY), "not a library").unwrap();
        let cuda = open(Some(folder.path().to_path_buf()));
        assert!(matches!(cuda, Cuda::Unloadable { .. }), "{cuda}");
        assert!(cuda.to_string().contains("run scripts/setup --cuda"));
        assert_eq!(cuda.to_string().matches(LIBRARY).count(), 2, "the loader's error: {cuda}");
    }

    #[test]
    fn idle_devices_beside_a_cpu_build_are_named_with_the_remedy() {
        let cuda = Cuda::CpuBuild { looked_in: None, idle: vec![gpu()] };
        assert_eq!(
            cuda.to_string(),
            "this libtorch is built for CPU; to use the NVIDIA H100, run scripts/setup --cuda"
        );
    }

    #[test]
    fn each_way_to_have_no_device_gives_its_reason() {
        let reason_of = |driver, count| judge(library(), driver, None, count).to_string();
        assert!(reason_of(Err("no libcuda.so.1".to_owned()), 0).starts_with("no NVIDIA driver"));
        assert!(reason_of(driver(Err("initialization error".to_owned())), 0).contains("initiali"));
        assert!(reason_of(driver(Ok(vec![])), 0).ends_with("the driver shows none"));
        assert!(reason_of(driver(Ok(vec![gpu()])), 0).contains("CUDA up to 13.0"));
    }

    #[test]
    fn hidden_devices_are_told_with_the_variable_that_hides_them() {
        for devices in [Ok(vec![]), Err("no CUDA-capable device is detected".to_owned())] {
            let reason = judge(library(), driver(devices), Some(""), 0).to_string();
            assert!(reason.contains("CUDA_VISIBLE_DEVICES is \"\", and"), "{reason}");
        }
    }

    #[test]
    fn a_device_of_driver_and_libtorch_is_usable() {
        let cuda = judge(library(), driver(Ok(vec![gpu()])), None, 1);
        assert!(cuda.is_usable());
        assert_eq!(cuda.to_string(), "usable, 1 device, driver for CUDA 13.0");
    }
}
