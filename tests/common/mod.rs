//! Runs the program from outside: exit code, stdout and stderr together.

#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::expect_used, reason = "clippy takes no helper for a part of a test")]

pub mod flags;
pub mod inject;
pub mod runs;

use serde_json::Value;
use std::ffi::OsStr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

/// The program with its arguments, ready to be run.
pub struct Program(Command);

/// The program with arguments that are split at blanks.
pub fn program(arguments: &str) -> Program {
    Program(Command::new(env!("CARGO_BIN_EXE_resnet"))).args(arguments.split_whitespace())
}

/// The program with arguments that are split at blanks, run by a shell. `before` is the beginning of the
/// shell's command line, for example `ulimit -n 4 && exec`.
pub fn program_in_shell(before: &str, arguments: &str) -> Program {
    let mut shell = Command::new("bash");
    shell.args(["-c", &format!(r#"{before} "$0" "$@""#), env!("CARGO_BIN_EXE_resnet")]);
    Program(shell).args(arguments.split_whitespace())
}

/// Runs the program with arguments that are split at blanks, and paths behind them.
pub fn resnet(arguments: &str, paths: &[&Path]) -> Ran {
    program(arguments).args(paths).run()
}

impl Program {
    /// Adds an argument as it is, such as a path.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.0.arg(argument);
        self
    }

    /// Adds arguments as they are.
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.0.args(arguments);
        self
    }

    /// Sets a variable of the environment.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.0.env(name, value);
        self
    }

    /// Removes a variable from the environment.
    pub fn without(mut self, name: &str) -> Self {
        self.0.env_remove(name);
        self
    }

    /// Removes all variables from the environment.
    pub fn without_environment(mut self) -> Self {
        self.0.env_clear();
        self
    }

    /// Starts the program in this folder.
    pub fn within(mut self, folder: &Path) -> Self {
        self.0.current_dir(folder);
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

    /// Starts the program. Its stdout is thrown away; `stderr` says where stderr goes.
    pub fn spawn(self, stderr: Stdio) -> Child {
        let Self(mut command) = self.stdout(Stdio::null()).stderr(stderr);
        command.spawn().expect("the program starts")
    }
}

/// What the program did.
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
    /// The program did its work.
    #[track_caller]
    pub fn done(self) -> Self {
        assert_eq!(self.code, Some(0), "stderr: {}", self.stderr);
        self
    }

    /// The program did its work; its stdout.
    #[track_caller]
    pub fn success(self) -> String {
        self.done().stdout
    }

    /// The program did its work and printed JSON lines.
    #[track_caller]
    pub fn json_lines(self) -> Vec<Value> {
        self.done().printed_json()
    }

    /// The JSON lines that the program printed, whether it did its work or not.
    #[track_caller]
    pub fn printed_json(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect()
    }

    /// The program ended with `code` and an error that holds each of `parts`, in a few lines and
    /// with no trace of panic or C++.
    #[track_caller]
    pub fn fails_with(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "stderr: {}", self.stderr);
        assert!(self.stderr.contains("error: "), "stderr: {}", self.stderr);
        for part in parts {
            assert!(self.stderr.contains(part), "no `{part}` in: {}", self.stderr);
        }
        self.shows_no_trace();
    }

    /// Nothing of a panic or of libtorch's C++ traces reached the user.
    #[track_caller]
    pub fn shows_no_trace(&self) {
        for trace in ["panicked", "Exception raised", "frame #"] {
            assert!(!self.stderr.contains(trace), "a trace in: {}", self.stderr);
        }
    }
}

/// Flags of a network and a run so small that an epoch takes a fraction of a second.
pub const TINY: &str =
    "train --offline --device cpu --blocks 1,1,1 --width 8 --size 12 --batch-size 256 --threads 1";
