//! Runs the program from outside: exit code, stdout and stderr together.

#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::expect_used, reason = "clippy takes no helper for a part of a test")]

pub mod inject;
pub mod runs;

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

/// What the program did.
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs `resnet` with arguments that are split at blanks, and paths behind them.
pub fn resnet(arguments: &str, paths: &[&Path]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_resnet"));
    command.args(arguments.split_whitespace()).args(paths);
    ran(&mut command)
}

/// Runs a command that was prepared otherwise.
pub fn ran(command: &mut Command) -> Ran {
    let Output { status, stdout, stderr } = command.output().expect("the program starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the program prints UTF-8");
    Ran { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
}

impl Ran {
    /// The program did its work; its stdout.
    pub fn success(self) -> String {
        assert_eq!(self.code, Some(0), "stderr: {}", self.stderr);
        self.stdout
    }

    /// The program did its work and printed JSON lines.
    pub fn json_lines(self) -> Vec<Value> {
        assert_eq!(self.code, Some(0), "stderr: {}", self.stderr);
        self.printed_json()
    }

    /// The JSON lines that the program printed, whether it did its work or not.
    pub fn printed_json(self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect()
    }

    /// The program ended with `code` and an error that holds each of `parts`, in a few lines and
    /// with no trace of panic or C++.
    pub fn fails_with(self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "stderr: {}", self.stderr);
        assert!(self.stderr.contains("error: "), "stderr: {}", self.stderr);
        for part in parts {
            assert!(self.stderr.contains(part), "no `{part}` in: {}", self.stderr);
        }
        for trace in ["panicked", "Exception raised", "frame #"] {
            assert!(!self.stderr.contains(trace), "a trace in: {}", self.stderr);
        }
    }
}

/// Flags of a network and a run so small that an epoch takes a fraction of a second.
pub const TINY: &str =
    "train --offline --device cpu --blocks 1,1,1 --width 8 --size 12 --batch-size 256 --threads 1";
