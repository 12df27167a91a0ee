//! Variants of the residual network, through the program: training, exact resume, evaluation, growing, gradients, curves,
//! and the refusal of contradictions.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "clippy allows it in tests, but not in their helpers"
)]

#[path = "../common/mod.rs"]
mod common;

use common::resnet;
use common::runs::{assert_same_run, timeless_metrics};
use safetensors::SafeTensors;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;
use tempfile::tempdir;

const TRAIN: &str = "train --offline --device cpu --dataset synthetic --size 12 --batch-size 250 \
     --limit-batches 8 --precision fp32 --threads 1 --lr 0.1 --quiet";
const SMALL: &str = "--blocks 1,1,1 --width 8";

/// One of each kind, and all kinds of noise.
const VARIANTS: [&str; 8] = [
    "--placement pre-activation --stochastic-depth 0.5 --dropout 0.3",
    "--placement norm-after-add --residual-scale 0.5 --stochastic-depth 0.5",
    "--placement relu-before-add --shortcut avg-pool",
    "--placement relu-only-pre-activation --conv-bias --zero-init-residual",
    "--residual false --dropout 0.3",
    "--block bottleneck --groups 4 --group-width 2 --se",
    "--block bottleneck --widen 2 --group-width 24 --dropout 0.1",
    "--blocks 1,1,1,1 --stem deep --width 16 --size 33 --se --stochastic-depth 0.3",
];

fn accuracy_of_end(run: &Path) -> f64 {
    timeless_metrics(run).last().unwrap()["test_accuracy"].as_f64().unwrap()
}

/// Trains each variant in one go, and in two parts with `--recompute` in the second. The two runs end bit for bit alike.
/// Then `eval`, which folds batch norm, finds the accuracy that training found.
#[test]
fn every_variant_resumes_exactly_and_is_evaluated_as_in_training() {
    let folder = tempdir().unwrap();
    for (index, variant) in VARIANTS.iter().enumerate() {
        let whole = folder.path().join(format!("whole-{index}"));
        let parts = folder.path().join(format!("parts-{index}"));
        let flags =
            format!("{TRAIN} {SMALL} {variant} --epochs 2 --checkpoint-every 4steps --keep 9");
        resnet(&format!("{flags} --run-dir"), &[&whole]).success();
        resnet(&format!("{flags} --run-dir"), &[&parts]).success();
        // A checkpoint in the middle of an epoch.
        let middle = parts.join("checkpoints/4");
        resnet("train --offline --quiet --recompute --resume", &[&middle]).success();
        let model = |run: &Path| fs::read(run.join("checkpoints/16/model.safetensors")).unwrap();
        assert!(model(&whole) == model(&parts), "{variant}");
        let eval = &resnet("eval --offline --json", &[&whole]).json_lines()[0];
        // Training evaluates 8 batches, which are all images.
        assert_eq!(eval["images"], 2000, "{variant}");
        assert_eq!(eval["accuracy"].as_f64(), Some(accuracy_of_end(&whole)), "{variant}");
    }
}

/// Noise depends on the seed and on the step: without it, and with another seed, the run is another one.
#[test]
fn noise_changes_a_run_and_follows_from_its_seed() {
    let folder = tempdir().unwrap();
    let run = |name: &str, flags: &str| {
        let path = folder.path().join(name);
        let placed = "--placement pre-activation --augment none --init he";
        resnet(&format!("{TRAIN} {SMALL} {placed} {flags} --epochs 1 --run-dir"), &[&path])
            .success();
        path
    };
    let again = [run("first", "--dropout 0.5"), run("second", "--dropout 0.5")];
    assert_same_run(&again[0], &again[1]);
    let loss = |path: &Path| timeless_metrics(path)[0]["train_loss"].as_f64().unwrap();
    let without = loss(&run("without", ""));
    for flags in ["--dropout 0.5", "--stochastic-depth 0.5"] {
        assert_ne!(loss(&run(&format!("with {flags}"), flags)), without, "{flags}");
    }
}

