//! `resnet train --view` and `resnet watch`, with and without a terminal.

#![allow(clippy::unwrap_used, reason = "clippy allows it in tests, but not in their helpers")]

mod common;

use common::runs::{Signal, wait_for};
use common::terminal::{ENTER, LEAVE};
use common::{TINY, program, resnet};
use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;
use tempfile::tempdir;

const FLAGS: &str = "--dataset synthetic --limit-batches 3";

fn train(flags: &str, run: &Path) {
    resnet(&format!("{TINY} {FLAGS} --quiet {flags} --run-dir"), &[run]).success();
}

/// The terminal's normal screen after the view: what the program printed there.
#[track_caller]
fn after_the_view(shown: &str) -> &str {
    assert_eq!((shown.matches(ENTER).count(), shown.matches(LEAVE).count()), (1, 1), "{shown}");
    assert!(shown.contains("\u{1b}[?25h"), "the cursor is shown again: {shown}");
    shown.split_once(LEAVE).unwrap().1
}

#[test]
fn the_view_ends_with_the_run_and_everything_that_was_printed_follows() {
    let folder = tempdir().unwrap();
    let flags = format!("{TINY} {FLAGS} --epochs 3 --view --json --run-dir");
    let view = program(&flags).arg(folder.path().join("run")).in_terminal();
    let (code, shown) = view.end();
    assert_eq!(code, Some(0), "{shown}");
    let after = after_the_view(&shown);
    for part in ["epoch 1/3", "epoch 3/3", "\"epoch\":2", "\"event\":\"end\"", "done in"] {
        assert_eq!(after.matches(part).count(), 1, "{part}: {after}");
    }
    let before = shown.split_once(ENTER).unwrap().0;
    assert!(before.contains("ResNet-8") && !before.contains("epoch 1/3"), "{before}");
}

#[test]
fn after_q_the_run_goes_on_and_ctrl_c_in_the_view_saves_it() {
    let folder = tempdir().unwrap();
    let run = folder.path().join("run");
    let flags = format!("{TINY} {FLAGS} --epochs 100000 --view --run-dir");
    let mut view = program(&flags).arg(&run).in_terminal();
    view.wait_for("after");
    view.press("q");
    view.wait_for(LEAVE);
    // The bars are back.
    view.wait_for("images/s");
    Signal::Term.send(&view.child);
    let (code, shown) = view.end();
    assert_eq!(code, Some(130), "{shown}");
    let after = after_the_view(&shown);
    assert!(after.contains("epoch      1/100000") && after.contains("stopped at step"), "{after}");

    let mut view = program("train --offline --view --resume").arg(&run).in_terminal();
    view.wait_for("after epoch");
    view.press("\u{3}");
    let (code, shown) = view.end();
    assert_eq!(code, Some(130), "{shown}");
    let after = after_the_view(&shown);
    for part in ["stopping after this step", "stopped at step", "resnet train --resume"] {
        assert!(after.contains(part), "no {part}: {after}");
    }
    assert!(run.join("checkpoints/last").is_dir());
    assert!(!run.join("progress.json").exists());
}

#[test]
fn two_signals_end_a_run_at_once_and_restore_the_terminal() {
    let folder = tempdir().unwrap();
    // The first step takes much longer than the two signals.
    let flags = "train --view --offline --dataset synthetic --size 96 --device cpu --threads 1 --depth 18 \
        --batch-size 2048 --accumulate 32 --epochs 1 --run-dir";
    let mut view = program(flags).arg(folder.path().join("run")).in_terminal();
    view.wait_for("no figures yet");
    Signal::Term.send(&view.child);
    // The end of the message. Its begin has letters in the places of the same letters, which are not drawn again.
    view.wait_for("saving");
    Signal::Term.send(&view.child);
    let (code, shown) = view.end();
    assert_eq!(code, Some(130), "{shown}");
    after_the_view(&shown);
    assert!(!shown.contains("stopped at step"), "{shown}");
}

#[test]
fn an_error_is_shown_after_the_view() {
    let folder = tempdir().unwrap();
    let flags = format!("{TINY} {FLAGS} --epochs 2 --lr 1e30 --schedule constant --view --run-dir");
    let (code, shown) = program(&flags).arg(folder.path().join("run")).in_terminal().end();
    assert_eq!(code, Some(1), "{shown}");
    assert!(after_the_view(&shown).contains("the run has diverged"), "{shown}");
}

#[test]
fn without_a_terminal_the_view_is_replaced_by_lines() {
    let folder = tempdir().unwrap();
    let flags = format!("{TINY} {FLAGS} --epochs 1 --view --run-dir");
    let ran = resnet(&flags, &[&folder.path().join("run")]).done();
    assert!(ran.stderr.contains("--view: stderr is not a terminal, so"), "{}", ran.stderr);
    assert!(ran.stderr.contains("epoch 1/1  train loss"), "{}", ran.stderr);
    assert!(!ran.stderr.contains('\u{1b}') && ran.stdout.starts_with("test accuracy"));
}

