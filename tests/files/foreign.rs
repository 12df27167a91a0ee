//! The user's own files among the files of a run.

use super::common::resnet;
use super::{finished, resume, text};
use std::fs;
use std::path::Path;

const NOTE: &str = "what I thought of it\n";

#[test]
fn a_users_own_folders_among_the_checkpoints_are_not_changed() {
    let (_folder, run) = finished();
    let checkpoints = run.join("checkpoints");
    // Names like those of checkpoints and of their temporary or replaced folders.
    let names = [
        "5",
        "007",
        "+3",
        "11",
        "2024",
        "9.replaced",
        "notes.replaced",
        ".writing-notes",
        ".writing-10",
        ".writing-1-gone",
    ];
    for name in names {
        fs::create_dir(checkpoints.join(name)).unwrap();
        fs::write(checkpoints.join(name).join("note"), NOTE).unwrap();
    }
    fs::create_dir(checkpoints.join("3")).unwrap();
    // A checkpoint that contains a note of the user is not deleted either.
    fs::write(checkpoints.join("2/note"), NOTE).unwrap();

    let listed = resnet("checkpoints --json", &[&run]).json_lines();
    let steps: Vec<_> = listed.iter().map(|line| line["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [2, 4, 6, 8]);

    let ran = super::limited("train --offline --epochs 3 --keep 1 --resume", &run);
    // The user's folder `.writing-10` is in the way, so checkpoint 10 cannot be written.
    assert!(ran.stderr.contains("warning") && ran.stderr.contains(".writing-10"), "{}", ran.stderr);
    ran.success();
    for name in names.iter().chain(&["2"]) {
        assert_eq!(text(&checkpoints.join(name).join("note")), NOTE, "{name}");
    }
    assert!(checkpoints.join("3").is_dir() && checkpoints.join("2/state.json").is_file());
    assert!(!checkpoints.join("4").exists() && !checkpoints.join("6").exists());
}

#[test]
fn a_folder_in_the_place_of_a_checkpoint_is_not_replaced() {
    let (_folder, run) = finished();
    let mine = run.join("checkpoints/10");
    fs::create_dir(&mine).unwrap();
    fs::write(mine.join("note"), NOTE).unwrap();
    let ran = resume(&run);
    assert!(
        ran.stderr.contains("checkpoints/10") && ran.stderr.contains("no checkpoint"),
        "{}",
        ran.stderr
    );
    ran.success();
    assert_eq!(text(&mine.join("note")), NOTE);
    assert_eq!(fs::read_dir(&mine).unwrap().count(), 1);
}

#[test]
fn notes_in_a_checkpoint_are_kept_when_its_steps_are_trained_again() {
    let (_folder, run) = finished();
    let checkpoints = run.join("checkpoints");
    fs::write(checkpoints.join("6/note"), NOTE).unwrap();
    fs::write(checkpoints.join("4/note"), NOTE).unwrap();
    super::limited("train --offline --lr 0.01 --resume", &checkpoints.join("4")).success();
    assert_eq!(text(&checkpoints.join("6.abandoned/note")), NOTE);
    // Checkpoint 4 is saved again with its new settings.
    assert!(!checkpoints.join("4/note").exists());
    assert_eq!(text(&checkpoints.join("4.abandoned/note")), NOTE);
    let whole = |path: &Path| {
        resnet("checkpoints --json", &[path]).json_lines().iter().all(|line| line["whole"] == true)
    };
    assert!(whole(&run));
}