/// The run was trained before the network had variants. Its network has biases, because of its shortcut.
#[test]
fn a_run_of_an_older_version_is_evaluated_and_continues() {
    let folder = tempdir().unwrap();
    let run = folder.path().join("run");
    let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/variants/old-run");
    assert!(Command::new("cp").arg("-a").args([&old, &run]).status().unwrap().success());
    let saved = fs::read_to_string(run.join("checkpoints/20/state.json")).unwrap();
    assert!(!saved.contains("conv-bias") && saved.contains("plain-conv"), "{saved}");
    let eval = resnet("eval --offline --json --batch-size 32", &[&run]).json_lines();
    assert_eq!(eval[0]["images"], 2000);
    resnet("train --offline --quiet --epochs 2 --resume", &[&run]).success();
    let metrics = timeless_metrics(&run);
    let epochs: Vec<&Value> = metrics.iter().filter(|line| line["event"] == "epoch").collect();
    assert_eq!(epochs.len(), 2, "{metrics:?}");
    let config = run.join("config.toml");
    assert!(fs::read_to_string(&config).unwrap().contains("# conv-bias = true"));
    // Its settings are still a valid file.
    let again = folder.path().join("again");
    let old_config = old.join("config.toml");
    resnet("train --offline --quiet --config", &[&old_config, Path::new("--run-dir"), &again])
        .success();
    let tensors = |run: &Path| {
        let bytes = fs::read(run.join("checkpoints/last/model.safetensors")).unwrap();
        SafeTensors::deserialize(&bytes).unwrap().names().len()
    };
    assert_eq!(tensors(&again), tensors(&run));
}

#[test]
fn contradictions_are_refused_by_flag_before_anything_is_written() {
    let folder = tempdir().unwrap();
    let run = folder.path().join("run");
    for (flags, words) in [
        ("--depth 50 --groups 7", vec!["--groups 7", "does not divide"]),
        ("--depth 18 --groups 4", vec!["--groups 4", "bottleneck"]),
        ("--depth 18 --group-width 32", vec!["--group-width 32", "bottleneck"]),
        ("--depth 20 --width 8 --se", vec!["--se", "--width"]),
        (
            "--depth 20 --residual false --zero-init-residual",
            vec!["--zero-init", "--residual false"],
        ),
        (
            "--depth 20 --residual false --stochastic-depth 0.1",
            vec!["--stochastic-depth", "--residual"],
        ),
        (
            "--depth 20 --residual false --residual-scale 0.1",
            vec!["--residual-scale", "--residual"],
        ),
        (
            "--depth 20 --placement relu-before-add --zero-init-residual",
            vec!["--placement", "never learn"],
        ),
        ("--depth 20 --dropout 1", vec!["--dropout 1", "below 1"]),
        ("--depth 20 --stochastic-depth -0.1", vec!["--stochastic-depth -0.1"]),
        ("--depth 20 --residual-scale 0", vec!["--residual-scale 0"]),
        ("--depth 20 --widen 0", vec!["--widen 0"]),
        ("--depth 28", vec!["--depth 28", "--widen"]),
        ("--depth 18 --stem deep --width 5", vec!["--width 5", "--stem deep", "multiple of 2"]),
        ("--depth 18 --placement sideways", vec!["sideways", "pre-activation"]),
    ] {
        let command = format!("train --offline --dataset synthetic {flags} --run-dir");
        resnet(&command, &[&run]).fails_with(2, &words);
        assert!(!run.exists(), "{flags}");
    }
}

