//! Asks NVIDIA's driver about itself and its devices. libtorch only returns the number of devices that it can use, and
//! no reason if there are none. So this module asks the driver directly.

use libloading::Library;
use std::error::Error;
use std::ffi::{CStr, c_char, c_int, c_uint};

/// All functions of the driver return a `CUresult`; 0 is success.
const SUCCESS: c_int = 0;

// `CUdevice_attribute` in cuda.h.
const COMPUTE_CAPABILITY_MAJOR: c_int = 75;
const COMPUTE_CAPABILITY_MINOR: c_int = 76;

/// NVIDIA's driver, installed on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Driver {
    /// The newest CUDA version that the driver supports, as (major, minor).
    pub cuda_version: (i32, i32),
    /// Its devices (`CUDA_VISIBLE_DEVICES` can hide some), or a message that says why there are none.
    pub devices: Result<Vec<Gpu>, String>,
}

/// A CUDA device, as its driver describes it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Gpu {
    /// Its name, such as `NVIDIA H100 80GB HBM3`.
    pub name: String,
    /// Its memory in bytes.
    pub memory_bytes: u64,
    /// Its compute capability, such as `9.0`.
    pub compute_capability: String,
}

impl Gpu {
    /// The compute capability, as (major, minor).
    pub fn architecture(&self) -> (i32, i32) {
        let (major, minor) = self.compute_capability.split_once('.').unwrap_or_default();
        (major.parse().unwrap_or_default(), minor.parse().unwrap_or_default())
    }
}

/// Asks the driver. `Err` says why the driver cannot be opened. The usual reason is that it is not installed.
pub fn query() -> Result<Driver, String> {
    // SAFETY: loading NVIDIA's driver library runs its initialisers, as in every CUDA program.
    let library = unsafe { Library::new("libcuda.so.1") }.map_err(|e| reason(&e))?;
    // SAFETY: in `Api`, each function has the same type as in cuda.h.
    let api = unsafe { Api::new(&library) }.map_err(|e| reason(&e))?;
    let driver = Driver { cuda_version: api.version(), devices: api.devices() };
    // The driver has its own threads and state, so it must never be unloaded.
    std::mem::forget(library);
    Ok(driver)
}

/// The dynamic loader's message. The error itself only says which call failed.
pub fn reason(error: &libloading::Error) -> String {
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

/// The driver's functions that this module uses, with their types from cuda.h.
struct Api {
    init: unsafe extern "C" fn(c_uint) -> c_int,
    driver_version: unsafe extern "C" fn(*mut c_int) -> c_int,
    error_string: unsafe extern "C" fn(c_int, *mut *const c_char) -> c_int,
    device_count: unsafe extern "C" fn(*mut c_int) -> c_int,
    device_get: unsafe extern "C" fn(*mut c_int, c_int) -> c_int,
    device_name: unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_int,
    device_memory: unsafe extern "C" fn(*mut usize, c_int) -> c_int,
    device_attribute: unsafe extern "C" fn(*mut c_int, c_int, c_int) -> c_int,
}

impl Api {
    /// # Safety
    ///
    /// `library` is NVIDIA's driver, and stays loaded for as long as the result is used.
    unsafe fn new(library: &Library) -> Result<Self, libloading::Error> {
        // SAFETY: the caller's promise, and the types above.
        unsafe {
            Ok(Self {
                init: *library.get("cuInit")?,
                driver_version: *library.get("cuDriverGetVersion")?,
                error_string: *library.get("cuGetErrorString")?,
                device_count: *library.get("cuDeviceGetCount")?,
                device_get: *library.get("cuDeviceGet")?,
                device_name: *library.get("cuDeviceGetName")?,
                device_memory: *library.get("cuDeviceTotalMem_v2")?,
                device_attribute: *library.get("cuDeviceGetAttribute")?,
            })
        }
    }

    fn version(&self) -> (i32, i32) {
        let mut version = 0;
        // SAFETY: the pointer is to a live int. On failure the version stays 0.
        unsafe { (self.driver_version)(&mut version) };
        (version / 1000, version % 1000 / 10)
    }

    fn devices(&self) -> Result<Vec<Gpu>, String> {
        let mut count = 0;
        // SAFETY: cuInit takes flags, which must be 0; the pointer is to a live int.
        self.check(unsafe { (self.init)(0) })?;
        self.check(unsafe { (self.device_count)(&mut count) })?;
        (0..count).map(|index| self.device(index)).collect()
    }

    fn device(&self, index: c_int) -> Result<Gpu, String> {
        let (mut device, mut memory, mut major, mut minor) = (0, 0, 0, 0);
        let mut name = [0; 256];
        // SAFETY: every pointer points to a live value of the right type, and the length of the name is the length of
        // its buffer. The driver writes a zero at the end of the name.
        unsafe {
            self.check((self.device_get)(&mut device, index))?;
            self.check((self.device_name)(name.as_mut_ptr(), name.len() as c_int, device))?;
            self.check((self.device_memory)(&mut memory, device))?;
            self.check((self.device_attribute)(&mut major, COMPUTE_CAPABILITY_MAJOR, device))?;
            self.check((self.device_attribute)(&mut minor, COMPUTE_CAPABILITY_MINOR, device))?;
        }
        // SAFETY: the driver wrote a zero at the end of the name.
        let name = unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned();
        let compute_capability = format!("{major}.{minor}");
        Ok(Gpu { name, memory_bytes: memory as u64, compute_capability })
    }

    fn check(&self, result: c_int) -> Result<(), String> {
        if result == SUCCESS {
            return Ok(());
        }
        let mut text = std::ptr::null();
        // SAFETY: the pointer points to a live pointer. The driver sets it to a string literal or to null.
        unsafe { (self.error_string)(result, &mut text) };
        if text.is_null() {
            return Err(format!("the driver answers with error {result}"));
        }
        // SAFETY: the pointer is not null, so it points to a string literal of the driver, which is never unloaded.
        let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
        Err(format!("the driver answers: {text}"))
    }
}
