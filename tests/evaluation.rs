//! On which images losses and accuracies are computed: the images of a split, which may be the held-out images, or
//! fewer images because of `--limit-batches`.

#![allow(clippy::unwrap_used, reason = "clippy allows it in tests, but not in their helpers")]

mod common;

use common::resnet;
use serde_json::Value;
use std::fs;
use std::path::Path;
use tempfile::tempdir;

/// Flags of a network so small that the training images are evaluated in seconds.
const TINY: &str =
    "train --offline --device cpu --blocks 1,1,1 --width 2 --size 6 --batch-size 256 --threads 1";

fn train(flags: &str, run: &Path) -> Vec<Value> {
    resnet(&format!("{TINY} --json {flags} --run-dir"), &[run]).json_lines()
}

fn eval(split: &str, of: &Path) -> Value {
    resnet(&format!("eval --offline --device cpu --threads 1 --json --split {split}"), &[of])
        .json_lines()
        .remove(0)
}

/// The line of the metrics for the epoch that ended at `step`.
fn epoch_of(step: u64, run: &Path) -> Value {
    let metrics = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let mut epochs = metrics.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    epochs.find(|line| line["event"] == "epoch" && line["step"] == step).unwrap()
}

fn best_step(run: &Path) -> u64 {
    fs::read_link(run.join("checkpoints/best")).unwrap().to_str().unwrap().parse().unwrap()
}

#[test]
fn held_out_images_are_a_separate_split_and_are_not_trained_on() {
    let folder = tempdir().unwrap();
    let run = folder.path().join("run");
    // The limit allows all held-out images, but not all test images.
    let lines = train("--epochs 2 --limit-batches 8 --validation 2000 --lr 0.3", &run);
    let validation = eval("validation", &run);
    assert_eq!((&validation["split"], &validation["images"]), (&"validation".into(), &2000.into()));
    assert_eq!(validation["accuracy"], lines[2]["best_accuracy"]);
    assert_eq!(eval("train", &run)["images"], 58_000);
    let table = resnet("eval --offline --threads 1 --split validation", &[&run]).success();
    assert!(table.contains("Fashion-MNIST's held-out images"), "{table}");

    // The test accuracy of the best checkpoint is printed, also after the run was resumed.
    assert_eq!(lines[2]["best_test_accuracy"], epoch_of(best_step(&run), &run)["test_accuracy"]);
    let more = resnet("train --offline --epochs 3 --lr 1e-9 --resume", &[&run]).success();
    let step = best_step(&run);
    let accuracy = epoch_of(step, &run)["test_accuracy"].as_f64().unwrap();
    let best = format!("test accuracy {accuracy:.4} (of 2,048) at step {step}\n");
    assert!(more.contains(&best), "{best}{more}");
    assert!(more.contains("(of 2,048) after 3 epochs"), "{more}");
}

#[test]
fn without_held_out_images_the_validation_split_is_an_error() {
    let folder = tempdir().unwrap();
    let run = folder.path().join("run");
    let lines = train("--epochs 1 --limit-batches 1", &run);
    assert_eq!(lines[1]["best_test_accuracy"], lines[1]["test_accuracy"]);
    resnet("eval --offline --threads 1 --split validation", &[&run])
        .fails_with(2, &["--split validation", "held out no images", "--validation"]);

    // A checkpoint of an earlier version does not say which images were held out.
    let old = folder.path().join("model.safetensors");
    let mut bytes = fs::read(run.join("checkpoints/last/model.safetensors")).unwrap();
    let at = bytes.windows(8).position(|part| part == b"held_out").unwrap();
    bytes.splice(at..at + 8, *b"nobodies");
    fs::write(&old, bytes).unwrap();
    let ran = resnet("eval --offline --threads 1 --json --split train", &[&old]);
    assert!(ran.stderr.contains("does not say which training images were held out"));
    assert_eq!(ran.json_lines()[0]["images"], 60_000);
    resnet("eval --offline --threads 1 --split validation", &[&old])
        .fails_with(2, &["--split validation"]);
}

#[test]
fn figures_that_are_computed_on_fewer_images_are_marked() {
    let folder = tempdir().unwrap();
    let run = folder.path().join("run");
    let lines = train("--epochs 1 --limit-batches 2 --validation 1000", &run);
    for line in &lines {
        assert_eq!(line["test_images"], 512, "{line}");
    }
    assert_eq!(lines[0]["validation_images"], 512);
    let listed = &resnet("checkpoints --json", &[&run]).json_lines()[0];
    assert_eq!((&listed["test_images"], &listed["validation_images"]), (&512.into(), &512.into()));
    let table = resnet("checkpoints", &[&run]).success();
    assert_eq!(table.matches(" (of 512)").count(), 2, "{table}");
    let text = resnet(
        &format!("{TINY} --epochs 1 --limit-batches 2 --run-dir"),
        &[&folder.path().join("text")],
    );
    assert!(text.stderr.contains(" (of 512)  lr "), "{}", text.stderr);
    assert!(text.success().ends_with(" (of 512) after 1 epoch\n"));

    // Figures that the limit does not change are not marked.
    let all = train("--epochs 1 --limit-batches 40", &folder.path().join("all"));
    assert!(all.iter().all(|line| line.get("test_images").is_none()), "{all:?}");
}

#[test]
fn top_5_accuracy_is_reported_and_higher_than_the_accuracy() {
    let folder = tempdir().unwrap();
    let run = folder.path().join("run");
    train("--epochs 1 --limit-batches 8 --lr 0.3", &run);
    let eval = eval("test", &run);
    let (top_1, top_5) = (eval["accuracy"].as_f64(), eval["top5_accuracy"].as_f64());
    assert!(top_5.unwrap() > top_1.unwrap() && top_5.unwrap() <= 1.0, "{eval}");
}
