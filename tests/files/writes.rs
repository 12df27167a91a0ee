//! How a run's files are written, and what happens if this fails.

use super::common::inject::{Fate, Injector};
use super::common::runs::assert_best_is_in_the_last_line;
use super::common::{TINY, program};
use super::{FLAGS, finished, limited};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use std::fs;
use std::mem::MaybeUninit;
use tempfile::tempdir;

#[test]
fn checkpoints_links_and_settings_are_completed_under_another_name_and_then_renamed() {
    let (_folder, run) = finished();
    let watch = inotify::init(CreateFlags::NONBLOCK).unwrap();
    for folder in [run.clone(), run.join("checkpoints")] {
        let made = WatchFlags::CREATE | WatchFlags::MOVED_TO;
        inotify::add_watch(&watch, &folder, made).unwrap();
    }
    // Checkpoint 8 is saved again with the new number of epochs. Checkpoints 10 and 12 are new.
    limited("train --offline --epochs 3 --resume", &run).success();
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut events = Reader::new(&watch, &mut buffer);
    let (mut renamed, mut made) = (Vec::new(), Vec::new());
    while let Ok(event) = events.next() {
        let name = event.file_name().unwrap().to_str().unwrap().to_owned();
        match event.events().contains(ReadFlags::CREATE) {
            true => made.push(name),
            false => renamed.push(name),
        }
    }
    for name in ["8", "10", "12", "last", "best", "config.toml", "metrics.jsonl"] {
        assert!(renamed.iter().any(|other| other == name), "{name} was not renamed: {renamed:?}");
    }
    made.retain(|name| !name.starts_with(".writing-"));
    assert!(made.is_empty(), "written directly under their final names: {made:?}");
}

#[test]
fn the_last_line_has_the_accuracy_of_the_best_checkpoint_that_could_be_saved() {
    let injector = Injector::new();
    for at in 1.. {
        let folder = tempdir().unwrap();
        let [run, rescue] = ["run", "rescue"].map(|name| folder.path().join(name));
        fs::create_dir(&rescue).unwrap();
        let flags =
            format!("{TINY} {FLAGS} --validation 500 --lr 0.2 --schedule constant --run-dir");
        let program = program(&flags).arg(&run).env("TMPDIR", &rescue);
        let ran = injector.arm(program, &run, "mkdir", at, Fate::NoSpace, false).run();
        let stderr = ran.stderr;
        match ran.code {
            Some(0) => assert_best_is_in_the_last_line(&run),
            // The run's folder or the folder of its checkpoints could not be created.
            Some(1) => assert!(!run.join("checkpoints/last").exists() && at < 4, "{at}: {stderr}"),
            code => panic!("{at}: {code:?} {stderr}"),
        }
        if injector.count() < at {
            assert!(
                at > 5,
                "expected a folder for the run, for its checkpoints and for each checkpoint"
            );
            break;
        }
    }
}
