//! Runs that are stopped, or whose files are damaged or removed. Nothing is lost, and a resumed run ends bit for bit
//! like an uninterrupted run.

#![allow(clippy::unwrap_used, reason = "clippy allows it in tests, but not in their helpers")]

mod common;

use common::runs::{Signal, assert_same_run, timeless_metrics, wait_for};
use common::{TINY, program, resnet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tempfile::{TempDir, tempdir};

/// Flags of a run of three epochs of 40 steps that uses many parts of the training state and random numbers for
/// several purposes.
const FLAGS: &str = "--epochs 3 --limit-batches 40 --accumulate 2 --validation 500 --lr 0.2 \
     --schedule one-cycle --ema-decay 0.95 --checkpoint-every 10steps --keep 20";

fn uninterrupted() -> (TempDir, PathBuf) {
    uninterrupted_with(FLAGS)
}

fn uninterrupted_with(flags: &str) -> (TempDir, PathBuf) {
    let folder = tempdir().unwrap();
    let run = folder.path().join("whole");
    resnet(&format!("{TINY} {flags} --quiet --run-dir"), &[&run]).success();
    (folder, run)
}

fn train(flags: &str, run: &Path) -> std::process::Child {
    program(&format!("{TINY} {FLAGS} {flags} --run-dir")).arg(run).spawn(Stdio::piped())
}

#[test]
fn a_run_that_a_signal_stops_is_saved_and_ends_like_an_uninterrupted_run() {
    let (folder, whole) = uninterrupted();
    for (signal, seen) in [(Signal::Int, "10"), (Signal::Term, "50")] {
        let run = folder.path().join(format!("by {signal:?}"));
        let mut stopped = train("", &run);
        wait_for(&run.join("checkpoints").join(seen), &mut stopped);
        signal.send(&stopped);
        let output = stopped.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(130), "{stderr}");
        assert!(!stderr.contains("error"), "{stderr}");
        let command = format!("resnet train --resume '{}'", run.display());
        assert!(stderr.contains("stopped at step") && stderr.contains(&command), "{stderr}");
        let (before, _) = stderr.split_once("stopped at step").unwrap();
        assert_eq!(
            before.matches("\nstopping after this step; Ctrl-C again").count(),
            1,
            "{stderr}"
        );
        resnet("train --offline --quiet --resume", &[&run]).success();
        assert_same_run(&run, &whole);
    }
}

#[test]
fn a_second_signal_ends_the_run_during_the_step() {
    let folder = tempdir().unwrap();
    let run = folder.path().join("run");
    // A step of this run takes longer than the time between the two signals on any machine.
    let flags = "train --offline --device cpu --precision fp32 --depth 152 --size 224 \
        --batch-size 4 --recompute --threads 1 --run-dir";
    let mut training = program(flags).arg(&run).spawn(Stdio::piped());
    let mut stderr = BufReader::new(training.stderr.take().unwrap());
    let mut wait_for_line = |part: &str| {
        let mut line = String::new();
        while !line.contains(part) {
            line.clear();
            assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "no `{part}`");
        }
    };
    wait_for_line("in ");
    Signal::Int.send(&training);
    wait_for_line("stopping after this step");
    Signal::Term.send(&training);
    assert_eq!(training.wait().unwrap().code(), Some(130));
    assert!(!run.join("checkpoints/last").exists());
}

#[test]
fn a_run_in_several_parts_by_time_limit_ends_like_an_uninterrupted_run() {
    let folder = tempdir().unwrap();
    let (run, whole) = (folder.path().join("run"), folder.path().join("whole"));
    // The run is so long that no machine completes it in a second.
    let flags = format!("{TINY} --epochs 2 --quiet");
    resnet(&format!("{flags} --run-dir"), &[&whole]).success();
    resnet(&format!("{flags} --time-limit 1s --run-dir"), &[&run]).success();
    let step = || {
        let last = run.join("checkpoints/last").canonicalize().unwrap();
        last.file_name().unwrap().to_str().unwrap().parse::<u64>().unwrap()
    };
    assert!(step() < 470, "the first part must not be the whole run");
    while !fs::read_to_string(run.join("metrics.jsonl")).unwrap().contains("\"end\"") {
        let before = step();
        resnet("train --offline --time-limit 1s --quiet --resume", &[&run]).success();
        assert!(step() > before || step() == 470, "each part must continue the run");
    }
    assert_same_run(&run, &whole);
}

