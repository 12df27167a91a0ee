//! The structure of `src`: which module may import which, and what the code must not contain.

#![allow(clippy::unwrap_used, reason = "a test that fails says so")]

use std::fs;
use std::path::{Path, PathBuf};

/// The modules of `src` from the ground floor up. A module imports only from itself and from those before it.
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

/// Lines of a file without its tests: more than this are two subjects.
const MOST_LINES: usize = 400;

/// A file of `src` without comments and tests.
struct Source {
    /// Relative to `src`.
    path: PathBuf,
    lines: Vec<String>,
    /// Lines with comments, without tests.
    length: usize,
}

impl Source {
    /// The folder or file directly in `src`, without its ending.
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

/// The names behind each `crate::` of a line.
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
fn imports_run_one_way() {
    let rank = |module: &str| ORDER.iter().position(|other| *other == module);
    let mut wrong = Vec::new();
    for source in sources() {
        let module = source.module();
        if ["lib", "main"].contains(&module.as_str()) {
            continue;
        }
        let own = rank(&module).unwrap_or_else(|| panic!("{module} has no place in ORDER"));
        for line in &source.lines {
            for name in imports(line) {
                // What is not in the order is an item of the crate's root, such as a macro.
                if rank(&name).is_some_and(|other| other > own) {
                    wrong.push(format!("{}: {}", source.path.display(), line.trim()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "imports that run up:\n{}", wrong.join("\n"));
}

#[test]
fn every_file_has_one_subject() {
    let long: Vec<_> = sources()
        .iter()
        .filter(|source| source.length > MOST_LINES)
        .map(|source| format!("{}: {} lines", source.path.display(), source.length))
        .collect();
    assert!(long.is_empty(), "over {MOST_LINES} lines without tests: {long:?}");
}

#[test]
fn nothing_is_passed_around_the_arguments() {
    for source in sources() {
        let path = source.path.display();
        for line in &source.lines {
            let in_model = source.path.starts_with("model");
            assert!(!in_model || !line.contains("thread_local!"), "{path}: {line}");
            assert!(
                !line.contains("data_ptr"),
                "{path}: tensors are told by name or index: {line}"
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
