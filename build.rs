//! Compiles the C++ files in `src`. Sets the run path to libtorch, so that the program runs from any folder without
//! environment variables.

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

/// The folder of libtorch. Ends the build if there is none. torch-sys looks for the folder too, but its message only
/// names a missing header. This package depends on torch-sys only through tch, so this script does not wait for it. On
/// a machine with several cores, the build of a fresh clone stops here within seconds.
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
    // If libtorch in this folder is replaced by another version, its headers change. The official packages have the
    // first of these files, and Python's wheels have the second.
    for version in ["build-version", "version.py"].map(|name| libtorch.join(name)) {
        if version.exists() {
            println!("cargo::rerun-if-changed={}", version.display());
        }
    }
    libtorch
}

/// C++ files that are compiled once, with the headers of libtorch.
const SOURCES: [&str; 15] = [
    "src/libtorch/copies.cpp",
    "src/libtorch/memory.cpp",
    "src/libtorch/meta.cpp",
    "src/libtorch/optimizer.cpp",
    "src/libtorch/settings.cpp",
    "src/cuda/graph.cpp",
    "src/kernels/batch_norm/batch_norm.cpp",
    "src/kernels/convolution/convolution.cpp",
    "src/kernels/convolution/im2col.cpp",
    "src/kernels/convolution/one_dnn.cpp",
    "src/kernels/convolution/strided.cpp",
    "src/kernels/cuda/batch_norm.cpp",
    "src/kernels/cuda/launch.cpp",
    "src/kernels/cuda/max_pool.cpp",
    "src/kernels/winograd/convolution.cpp",
];
/// Kernels on plain memory. They are compiled once for each instruction set.
const KERNELS: [&str; 3] = [
    "src/kernels/batch_norm/kernels.cpp",
    "src/kernels/matrix/kernels.cpp",
    "src/kernels/winograd/kernels.cpp",
];
/// The instruction sets of x86-64 that have kernels (`src/kernels/instruction_sets.h`), with the compiler's
/// flags.
const INSTRUCTION_SETS: [(&str, [&str; 2]); 2] =
    [("avx2", ["-mavx2", "-mfma"]), ("avx512", ["-mavx512f", "-mfma"])];

fn compile_cpp(libtorch: &Path) {
    for folder in ["src/libtorch", "src/cuda", "src/kernels"] {
        watch(Path::new(folder));
    }
    println!("cargo::rustc-check-cfg=cfg(kernels)");
    let abi = env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".to_owned());
    let has_kernels = env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|target| target == "x86_64");
    cpp()
        .define("_GLIBCXX_USE_CXX11_ABI", abi.as_str())
        .define("RESNET_HAS_KERNELS", if has_kernels { "1" } else { "0" })
        // libtorch's headers are system headers here, so they give no warnings that would hide ours.
        .flag(format!("-isystem{}", libtorch.join("include").display()))
        .flag(format!("-isystem{}", libtorch.join("include/torch/csrc/api/include").display()))
        .files(SOURCES)
        .compile("resnet_cpp");
    // From each library, a linker takes only the symbols that earlier libraries need, so the kernels come last.
    if has_kernels {
        println!("cargo::rustc-cfg=kernels");
        for (name, flags) in INSTRUCTION_SETS {
            compile_kernels(name, flags);
        }
    }
}

/// Tells Cargo to compile the C++ again if a C++ file in this folder changes, but not if a Rust file changes.
fn watch(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            watch(&path);
        } else if path.extension().is_some_and(|extension| extension != "rs") {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
}

/// Compiles the kernels for one instruction set. The program uses them if the processor has this set.
fn compile_kernels(instruction_set: &str, flags: [&str; 2]) {
    let mut kernels = cpp();
    for flag in flags {
        kernels.flag(flag);
    }
    kernels
        .define("RESNET_INSTRUCTION_SET", instruction_set)
        // Allows fused multiply-add, which the standard's strict mode (-std=c++17) forbids by default.
        .flag("-ffp-contract=fast")
        .opt_level(3)
        .files(KERNELS)
        .compile(&format!("resnet_{instruction_set}"));
}

fn cpp() -> cc::Build {
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17");
    build
}

/// The version of a package, from Cargo.lock. Cargo has no other way to ask for it.
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
