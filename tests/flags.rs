//! Runs every subcommand with unusual values for each of its flags. Each run ends soon, with success or with an
//! error, never with a panic. Each flag gets a few of the values, in turn; `FLAG_VALUES=all` tries all of them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic makes the test fail")]

mod common;

use common::flags::{Flag, Subcommand, Value, subcommands};
use common::{TINY, program_in_shell, resnet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use tempfile::tempdir;

const LARGEST: &str = "9223372036854775807";

/// Unusual numbers and texts.
const ODD: [&str; 6] = ["", "-1", "0", "nan", LARGEST, "\u{1b}[31m"];

const ODD_WORDS: [&str; 2] = ["", "\u{1b}[31m"];

/// Paths in the folder in which the program is started.
const ODD_PATHS: [&str; 5] = ["", "missing", "folder", "fifo", "device"];

/// Flags of `bench` that accept a huge number, because the user decides how long `bench` measures.
const STEPS: [&str; 2] = ["--steps", "--warmup-steps"];

/// Arguments with which a subcommand ends soon. A flag that is added after them overrides the same flag in them.
fn arguments(words: &str) -> String {
    match words {
        "train" => {
            format!("{TINY} --dataset synthetic --epochs 1 --limit-batches 1 --time-limit 1s")
        }
        "eval" => "eval run --offline --device cpu --threads 1".to_owned(),
        "bench" => "bench --device cpu --blocks 1,1,1 --width 8 --size 8 --batch-size 4 --steps 1 \
             --warmup-steps 0 --threads 1"
            .to_owned(),
        "checkpoints" => "checkpoints run".to_owned(),
        "completions" => "completions bash".to_owned(),
        "data fetch" => "data fetch --offline".to_owned(),
        "data show" => "data show --dataset synthetic --count 1 --out sheet.png".to_owned(),
        _ => words.to_owned(),
    }
}

/// Puts a run, a folder, a FIFO and a link to a device into `folder`.
fn prepare(folder: &Path) {
    let run = folder.join("run");
    resnet(&format!("{} --quiet --run-dir", arguments("train")), &[&run]).success();
    fs::create_dir(folder.join("folder")).unwrap();
    assert!(Command::new("mkfifo").arg(folder.join("fifo")).status().unwrap().success());
    symlink("/dev/zero", folder.join("device")).unwrap();
}

/// The values for the flag with that number.
fn values(value: &Value, flag: usize) -> Vec<&'static str> {
    let (all, some): (&[&str], usize) = match value {
        Value::Nothing => (&[], 0),
        Value::Word(_) => (&ODD_WORDS, 1),
        Value::Number | Value::Text => (&ODD, 3),
        Value::Path => (&ODD_PATHS, 2),
    };
    if std::env::var("FLAG_VALUES").is_ok_and(|values| values == "all") {
        return all.to_vec();
    }
    all.iter().copied().cycle().skip(flag).take(some).collect()
}

/// Tries the flags of a subcommand, except those in `tried`, which another subcommand has too.
fn try_flags(subcommand: &Subcommand, tried: &[Flag], folder: &Path) {
    let words = &subcommand.words;
    for (number, flag) in subcommand.flags.iter().enumerate() {
        if tried.iter().any(|other| other.names == flag.names) {
            continue;
        }
        let name = &flag.names[0];
        for value in values(&flag.value, number) {
            if words == "bench" && STEPS.contains(&name.as_str()) && value == LARGEST {
                continue;
            }
            // The limits on memory and time make a faulty program fail the test without harm to the machine.
            let limits = "ulimit -v 8000000; exec timeout 60";
            let program = program_in_shell(limits, &arguments(words)).within(folder);
            let program = program.env("RESNET_DATA", folder.join("folder"));
            let ran = program.arg(format!("{name}={value}")).run();
            let case = format!("{words} {name}={value:?}: {:?} {}", ran.code, ran.stderr);
            assert!(matches!(ran.code, Some(0..=2)), "{case}");
            assert_eq!(ran.code != Some(0), ran.stderr.contains("error: "), "{case}");
            assert!(!ran.stderr.contains('\u{1b}'), "{case}");
            assert!(ran.stderr.lines().count() < 30, "{case}");
            ran.shows_no_trace();
        }
    }
}

#[test]
fn every_flag_accepts_or_refuses_unusual_values() {
    let folder = tempdir().unwrap();
    prepare(folder.path());
    let subcommands = subcommands();
    let (train, others): (Vec<_>, Vec<_>) = subcommands.iter().partition(|s| s.words == "train");
    let settings = train[0].flags.as_slice();
    // `train` has half of the flags, so it gets one of the two threads.
    std::thread::scope(|scope| {
        for part in [train, others] {
            scope.spawn(|| {
                for subcommand in part {
                    // It takes all settings of a run, as `train` does.
                    let tried = if subcommand.words == "find-lr" { settings } else { &[] };
                    try_flags(subcommand, tried, folder.path());
                }
            });
        }
    });
}

#[test]
fn the_flags_of_every_subcommand_are_known() {
    let subcommands = subcommands();
    let words: Vec<&str> = subcommands.iter().map(|s| s.words.as_str()).collect();
    for expected in ["train", "eval", "bench", "data fetch", "data path", "doctor"] {
        assert!(words.contains(&expected), "no {expected} in {words:?}");
    }
    let train = subcommands.iter().find(|s| s.words == "train").unwrap();
    for (name, value) in [
        ("--recompute", Value::Word(vec!["true".to_owned(), "false".to_owned()])),
        ("--lr", Value::Number),
        ("--blocks", Value::Number),
        ("--run-dir", Value::Path),
        ("--time-limit", Value::Text),
        ("--quiet", Value::Nothing),
    ] {
        let flag = train.flags.iter().find(|flag| flag.names[0] == name).unwrap();
        assert_eq!(flag.value, value, "{name}");
    }
    for name in ["--precision", "--deterministic", "--cuda-graphs", "--dataset"] {
        assert!(train.flags.iter().any(|flag| flag.names[0] == name), "{name}");
    }
}
