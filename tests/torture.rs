//! A run that is stopped repeatedly at random moments ends like an uninterrupted run. The normal tests stop runs a
//! few times; `scripts/torture` does so hundreds of times.

#![allow(clippy::unwrap_used, reason = "clippy allows it in tests, but not in their helpers")]
#![allow(clippy::indexing_slicing, clippy::print_stdout, reason = "tests may panic and print")]

mod common;

use common::inject::{Fate, Injector};
use common::runs::{Signal, assert_best_is_in_the_last_line, assert_same_run, wait_for};
use common::{TINY, program, resnet};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tempfile::tempdir;

/// Recipes that together use every part of a run's state.
const RECIPES: [&str; 8] = [
    "--epochs 3 --limit-batches 30 --checkpoint-every 7steps --keep 2",
    "--epochs 3 --limit-batches 30 --checkpoint-every 12steps --accumulate 2 --validation 1000 --ema-decay 0.9 \
     --schedule one-cycle --lr 0.2",
    "--epochs 4 --limit-batches 20 --checkpoint-every 1epochs --schedule step --nesterov false \
     --augment flip --keep 1",
    "--epochs 3 --limit-batches 30 --checkpoint-every 1s --momentum 0 --clip-grad-norm 1 \
     --validation 600 --eval-every 2",
    "--epochs 3 --limit-batches 20 --checkpoint-every 3steps --augment \
     alternating-flip,reflect-crop:2,trivial,mixup,cutmix,erase,cutout:4 --mix-epochs 2 --swa-epochs 1.5 \
     --optimizer adamw --lr 0.002",
    "--epochs 3 --limit-batches 20 --checkpoint-every 3steps --augment rotate:10,scale:0.1,erase \
     --optimizer lars --lr 2 --rates decay=0.9 --momentum-end 0.95 --weight-decay-end 0.001 \
     --sizes 6:0.5 --ema-decay 0.9 --validation 500 --patience 1",
    // bf16 and fp16 are emulated on many machines, so these runs have fewer steps.
    "--epochs 2 --limit-batches 6 --checkpoint-every 2steps --precision bf16 --schedule constant",
    "--epochs 2 --limit-batches 4 --checkpoint-every 1steps --precision fp16",
];

/// The longest time in seconds before a process gets its signal.
const LONGEST_LIFE: f64 = 2.0;

fn setting<T: std::str::FromStr>(name: &str, default: T) -> T {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a valid number")),
        Err(_) => default,
    }
}

/// How a process ended.
struct Life {
    code: Option<i32>,
    signalled: bool,
}

/// Starts the program and sends it a signal after a random time, if it still runs then.
fn live(arguments: &str, path: &Path, signal: Signal, random: &mut ChaCha8Rng) -> Life {
    let life = Duration::from_secs_f64(random.random_range(0.0..LONGEST_LIFE));
    let start = Instant::now();
    let mut process = program(arguments).arg(path).spawn(Stdio::null());
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

/// Trains complete runs, and sends them signals at random moments until it has sent `signals` signals. Compares each
/// finished run with an uninterrupted run. The first run has the recipe with index `first_recipe`.
fn torture(signal: Signal, signals: u64, seed: u64, first_recipe: usize) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let (mut sent, mut runs, mut starts) = (0, 0, 0);
    while sent < signals {
        let recipe = RECIPES[(first_recipe + runs) % RECIPES.len()];
        let folder = tempdir().unwrap();
        let (whole, run) = (folder.path().join("whole"), folder.path().join("run"));
        let first = format!("{TINY} {recipe} --quiet --seed {runs} --run-dir");
        resnet(&first, &[&whole]).success();
        let foreign = Foreign::new(folder.path());
        let mut seen = false;
        loop {
            assert!(starts < 100 * (signals + 1), "{recipe}: the run does not end (seed {seed})");
            // If the link `last` existed once, it must never be missing later.
            let resumes = fs::symlink_metadata(run.join("checkpoints/last")).is_ok();
            assert!(resumes || !seen, "{recipe}: the last checkpoint is lost (seed {seed})");
            seen = resumes;
            let arguments = match resumes {
                true => "train --offline --quiet --resume",
                false => {
                    // Before its first checkpoint a run cannot be resumed.
                    let _ = fs::remove_dir_all(&run);
                    &first
                }
            };
            if resumes {
                foreign.put_into(&run);
            }
            let life = live(arguments, &run, signal, &mut random);
            starts += 1;
            sent += u64::from(life.signalled);
            match (life.code, signal) {
                // The run is complete, or it was complete before.
                (Some(0), _) => break,
                (Some(2), _) if resumes && is_done(&run) => break,
                (None, _) if life.signalled => {}
                (Some(130), Signal::Int | Signal::Term) if life.signalled => {}
                (code, _) => panic!("{recipe}: exit code {code:?}, seed {seed}"),
            }
        }
        assert_same_run(&run, &whole);
        foreign.assert_untouched(&run);
        let best = |run: &Path| fs::read_link(run.join("checkpoints/best")).unwrap();
        assert_eq!(best(&run), best(&whole), "{recipe}");
        runs += 1;
    }
    println!(
        "{signal:?} sent {sent} times to {starts} processes of {runs} runs (seed {seed}): all results equal"
    );
}

