//! Nothing is written under the name that it is read by.

use super::{finished, limited};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use std::mem::MaybeUninit;

#[test]
fn checkpoints_links_and_settings_appear_whole_by_renaming() {
    let (_folder, run) = finished();
    let watch = inotify::init(CreateFlags::NONBLOCK).unwrap();
    for folder in [run.clone(), run.join("checkpoints")] {
        let made = WatchFlags::CREATE | WatchFlags::MOVED_TO;
        inotify::add_watch(&watch, &folder, made).unwrap();
    }
    // Step 8 is saved again, with the new number of epochs; 10 and 12 are new.
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
    assert!(made.is_empty(), "written under their own names: {made:?}");
}
