//! Errors that decide the exit code; all others are plain [`anyhow::Error`]s and exit with 1.

use std::fmt;

/// The command line or the configuration is wrong: nothing was begun, exit code 2.
#[derive(Debug)]
pub struct Usage(String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// An error that says that the command or the configuration is wrong. The message names the flag
/// or key, the value found, what is expected and what to do.
pub fn usage(message: impl Into<String>) -> anyhow::Error {
    Usage(message.into()).into()
}

/// The process exit code for an error: 2 where the command or the configuration is wrong, else 1.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    if error.downcast_ref::<Usage>().is_some() { 2 } else { 1 }
}

/// The first line of a libtorch message: what follows it is a C++ stack trace, which says nothing
/// to a user.
pub fn first_line(message: &str) -> &str {
    message.lines().next().unwrap_or_default()
}

/// What a person reads of an error: its causes joined by `: `, without any C++ stack trace.
pub fn one_line(error: &anyhow::Error) -> String {
    let causes: Vec<String> =
        error.chain().map(|cause| libtorch_message(&cause.to_string())).collect();
    causes.join(": ")
}

/// Cuts a libtorch error down to its message; other messages keep all their lines.
fn libtorch_message(message: &str) -> String {
    let is_trace = message.contains("\nException raised from") || message.contains("\nframe #0");
    if is_trace { first_line(message).to_owned() } else { message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn usage_errors_exit_with_2_even_with_context() {
        let error = Err::<(), _>(usage("--depth 19 is unknown")).context("train").unwrap_err();
        assert_eq!(exit_code(&error), 2);
        assert_eq!(exit_code(&anyhow::anyhow!("disk full")), 1);
        assert_eq!(one_line(&error), "train: --depth 19 is unknown");
    }

    #[test]
    fn stack_traces_of_libtorch_are_cut() {
        let error =
            anyhow::anyhow!("shape mismatch\nException raised from f at g.cpp:1\nframe #0: x");
        assert_eq!(one_line(&error), "shape mismatch");
    }
}