/// Files that do not belong to the run: a file and a folder that are the targets of links in the run's folder, and
/// the user's own folders among the checkpoints.
struct Foreign {
    file: PathBuf,
    folder: PathBuf,
}

impl Foreign {
    const TEXT: &str = "not of a run\n";
    const FOLDERS: [&str; 5] = ["007", "1000000", "3.replaced", "notes.replaced", ".writing-notes"];
    const LINKS: [&str; 3] =
        [".writing-config.toml", ".writing-metrics.jsonl", "checkpoints/.writing-last"];

    fn new(beside: &Path) -> Self {
        let (file, folder) = (beside.join("file"), beside.join("folder"));
        fs::create_dir(&folder).unwrap();
        for path in [file.clone(), folder.join("state.json"), folder.join("note")] {
            fs::write(path, Self::TEXT).unwrap();
        }
        Self { file, folder }
    }

    fn put_into(&self, run: &Path) {
        for name in Self::FOLDERS {
            let folder = run.join("checkpoints").join(name);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("note"), Self::TEXT).unwrap();
        }
        // The program removes such links. A killed process may have left a file in the place of a link.
        for name in Self::LINKS {
            let _ = symlink(&self.file, run.join(name));
        }
        for step in 1..100 {
            let _ = symlink(&self.folder, run.join(format!("checkpoints/.writing-{step}")));
        }
    }

    fn assert_untouched(&self, run: &Path) {
        let is_whole = |path: &Path| fs::read_to_string(path).is_ok_and(|text| text == Self::TEXT);
        assert!(is_whole(&self.file) && is_whole(&self.folder.join("state.json")));
        assert_eq!(fs::read_dir(&self.folder).unwrap().count(), 2);
        if run.join("checkpoints/007").exists() {
            for name in Self::FOLDERS {
                assert!(is_whole(&run.join("checkpoints").join(name).join("note")), "{name}");
            }
        }
    }
}

/// Whether a run was killed between its last checkpoint and its last line.
fn is_done(run: &Path) -> bool {
    let state = fs::read_to_string(run.join("checkpoints/last/state.json")).unwrap();
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    state["epoch"].as_u64() == state["config"]["train"]["epochs"].as_u64()
}

#[test]
fn a_run_that_is_killed_at_random_moments_ends_like_an_uninterrupted_run() {
    torture(Signal::Kill, setting("RESNET_TORTURE_KILLS", 5), setting("RESNET_TORTURE_SEED", 1), 0);
}

#[test]
fn a_run_that_is_interrupted_at_random_moments_ends_like_an_uninterrupted_run() {
    torture(
        Signal::Int,
        setting("RESNET_TORTURE_INTERRUPTS", 3),
        setting("RESNET_TORTURE_SEED", 2),
        1,
    );
}

#[test]
fn a_run_that_is_terminated_at_random_moments_ends_like_an_uninterrupted_run() {
    torture(Signal::Term, setting("RESNET_TORTURE_TERMS", 2), setting("RESNET_TORTURE_SEED", 3), 3);
}

