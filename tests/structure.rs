//! The structure of `src`: which module may import which, and what the code must not contain.

#![allow(clippy::unwrap_used, reason = "a panic makes the test fail")]

use std::fs;
use std::path::{Path, PathBuf};

/// The modules of `src` in order. A module imports only from itself and from the modules before it.
const ORDER: [&str; 20] = [
    "error",
    "files",
    "random",
    "ui",
    "libtorch",
    "cuda",
    "kernels",
    "limits",
    "device",
    "precision",
    "data",
    "model",
    "train",
    "checkpoint",
    "cli",
    "config",
    "run",
    "report",
    "sinks",
    "commands",
];

/// The largest number of lines of a file without its tests. A longer file has more than one subject and must be
/// split.
const MOST_LINES: usize = 400;

/// A file of `src` without comments and tests.
struct Source {
    /// Relative to `src`.
    path: PathBuf,
    lines: Vec<String>,
    /// The number of lines with comments and without tests.
    length: usize,
}

impl Source {
    /// The name of the folder or file directly in `src`, without the file extension.
    fn module(&self) -> String {
        let first = self.path.components().next().unwrap();
        Path::new(first.as_os_str()).file_stem().unwrap().to_string_lossy().into_owned()
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
                let is_code = |line: &&str| !line.trim_start().starts_with("//");
                sources.push(Source {
                    path: path.strip_prefix(&root).unwrap().to_owned(),
                    lines: code.lines().filter(is_code).map(str::to_owned).collect(),
                    length: code.lines().count(),
                });
            }
        }
    }
    assert!(sources.len() > 50, "found only {} files", sources.len());
    sources
}

/// The names after each `crate::` in a line.
fn imports(line: &str) -> Vec<String> {
    let after = line.split("crate::").skip(1);
    let names = after.flat_map(|rest| match rest.strip_prefix('{') {
        // `use crate::{a, b::c};`
        Some(list) => list.split(['}', ';']).next().unwrap().split(',').collect(),
        None => vec![rest],
    });
    let name = |text: &str| -> String {
        text.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    names.map(name).filter(|name| !name.is_empty()).collect()
}

#[test]
fn modules_import_only_from_earlier_modules() {
    let rank = |module: &str| ORDER.iter().position(|other| *other == module);
    let mut wrong = Vec::new();
    for source in sources() {
        let module = source.module();
        if ["lib", "main"].contains(&module.as_str()) {
            continue;
        }
        let own = rank(&module).unwrap_or_else(|| panic!("{module} is missing in ORDER"));
        for line in &source.lines {
            for name in imports(line) {
                // A name that is not in ORDER is an item of the crate's root, such as a macro.
                if rank(&name).is_some_and(|other| other > own) {
                    wrong.push(format!("{}: {}", source.path.display(), line.trim()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "imports from later modules:\n{}", wrong.join("\n"));
}

#[test]
fn no_file_is_too_long() {
    let long: Vec<_> = sources()
        .iter()
        .filter(|source| source.length > MOST_LINES)
        .map(|source| format!("{}: {} lines", source.path.display(), source.length))
        .collect();
    assert!(long.is_empty(), "over {MOST_LINES} lines without tests: {long:?}");
}

#[test]
fn models_have_no_thread_locals_and_tensors_are_not_identified_by_address() {
    for source in sources() {
        let path = source.path.display();
        for line in &source.lines {
            let in_model = source.path.starts_with("model");
            assert!(!in_model || !line.contains("thread_local!"), "{path}: {line}");
            assert!(
                !line.contains("data_ptr"),
                "{path}: tensors are identified by name or index: {line}"
            );
        }
    }
}

#[test]
fn imports_are_found_in_every_form() {
    assert_eq!(imports("use crate::train::{Event, Sink};"), ["train"]);
    assert_eq!(imports("use crate::{ui, data::idx};"), ["ui", "data"]);
    assert_eq!(
        imports("let a = crate::random::generator(crate::error::usage);"),
        ["random", "error"]
    );
    assert_eq!(imports("pub(crate) fn f() {}"), [""; 0]);
}
