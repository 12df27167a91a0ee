//! Catches out-of-memory errors, so that the work can be repeated in smaller parts.

use crate::error::take_panic;
use crate::libtorch;
use anyhow::{Result, anyhow};
use std::any::Any;
use std::panic::{self, AssertUnwindSafe};

/// Parts of the messages that libtorch's allocators, and the libraries that libtorch calls, give when memory runs out.
const MESSAGES: [&str; 9] = [
    "CUDA out of memory",
    "CUDA error: out of memory",
    // cuBLAS and cuDNN, in older and newer versions.
    "_ALLOC_FAILED",
    "_ALLOCATION_FAILED",
    // cuDNN, if each of its algorithms needs more memory than there is.
    "unable to find an engine to execute this computation",
    "MPS backend out of memory",
    "can't allocate memory: you tried to allocate",
    // C++ itself, for everything except tensors.
    "std::bad_alloc",
    ONEDNN,
];

/// oneDNN's message. If oneDNN does not support an operation at all, the message continues with "descriptor".
const ONEDNN: &str = "could not create a primitive";

/// The result of an attempt.
#[derive(Debug)]
pub enum Attempt<T> {
    /// The work is done.
    Done(T),
    /// The work needs more memory than the device has. This is libtorch's error.
    OutOfMemory(anyhow::Error),
}

/// Runs `work`, in which operations of tch may panic. If memory runs out, the changes that `work` has already made are
/// not undone.
///
/// # Errors
/// `work` failed for another reason. Panics for other reasons continue.
pub fn attempt<T>(work: impl FnOnce() -> Result<T>) -> Result<Attempt<T>> {
    let error = match panic::catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(done)) => return Ok(Attempt::Done(done)),
        Ok(Err(error)) if is_want_of_memory(&format!("{error:#}")) => error,
        Ok(Err(error)) => return Err(error),
        Err(payload) => match message(&*payload) {
            Some(message) if is_want_of_memory(message) => {
                anyhow!(take_panic().unwrap_or_else(|| message.to_owned()))
            }
            _ => panic::resume_unwind(payload),
        },
    };
    // The memory of the attempt is free now, but the allocator still holds it.
    libtorch::release_free_memory();
    Ok(Attempt::OutOfMemory(error))
}

fn is_want_of_memory(message: &str) -> bool {
    let impossible = message.contains(&format!("{ONEDNN} descriptor"));
    !impossible && MESSAGES.iter().any(|words| message.contains(words))
}

fn message(payload: &(dyn Any + Send)) -> Option<&str> {
    payload.downcast_ref::<String>().map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_want_of_memory_is_caught() {
        let words = "Torch(\"CUDA out of memory. Tried to allocate 2.00 GiB\")";
        let caught = |work: &dyn Fn() -> Result<()>| {
            matches!(attempt(work).unwrap(), Attempt::OutOfMemory(_))
        };
        assert!(caught(&|| panic!("called `Result::unwrap()` on an `Err` value: {words}")));
        assert!(caught(&|| Err(anyhow!("{words}").context("backward"))));
        assert!(caught(&|| panic!("{}", "Torch(\"could not create a primitive\")")));
        assert!(!is_want_of_memory("could not create a primitive descriptor for a matmul"));
        assert!(!caught(&|| Ok(())));
        assert!(attempt(|| Err::<(), _>(anyhow!("CUDA error: illegal address"))).is_err());
        let other = panic::catch_unwind(|| attempt(|| -> Result<()> { panic!("{}", "a fault") }));
        assert_eq!(message(&*other.unwrap_err()), Some("a fault"));
    }

    /// Asks for 2⁵⁰ bytes, which no machine has.
    #[test]
    fn libtorch_says_it_in_these_words_on_a_cpu() {
        let work = || Ok(tch::Tensor::zeros([1 << 50], (tch::Kind::Uint8, tch::Device::Cpu)));
        assert!(matches!(attempt(work).unwrap(), Attempt::OutOfMemory(_)));
    }
}
