//! The program under limits of the system: on memory, open files, the size of a file, processors.

#![allow(clippy::unwrap_used, reason = "clippy allows it in tests, but not in their helpers")]

mod common;

use common::{Ran, TINY, program_in_shell, resnet};
use std::fs;
use std::path::Path;
use tempfile::tempdir;

/// Runs the program after the command `before` in the same shell. The arguments are split at spaces.
fn limited(before: &str, arguments: &str, folder: &Path) -> Ran {
    let program = program_in_shell(&format!("{before} && exec"), arguments);
    program.within(folder).env("RUST_BACKTRACE", "0").run()
}

/// The smallest limit on address space, in KiB, under which the program can start.
fn mapped_at_start(folder: &Path) -> u64 {
    let first_to_start = (350_000..600_000)
        .step_by(10_000)
        .find(|limit| limited(&format!("ulimit -v {limit}"), "shapes", folder).code == Some(0));
    first_to_start.unwrap()
}

#[test]
fn too_little_memory_is_an_error_that_says_what_fits() {
    let folder = tempdir().unwrap();
    let start = mapped_at_start(folder.path());
    let with_mib = |mib: u64, arguments: &str| {
        limited(&format!("ulimit -v {}", start + 1024 * mib), arguments, folder.path())
    };
    let large = "--device cpu --threads 2 --size 96 --precision fp32 --batch-size 256";
    let train = format!("train --offline {large} --run-dir run");
    let bench = format!("bench {large}");
    with_mib(800, &train).fails_with(2, &["--batch-size 256", "`ulimit -v`", "--accumulate"]);
    assert!(!folder.path().join("run").exists());
    with_mib(800, &bench).fails_with(2, &["--batch-size 256", "`ulimit -v`", " fits"]);
    let inference = format!("{bench} --mode inference");
    with_mib(480, &inference).fails_with(2, &["--batch-size 256", "`ulimit -v`", " fits"]);
    with_mib(0, &bench).fails_with(2, &["--batch-size 256", "too little for one image"]);
    limited(&format!("ulimit -v {}", start - 10_000), "shapes", folder.path())
        .fails_with(1, &["`ulimit -v`", "MiB of memory"]);
    // Each thread has a stack, here of 1 GB.
    let stacks = format!("ulimit -s 1000000 && ulimit -v {}", start + 2_000_000);
    let small = "bench --device cpu --blocks 1,1,1 --size 8 --batch-size 4 --steps 1 --threads";
    limited(&stacks, &format!("{small} 3"), folder.path()).fails_with(2, &["`ulimit -v`"]);
    limited(&stacks, &format!("{small} 1"), folder.path()).success();
    // The batch size that the message suggests fits.
    let message = with_mib(500, &bench).stderr;
    let fits = message.rsplit("--batch-size ").next().unwrap().split(' ').next().unwrap();
    let bench = bench.replace("256", fits);
    with_mib(500, &format!("{bench} --steps 1 --warmup-steps 0")).success();
}

#[test]
fn too_few_open_files_are_an_error() {
    let folder = tempdir().unwrap();
    for command in ["doctor", "shapes", "bench"] {
        limited("ulimit -n 4", command, folder.path()).fails_with(1, &["4 files", "ulimit -n"]);
    }
    limited(
        "ulimit -n 16",
        "bench --blocks 1,1,1 --size 8 --batch-size 4 --steps 1",
        folder.path(),
    )
    .success();
}

#[test]
fn a_limit_on_file_size_is_an_error_that_names_the_checkpoint() {
    let folder = tempdir().unwrap();
    let arguments = format!("{TINY} --epochs 1 --limit-batches 1 --run-dir run");
    // The limit is in blocks of 1024 bytes. The file of weights is larger.
    let failed = limited("ulimit -f 40", &arguments, folder.path());
    assert!(failed.stderr.contains("File too large"), "{}", failed.stderr);
    failed.fails_with(
        1,
        &["cannot write the checkpoint run/checkpoints/1", "could be saved neither in"],
    );
    assert!(folder.path().join("run/metrics.jsonl").is_file());
    assert!(fs::read_dir(folder.path().join("run/checkpoints")).unwrap().next().is_none());
}

#[test]
fn too_many_threads_are_refused() {
    let processors = std::thread::available_parallelism().unwrap().get();
    let (most, more) = (4 * processors, 4 * processors + 1);
    for command in ["train --offline", "bench", "eval nowhere"] {
        let wrong = format!("{command} --threads {more}");
        let expected = format!("from 1 to {most}");
        resnet(&wrong, &[]).fails_with(2, &[&format!("--threads {more}"), &expected]);
    }
}
