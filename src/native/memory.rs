//! The C library's allocator, which libtorch takes its tensors from.

/// Makes the allocator keep what is freed for the next step, rather than give it back to the system
/// and have it zeroed page by page at each one (docs/decisions/0012). Call it once, at the start.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: both calls set a number in the allocator; nothing else runs yet.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, -1);
    }
}
