//! A run that is killed again and again at random moments ends as the run that was not. A few kills in
//! each run of the tests; `scripts/torture` for hundreds.

#![allow(clippy::unwrap_used, reason = "clippy takes no helper for a part of a test")]
#![allow(clippy::indexing_slicing, clippy::print_stdout, reason = "a test that fails says so")]

mod common;

use common::runs::{Signal, assert_same_run, spawn, wait_for};
use common::{TINY, resnet};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tempfile::tempdir;

/// Recipes that between them use every part of a run's state.
const RECIPES: [&str; 6] = [
    "--epochs 3 --limit-batches 30 --checkpoint-every 7steps --keep 2",
    "--epochs 3 --limit-batches 30 --checkpoint-every 12steps --accumulate 2 --validation 1000 --ema-decay 0.9 \
     --schedule one-cycle --lr 0.2",
    "--epochs 4 --limit-batches 20 --checkpoint-every 1epochs --schedule step --nesterov false \
     --augment flip --keep 1",
    "--epochs 3 --limit-batches 30 --checkpoint-every 1s --momentum 0 --clip-grad-norm 1 \
     --validation 600 --eval-every 2",
    // Emulated on many machines: fewer steps.
    "--epochs 2 --limit-batches 6 --checkpoint-every 2steps --precision bf16 --schedule constant",
    "--epochs 2 --limit-batches 4 --checkpoint-every 1steps --precision fp16",
];

/// How long a process lives at most, in seconds, before its signal comes.
const LONGEST_LIFE: f64 = 2.0;

fn setting<T: std::str::FromStr>(name: &str, default: T) -> T {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is no such number")),
        Err(_) => default,
    }
}

/// What became of a process.
struct Life {
    code: Option<i32>,
    signalled: bool,
}

