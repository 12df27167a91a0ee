//! Replaces the C library's `posix_memalign` and `free`. libtorch and oneDNN call these functions too: they
//! allocate all tensors and scratch memory with `posix_memalign`. Each block ends at the end of a page, and the
//! next page cannot be accessed. The rest of the block's pages holds a pattern, which is checked when the block is
//! freed.

use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::ptr;
use std::slice;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

const PAGE: usize = 4096;
/// Bytes of address space for all blocks. No address is used twice, so the address of a freed block never belongs
/// to another block.
const REGION: usize = 1 << 42;
const PATTERN: u8 = 0xA5;

/// The start of the region. 0 before the first block.
static START: AtomicUsize = AtomicUsize::new(0);
/// The address of the first unused page of the region. 0 before the first block.
static NEXT: Mutex<usize> = Mutex::new(0);
/// The size of each block in bytes, by its address.
static BLOCKS: Mutex<Option<HashMap<usize, usize>>> = Mutex::new(None);

unsafe extern "C" {
    fn __libc_free(pointer: *mut c_void);
}

/// The number of blocks. It stays 0 if libtorch does not call the functions of this file.
pub fn count() -> usize {
    let blocks = BLOCKS.lock().unwrap_or_else(PoisonError::into_inner);
    blocks.as_ref().map_or(0, HashMap::len)
}

/// Makes new pages of `length` bytes in all accessible, and returns their address. The pages before and after them
/// cannot be accessed.
fn pages(length: usize) -> Option<usize> {
    let mut next = NEXT.lock().unwrap_or_else(PoisonError::into_inner);
    if *next == 0 {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping that nobody uses yet.
        let start = unsafe { libc::mmap(ptr::null_mut(), REGION, libc::PROT_NONE, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return None;
        }
        *next = start as usize;
        START.store(*next, Ordering::Release);
    }
    let first = *next + PAGE;
    if first + length + PAGE > START.load(Ordering::Acquire) + REGION {
        return None;
    }
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: the pages are in the region, and no block uses them.
    let done = unsafe { libc::mprotect(first as *mut c_void, length, access) };
    *next = first + length;
    (done == 0).then_some(first)
}

#[unsafe(no_mangle)]
extern "C" fn posix_memalign(to: *mut *mut c_void, alignment: usize, bytes: usize) -> c_int {
    let length = bytes.max(1).div_ceil(PAGE) * PAGE;
    let Some(first) = pages(length) else { return libc::ENOMEM };
    assert!(alignment <= PAGE, "an alignment of {alignment} bytes is larger than a page");
    let block = (first + length - bytes) & !(alignment - 1);
    // SAFETY: the pages belong to this block.
    unsafe {
        ptr::write_bytes(first as *mut u8, PATTERN, length);
        *to = block as *mut c_void;
    }
    let mut blocks = BLOCKS.lock().unwrap_or_else(PoisonError::into_inner);
    blocks.get_or_insert_default().insert(block, bytes);
    0
}

#[unsafe(no_mangle)]
extern "C" fn free(pointer: *mut c_void) {
    let (block, start) = (pointer as usize, START.load(Ordering::Acquire));
    if start == 0 || !(start..start + REGION).contains(&block) {
        // SAFETY: the pointer came from the C library's allocator.
        return unsafe { __libc_free(pointer) };
    }
    let mut blocks = BLOCKS.lock().unwrap_or_else(PoisonError::into_inner);
    let bytes = blocks.as_mut().and_then(|blocks| blocks.remove(&block));
    drop(blocks);
    let bytes = bytes.unwrap_or_else(|| panic!("the program frees memory that was not allocated"));
    let end = (block + bytes.max(1)).div_ceil(PAGE) * PAGE;
    let first = block / PAGE * PAGE;
    // SAFETY: the pages belonged to this block, and nothing uses them any more.
    unsafe {
        let around = |from: usize, to: usize| slice::from_raw_parts(from as *const u8, to - from);
        for rest in [around(first, block), around(block + bytes, end)] {
            assert!(
                rest.iter().all(|&byte| byte == PATTERN),
                "the program wrote outside a block of {bytes} bytes"
            );
        }
        let length = end - first;
        libc::madvise(first as *mut c_void, length, libc::MADV_DONTNEED);
        libc::mprotect(first as *mut c_void, length, libc::PROT_NONE);
    }
}
