//! `resnet sweep` from outside: its table, JSON and CSV, how it continues after a signal, and what it refuses.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "clippy allows it in tests, but not in their helpers"
)]

mod common;

use common::runs::{Signal, wait_for};
use common::{program, resnet};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tempfile::tempdir;

const SETTINGS: &str = "[settings]\nblocks = [1, 1, 1]\nwidth = 8\nsize = 12\nbatch-size = 256\n\
    limit-batches = 8\nvalidation = 500\ndevice = \"cpu\"\n";

fn write(folder: &Path, text: &str) -> PathBuf {
    let file = folder.join("sweep.toml");
    fs::write(&file, text).unwrap();
    file
}

fn sweep(file: &Path, flags: &str, dir: &Path) -> common::Ran {
    let flags = format!("sweep {} --offline {flags} --dir", file.display());
    resnet(&flags, &[dir])
}

/// The lines of the metrics of a run, without times.
fn losses(run: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["event"] == "epoch").map(|line| line["train_loss"].clone()).collect()
}

#[test]
fn every_combination_is_trained_with_every_seed_and_the_best_on_held_out_images_comes_first() {
    let folder = tempdir().unwrap();
    let grid = "seeds = [0, 1]\n[grid]\nlr = [1e-6, 0.2]\n";
    let file = write(folder.path(), &format!("{grid}{SETTINGS}epochs = 1\n"));
    let (dir, csv) = (folder.path().join("runs"), folder.path().join("runs.csv"));
    let flags = format!("--json --parallel 2 --csv {}", csv.display());
    let rows = sweep(&file, &flags, &dir).json_lines();
    assert_eq!(rows.len(), 2);
    assert_eq!((&rows[0]["trial"], &rows[0]["settings"]["lr"]), (&2.into(), &0.2.into()));
    assert_eq!((&rows[0]["state"], &rows[0]["runs"]), (&"finished".into(), &2.into()));
    let accuracies: Vec<f64> = [0, 1]
        .map(|seed| {
            let run = dir.join(format!("0002-seed{seed}/metrics.jsonl"));
            let text = fs::read_to_string(run).unwrap();
            let line: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
            line["validation_accuracy"].as_f64().unwrap()
        })
        .into();
    let mean = rows[0]["validation_accuracy"]["mean"].as_f64().unwrap();
    assert!((mean - (accuracies[0] + accuracies[1]) / 2.0).abs() < 1e-9, "{rows:?}");
    let lines = fs::read_to_string(&csv).unwrap();
    let head = "trial,seed,lr,state,epochs,train_loss,train_accuracy,validation_accuracy,test_accuracy,seconds\n";
    assert!(lines.starts_with(head) && lines.lines().count() == 5, "{lines}");
    // Nothing is trained a second time.
    let before = fs::metadata(dir.join("0001-seed0/metrics.jsonl")).unwrap().modified().unwrap();
    let again = sweep(&file, "", &dir).success();
    assert!(again.contains("lr 0.2") && again.contains(" ± "), "{again}");
    let after = fs::metadata(dir.join("0001-seed0/metrics.jsonl")).unwrap().modified().unwrap();
    assert_eq!(before, after);
}

#[test]
fn a_sweep_that_a_signal_stops_continues_without_a_run_lost_or_trained_twice() {
    let folder = tempdir().unwrap();
    let grid = "seeds = [0]\n[grid]\nlr = [0.1, 0.2]\n";
    let text = format!("{grid}{SETTINGS}epochs = 20\ncheckpoint-every = \"1steps\"\n");
    let file = write(folder.path(), &text);
    let (whole, stopped) = (folder.path().join("whole"), folder.path().join("stopped"));
    sweep(&file, "--parallel 2", &whole).success();
    for signal in [Signal::Int, Signal::Kill] {
        let _ = fs::remove_dir_all(&stopped);
        let flags = format!("sweep {} --offline --parallel 2 --dir", file.display());
        let mut running = program(&flags).arg(&stopped).spawn(Stdio::piped());
        wait_for(&stopped.join("0001-seed0/checkpoints/8"), &mut running);
        signal.send(&running);
        let output = running.wait_with_output().unwrap();
        if matches!(signal, Signal::Int) {
            assert_eq!(output.status.code(), Some(130));
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert!(stderr.contains("stopped, and saved; continue with: resnet sweep"), "{stderr}");
        }
        // After a kill, the runs are told by the system to stop, and need a moment to save themselves.
        let mut rows = Vec::new();
        for _ in 0..50 {
            let ran = sweep(&file, "--json", &stopped);
            if ran.code == Some(0) {
                rows = ran.json_lines();
                break;
            }
        }
        assert!(rows.iter().all(|row| row["state"] == "finished"), "{signal:?}: {rows:?}");
        for run in ["0001-seed0", "0002-seed0"] {
            assert_eq!(losses(&stopped.join(run)), losses(&whole.join(run)), "{signal:?}, {run}");
        }
    }
}

