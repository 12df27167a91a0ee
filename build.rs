//! Compiles the C++ below `src` and sets the run path to libtorch, so that the program runs from any
//! folder with nothing set in the environment.

use std::path::{Path, PathBuf};
use std::{env, fs, process};

fn main() {
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    println!("cargo::rerun-if-env-changed=LIBTORCH_CXX11_ABI");
    let libtorch = libtorch();
    compile_cpp(&libtorch);
    println!("cargo::rustc-link-arg=-Wl,-rpath,{}", libtorch.join("lib").display());
    println!("cargo::rerun-if-changed=Cargo.lock");
    println!("cargo::rustc-env=RESNET_TCH_VERSION={}", locked_version("tch"));
}

/// The folder of libtorch, or the end of the build. torch-sys looks for it too, but says only which
/// header is missing. This package depends on it through tch alone, so that this script waits for
/// nothing: on a machine with cores to spare, a fresh clone stops here within seconds.
fn libtorch() -> PathBuf {
    let Some(libtorch) = env::var_os("LIBTORCH").map(PathBuf::from) else {
        fail(
            "LIBTORCH is not set; run cargo in the project's folder, whose .cargo/config.toml sets it",
        );
    };
    let header = libtorch.join("include/ATen/ATen.h");
    if !header.exists() {
        fail(&format!("no libtorch in {} (LIBTORCH); run scripts/setup first", libtorch.display()));
    }
    // A later libtorch in the same place has other headers. Its version lies in the one file in
    // the official packages, in the other in Python's.
    for version in ["build-version", "version.py"].map(|name| libtorch.join(name)) {
        if version.exists() {
            println!("cargo::rerun-if-changed={}", version.display());
        }
    }
    libtorch
}

/// The calls of libtorch that tch does not bind.
const NATIVE: [&str; 5] = [
    "src/libtorch/libtorch.cpp",
    "src/libtorch/allocator.cpp",
    "src/cuda/graph.cpp",
    "src/libtorch/optimizer.cpp",
    "src/kernels/strided.cpp",
];
/// What computes on tensors by kernels of this program.
const TENSORS: [&str; 3] = [
    "src/kernels/batch_norm/batch_norm.cpp",
    "src/kernels/winograd/convolution.cpp",
    "src/kernels/winograd/im2col.cpp",
];
/// The kernels, on plain memory, which are compiled for each instruction set.
const KERNELS: [&str; 2] =
    ["src/kernels/batch_norm/kernels.cpp", "src/kernels/winograd/kernels.cpp"];

fn compile_cpp(libtorch: &Path) {
    for folder in ["src/libtorch", "src/cuda", "src/kernels"] {
        println!("cargo::rerun-if-changed={folder}");
    }
    let abi = env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".to_owned());
    let mut native = cpp();
    native
        .define("_GLIBCXX_USE_CXX11_ABI", abi.as_str())
        // As system headers, libtorch's own warnings stay quiet and ours are seen.
        .flag(format!("-isystem{}", libtorch.join("include").display()))
        .flag(format!("-isystem{}", libtorch.join("include/torch/csrc/api/include").display()))
        .files(NATIVE);
    println!("cargo::rustc-check-cfg=cfg(kernels)");
    let has_kernels = env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|target| target == "x86_64");
    if has_kernels {
        println!("cargo::rustc-cfg=kernels");
        native.files(TENSORS);
    }
    native.compile("resnet_cpp");
    // A linker takes from a library only what those before it lack, so that the kernels come last.
    if has_kernels {
        compile_kernels("avx2", "8", &["-mavx2", "-mfma"]);
        compile_kernels("avx512", "16", &["-mavx512f", "-mfma"]);
    }
}

/// The kernels for one instruction set, which the program uses where the processor has it.
fn compile_kernels(name: &str, lanes: &str, flags: &[&str]) {
    let mut kernels = cpp();
    for flag in flags {
        kernels.flag(flag);
    }
    kernels
        .define("RESNET_KERNELS", name)
        .define("RESNET_LANES", lanes)
        // Products and sums in one instruction, whatever standard the compiler is held to.
        .flag("-ffp-contract=fast")
        .opt_level(3)
        .files(KERNELS)
        .compile(&format!("resnet_{name}"));
}

fn cpp() -> cc::Build {
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17");
    build
}

/// The version of a package in Cargo.lock: a crate can't ask for that of another.
fn locked_version(package: &str) -> String {
    let lock = fs::read_to_string("Cargo.lock").unwrap_or_default();
    let name = format!("name = \"{package}\"");
    let mut lines = lock.lines().skip_while(|line| *line != name).skip(1);
    let version = lines.next().and_then(|line| line.strip_prefix("version = "));
    version.map_or_else(|| "unknown".to_owned(), |version| version.trim_matches('"').to_owned())
}

fn fail(message: &str) -> ! {
    println!("cargo::error={message}");
    process::exit(1);
}
