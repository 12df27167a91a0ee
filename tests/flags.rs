//! Odd values for every flag of every subcommand, through the program: each ends soon, with its work done or
//! with an error, never with a panic.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails says so")]

mod common;

use common::flags::{Subcommand, Value, subcommands};
use common::{TINY, program_in_shell, resnet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use tempfile::tempdir;

const LARGEST: &str = "9223372036854775807";

/// Numbers and other text.
const ODD: [&str; 6] = ["", "-1", "0", "nan", LARGEST, "\u{1b}[31m"];

const ODD_WORDS: [&str; 2] = ["", "\u{1b}[31m"];

/// What lies in the folder that the program is started in.
const ODD_PATHS: [&str; 5] = ["", "missing", "folder", "fifo", "device"];

/// Flags of `bench` for which a huge number is not odd: it is measured for as long as the user wants.
const STEPS: [&str; 2] = ["--steps", "--warmup-steps"];

/// Arguments with which a subcommand is soon done. A later flag overrides one of these.
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
        _ => words.to_owned(),
    }
}

/// A folder with a run in it, and with what is no file.
fn prepare(folder: &Path) {
    let run = folder.join("run");
    resnet(&format!("{} --quiet --run-dir", arguments("train")), &[&run]).success();
    fs::create_dir(folder.join("folder")).unwrap();
    assert!(Command::new("mkfifo").arg(folder.join("fifo")).status().unwrap().success());
    symlink("/dev/zero", folder.join("device")).unwrap();
}

fn values(value: &Value) -> &'static [&'static str] {
    match value {
        Value::Nothing => &[],
        Value::Word(_) => &ODD_WORDS,
        Value::Number | Value::Text => &ODD,
        Value::Path => &ODD_PATHS,
    }
}

fn try_flags(subcommand: &Subcommand, folder: &Path) {
    let words = &subcommand.words;
    for flag in &subcommand.flags {
        let name = &flag.names[0];
        for value in values(&flag.value) {
            if words == "bench" && STEPS.contains(&name.as_str()) && *value == LARGEST {
                continue;
            }
            // Little memory and time, so that a fault ends the test and not the machine.
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
fn every_flag_takes_odd_values_or_refuses_them() {
    let folder = tempdir().unwrap();
    prepare(folder.path());
    let subcommands = subcommands();
    let (train, others): (Vec<_>, Vec<_>) = subcommands.iter().partition(|s| s.words == "train");
    // `train` has half of the flags.
    std::thread::scope(|scope| {
        for part in [train, others] {
            scope.spawn(|| {
                part.into_iter().for_each(|subcommand| try_flags(subcommand, folder.path()))
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
