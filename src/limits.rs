//! The system's limits for this process: memory, open files, processors.

use crate::libtorch;
use anyhow::{Result, ensure};
use rustix::param::page_size;
use rustix::process::{Resource, getrlimit};
use std::fmt;
use std::fs;
use sysinfo::System;

/// The least number of files that the process must be able to have open at the same time: the files of the data set,
/// the run, its checkpoint and the system's libraries.
const MIN_FILES: u64 = 16;
/// The memory in bytes that a command needs at its start, in addition to libtorch.
const MIN_MEMORY: u64 = 32 << 20;

/// Prepares the process for the system's limits, and refuses limits that are too low for any command. Afterwards, a
/// write that makes a file larger than the limit is an error; by default it would end the process.
///
/// # Errors
/// The limits allow too few files or too little memory for any command.
pub fn prepare() -> Result<()> {
    // SAFETY: the call only sets a signal to be ignored; no handler runs.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    ensure!(
        files >= MIN_FILES,
        "only {files} files may be open at the same time, but at least {MIN_FILES} are needed; `ulimit -n` shows the limit"
    );
    for Left { bytes, command, .. } in limits_of_memory() {
        ensure!(
            bytes >= MIN_MEMORY,
            "the limit that `{command}` shows leaves {} MiB of memory besides libtorch; every command needs at least {} MiB, and training needs several hundred MiB",
            bytes >> 20,
            MIN_MEMORY >> 20
        );
    }
    Ok(())
}

/// The total memory that this process can use, including the memory that it uses already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreeMemory {
    /// In bytes.
    pub bytes: u64,
    /// The command that shows the limit, if it is a limit of the process and not of the machine.
    limit: Option<&'static str>,
}

impl FreeMemory {
    /// Memory that only the machine limits.
    pub fn of_machine(bytes: u64) -> Self {
        Self { bytes, limit: None }
    }
}

/// Such as `1.5 GiB are free`.
impl fmt::Display for FreeMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} GiB are free", gib(self.bytes))?;
        self.limit.map_or(Ok(()), |command| write!(f, " within the limit that `{command}` shows"))
    }
}

/// Bytes in GiB.
pub fn gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

/// The memory that this process can use, within its own limits and those of its control group. None if the system does
/// not say.
pub fn free_memory() -> Option<FreeMemory> {
    let mut system = System::new();
    system.refresh_memory();
    let available = Some(system.available_memory()).filter(|bytes| *bytes > 0);
    // Cached files count against a control group, but the system frees them when memory is needed.
    let group = system.cgroup_limits().map(|limits| limits.total_memory.saturating_sub(limits.rss));
    let machine = available.into_iter().chain(group).map(FreeMemory::of_machine);
    // Memory that must stay free for everything other than tensors.
    let others = stacks().saturating_add(libtorch::MEMORY_RESERVE as u64);
    let limits = limits_of_memory().into_iter().map(|left| FreeMemory {
        bytes: left.bytes.saturating_sub(others) + left.used,
        limit: Some(left.command),
    });
    machine.chain(limits).min_by_key(|free| free.bytes)
}

/// The memory that this process uses, in bytes, without the pages of files. None if the system does not say.
pub fn used_memory() -> Option<u64> {
    mapped().map(|[_, used, _]| used)
}

/// The memory that a limit of the process leaves free.
struct Left {
    bytes: u64,
    /// Bytes that the process has in memory already, without the pages of files. How many pages of libtorch's files a
    /// process holds depends on what the system has cached: from 30 to 300 MiB.
    used: u64,
    command: &'static str,
}

/// The memory that the limits on the address space and on the data segment leave free. Empty if there are no limits.
fn limits_of_memory() -> Vec<Left> {
    let Some([size, used, data]) = mapped() else { return Vec::new() };
    let limits = [(Resource::As, size, "ulimit -v"), (Resource::Data, data, "ulimit -d")];
    let left = |(resource, mapped, command)| {
        let bytes = getrlimit(resource).current?.saturating_sub(mapped);
        Some(Left { bytes, used, command })
    };
    limits.into_iter().filter_map(left).collect()
}

/// Bytes of the stacks of the threads that libtorch computes with.
fn stacks() -> u64 {
    /// The stack of a thread if there is no limit, in bytes.
    const UNLIMITED: u64 = 2 << 20;
    let threads = u64::try_from(tch::get_num_threads()).unwrap_or(1);
    threads.saturating_mul(getrlimit(Resource::Stack).current.unwrap_or(UNLIMITED))
}

/// The sizes in bytes of this process's address space, of the part in physical memory without the pages of files, and
/// of its data segment.
fn mapped() -> Option<[u64; 3]> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let page = page_size() as u64;
    let bytes = |field| Some(text.split_whitespace().nth(field)?.parse::<u64>().ok()? * page);
    Some([bytes(0)?, bytes(1)?.saturating_sub(bytes(2)?), bytes(5)?])
}

/// Physical cores of this machine; a second hardware thread on a core does not count. None if the system does not say.
pub fn physical_cores() -> Option<usize> {
    System::physical_core_count().filter(|count| *count > 0)
}

/// Processors that this process may use; a container or `taskset` can limit them. None if the system does not say.
pub fn processors() -> Option<usize> {
    std::thread::available_parallelism().ok().map(usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_limit_leaves_is_told_with_the_command_that_shows_it() {
        let half = FreeMemory { bytes: 1 << 29, limit: Some("ulimit -v") };
        let text = "0.5 GiB are free within the limit that `ulimit -v` shows";
        assert_eq!(half.to_string(), text);
        assert_eq!(FreeMemory::of_machine(3 << 30).to_string(), "3.0 GiB are free");
        let [size, used, data] = mapped().unwrap();
        assert!(0 < used && used < size && 0 < data && data < size);
    }

    #[test]
    fn the_pages_of_a_file_do_not_count_as_used() {
        let (bytes, half) = (256 << 20, 128 << 20);
        let file = tempfile::tempfile().unwrap();
        file.set_len(bytes as u64).unwrap();
        // SAFETY: nobody else has this file, so it does not change while it is mapped.
        let sum: u8 = unsafe {
            let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
            let (protection, kind) = (libc::PROT_READ, libc::MAP_PRIVATE);
            let start = libc::mmap(std::ptr::null_mut(), bytes, protection, kind, fd, 0);
            assert_ne!(start, libc::MAP_FAILED);
            let pages = std::slice::from_raw_parts(start.cast::<u8>(), bytes);
            pages.iter().step_by(page_size()).sum()
        };
        assert_eq!(sum, 0);
        let [_, used, _] = mapped().unwrap();
        let statm = fs::read_to_string("/proc/self/statm").unwrap();
        let resident: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
        // Other tests of this process change its memory between the two readings, but by less than half a file.
        assert!(used + half < resident * page_size() as u64, "{used} bytes of {resident} pages");
    }
}
