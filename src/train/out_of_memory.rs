//! Work that a device has too little memory for, caught so that it can be tried in smaller parts.

use crate::error::last_panic;
use crate::libtorch;
use anyhow::{Result, anyhow};
use std::any::Any;
use std::panic::{self, AssertUnwindSafe};

/// How libtorch says that memory is used up: its allocators, and the libraries that it calls.
const MESSAGES: [&str; 9] = [
    "CUDA out of memory",
    "CUDA error: out of memory",
    // cuBLAS and cuDNN, of older and newer versions.
    "_ALLOC_FAILED",
    "_ALLOCATION_FAILED",
    // What is left where each of cuDNN's algorithms wanted more memory than there is.
    "unable to find an engine to execute this computation",
    "MPS backend out of memory",
    "can't allocate memory: you tried to allocate",
    // C++'s own, for all but tensors.
    "std::bad_alloc",
    ONEDNN,
];

/// oneDNN's only words for it. For what it cannot compute at all they go on with "descriptor".
const ONEDNN: &str = "could not create a primitive";

/// What came of an attempt.
#[derive(Debug)]
pub enum Attempt<T> {
    /// It was done.
    Done(T),
    /// It takes more memory than the device has, in libtorch's words.
    OutOfMemory(anyhow::Error),
}

/// Attempts something, in which tch's operators may panic. What it changed before it ran out of memory
/// stays changed.
///
/// # Errors
/// Those of `work` that are of another kind; panics of another kind go on.
pub fn attempt<T>(work: impl FnOnce() -> Result<T>) -> Result<Attempt<T>> {
    let error = match panic::catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(done)) => return Ok(Attempt::Done(done)),
        Ok(Err(error)) if tells_of_it(&format!("{error:#}")) => error,
        Ok(Err(error)) => return Err(error),
        Err(payload) => match message(&*payload) {
            Some(message) if tells_of_it(message) => {
                anyhow!(last_panic().unwrap_or_else(|| message.to_owned()))
            }
            _ => panic::resume_unwind(payload),
        },
    };
    // What the attempt took is free, but still the allocator's.
    libtorch::release_free_memory();
    Ok(Attempt::OutOfMemory(error))
}

fn tells_of_it(message: &str) -> bool {
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
        assert!(!tells_of_it("could not create a primitive descriptor for a matmul"));
        assert!(!caught(&|| Ok(())));
        assert!(attempt(|| Err::<(), _>(anyhow!("CUDA error: illegal address"))).is_err());
        let other = panic::catch_unwind(|| attempt(|| -> Result<()> { panic!("{}", "a fault") }));
        assert_eq!(message(&*other.unwrap_err()), Some("a fault"));
    }

    /// 2⁵⁰ bytes, which no machine has.
    #[test]
    fn libtorch_says_it_in_these_words_on_a_cpu() {
        let work = || Ok(tch::Tensor::zeros([1 << 50], (tch::Kind::Uint8, tch::Device::Cpu)));
        assert!(matches!(attempt(work).unwrap(), Attempt::OutOfMemory(_)));
    }
}