/// Trains runs in which a system call that changes the run's folder fails, alone or with all later calls, or in which
/// the process is killed at this call. Compares what was saved, in the folder or elsewhere, with an uninterrupted
/// run.
#[test]
fn an_error_or_a_kill_at_a_system_call_loses_nothing() {
    let (errors, seed) = (setting("RESNET_TORTURE_ERRORS", 12), setting("RESNET_TORTURE_SEED", 5));
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let injector = Injector::new();
    let mut ends = [0; 4];
    for (index, recipe) in [RECIPES[0], RECIPES[2], RECIPES[1]].into_iter().enumerate() {
        let folder = tempdir().unwrap();
        let whole = folder.path().join("whole");
        let first = format!("{TINY} {recipe} --quiet --run-dir");
        let count = program(&first).arg(&whole);
        injector.arm(count, &whole, "", 0, Fate::NoSpace, false).run().success();
        let calls = injector.count();
        for number in (index..errors).step_by(3) {
            let (run, rescue) = (folder.path().join("run"), folder.path().join("rescue"));
            fs::create_dir(&rescue).unwrap();
            let at = random.random_range(1..=calls);
            let fate = Fate::ALL[random.random_range(0..Fate::ALL.len())];
            let lasting = random.random_ratio(1, 4);
            let case =
                format!("{recipe}: call {at} of {calls}, {fate:?}, lasting {lasting}, seed {seed}");
            let process = program(&first).arg(&run).env("TMPDIR", &rescue).env("HOME", &rescue);
            let code = injector.arm(process, &run, "", at, fate, lasting).run().code;
            let rescued = fs::read_dir(&rescue).unwrap().next().map(|entry| entry.unwrap().path());
            let (end, place) = match (code, rescued) {
                (Some(0), None) => (0, Some(run.clone())),
                (Some(1), Some(rescued)) => (1, Some(rescued)),
                (Some(1), None) | (None, _) if run.join("checkpoints/last").exists() => {
                    let resumed = resnet("train --offline --quiet --resume", &[&run]);
                    // The run was killed before or after it wrote its last line.
                    assert!(matches!(resumed.code, Some(0 | 2)), "{case}: {}", resumed.stderr);
                    (2, Some(run.clone()))
                }
                // The run had not started.
                (Some(1 | 2), None) => (3, None),
                (None, _) if fate == Fate::Killed => (3, None),
                (code, rescued) => panic!("{case}: {code:?}, {rescued:?}"),
            };
            if let Some(place) = place {
                println!("{number}: {case}");
                // With held-out images, the best checkpoint depends on which checkpoints could be saved.
                match recipe.contains("--validation") {
                    true => assert_best_is_in_the_last_line(&place),
                    false => assert_same_run(&place, &whole),
                }
            }
            ends[end] += 1;
            let _ = fs::remove_dir_all(&run);
            fs::remove_dir_all(&rescue).unwrap();
        }
    }
    println!(
        "{errors} calls failed (seed {seed}): {} runs saved in their folder, {} elsewhere, {} resumed, all results equal; {} had not started",
        ends[0], ends[1], ends[2], ends[3]
    );
}

/// `RESNET_TORTURE_DISK` must name a folder on a disk of one or two megabytes.
#[test]
#[ignore = "scripts/torture --disks runs it on a small disk of its own"]
fn a_disk_that_is_full_repeatedly_loses_nothing() {
    let disk = std::env::var_os("RESNET_TORTURE_DISK").expect("RESNET_TORTURE_DISK names a folder");
    let (run, filler) = (Path::new(&disk).join("run"), Path::new(&disk).join("filler"));
    let seed = setting("RESNET_TORTURE_SEED", 4);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let rounds = setting("RESNET_TORTURE_DISKS", 8);
    let (mut fills, mut in_place, mut elsewhere) = (0, 0, 0);
    for round in 0..rounds {
        // With held-out images, the best checkpoint depends on which checkpoints could be saved.
        let recipe = RECIPES.iter().filter(|recipe| !recipe.contains("--validation"));
        let recipe = recipe.cycle().nth(round).unwrap();
        let folder = tempdir().unwrap();
        let (whole, rescue) = (folder.path().join("whole"), folder.path().join("rescue"));
        fs::create_dir(&rescue).unwrap();
        let first = format!("{TINY} {recipe} --quiet --seed {round} --run-dir");
        resnet(&first, &[&whole]).success();
        let _ = fs::remove_dir_all(&run);
        let mut process = program(&first).arg(&run).env("TMPDIR", &rescue).spawn(Stdio::null());
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
        "the disk was full {fills} times in {rounds} runs (seed {seed}): {in_place} saved in their folder, {elsewhere} elsewhere, all results equal"
    );
}

/// Writes until the disk is full.
fn fill(path: &Path) {
    let mut file = fs::File::create(path).unwrap();
    while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
}
