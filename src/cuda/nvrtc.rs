//! NVRTC, NVIDIA's compiler for CUDA C++ that runs inside the program.
//!
//! cuDNN compiles some of its kernels with it, and so does this program. NVRTC opens its second part, the "builtins", by
//! name alone, and has no run path. Python's torch opens that part beforehand, so this program does it too
//! (docs/decisions/0002). NVRTC needs neither a driver nor a device.

use super::driver::reason;
use anyhow::{Context, Result, anyhow, bail};
use libloading::Library;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::{fs, ptr};

/// All functions return an `nvrtcResult`; 0 is success.
const SUCCESS: c_int = 0;

/// Opens NVRTC's builtins, so that NVRTC finds them. `folder` holds libtorch. If there are none, nothing happens:
/// [`compile`] then reports what NVRTC says.
pub fn open_builtins(folder: &Path) {
    for library in find(folder, "libnvrtc-builtins") {
        // SAFETY: the library only holds data and functions for NVRTC, and runs nothing when it is loaded.
        if let Ok(library) = unsafe { Library::new(library) } {
            // NVRTC may use it until the process ends.
            std::mem::forget(library);
            return;
        }
    }
}

/// Compiles CUDA C++ into a binary for devices of this compute capability, as (major, minor). `name` stands for the
/// file's name in messages. `folder` holds libtorch.
///
/// # Errors
/// NVRTC is not there, or the source has an error; then the compiler's messages are in the error.
pub fn compile(
    folder: &Path,
    name: &str,
    source: &str,
    (major, minor): (i32, i32),
) -> Result<Vec<u8>> {
    let library = open(folder)?;
    // SAFETY: in `Api`, each function has the same type as in nvrtc.h.
    let api = unsafe { Api::new(&library) }.map_err(|error| anyhow!(reason(&error)))?;
    let result = Program::new(&api, name, source)?.compile(&format!("sm_{major}{minor}"));
    // NVRTC keeps state for the whole process.
    std::mem::forget(library);
    result.with_context(|| format!("NVRTC cannot compile {name}"))
}

fn open(folder: &Path) -> Result<Library> {
    let candidates = find(folder, "libnvrtc");
    let mut problem = format!("no libnvrtc.so in {} or beside it", folder.display());
    for candidate in candidates {
        // SAFETY: loading NVRTC runs its initialisers, as in every program that links to it.
        match unsafe { Library::new(candidate) } {
            Ok(library) => return Ok(library),
            Err(error) => problem = reason(&error),
        }
    }
    bail!("NVRTC is missing: {problem}")
}

/// The libraries with this stem: `STEM.so.13`, or `STEM-1a2b3c4d.so.13` as libtorch's zip files name some of theirs.
fn find(folder: &Path, stem: &str) -> Vec<PathBuf> {
    let is_meant = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let rest = name.strip_prefix(stem).unwrap_or_default();
        let hash = rest.strip_prefix('-').and_then(|rest| rest.split_once(".so"));
        rest.starts_with(".so")
            || hash.is_some_and(|(hash, _)| hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    let mut found: Vec<PathBuf> = folders(folder)
        .iter()
        .flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten())
        .map(|entry| entry.path())
        .filter(is_meant)
        .collect();
    // The name without a hash first.
    found.sort_by_key(|path| path.file_name().map(|name| name.len()));
    found
}

/// Where NVIDIA's libraries lie: beside libtorch's, or where Python's packages of them are installed.
fn folders(folder: &Path) -> [PathBuf; 2] {
    [folder.to_path_buf(), folder.join("../../nvidia/cu13/lib")]
}

/// NVRTC's functions that this module uses, with their types from nvrtc.h.
struct Api {
    create: unsafe extern "C" fn(
        *mut *mut c_void,
        *const c_char,
        *const c_char,
        c_int,
        *const *const c_char,
        *const *const c_char,
    ) -> c_int,
    destroy: unsafe extern "C" fn(*mut *mut c_void) -> c_int,
    compile: unsafe extern "C" fn(*mut c_void, c_int, *const *const c_char) -> c_int,
    log_size: unsafe extern "C" fn(*mut c_void, *mut usize) -> c_int,
    log: unsafe extern "C" fn(*mut c_void, *mut c_char) -> c_int,
    binary_size: unsafe extern "C" fn(*mut c_void, *mut usize) -> c_int,
    binary: unsafe extern "C" fn(*mut c_void, *mut c_char) -> c_int,
    error_string: unsafe extern "C" fn(c_int) -> *const c_char,
}

impl Api {
    /// # Safety
    ///
    /// `library` is NVRTC, and stays loaded for as long as the result is used.
    unsafe fn new(library: &Library) -> Result<Self, libloading::Error> {
        // SAFETY: the caller's promise, and the types above.
        unsafe {
            Ok(Self {
                create: *library.get("nvrtcCreateProgram")?,
                destroy: *library.get("nvrtcDestroyProgram")?,
                compile: *library.get("nvrtcCompileProgram")?,
                log_size: *library.get("nvrtcGetProgramLogSize")?,
                log: *library.get("nvrtcGetProgramLog")?,
                binary_size: *library.get("nvrtcGetCUBINSize")?,
                binary: *library.get("nvrtcGetCUBIN")?,
                error_string: *library.get("nvrtcGetErrorString")?,
            })
        }
    }