#[test]
fn a_grown_run_has_the_accuracy_of_its_origin_and_continues() {
    let folder = tempdir().unwrap();
    let [run, grown] = ["run", "grown"].map(|name| folder.path().join(name));
    resnet(&format!("{TRAIN} {SMALL} --epochs 1 --run-dir"), &[&run]).success();
    let flags = [run.as_path(), Path::new("--run-dir"), &grown];
    let made = resnet("grow --offline --blocks 2,1,3 --json", &flags).json_lines();
    assert!(made[0]["largest_difference"].as_f64().unwrap() < 1e-5, "{made:?}");
    let figures = |run: &Path| {
        let eval = &resnet("eval --offline --json", &[run]).json_lines()[0];
        (eval["accuracy"].clone(), (eval["loss"].as_f64().unwrap() * 1e4).round())
    };
    assert_eq!(figures(&run), figures(&grown));
    let before = fs::read(grown.join("checkpoints/0/model.safetensors")).unwrap();
    resnet("train --offline --quiet --resume", &[&grown]).success();
    assert!(before != fs::read(grown.join("checkpoints/last/model.safetensors")).unwrap());
    for (blocks, words) in [("1,1,1", "has these blocks already"), ("0,1,1", "only become deeper")]
    {
        resnet(&format!("grow --offline --blocks {blocks}"), &[&run])
            .fails_with(2, &["--blocks", words]);
    }
    resnet("grow --offline --blocks 2,2,2", &[&run.join("config.toml")])
        .fails_with(2, &["config.toml"]);
}

#[test]
fn gradients_are_printed_and_drawn_with_and_without_shortcuts() {
    let folder = tempdir().unwrap();
    let picture = folder.path().join("flow");
    let flags = "gradients --offline --device cpu --dataset synthetic --depth 56 --width 8 --size 12 \
         --batch-size 32 --json";
    let lines = resnet(&format!("{flags} --steps 2 --picture"), &[&picture]).json_lines();
    let networks = lines[0]["networks"].as_array().unwrap();
    let [residual, plain] = [&networks[0], &networks[2]];
    assert_eq!((&residual["residual"], &plain["residual"]), (&true.into(), &false.into()));
    assert_eq!((&networks[1]["steps"], &networks[3]["steps"]), (&2.into(), &2.into()));
    let blocks = residual["blocks"].as_array().unwrap();
    assert_eq!((blocks.len(), &blocks[0]["name"]), (27, &"layer3.8".into()));
    // The plain network multiplies the gradient by much more at each block.
    let factor = |network: &Value| network["factor_per_block"].as_f64().unwrap();
    assert!(factor(plain) > 1.1 * factor(residual), "{} {}", factor(plain), factor(residual));
    let svg = fs::read_to_string(picture.with_extension("svg")).unwrap();
    assert!(svg.contains("plain-56 (width 8)") && svg.contains("ResNet-56 (width 8)"), "{svg}");
    assert!(fs::read(picture.with_extension("png")).unwrap().starts_with(b"\x89PNG"));
    resnet(&format!("{flags} --picture flow.gif"), &[]).fails_with(2, &["--picture flow.gif"]);
}

#[test]
fn curves_average_runs_that_differ_by_their_seed() {
    let folder = tempdir().unwrap();
    let mut runs = Vec::new();
    for (name, flags) in [("a", "--width 8"), ("b", "--width 8 --seed 1"), ("c", "--width 4")] {
        let run = folder.path().join(name);
        resnet(&format!("{TRAIN} --blocks 1,1,1 {flags} --epochs 2 --run-dir"), &[&run]).success();
        runs.push(run);
    }
    let runs: Vec<&Path> = runs.iter().map(|run| run.as_path()).collect();
    let lines = resnet("curves --json", &runs).json_lines();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["settings"]["network.width"], 8);
    assert_eq!(lines[0]["runs"].as_array().unwrap().len(), 2);
    let expected = (accuracy_of_end(runs[0]) + accuracy_of_end(runs[1])) / 2.0;
    let mean = lines[0]["test_accuracy"]["mean"].as_f64().unwrap();
    assert!((mean - expected).abs() < 1e-9);
    let text = resnet("curves", &runs).success();
    assert!(text.contains("width 8") && text.contains("test error"), "{text}");
    let picture = folder.path().join("widths.svg");
    let mut arguments = vec![Path::new("--picture"), picture.as_path()];
    arguments.extend(&runs);
    resnet("curves --against width", &arguments).success();
    assert!(fs::read_to_string(&picture).unwrap().contains("against width"));
    resnet("curves --against lr", &arguments).fails_with(2, &["--against lr"]);
    resnet("curves", &[folder.path()]).fails_with(2, &["config.toml"]);
}
