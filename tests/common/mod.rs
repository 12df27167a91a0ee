//! Runs the program as a user does, and captures its exit code, stdout and stderr.

#![allow(dead_code, reason = "each test file uses only a part of this module")]
#![allow(clippy::expect_used, reason = "clippy allows it in tests, but not in their helpers")]

pub mod flags;
pub mod inject;
pub mod runs;
pub mod terminal;

use serde_json::Value;
use std::ffi::OsStr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

/// The program with its arguments, ready to be run.
pub struct Program(Command);

/// The program with arguments that are split at spaces.
pub fn program(arguments: &str) -> Program {
    Program(Command::new(env!("CARGO_BIN_EXE_resnet"))).args(arguments.split_whitespace())
}

/// The program with arguments that are split at spaces, run by a shell. `before` is the beginning of the
/// shell's command line, for example `ulimit -n 4 && exec`.
pub fn program_in_shell(before: &str, arguments: &str) -> Program {
    let mut shell = Command::new("bash");
    shell.args(["-c", &format!(r#"{before} "$0" "$@""#), env!("CARGO_BIN_EXE_resnet")]);
    Program(shell).args(arguments.split_whitespace())
}

/// Runs the program with arguments that are split at spaces, and with paths after them.
pub fn resnet(arguments: &str, paths: &[&Path]) -> Ran {
    program(arguments).args(paths).run()
}

impl Program {
    /// Adds one argument without splitting it, such as a path.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.0.arg(argument);
        self
    }

    /// Adds arguments without splitting them.
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.0.args(arguments);
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.0.env(name, value);
        self
    }

    /// Removes an environment variable.
    pub fn without(mut self, name: &str) -> Self {
        self.0.env_remove(name);
        self
    }

    /// Removes all environment variables.
    pub fn without_environment(mut self) -> Self {
        self.0.env_clear();
        self
    }

    /// Starts the program in this folder.
    pub fn within(mut self, folder: &Path) -> Self {
        self.0.current_dir(folder);
        self
    }

    /// Where stdin comes from.
    pub fn stdin(mut self, from: impl Into<Stdio>) -> Self {
        self.0.stdin(from);
        self
    }

    /// Where stdout goes. [`Self::run`] captures it by default.
    pub fn stdout(mut self, to: impl Into<Stdio>) -> Self {
        self.0.stdout(to);
        self
    }

    /// Where stderr goes. [`Self::run`] captures it by default.
    pub fn stderr(mut self, to: impl Into<Stdio>) -> Self {
        self.0.stderr(to);
        self
    }

    /// Runs the program to its end.
    pub fn run(mut self) -> Ran {
        self.0.output().expect("the program starts").into()
    }

    /// Starts the program. Its stdout is discarded; `stderr` says where stderr goes.
    pub fn spawn(self, stderr: Stdio) -> Child {
        let Self(mut command) = self.stdout(Stdio::null()).stderr(stderr);
        command.spawn().expect("the program starts")
    }
}

/// The result of a run of the program.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Ran {
    fn from(Output { status, stdout, stderr }: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the program prints UTF-8");
        Self { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
    }
}

impl Ran {
    /// Checks that the program succeeded.
    #[track_caller]
    pub fn done(self) -> Self {
        assert_eq!(self.code, Some(0), "stderr: {}", self.stderr);
        self
    }

    /// Checks that the program succeeded, and returns its stdout.
    #[track_caller]
    pub fn success(self) -> String {
        self.done().stdout
    }

    /// Checks that the program succeeded, and returns the JSON lines that it printed.
    #[track_caller]
    pub fn json_lines(self) -> Vec<Value> {
        self.done().printed_json()
    }

    /// The JSON lines that the program printed, whether it succeeded or not.
    #[track_caller]
    pub fn printed_json(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect()
    }

    /// Checks that the program ended with `code` and with an error that contains each of `parts`, and that it
    /// showed no panic and no C++ stack trace.
    #[track_caller]
    pub fn fails_with(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "stderr: {}", self.stderr);
        assert!(self.stderr.contains("error: "), "stderr: {}", self.stderr);
        for part in parts {
            assert!(self.stderr.contains(part), "no `{part}` in: {}", self.stderr);
        }
        self.shows_no_trace();
    }

    /// Checks that stderr shows no panic and no C++ stack trace of libtorch.
    #[track_caller]
    pub fn shows_no_trace(&self) {
        for trace in ["panicked", "Exception raised", "frame #"] {
            assert!(!self.stderr.contains(trace), "a trace in: {}", self.stderr);
        }
    }
}

/// Flags of a network and a run so small that an epoch takes a fraction of a second.
pub const TINY: &str = "train --offline --device cpu --blocks 1,1,1 --width 8 --size 12 --batch-size 256 --threads 1 --report false";
