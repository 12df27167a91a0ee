//! Information about libtorch, and its settings.

use super::ffi::{check, or_panic, text};
use std::ffi::{CStr, OsStr, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

unsafe extern "C" {
    fn resnet_libtorch_version() -> *const c_char;
    fn resnet_libtorch_file() -> *const c_char;
    fn resnet_cpu_capability() -> *const c_char;
    fn resnet_allow_tf32(allow: bool) -> *const c_char;
    fn resnet_set_deterministic(deterministic: bool) -> *const c_char;
}

/// The libtorch version that this program was compiled against, such as `2.11.0`.
pub fn libtorch_version() -> String {
    // SAFETY: settings.cpp returns a string literal.
    unsafe { text(resnet_libtorch_version()) }.unwrap_or_default()
}

/// The folder that libtorch was loaded from. It can differ from the folder that the program was built against, because
/// `LD_LIBRARY_PATH` comes before the run path. `None` if the dynamic loader does not know it.
pub fn libtorch_folder() -> Option<PathBuf> {
    // SAFETY: the function takes no arguments.
    let file = unsafe { resnet_libtorch_file() };
    if file.is_null() {
        return None;
    }
    // SAFETY: the pointer is not null, so it points to a C string that the loader keeps as long as the library is
    // loaded. libtorch is never unloaded.
    let file = unsafe { CStr::from_ptr(file) };
    Path::new(OsStr::from_bytes(file.to_bytes())).parent().map(PathBuf::from)
}

/// The instruction set that libtorch's own CPU kernels use on this machine: `AVX512`, `AVX2`, `DEFAULT`, …
/// The environment variable `ATEN_CPU_CAPABILITY` can select a smaller one.
pub fn cpu_capability() -> String {
    // SAFETY: settings.cpp returns a string that lives as long as the process.
    unsafe { text(resnet_cpu_capability()) }.unwrap_or_default()
}

/// Sets whether CUDA devices may round the factors of products of 32-bit floats to TF32. By default, libtorch does so
/// in convolutions, but not in other products.
///
/// # Panics
///
/// Panics if libtorch does not accept the setting.
pub fn allow_tf32(allow: bool) {
    // SAFETY: settings.cpp sets two flags.
    or_panic(unsafe { check(resnet_allow_tf32(allow)) });
}

/// Sets whether CUDA devices use algorithms that give the same bits each time. Otherwise libtorch measures which
/// algorithm is the fastest for each shape. Call this function before the first product on a CUDA device. On a CPU, all
/// algorithms give the same bits each time.
///
/// # Panics
///
/// Panics if libtorch does not accept the setting.
pub fn set_deterministic(deterministic: bool) {
    // SAFETY: settings.cpp sets flags, and an environment variable that only libtorch reads, at its first
    // product.
    or_panic(unsafe { check(resnet_set_deterministic(deterministic)) });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtorch_is_the_version_that_setup_installs() {
        assert_eq!(libtorch_version(), "2.11.0");
        assert!(libtorch_folder().unwrap().is_dir());
        assert!(!cpu_capability().is_empty());
    }
}