/// Starts the program and sends it a signal after a random time, if it still runs then.
fn live(arguments: &str, path: &Path, signal: Signal, random: &mut ChaCha8Rng) -> Life {
    let life = Duration::from_secs_f64(random.random_range(0.0..LONGEST_LIFE));
    let start = Instant::now();
    let mut process = spawn(arguments, path, Stdio::null());
    let mut signalled = false;
    loop {
        if let Some(status) = process.try_wait().unwrap() {
            return Life { code: status.code(), signalled };
        }
        if !signalled && start.elapsed() >= life {
            signal.send(&process);
            signalled = true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Trains whole runs, beginning with one recipe, with signals at random moments until `signals` were sent,
/// and compares each run's end with that of one that was left alone.
fn torture(signal: Signal, signals: u64, seed: u64, first_recipe: usize) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let (mut sent, mut runs, mut starts) = (0, 0, 0);
    while sent < signals {
        let recipe = RECIPES[(first_recipe + runs) % RECIPES.len()];
        let folder = tempdir().unwrap();
        let (whole, run) = (folder.path().join("whole"), folder.path().join("run"));
        let first = format!("{TINY} {recipe} --quiet --seed {runs} --run-dir");
        resnet(&first, &[&whole]).success();
        let mut seen = false;
        loop {
            assert!(starts < 100 * (signals + 1), "{recipe}: no end (seed {seed})");
            // A link that was there once must always lead to a checkpoint.
            let resumes = fs::symlink_metadata(run.join("checkpoints/last")).is_ok();
            assert!(resumes || !seen, "{recipe}: the last checkpoint is lost (seed {seed})");
            seen = resumes;
            let arguments = match resumes {
                true => "train --offline --quiet --resume",
                false => {
                    // Before its first checkpoint a run has nothing to go on from.
                    let _ = fs::remove_dir_all(&run);
                    &first
                }
            };
            let life = live(arguments, &run, signal, &mut random);
            starts += 1;
            sent += u64::from(life.signalled);
            match (life.code, signal) {
                // Done, or there was nothing left to do.
                (Some(0), _) => break,
                (Some(2), _) if resumes && is_done(&run) => break,
                (None, _) if life.signalled => {}
                (Some(130), Signal::Int | Signal::Term) if life.signalled => {}
                (code, _) => panic!("{recipe}: exit code {code:?}, seed {seed}"),
            }
        }
        assert_same_run(&run, &whole);
        let best = |run: &Path| fs::read_link(run.join("checkpoints/best")).unwrap();
        assert_eq!(best(&run), best(&whole), "{recipe}");
        runs += 1;
    }
    println!(
        "{sent} times {signal:?} in {starts} processes of {runs} runs (seed {seed}): all equal"
    );
}

/// Whether a run was killed between its last checkpoint and its last line.
fn is_done(run: &Path) -> bool {
    let state = fs::read_to_string(run.join("checkpoints/last/state.json")).unwrap();
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    state["epoch"].as_u64() == state["config"]["train"]["epochs"].as_u64()
}

#[test]
fn a_run_that_is_killed_at_random_moments_ends_as_the_run_that_was_not() {
    torture(Signal::Kill, setting("RESNET_TORTURE_KILLS", 5), setting("RESNET_TORTURE_SEED", 1), 0);
}

#[test]
fn a_run_that_is_interrupted_at_random_moments_ends_as_the_run_that_was_not() {
    torture(
        Signal::Int,
        setting("RESNET_TORTURE_INTERRUPTS", 3),
        setting("RESNET_TORTURE_SEED", 2),
        1,
    );
}

#[test]
fn a_run_that_is_terminated_at_random_moments_ends_as_the_run_that_was_not() {
    torture(Signal::Term, setting("RESNET_TORTURE_TERMS", 2), setting("RESNET_TORTURE_SEED", 3), 3);
}

/// Needs a folder on a disk of a megabyte or two, in `RESNET_TORTURE_DISK`.
#[test]
#[ignore = "scripts/torture --disks runs it on a small disk of its own"]
fn a_disk_that_fills_again_and_again_loses_nothing() {
    let disk = std::env::var_os("RESNET_TORTURE_DISK").expect("RESNET_TORTURE_DISK names a folder");
    let (run, filler) = (Path::new(&disk).join("run"), Path::new(&disk).join("filler"));
    let seed = setting("RESNET_TORTURE_SEED", 4);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let rounds = setting("RESNET_TORTURE_DISKS", 8);
    let (mut fills, mut in_place, mut elsewhere) = (0, 0, 0);
    for round in 0..rounds {
        // Which checkpoint is the best on held-out images depends on which could be saved.
        let recipe = RECIPES.iter().filter(|recipe| !recipe.contains("--validation"));
        let recipe = recipe.cycle().nth(round).unwrap();
        let folder = tempdir().unwrap();
        let (whole, rescue) = (folder.path().join("whole"), folder.path().join("rescue"));
        fs::create_dir(&rescue).unwrap();
        let first = format!("{TINY} {recipe} --quiet --seed {round} --run-dir");
        resnet(&first, &[&whole]).success();
        let _ = fs::remove_dir_all(&run);
        let mut command = common::runs::command(&first, &run);
        let mut process = command.env("TMPDIR", &rescue).stderr(Stdio::null()).spawn().unwrap();
        wait_for(&run.join("checkpoints/last"), &mut process);
        let mut pause = |process: &mut std::process::Child| {
            let end = Instant::now() + Duration::from_secs_f64(random.random_range(0.0..1.0));
            while Instant::now() < end {
                if let Some(status) = process.try_wait().unwrap() {
                    return Some(status);
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            None
        };
        let status = loop {
            fill(&filler);
            fills += 1;
            if let Some(status) = pause(&mut process) {
                break status;
            }
            fs::remove_file(&filler).unwrap();
            if let Some(status) = pause(&mut process) {
                break status;
            }
        };
        let _ = fs::remove_file(&filler);
        match status.code() {
            Some(0) => {
                assert_same_run(&run, &whole);
                in_place += 1;
            }
            Some(1) => {
                let rescued = fs::read_dir(&rescue).unwrap().next().unwrap().unwrap().path();
                assert_same_run(&rescued, &whole);
                elsewhere += 1;
            }
            code => panic!("{recipe}: exit code {code:?}, seed {seed}"),
        }
    }
    println!(
        "the disk was full {fills} times in {rounds} runs (seed {seed}): {in_place} saved in their folder, {elsewhere} elsewhere, all equal"
    );
}

/// Writes until the disk is full.
fn fill(path: &Path) {
    let mut file = fs::File::create(path).unwrap();
    while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
}
