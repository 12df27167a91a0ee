//! Links in place of files and folders that the program writes.

use super::common::{TINY, resnet};
use super::{FLAGS, finished, resume, text};
use std::fs;
use std::os::unix::fs::symlink;
use tempfile::tempdir;

const PRECIOUS: &str = "a diary of years\n";

#[test]
fn a_link_in_place_of_the_lock_is_refused_and_its_target_is_not_changed() {
    let (folder, run) = finished();
    let precious = folder.path().join("precious");
    fs::write(&precious, PRECIOUS).unwrap();
    let lock = run.join(".lock");
    fs::remove_file(&lock).unwrap();
    symlink(&precious, &lock).unwrap();
    resume(&run).fails_with(1, &[".lock", "link"]);
    assert_eq!(text(&precious), PRECIOUS);
    // A hard link cannot be distinguished from an ordinary file. It is refused because of the file's content.
    fs::remove_file(&lock).unwrap();
    fs::hard_link(&precious, &lock).unwrap();
    resume(&run).fails_with(1, &[".lock", "not the lock"]);
    assert_eq!(text(&precious), PRECIOUS);
    fs::remove_file(&lock).unwrap();
    resume(&run).success();

    // The same in the folder of a new run.
    let new = folder.path().join("new");
    fs::create_dir(&new).unwrap();
    let made = folder.path().join("made");
    symlink(&made, new.join(".lock")).unwrap();
    resnet(&format!("{TINY} {FLAGS} --run-dir"), &[&new]).fails_with(1, &[".lock", "link"]);
    assert!(!made.exists());
}

#[test]
fn links_in_place_of_files_that_are_written_are_not_followed() {
    let (folder, run) = finished();
    let [precious, elsewhere] = ["precious", "elsewhere"].map(|name| folder.path().join(name));
    fs::write(&precious, PRECIOUS).unwrap();
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("state.json"), PRECIOUS).unwrap();
    let metrics = text(&run.join("metrics.jsonl"));
    for name in [".writing-config.toml", ".writing-metrics.jsonl", "checkpoints/.writing-best"] {
        symlink(&precious, run.join(name)).unwrap();
    }
    for name in ["checkpoints/.writing-10", "checkpoints/.writing-12"] {
        symlink(&elsewhere, run.join(name)).unwrap();
    }
    fs::write(&precious, &metrics).unwrap();
    fs::remove_file(run.join("metrics.jsonl")).unwrap();
    symlink(&precious, run.join("metrics.jsonl")).unwrap();
    resume(&run).success();
    assert_eq!(text(&precious), metrics, "the target of the link must not change");
    assert_eq!(text(&elsewhere.join("state.json")), PRECIOUS);
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 1);
    assert_eq!(
        text(&run.join("metrics.jsonl")).lines().count(),
        5,
        "two epochs, a resume, an epoch, the end"
    );
    assert!(run.join("checkpoints/12").symlink_metadata().unwrap().is_dir());
}

#[test]
fn a_checkpoints_folder_that_is_a_link_is_refused() {
    let (folder, run) = finished();
    let elsewhere = folder.path().join("elsewhere");
    fs::rename(run.join("checkpoints"), &elsewhere).unwrap();
    fs::create_dir(elsewhere.join(".writing-20")).unwrap();
    symlink(&elsewhere, run.join("checkpoints")).unwrap();
    resume(&run).fails_with(2, &["run/checkpoints", "link"]);
    assert!(elsewhere.join(".writing-20").is_dir());
}

#[test]
fn last_and_best_are_refused_unless_they_point_to_checkpoints_of_the_same_run() {
    let (folder, run) = finished();
    let other = folder.path().join("other");
    resnet(&format!("{TINY} {FLAGS} --seed 5 --run-dir"), &[&other]).success();
    let before = text(&run.join("metrics.jsonl"));
    let point = |name: &str, to: &str| {
        fs::remove_file(run.join("checkpoints").join(name)).unwrap();
        symlink(to, run.join("checkpoints").join(name)).unwrap();
    };
    for to in ["../../other/checkpoints/8", ".", "..", "nothing"] {
        point("last", to);
        resume(&run).fails_with(2, &["checkpoints/last", "checkpoints/8"]);
        resume(&run.join("checkpoints/last")).fails_with(2, &["checkpoints/last"]);
        assert_eq!(text(&run.join("metrics.jsonl")), before);
    }
    point("last", "8");
    point("best", "../../other/checkpoints/8");
    resnet("eval --offline --threads 1", &[&run]).fails_with(2, &["checkpoints/best"]);
    // A link to a run's folder is accepted.
    let linked = tempdir().unwrap();
    symlink(&run, linked.path().join("run")).unwrap();
    resume(&linked.path().join("run")).success();
    resnet("eval --offline --threads 1", &[&run]).success();
}
