//! CUDA graphs: what a step has the device do, recorded once and then started in one call, where each of
//! its kernels took a call before (docs/decisions/0017).

use crate::libtorch::copied;
use anyhow::{Result, anyhow};
use std::ffi::{c_char, c_void};
use std::ptr::{self, NonNull};

unsafe extern "C" {
    fn resnet_graph_support() -> *const c_char;
    fn resnet_graph_begin(index: i8, recording: *mut *mut c_void) -> *const c_char;
    fn resnet_graph_end(recording: *mut c_void) -> *const c_char;
    fn resnet_graph_replay(recording: *mut c_void) -> *const c_char;
    fn resnet_graph_free(recording: *mut c_void);
}

/// Work that a CUDA device was told once and can do again.
#[derive(Debug)]
pub struct CudaGraph {
    recording: NonNull<c_void>,
}

impl CudaGraph {
    /// Why this libtorch can't record graphs, if it can't. Call it after [`open_cuda`](super::open_cuda).
    pub fn problem() -> Option<String> {
        // SAFETY: it takes nothing, and its answer is copied before the next call.
        unsafe { problem(resnet_graph_support()) }
    }

    /// Records what `work` has the CUDA device of that index do. The device does nothing of it yet: the
    /// tensors that `work` returns hold their numbers after a [`replay`](Self::replay), as those that it
    /// writes to. `work` must not wait for the device, nor copy from memory of the host, and must have been
    /// done at least once with tensors of the same shapes.
    ///
    /// # Errors
    /// Those of `work`, and where libtorch can't record it.
    pub fn record<T>(index: usize, work: impl FnOnce() -> Result<T>) -> Result<(Self, T)> {
        let mut recording = ptr::null_mut();
        // SAFETY: the pointer is to a live pointer.
        check(unsafe { resnet_graph_begin(i8::try_from(index)?, &mut recording) })?;
        let recording = NonNull::new(recording).ok_or_else(|| anyhow!("no recording came back"))?;
        // From here on dropping it ends the recording, be it for an error or for a panic of `work`.
        let graph = Self { recording };
        let result = work()?;
        // SAFETY: the recording is alive.
        check(unsafe { resnet_graph_end(graph.recording.as_ptr()) })?;
        Ok((graph, result))
    }

    /// Has the device do what was recorded, with the numbers that the tensors in it hold by then.
    ///
    /// # Errors
    /// What libtorch could not do.
    pub fn replay(&self) -> Result<()> {
        // SAFETY: the recording is alive.
        check(unsafe { resnet_graph_replay(self.recording.as_ptr()) })
    }
}

impl Drop for CudaGraph {
    fn drop(&mut self) {
        // SAFETY: the recording is this one's own, and is not used again.
        unsafe { resnet_graph_free(self.recording.as_ptr()) }
    }
}

fn check(answer: *const c_char) -> Result<()> {
    // SAFETY: graph.cpp's answer, which no later call has overwritten.
    unsafe { problem(answer) }.map_or(Ok(()), |problem| Err(anyhow!("CUDA graph: {problem}")))
}

/// # Safety
///
/// `answer` is null or points to a C string.
unsafe fn problem(answer: *const c_char) -> Option<String> {
    // SAFETY: the caller's promise.
    unsafe { copied(answer) }.map(|problem| problem.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::open_cuda;

    /// Where libtorch has CUDA, this asks for every function of it by name.
    #[test]
    fn graphs_can_be_recorded_exactly_where_libtorch_has_cuda() {
        let library = open_cuda().library();
        let expected = library.is_none().then(|| "libtorch_cuda is not loaded".to_owned());
        assert_eq!(CudaGraph::problem(), expected);
    }

    #[test]
    fn without_a_device_recording_is_an_error_and_nothing_is_done() {
        if !open_cuda().is_usable() {
            let error = CudaGraph::record(0, || -> Result<()> { panic!("it began") }).unwrap_err();
            assert!(error.to_string().starts_with("CUDA graph: "), "{error}");
        }
    }
}