#[test]
fn a_damaged_checkpoint_is_never_used_and_the_error_names_the_intact_one_before_it() {
    let (_folder, whole) = uninterrupted();
    let expected = timeless_metrics(&whole);
    let weights = fs::read(whole.join("checkpoints/last/model.safetensors")).unwrap();
    let list = || resnet("checkpoints --json", &[&whole]).printed_json();
    assert!(list().iter().all(|checkpoint| checkpoint["whole"] == true));
    let last = list().pop().unwrap();
    assert_eq!(last["step"], 120);
    assert_eq!(last["epoch"], 3);
    assert!(last["test_accuracy"].is_f64() && !last["names"].as_array().unwrap().is_empty());

    let path = |step: u32, file: &str| whole.join("checkpoints").join(step.to_string()).join(file);
    let spoil = |file: &Path| {
        let mut bytes = fs::read(file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(file, bytes).unwrap();
    };
    spoil(&path(120, "model.safetensors"));
    spoil(&path(110, "optimizer.safetensors"));
    let short = fs::read(path(100, "state.json")).unwrap();
    fs::write(path(100, "state.json"), &short[..short.len() / 2]).unwrap();
    let resume = |from: &Path| resnet("train --offline --quiet --epochs 4 --resume", &[from]);
    let strange = whole.join("checkpoints/130.abandoned");
    fs::create_dir(&strange).unwrap();
    resume(&strange).fails_with(2, &["130.abandoned", "named by its step"]);
    fs::remove_dir(&strange).unwrap();
    let whole_one = path(90, "").display().to_string();
    let whole_one = whole_one.trim_end_matches('/');
    resume(&whole).fails_with(1, &["120/model.safetensors", "damaged", "--resume", whole_one]);
    resume(&path(110, "")).fails_with(1, &["110/optimizer.safetensors", whole_one]);
    resnet("eval --offline", &[&path(120, "")])
        .fails_with(1, &["120/model.safetensors", "damaged"]);
    let damaged: Vec<_> = list().into_iter().filter(|line| line["whole"] == false).collect();
    assert_eq!(damaged.len(), 3);
    let table = resnet("checkpoints", &[&whole]);
    assert_eq!(table.stdout.matches("intact").count(), 9, "{}", table.stdout);
    assert_eq!(table.stdout.matches("damaged").count(), 3, "{}", table.stdout);
    table.fails_with(1, &["3 of 12"]);

    // If the run is resumed from the intact checkpoint, it ends like the original one. The later checkpoints are
    // renamed before.
    let ran = resnet("train --offline --quiet --resume", &[Path::new(whole_one)]);
    assert!(ran.stderr.contains("100.abandoned, 110.abandoned, 120.abandoned"), "{}", ran.stderr);
    ran.success();
    assert_eq!(timeless_metrics(&whole), expected);
    assert_eq!(fs::read(path(120, "model.safetensors")).unwrap(), weights);
    assert!(list().iter().all(|checkpoint| checkpoint["whole"] == true));
}

#[test]
fn a_run_whose_folder_cannot_be_written_continues_and_is_saved_elsewhere() {
    // With held-out images, the best checkpoint depends on which checkpoints could be saved.
    let flags = FLAGS.replace("--validation 500", "");
    let (folder, whole) = uninterrupted_with(&flags);
    let (run, elsewhere) = (folder.path().join("run"), folder.path().join("elsewhere"));
    fs::create_dir(&elsewhere).unwrap();
    let training = program(&format!("{TINY} {flags} --run-dir")).arg(&run);
    let mut training = training.env("TMPDIR", &elsewhere).spawn(Stdio::piped());
    wait_for(&run.join("checkpoints/20"), &mut training);
    // A file takes the place of the folder, so nothing can be written there any more.
    fs::rename(&run, folder.path().join("away")).unwrap();
    while fs::write(&run, "").is_err() {
        // The program was faster and created its folder again.
        fs::remove_dir_all(&run).unwrap();
    }
    let output = training.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("warning") && stderr.contains("the run goes on"), "{stderr}");
    let rescued = fs::read_dir(&elsewhere).unwrap().next().unwrap().unwrap().path();
    assert!(stderr.contains(&format!("--resume {}", rescued.display())), "{stderr}");
    assert_same_run(&rescued, &whole);
    let epochs = timeless_metrics(&rescued).iter().filter(|line| line["event"] == "epoch").count();
    let table = fs::read_to_string(rescued.join("metrics.csv")).unwrap();
    assert_eq!(table.lines().count(), 1 + epochs, "{table}");
    resnet("train --offline --quiet --epochs 4 --resume", &[&rescued]).success();
}

