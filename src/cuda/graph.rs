//! CUDA graphs: the kernels of a step are recorded once and then started by one call, instead of one call for each
//! kernel (docs/decisions/0017).

use crate::libtorch::check;
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

/// Recorded work of a CUDA device. It can be repeated.
#[derive(Debug)]
pub struct CudaGraph {
    recording: NonNull<c_void>,
}

impl CudaGraph {
    /// The reason why this libtorch cannot record graphs; `None` if it can. Call this function after
    /// [`open_cuda`](super::open_cuda).
    pub fn problem() -> Option<String> {
        // SAFETY: the function takes no arguments.
        unsafe { check(resnet_graph_support()) }.err().map(|error| error.to_string())
    }

    /// Records the work that the closure gives to the CUDA device with this index. The device does not do the work yet:
    /// `work` returns tensors and writes to tensors, and these have
    /// their values only after [`replay`](Self::replay). `work`
    /// must neither wait for the device nor copy from the host's memory. It must have run at least once before with
    /// tensors of the same shapes.
    ///
    /// # Errors
    /// `work` failed, or libtorch cannot record it.
    pub fn record<T>(index: usize, work: impl FnOnce() -> Result<T>) -> Result<(Self, T)> {
        let mut recording = ptr::null_mut();
        // SAFETY: the pointer points to a live pointer.
        named(unsafe { check(resnet_graph_begin(i8::try_from(index)?, &mut recording)) })?;
        let recording =
            NonNull::new(recording).ok_or_else(|| anyhow!("libtorch returned no recording"))?;
        // From here on, dropping `graph` ends the recording, also after an error or a panic of `work`.
        let graph = Self { recording };
        let result = work()?;
        // SAFETY: the recording is alive.
        named(unsafe { check(resnet_graph_end(graph.recording.as_ptr())) })?;
        Ok((graph, result))
    }

    /// Starts the recorded work, with the current values of its tensors.
    ///
    /// # Errors
    /// The operation of libtorch failed.
    pub fn replay(&self) -> Result<()> {
        // SAFETY: the recording is alive.
        named(unsafe { check(resnet_graph_replay(self.recording.as_ptr())) })
    }
}

impl Drop for CudaGraph {
    fn drop(&mut self) {
        // SAFETY: this object owns the recording, and nothing uses it afterwards.
        unsafe { resnet_graph_free(self.recording.as_ptr()) }
    }
}

/// Adds to an error that it is about CUDA graphs.
fn named(result: Result<()>) -> Result<()> {
    result.map_err(|error| anyhow!("CUDA graph: {error:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::open_cuda;

    /// If libtorch has CUDA, this looks up each function by its name.
    #[test]
    fn graphs_can_be_recorded_exactly_where_libtorch_has_cuda() {
        let library = open_cuda().library();
        let expected = library.is_none().then(|| "libtorch_cuda is not loaded".to_owned());
        assert_eq!(CudaGraph::problem(), expected);
    }

    #[test]
    fn without_a_device_recording_is_an_error_and_nothing_is_done() {
        if !open_cuda().is_usable() {
            let error = CudaGraph::record(0, || -> Result<()> { panic!("started") }).unwrap_err();
            assert!(error.to_string().starts_with("CUDA graph: "), "{error}");
        }
    }
}
