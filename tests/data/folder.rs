//! If the user names a folder of data sets, the program uses this folder, or an error says why it cannot.

use crate::command::{FILES, Home, system_folder};
use crate::common::{Program, Ran};
use crate::mirror::mirror_of;
use std::fs;
use std::path::{Path, PathBuf};

const TRAIN: &str = "train --device cpu --blocks 1,1,1 --width 8 --size 12 --batch-size 64 \
                     --threads 1 --epochs 1 --limit-batches 1";

/// Runs a command with each of the two ways to name a folder. Returns each result and the start of its error.
fn named(command: impl Fn() -> Program, folder: &Path) -> [(Ran, String); 2] {
    let path = folder.display();
    [
        (command().arg("--data-dir").arg(folder).run(), format!("error: --data-dir {path}: ")),
        (command().env("RESNET_DATA", folder).run(), format!("error: RESNET_DATA={path}: ")),
    ]
}

/// A folder with a copy of Fashion-MNIST in which the second file is cut off.
fn damaged(home: &Home, system: &Path) -> PathBuf {
    let folder = home.path().join("bad");
    fs::create_dir_all(folder.join("fashion-mnist")).unwrap();
    for file in FILES {
        fs::copy(system.join(file), folder.join("fashion-mnist").join(file)).unwrap();
    }
    let labels = fs::read(system.join(FILES[1])).unwrap();
    fs::write(folder.join("fashion-mnist").join(FILES[1]), &labels[..999]).unwrap();
    folder
}

#[test]
fn a_folder_that_is_missing_or_is_a_file_is_an_error_that_says_how_it_was_named() {
    let home = Home::new();
    let (absent, file) = (home.path().join("nope"), home.path().join("file"));
    fs::write(&file, "").unwrap();
    for command in [TRAIN, "data verify", "data path", "data list"] {
        for (path, fault) in [(&absent, "there is no such folder"), (&file, "is no folder")] {
            for (ended, named) in named(|| home.resnet(command), path) {
                ended.fails_with(2, &[&named, fault]);
            }
        }
    }
    assert!(!absent.exists());
    for (ended, named) in named(|| home.resnet("data fetch mnist"), &file) {
        ended.fails_with(2, &[&named, "is no folder"]);
    }
}

#[test]
fn a_folder_one_level_too_deep_is_an_error() {
    let Some(system) = system_folder() else { return };
    let home = Home::new();
    for command in [TRAIN, "data verify", "data path", "data fetch"] {
        for (ended, named) in named(|| home.resnet(command), &system) {
            ended.fails_with(2, &[&named, "expected the folder above, with fashion-mnist/ in it"]);
        }
    }
}

#[test]
fn if_the_named_folder_lacks_the_data_set_no_other_folder_is_searched() {
    let home = Home::new();
    let empty = home.path().join("empty");
    fs::create_dir(&empty).unwrap();
    for command in [&format!("{TRAIN} --offline"), "data verify", "data path"] {
        for (ended, named) in named(|| home.resnet(command), &empty) {
            ended.fails_with(1, &[&named, "fashion-mnist is not there", "resnet data fetch"]);
            assert!(!ended.stderr.contains("/usr/share"), "{ended:?}");
        }
    }
}

#[test]
fn training_downloads_into_an_empty_folder_and_says_where_the_images_are() {
    let Some(system) = system_folder() else { return };
    let (home, server) = (Home::new(), mirror_of(system));
    let sets = home.path().join("sets");
    fs::create_dir(&sets).unwrap();
    let run = home.path().join("run");
    let command = home.resnet(TRAIN).arg("--run-dir").arg(run).arg("--data-dir").arg(&sets);
    let ended = command.env("RESNET_MIRROR", &server.url).run().done();
    let header = format!("Fashion-MNIST in {}/fashion-mnist:\n60,000 training ", sets.display());
    assert!(ended.stderr.contains(&header), "{ended:?}");
    assert_eq!(server.requests().len(), 4);
}

#[test]
fn damaged_files_are_named_and_training_neither_uses_nor_replaces_them() {
    let Some(system) = system_folder() else { return };
    let home = Home::new();
    let folder = damaged(&home, &system);
    let file = folder.join("fashion-mnist").join(FILES[1]).display().to_string();
    let fault = format!("{file}: the gzip data is cut off");
    let check = |verified: &[&str]| {
        for (ended, _) in named(|| home.resnet(TRAIN), &folder) {
            ended.fails_with(1, &[&fault, "`resnet data fetch fashion-mnist"]);
        }
        for (ended, _) in named(|| home.resnet("data verify"), &folder) {
            ended.fails_with(1, &["of 4 files of fashion-mnist"]);
            let lines: Vec<_> = ended.stdout.lines().collect();
            assert!(lines[1].starts_with(&format!("bad  {fault}")), "{ended:?}");
            let states: Vec<_> = lines.iter().map(|line| &line[..4]).collect();
            assert_eq!(states, verified, "{ended:?}");
        }
    };
    check(&["ok  ", "bad ", "ok  ", "ok  "]);
    // If a file is missing, no other folder is searched either.
    fs::remove_file(folder.join("fashion-mnist").join(FILES[3])).unwrap();
    check(&["ok  ", "bad ", "ok  ", "bad "]);
}

#[test]
fn an_empty_variable_is_like_no_variable() {
    let Some(system) = system_folder() else { return };
    let home = Home::new();
    let ended = home.resnet("data path").env("RESNET_DATA", "").run();
    assert_eq!(ended.success().trim_end(), system.to_str().unwrap());
    let command = home.resnet(TRAIN).arg("--run-dir").arg(home.path().join("run"));
    let ended = command.env("RESNET_DATA", "").run().done();
    let header = format!("Fashion-MNIST in {}:\n", system.display());
    assert!(ended.stderr.contains(&header), "{ended:?}");
}
