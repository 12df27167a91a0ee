//! A run's settings: what is saved of them, and what happens with them in a later run.

#![allow(clippy::unwrap_used, reason = "clippy allows it in tests, but not in their helpers")]
#![allow(clippy::indexing_slicing, reason = "a panic makes the test fail")]

mod common;

use common::runs::{edit, timeless_metrics};
use common::{Ran, TINY, program, resnet};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use tempfile::tempdir;

/// Trains the tiny network with further flags.
fn train(flags: &str, run: &Path) -> Ran {
    resnet(&format!("{TINY} --limit-batches 2 {flags} --run-dir"), &[run])
}

fn config(run: &Path) -> String {
    fs::read_to_string(run.join("config.toml")).unwrap()
}

fn has(config: &str, line: &str) -> bool {
    config.lines().any(|other| other == line)
}

#[test]
fn a_saved_configuration_with_more_flags_equals_a_run_with_all_flags() {
    let folder = tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    // All flags except those that the rows below change.
    let rest = "train --offline --device cpu --width 8 --size 12 --batch-size 256 --threads 1 \
        --limit-batches 2 --lr 0.1";
    let trained = |flags: &str, name: &str| {
        resnet(&format!("{rest} {flags} --run-dir"), &[&path(name)]).success();
        config(&path(name))
    };
    trained("--blocks 1,1,1 --epochs 1", "first");
    let saved = path("first").join("config.toml");
    for (at, (all, changes)) in [
        ("--blocks 1,1,1 --epochs 1 --momentum 0", "--momentum 0"),
        ("--blocks 1,1,1 --epochs 3 --schedule step", "--epochs 3 --schedule step"),
        ("--blocks 1,1,1 --epochs 1 --schedule one-cycle", "--schedule one-cycle"),
        ("--blocks 1,1,1 --epochs 2", "--epochs 2"),
        ("--blocks 1,1,1 --epochs 1 --warmup-epochs 1", "--warmup-epochs 1"),
        ("--depth 20 --epochs 1", "--depth 20"),
    ]
    .into_iter()
    .enumerate()
    {
        let (of_file, of_flags) = (path(&format!("file {at}")), format!("flags {at}"));
        let again = format!("train --offline {changes} --run-dir");
        resnet(&again, &[&of_file, Path::new("--config"), &saved]).success();
        assert_eq!(config(&of_file), trained(all, &of_flags), "{changes}");
    }
    // The images of cifar10 have another size and other channels. The only error is that they are missing.
    fs::create_dir(path("empty")).unwrap();
    let other = "train --offline --dataset cifar10 --config";
    resnet(other, &[&saved, Path::new("--data-dir"), &path("empty")]).fails_with(1, &["--offline"]);
}

#[test]
fn more_epochs_change_derived_settings_and_keep_chosen_ones() {
    let folder = tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for (name, flags, derived) in [
        ("cosine", "", "# warmup-epochs = 0.5  (follows from schedule and epochs)"),
        (
            "step",
            "--schedule step --warmup-epochs 0.5",
            "# step-every = 3.0  (follows from epochs)",
        ),
    ] {
        let (run, whole) = (path(name), path(&format!("{name} at once")));
        train(&format!("{flags} --epochs 1"), &run).success();
        resnet("train --offline --epochs 9 --resume", &[&run]).success();
        train(&format!("{flags} --epochs 9"), &whole).success();
        assert_eq!(config(&run), config(&whole));
        assert!(has(&config(&run), derived), "{}", config(&run));
    }
    let resumed = |name: &str| {
        timeless_metrics(&path(name)).into_iter().find(|line| line["event"] == "resume").unwrap()
    };
    assert_eq!(
        resumed("cosine")["changes"],
        json!({"train.epochs": [1, 9], "train.warmup-epochs": [0.1, 0.5]})
    );
    assert!(has(&config(&path("step")), "warmup-epochs = 0.5"));
}

/// Removes the keys that earlier versions did not write from a checkpoint's state.
fn as_earlier_versions(run: &Path) {
    edit(&run.join("checkpoints/last"), "state.json", |text| {
        let mut state: Value = serde_json::from_str(&text).unwrap();
        for key in ["derived", "seconds"] {
            assert!(state.as_object_mut().unwrap().remove(key).is_some(), "{key}");
        }
        state.to_string()
    });
}

