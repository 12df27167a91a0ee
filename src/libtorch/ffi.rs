//! The Rust side of the error protocol between C++ and Rust. `ffi.h` describes the protocol.

use anyhow::{Result, anyhow};
use std::ffi::{CStr, c_char, c_void};
use std::ptr;
use tch::{TchError, Tensor};

/// The address of the `at::Tensor` behind a tensor of tch; null for `None`.
pub(crate) fn address(tensor: Option<&Tensor>) -> *const c_void {
    tensor.map_or(ptr::null(), |tensor| tensor.as_ptr().cast())
}

/// Turns the error of a C++ function into a result.
///
/// # Errors
/// The C++ function failed. If an operation of libtorch failed, the error has libtorch's message.
///
/// # Safety
///
/// `error` is what the function has just returned: null, or a text that is valid until the thread's next
/// call.
pub(crate) unsafe fn check(error: *const c_char) -> Result<()> {
    // SAFETY: the caller's promise.
    match unsafe { text(error) } {
        None => Ok(()),
        Some(error) => Err(anyhow!(error)),
    }
}

/// The tensor that a C++ function returns through its out-parameter; `None` if the function left it null.
///
/// # Errors
/// The same errors as [`check`].
///
/// # Safety
///
/// `call` passes the pointer to the function as the out-parameter and returns what the function returned. The function
/// follows the protocol and returns a new `at::Tensor`, which the caller owns.
pub(crate) unsafe fn tensor(
    call: impl FnOnce(&mut *mut c_void) -> *const c_char,
) -> Result<Option<Tensor>> {
    let mut tensor = ptr::null_mut();
    // SAFETY: the caller's promise.
    unsafe { check(call(&mut tensor)) }?;
    // SAFETY: the caller's promise; tch's pointers point to `at::Tensor`s.
    Ok((!tensor.is_null()).then(|| unsafe { Tensor::from_ptr(tensor.cast()) }))
}

/// The value of a result, or a panic.
///
/// # Panics
///
/// Panics if the result is an error. The message has the form of tch's own panics, so that both are handled in the same
/// way.
pub(crate) fn or_panic<T>(result: Result<T>) -> T {
    result.unwrap_or_else(|error| panic!("{:?}", TchError::Torch(format!("{error:#}"))))
}

/// A copy of a C string; `None` for null.
///
/// # Safety
///
/// `text` is null or points to a C string.
pub(crate) unsafe fn text(text: *const c_char) -> Option<String> {
    // SAFETY: the caller's promise.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}
