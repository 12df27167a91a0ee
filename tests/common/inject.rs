//! Makes a system call fail, or kills the process at a system call.

use super::Program;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// What happens at a system call: an error, or the process is killed.
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

/// The library `inject.c`. It makes calls fail that change something below a folder.
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

    /// Loads the library into the program. Call number `at` below the folder `run` fails or kills the process, as
    /// `fate` says. With `lasting` all later calls fail too. If `only` is not empty, only calls of this name are
    /// counted.
    pub fn arm(
        &self,
        program: Program,
        run: &Path,
        only: &str,
        at: u64,
        fate: Fate,
        lasting: bool,
    ) -> Program {
        let mut variables = vec![
            ("LD_PRELOAD", self.folder.path().join("inject.so").into_os_string()),
            ("RESNET_INJECT_IN", run.into()),
            ("RESNET_INJECT_AT", at.to_string().into()),
            ("RESNET_INJECT_ERROR", fate.number().to_string().into()),
            ("RESNET_INJECT_COUNT", self.counted().into()),
        ];
        if !only.is_empty() {
            variables.push(("RESNET_INJECT_ONLY", only.into()));
        }
        if lasting {
            variables.push(("RESNET_INJECT_LASTING", "1".into()));
        }
        variables.into_iter().fold(program, |program, (name, value)| program.env(name, value))
    }

    /// The number of calls of the last program that ran with the library and was not killed.
    pub fn count(&self) -> u64 {
        let text = fs::read_to_string(self.counted()).expect("a count");
        text.parse().expect("a number")
    }

    fn counted(&self) -> PathBuf {
        self.folder.path().join("count")
    }
}
