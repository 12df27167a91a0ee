//! Calls to the system that fail, or are the last that a process makes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// What becomes of a call: an error of the system, or the death of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    NoSpace,
    BadDisk,
    ReadOnly,
    Killed,
}

impl Fate {
    pub const ALL: [Self; 4] = [Self::NoSpace, Self::BadDisk, Self::ReadOnly, Self::Killed];

    fn number(self) -> i32 {
        match self {
            Self::NoSpace => libc::ENOSPC,
            Self::BadDisk => libc::EIO,
            Self::ReadOnly => libc::EROFS,
            Self::Killed => 0,
        }
    }
}

/// The library `inject.c`, which fails calls that change something below a folder.
pub struct Injector {
    folder: TempDir,
}

impl Injector {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/inject.c");
        let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
        let mut compile = Command::new(compiler);
        compile.args(["-shared", "-fPIC", "-O1", "-o"]).arg(folder.path().join("inject.so"));
        assert!(compile.arg(source).status().expect("a C compiler").success(), "{source}");
        Self { folder }
    }

    /// Has the `at`th call of a program below `run` meet its fate, counted among those of the name `only`, if
    /// there is one; with `lasting` all later ones too.
    pub fn arm(
        &self,
        command: &mut Command,
        run: &Path,
        only: &str,
        at: u64,
        fate: Fate,
        lasting: bool,
    ) {
        command.env("LD_PRELOAD", self.folder.path().join("inject.so"));
        command.env("RESNET_INJECT_IN", run).env("RESNET_INJECT_AT", at.to_string());
        command.env("RESNET_INJECT_ERROR", fate.number().to_string());
        command.env("RESNET_INJECT_COUNT", self.counted());
        if !only.is_empty() {
            command.env("RESNET_INJECT_ONLY", only);
        }
        if lasting {
            command.env("RESNET_INJECT_LASTING", "1");
        }
    }

    /// How many calls the last program that was armed and ended itself made.
    pub fn count(&self) -> u64 {
        let text = fs::read_to_string(self.counted()).expect("a count");
        text.parse().expect("a number")
    }

    fn counted(&self) -> PathBuf {
        self.folder.path().join("count")
    }
}