#[test]
fn halving_ends_the_trials_that_are_behind() {
    let folder = tempdir().unwrap();
    let grid = "[grid]\nlr = [1e-6, 1e-5, 1e-4, 0.2]\n[halving]\nepochs = 1\n";
    let file = write(folder.path(), &format!("{grid}{SETTINGS}epochs = 3\n"));
    let rows = sweep(&file, "--json", &folder.path().join("runs")).json_lines();
    let epochs: Vec<i64> = rows.iter().map(|row| row["epochs"].as_i64().unwrap()).collect();
    assert_eq!(epochs, [3, 2, 1, 1]);
    assert_eq!(rows[0]["settings"]["lr"], 0.2);
    assert_eq!(rows[3]["state"], "ended early");
}

#[test]
fn wrong_settings_are_refused_before_the_first_run() {
    let folder = tempdir().unwrap();
    let dir = folder.path().join("runs");
    let refused = |text: &str, parts: &[&str]| {
        let file = write(folder.path(), text);
        sweep(&file, "", &dir).fails_with(2, parts);
        assert!(!dir.exists(), "{text}");
    };
    refused("[grid]\nlr = [0.1, -1]\n", &["sweep.toml", "trial 2", "--lr"]);
    refused("[grid]\nbananas = [1]\n", &["sweep.toml", "trial 1", "--bananas"]);
    refused("[halving]\nepochs = 1\n", &["[halving]", "validation"]);
    refused("config = \"missing.toml\"\n", &["missing.toml"]);
    refused("[grid]\nlr = 0.1\n", &["sweep.toml"]);
    let file = write(folder.path(), "seeds = [0]\n");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("mine"), "x").unwrap();
    sweep(&file, "", &dir).fails_with(2, &["--dir", "not empty"]);
    fs::write(dir.join("sweep.toml"), "seeds = [1]\n").unwrap();
    sweep(&file, "", &dir).fails_with(2, &["--dir", "another sweep.toml"]);
}

#[test]
fn a_run_that_diverges_is_told_and_the_others_go_on() {
    let folder = tempdir().unwrap();
    let text = format!("[grid]\nlr = [0.1, 1e30]\n{SETTINGS}epochs = 1\n");
    let file = write(folder.path(), &text);
    let dir = folder.path().join("runs");
    let ran = sweep(&file, "--json", &dir);
    assert!(ran.stderr.contains("0002-seed0 failed: see "), "{}", ran.stderr);
    let states: Vec<Value> = ran.json_lines().iter().map(|row| row["state"].clone()).collect();
    assert_eq!(states, ["finished", "failed"]);
    let log = fs::read_to_string(dir.join("0002-seed0.log")).unwrap();
    assert!(log.contains("diverged"), "{log}");
}

#[test]
fn a_run_stops_after_an_epoch_and_continues() {
    let folder = tempdir().unwrap();
    let run = folder.path().join("run");
    let flags = format!("{} --epochs 3 --limit-batches 2", common::TINY);
    let lines = resnet(&format!("{flags} --json --stop-after 1 --run-dir"), &[&run]).json_lines();
    assert_eq!((lines.len(), &lines[1]["event"]), (2, &"stop".into()));
    let lines = resnet("train --offline --json --stop-after 9 --resume", &[&run]).json_lines();
    assert_eq!((lines.len(), &lines[2]["event"]), (3, &"end".into()));
}