#[test]
fn a_running_run_tells_its_progress_and_a_killed_one_does_not() {
    let folder = tempdir().unwrap();
    let run = folder.path().join("run");
    let flags = format!("{TINY} {FLAGS} --epochs 100000 --quiet --run-dir");
    let start = |flags: &str| program(flags).arg(&run).spawn(Stdio::null());
    let mut training = start(&flags);
    let file = run.join("progress.json");
    wait_for(&file, &mut training);
    // At the moment at which an epoch ends there is no progress to tell.
    let watched = (0..50).map(|_| resnet("watch --json", &[&run]).json_lines().remove(0));
    let mut told = watched.inspect(|line| assert_eq!(line["state"], "running", "{line}"));
    let line = told.find(|line| line["progress"].is_object()).unwrap();
    let progress = &line["progress"];
    assert_eq!((&progress["steps"], &progress["epochs"]), (&3.into(), &100_000.into()), "{line}");
    assert!(progress["memory_bytes"].as_u64().unwrap() > 1 << 20, "{line}");
    assert!(progress["run_seconds_left"].as_f64().unwrap() > 0.0, "{line}");
    Signal::Kill.send(&training);
    training.wait().unwrap();
    assert!(file.exists());
    let line = resnet("watch --json", &[&run]).json_lines().remove(0);
    assert_eq!((&line["state"], line["progress"].is_null()), (&"stopped".into(), true), "{line}");
    // A run that is stopped removes the file, also the one that a killed process left.
    let mut resumed = start("train --offline --quiet --resume");
    let old = fs::metadata(&file).unwrap().modified().unwrap();
    while fs::metadata(&file).and_then(|file| file.modified()).is_ok_and(|time| time == old) {
        assert!(resumed.try_wait().unwrap().is_none());
    }
    Signal::Int.send(&resumed);
    assert_eq!(resumed.wait().unwrap().code(), Some(130));
    assert!(!file.exists());
}

#[test]
fn watch_without_a_terminal_prints_the_state_once() {
    let folder = tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    train("--epochs 2", &path("finished"));
    let row = |ran: &str, name: &str| -> String {
        let line = ran.lines().find(|line| line.starts_with(name));
        line.unwrap_or_else(|| panic!("no {name} in {ran}")).to_owned()
    };
    let text = resnet("watch", &[&path("finished")]).success();
    assert!(row(&text, "run").ends_with(" finished") && row(&text, "state").ends_with(" finished"));
    assert!(row(&text, "training").contains("0.") && row(&text, "test").contains("0."), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
    let line = resnet("watch --json", &[&path("finished")]).json_lines().remove(0);
    assert_eq!((&line["state"], &line["epochs_done"]), (&"finished".into(), &2.into()));
    assert_eq!(line["last_epoch"]["epoch"], 2);

    train("--epochs 3 --stop-after 1", &path("stopped"));
    assert!(row(&resnet("watch", &[&path("stopped")]).success(), "state").ends_with(" stopped"));
    let lock = File::options().write(true).open(path("stopped/.lock")).unwrap();
    lock.lock().unwrap();
    assert!(row(&resnet("watch", &[&path("stopped")]).success(), "state").ends_with(" training"));
    fs::remove_file(path("stopped/metrics.jsonl")).unwrap();
    assert!(row(&resnet("watch", &[&path("stopped")]).success(), "state").ends_with(" starting"));

    fs::write(path("finished/metrics.jsonl"), "{\"event\":\"epoch\",\n").unwrap();
    let ran = resnet("watch", &[&path("finished")]).done();
    assert!(row(&ran.stdout, "state").ends_with(" damaged"), "{}", ran.stdout);
    assert!(ran.stderr.contains("line 1 is damaged"), "{}", ran.stderr);

    resnet("watch", &[&path("nowhere")]).fails_with(2, &["nowhere: no such folder"]);
    resnet("watch", &[folder.path()]).fails_with(2, &["holds no run", "a run's folder"]);
    resnet("watch", &[]).fails_with(2, &["RUN"]);
}

#[test]
fn watch_shows_a_run_until_the_user_leaves() {
    let folder = tempdir().unwrap();
    let run = folder.path().join("run");
    train("--epochs 2", &run);
    let before = fs::read(run.join("metrics.jsonl")).unwrap();
    for (keys, expected) in [("q", 0), ("\u{3}", 130)] {
        let mut view = program("watch").arg(&run).in_terminal();
        view.wait_for("after epoch 2");
        view.press(keys);
        let (code, shown) = view.end();
        assert_eq!(code, Some(expected), "{shown}");
        assert_eq!(after_the_view(&shown).replace("\u{1b}[?25h", "").trim(), "", "{shown}");
        assert!(shown.contains("finished") && shown.contains("took 0:"), "{shown}");
    }
    let mut view = program("watch").arg(&run).in_terminal();
    view.wait_for("after epoch 2");
    Signal::Term.send(&view.child);
    assert_eq!(view.end().0, Some(130));
    assert_eq!(fs::read(run.join("metrics.jsonl")).unwrap(), before);
}