#[test]
fn a_run_whose_folder_is_removed_creates_it_again() {
    let (folder, whole) = uninterrupted();
    let run = folder.path().join("run");
    let mut training = train("--quiet", &run);
    wait_for(&run.join("checkpoints/20"), &mut training);
    fs::rename(&run, folder.path().join("away")).unwrap();
    assert!(training.wait().unwrap().success());
    assert!(run.join(".lock").is_file(), "the new folder must be locked");
    assert_same_run(&run, &whole);
}

#[test]
fn a_run_does_not_write_into_a_folder_that_another_run_has_taken() {
    let folder = tempdir().unwrap();
    let (run, elsewhere) = (folder.path().join("run"), folder.path().join("elsewhere"));
    fs::create_dir(&elsewhere).unwrap();
    let first = program(&format!("{TINY} {FLAGS} --run-dir")).arg(&run);
    let mut first = first.env("TMPDIR", &elsewhere).spawn(Stdio::piped());
    wait_for(&run.join("checkpoints/20"), &mut first);
    // While the first run is paused, its folder is moved away, and another run starts in its place.
    Signal::Stop.send(&first);
    fs::rename(&run, folder.path().join("away")).unwrap();
    let flags = format!("{TINY} --seed 7 --epochs 100000 --limit-batches 1 --quiet --run-dir");
    let mut second = program(&flags).arg(&run).spawn(Stdio::null());
    wait_for(&run.join("checkpoints/last"), &mut second);
    Signal::Cont.send(&first);
    let output = first.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains(&format!("process {} trains in this folder", second.id())), "{stderr}");
    assert_eq!(second.try_wait().unwrap(), None, "the second run must continue");
    Signal::Int.send(&second);
    assert_eq!(second.wait().unwrap().code(), Some(130));
    let state = fs::read_to_string(run.join("checkpoints/last/state.json")).unwrap();
    assert!(state.contains("\"seed\": 7"), "{state}");
    assert!(timeless_metrics(&run).iter().all(|line| line["step"] == line["epoch"]));
    let rescued = fs::read_dir(&elsewhere).unwrap().next().unwrap().unwrap().path();
    assert_eq!(timeless_metrics(&rescued).len(), 4);
}

#[test]
fn a_changed_learning_rate_is_accepted_with_a_warning_and_recorded() {
    let folder = tempdir().unwrap();
    let run = folder.path().join("run");
    resnet(&format!("{TINY} {FLAGS} --quiet --run-dir"), &[&run]).success();
    let ran = resnet("train --offline --epochs 4 --lr 0.01 --resume", &[&run]);
    assert!(
        ran.stderr.contains("warning: --lr changes from 0.2 to 0.01 from here on"),
        "{}",
        ran.stderr
    );
    ran.success();
    let metrics = timeless_metrics(&run);
    let resumed: Vec<_> = metrics.iter().filter(|line| line["event"] == "resume").collect();
    assert_eq!(resumed.len(), 1);
    assert_eq!(resumed[0]["step"], 120);
    assert_eq!(resumed[0]["changes"]["train.lr"], serde_json::json!([0.2, 0.01]));
    let saved = fs::read_to_string(run.join("config.toml")).unwrap();
    assert!(saved.contains("lr = 0.01") && saved.contains("epochs = 4"), "{saved}");
}