    fn check(&self, result: c_int) -> Result<()> {
        if result == SUCCESS {
            return Ok(());
        }
        // SAFETY: NVRTC returns a string literal for every result.
        let text = unsafe { CStr::from_ptr((self.error_string)(result)) };
        bail!("{}", text.to_string_lossy())
    }
}

/// An `nvrtcProgram`.
struct Program<'a> {
    api: &'a Api,
    handle: *mut c_void,
}

impl<'a> Program<'a> {
    fn new(api: &'a Api, name: &str, source: &str) -> Result<Self> {
        let (source, name) = (CString::new(source)?, CString::new(name)?);
        let mut handle = ptr::null_mut();
        // SAFETY: the texts are alive during the call, which copies them. There are no headers.
        api.check(unsafe {
            let none = ptr::null();
            (api.create)(&mut handle, source.as_ptr(), name.as_ptr(), 0, none, none)
        })?;
        Ok(Self { api, handle })
    }

    fn compile(&self, architecture: &str) -> Result<Vec<u8>> {
        let architecture = CString::new(format!("--gpu-architecture={architecture}"))?;
        let options = [architecture.as_ptr(), c"--std=c++17".as_ptr()];
        // SAFETY: the program is alive, and the pointers are to as many options as the call says.
        let result =
            unsafe { (self.api.compile)(self.handle, options.len() as c_int, options.as_ptr()) };
        self.api.check(result).map_err(|error| match self.log() {
            log if log.is_empty() => error,
            log => error.context(log),
        })?;
        let mut size = 0;
        // SAFETY: the pointer is to a live number.
        self.api.check(unsafe { (self.api.binary_size)(self.handle, &mut size) })?;
        let mut binary = vec![0u8; size];
        // SAFETY: the buffer has the size that NVRTC asked for.
        self.api.check(unsafe { (self.api.binary)(self.handle, binary.as_mut_ptr().cast()) })?;
        Ok(binary)
    }

    /// The compiler's messages; empty if there are none.
    fn log(&self) -> String {
        let mut size = 0;
        // SAFETY: the pointer is to a live number. On failure the size stays 0.
        unsafe { (self.api.log_size)(self.handle, &mut size) };
        let mut log = vec![0u8; size];
        // SAFETY: the buffer has the size that NVRTC asked for.
        if size > 0 {
            unsafe { (self.api.log)(self.handle, log.as_mut_ptr().cast()) };
        }
        String::from_utf8_lossy(&log).trim_end_matches('\0').trim().to_owned()
    }
}

impl Drop for Program<'_> {
    fn drop(&mut self) {
        // SAFETY: the program is alive, and nothing uses it afterwards.
        unsafe { (self.api.destroy)(&mut self.handle) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nvrtc_is_found_in_the_folders_of_every_layout_and_by_names_with_a_hash() {
        let root = tempfile::tempdir().unwrap();
        let lib = root.path().join("torch/lib");
        let nvidia = root.path().join("nvidia/cu13/lib");
        for folder in [&lib, &nvidia] {
            fs::create_dir_all(folder).unwrap();
        }
        let names = |stem| -> Vec<String> {
            let found = find(&lib, stem);
            found.iter().map(|p| p.file_name().unwrap().to_str().unwrap().to_owned()).collect()
        };
        assert!(names("libnvrtc").is_empty());
        for name in ["libnvrtc.so.13", "libnvrtc.alt.so.13", "libnvrtc-builtins.so.13.0"] {
            fs::write(nvidia.join(name), "").unwrap();
        }
        assert_eq!(names("libnvrtc"), ["libnvrtc.so.13"]);
        assert_eq!(names("libnvrtc-builtins"), ["libnvrtc-builtins.so.13.0"]);
        for name in ["libnvrtc-08c4863f.so.13", "libnvrtc-builtins-2dc4bf68.so.13.0"] {
            fs::write(lib.join(name), "").unwrap();
        }
        assert_eq!(names("libnvrtc"), ["libnvrtc.so.13", "libnvrtc-08c4863f.so.13"]);
        assert_eq!(
            names("libnvrtc-builtins"),
            ["libnvrtc-builtins.so.13.0", "libnvrtc-builtins-2dc4bf68.so.13.0"]
        );
    }

    #[test]
    fn without_nvrtc_the_error_names_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let error = compile(folder.path(), "none.cu", "", (9, 0)).unwrap_err().to_string();
        assert!(error.starts_with("NVRTC is missing: no libnvrtc.so in"), "{error}");
        assert!(error.contains(folder.path().to_str().unwrap()), "{error}");
    }
}
