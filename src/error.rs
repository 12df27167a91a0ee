//! Errors that decide the exit code, and how errors and panics are shown. All other errors are plain
//! [`anyhow::Error`]s and exit with 1.

use anyhow::Result;
use std::cell::RefCell;
use std::fmt::{self, Display};
use std::ops::RangeInclusive;
use std::panic::PanicHookInfo;
use std::thread;

/// The command line or the configuration is wrong: nothing was started, exit code 2.
#[derive(Debug)]
pub struct Usage(String);

impl Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// A usage error: the command or the configuration is wrong. The message names the flag or key, the value found, what
/// is expected and what to do.
pub fn usage(message: impl Into<String>) -> anyhow::Error {
    Usage(message.into()).into()
}

/// Refuses the value of a flag that is outside a range, or not a number.
///
/// # Errors
/// A usage error that names the flag.
pub fn in_range<T: PartialOrd + Display>(
    flag: &str,
    value: T,
    range: RangeInclusive<T>,
) -> Result<T> {
    if range.contains(&value) {
        return Ok(value);
    }
    let (least, most) = range.into_inner();
    Err(usage(format!("{flag} {value}: expected a number from {least} to {most}")))
}

/// Refuses the value of a flag that is not above 0, or not finite.
///
/// # Errors
/// A usage error that names the flag.
pub fn above_zero(flag: &str, value: f64) -> Result<f64> {
    if value.is_finite() && value > 0.0 {
        return Ok(value);
    }
    Err(usage(format!("{flag} {value}: expected a number above 0")))
}

/// Refuses 0 for a flag that counts something.
///
/// # Errors
/// A usage error that names the flag.
pub fn at_least_one<T: PartialEq + From<u8>>(flag: &str, value: T) -> Result<T> {
    if value == T::from(0) {
        return Err(usage(format!("{flag} 0: expected at least 1")));
    }
    Ok(value)
}

/// A signal ended the command, after its work was saved and a message printed.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// Exit code of a command that a signal ended.
pub const INTERRUPTED: u8 = 130;

/// The exit code of the process for an error: 2 if the command or the configuration is wrong, 130 if a signal ended the
/// command, else 1.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<Usage>() {
        2
    } else if error.is::<Interrupted>() {
        INTERRUPTED
    } else {
        1
    }
}

/// The text of an error: its causes joined by `: `, without C++ stack traces.
pub fn one_line(error: &anyhow::Error) -> String {
    let causes: Vec<String> =
        error.chain().map(|cause| libtorch_message(&cause.to_string())).collect();
    causes.join(": ")
}

/// serde's message about a value of the wrong type, without Rust's names for types.
pub fn in_plain_words(message: &str) -> String {
    let Some((before, kind)) = message.rsplit_once("expected ") else {
        return message.to_owned();
    };
    let plain = match kind.trim_end() {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number of 0 or more",
        "i64" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "a list in brackets",
        kind if kind.starts_with("struct ") => "a section of keys",
        _ => return message.to_owned(),
    };
    format!("{before}expected {plain}")
}

thread_local! {
    static LAST_PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Stores the main thread's panic message: the code that catches the panic decides whether it is printed. Returns the
/// message if nobody would catch it: in another thread, or if an earlier message is still stored.
pub fn store_panic(info: &PanicHookInfo) -> Option<String> {
    let message = panic_message(info);
    if thread::current().name() != Some("main") || LAST_PANIC.with_borrow(Option::is_some) {
        return Some(message);
    }
    LAST_PANIC.set(Some(message));
    None
}

/// Takes the stored panic message.
pub fn take_panic() -> Option<String> {
    LAST_PANIC.take()
}

/// The message of a panic. If an operation of libtorch failed, it is the message of libtorch.
fn panic_message(info: &PanicHookInfo) -> String {
    let payload = info.payload();
    let message = payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or_default();
    match message.split_once("Torch(\"") {
        // The text is the debug form of the error: its line breaks are escaped.
        Some((_, torch)) => {
            let end = torch.find("\\n").or_else(|| torch.rfind("\")")).unwrap_or(torch.len());
            format!("libtorch failed: {}", torch.get(..end).unwrap_or(torch))
        }
        None => {
            let place = info.location().map(|at| format!(" at {at}")).unwrap_or_default();
            format!("internal error{place}: {message}; this is a bug in resnet, please report it")
        }
    }
}

/// What follows the message of a libtorch error: a C++ stack trace, or advice for developers after an error of CUDA.
const AFTER_MESSAGE: [&str; 5] = [
    "\nException raised from",
    "\nframe #0",
    "\nSearch for `cuda",
    "\nCUDA kernel errors might be",
    ". Of the allocated memory ",
];

/// A libtorch error without what follows its message. Other messages keep all their lines.
fn libtorch_message(message: &str) -> String {
    let end = AFTER_MESSAGE.iter().filter_map(|mark| message.find(mark));
    message[..end.min().unwrap_or(message.len())].to_owned()
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
    fn kinds_of_values_are_told_without_rusts_names() {
        for (message, told) in [
            ("line 2\ninvalid type: string \"x\", expected u64\n", "expected a whole number of 0"),
            ("invalid type: integer `3`, expected a sequence", "`3`, expected a list in brackets"),
            ("invalid type: integer `3`, expected struct NetworkOptions", "a section of keys"),
            ("unknown field `u64`, expected one of `lr`", "`u64`, expected one of `lr`"),
            ("no kind at all", "no kind at all"),
        ] {
            let plain = in_plain_words(message);
            assert!(plain.contains(told), "{plain}");
        }
    }

    #[test]
    fn stack_traces_of_libtorch_are_cut() {
        let error =
            anyhow::anyhow!("shape mismatch\nException raised from f at g.cpp:1\nframe #0: x");
        assert_eq!(one_line(&error), "shape mismatch");
    }

    #[test]
    fn advice_after_an_error_of_cuda_is_cut() {
        let error = anyhow::anyhow!(
            "CUDA error: an illegal memory access was encountered\nSearch for `cudaErrorIllegalAddress' in \
             https://docs.nvidia.com for more information.\nCUDA kernel errors might be asynchronously \
             reported at some other API call.\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1"
        );
        assert_eq!(one_line(&error), "CUDA error: an illegal memory access was encountered");
    }
}