#[test]
fn a_checkpoint_of_an_earlier_version_resumes_with_all_its_settings() {
    let folder = tempdir().unwrap();
    let run = folder.path().join("run");
    train("--epochs 2", &run).success();
    as_earlier_versions(&run);
    resnet("train --offline --epochs 3 --resume", &[&run]).success();
    assert!(has(&config(&run), "warmup-epochs = 0.2"), "{}", config(&run));
    assert_eq!(timeless_metrics(&run).iter().filter(|line| line["event"] == "epoch").count(), 3);
}

#[test]
fn the_time_of_a_resumed_run_includes_all_its_parts() {
    let folder = tempdir().unwrap();
    let run = folder.path().join("run");
    train("--epochs 1", &run).success();
    edit(&run.join("checkpoints/last"), "state.json", |text| {
        let mut state: Value = serde_json::from_str(&text).unwrap();
        assert!(state["seconds"].as_f64() > Some(0.0), "{text}");
        state["seconds"] = json!(36_000.0);
        state.to_string()
    });
    let ran = resnet("train --offline --json --epochs 2 --resume", &[&run]);
    assert!(ran.stderr.contains("done in 10:0"), "{}", ran.stderr);
    let end = ran.json_lines().pop().unwrap();
    assert!(end["seconds"].as_f64() > Some(36_000.0), "{end}");
}

#[test]
fn if_a_flag_is_repeated_its_last_value_counts() {
    let folder = tempdir().unwrap();
    let run = folder.path().join("run");
    let flags = "--epochs 5 --epochs 1 --blocks 2,2,2 --blocks 1,2,1 --nesterov false --nesterov";
    train(flags, &run).success();
    for line in ["epochs = 1", "blocks = [1, 2, 1]", "nesterov = true"] {
        assert!(has(&config(&run), line), "{line}: {}", config(&run));
    }
}

#[test]
fn the_header_shows_the_recipe_in_80_columns() {
    let folder = tempdir().unwrap();
    let flags = "--epochs 1 --clip-grad-norm 0.12345678 --ema-decay 0.99999 --seed 1234567890123 \
        --weight-decay 0.000123456789";
    let ran = train(flags, &folder.path().join("a"));
    let header: Vec<&str> =
        ran.stderr.lines().take_while(|line| !line.starts_with("in ")).collect();
    assert!(header.iter().all(|line| line.chars().count() <= 80), "{}", ran.stderr);
    let header = header.join(" ");
    for part in [
        "on cpu, 1 thread ",
        " 1 epoch, batch 256, lr 0.05 (cosine), warm-up 0.1 epochs, ",
        " Nesterov momentum 0.9, ",
        " label smoothing 0.1, augmentation flip, gradients clipped to 0.12345678, ",
        " average 0.99999, ",
    ] {
        assert!(header.contains(part), "no `{part}` in: {header}");
    }
    assert!(ran.success().contains(" after 1 epoch\n"));
}

/// Whether a setting comes from a flag or from a file, a person sees it at once if it is not the default.
#[test]
fn the_header_names_the_data_and_every_setting_that_is_not_the_default() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("a.toml");
    let text = "[network]\nshortcut = \"zero-pad\"\nsize = 12\n[data]\nnormalize = false\n\
        [train]\nbeta2 = 0.99\nmomentum = 0.9\ndecay-all = true\n[run]\nkeep = 2\n";
    std::fs::write(&file, text).unwrap();
    let run = folder.path().join("run");
    let flags = "--dataset synthetic --epochs 1 --limit-batches 1 --tensorboard --config";
    let ran = program(&format!("{TINY} {flags}")).arg(&file).arg("--run-dir").arg(&run).run();
    let ran = ran.done();
    let header: Vec<&str> =
        ran.stderr.lines().take_while(|line| !line.starts_with("in ")).collect();
    let header = header.join(" ");
    assert!(header.contains("Synthetic set made by the program: "), "{header}");
    let (_, unusual) = header.split_once("not defaults: ").unwrap();
    let (unusual, after) = unusual.split_once(" TensorBoard: tensorboard --logdir ").unwrap();
    assert_eq!(after, run.display().to_string());
    let mut found: Vec<&str> = unusual.split(", ").collect();
    found.sort_unstable();
    let expected = [
        "--beta2 0.99",
        "--blocks 1,1,1",
        "--dataset synthetic",
        "--decay-all true",
        "--device cpu",
        "--epochs 1",
        "--keep 2",
        "--limit-batches 1",
        "--normalize false",
        "--report false",
        "--shortcut zero-pad",
        "--size 12",
        "--tensorboard true",
        "--threads 1",
        "--width 8",
    ];
    assert_eq!(found, expected);
}
