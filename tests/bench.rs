//! Runs `resnet bench`. The tests do not check how fast it is.

#![allow(clippy::unwrap_used, reason = "clippy allows it in tests, but not in their helpers")]

mod common;

use common::resnet;
use std::fs;
use std::process::Command;
use tempfile::tempdir;

const TINY: &str =
    "bench --device cpu --blocks 1,1,1 --width 8 --size 12 --batch-size 8 --steps 3 --threads 1";

#[test]
fn json_has_the_documented_keys() {
    for (mode, phases) in [
        ("train", vec!["data", "forward", "backward", "optimizer"]),
        ("inference", vec!["data", "forward"]),
    ] {
        let result = &resnet(&format!("{TINY} --mode {mode} --json"), &[]).json_lines()[0];
        assert_eq!(result["mode"], mode);
        assert_eq!((&result["depth"], &result["batch_size"]), (&8.into(), &8.into()));
        assert_eq!((&result["size"], &result["threads"]), (&12.into(), &1.into()));
        let precision = result["precision"].as_str().unwrap();
        assert!(["fp32", "bf16"].contains(&precision), "{precision}");
        for key in ["images_per_second", "step_seconds", "gflops", "peak_memory_bytes"] {
            assert!(result[key].as_f64().is_some_and(|value| value > 0.0), "{key}: {result}");
        }
        assert_eq!(result["floor_seconds"], serde_json::Value::Null);
        let fraction = |phase: &&str| result["phases"][phase].as_f64().unwrap();
        let total: f64 = phases.iter().map(fraction).sum();
        assert!((total - 1.0).abs() < 1e-9, "{result}");
        let rate = result["images_per_second"].as_f64().unwrap();
        assert!((rate * result["step_seconds"].as_f64().unwrap() - 8.0).abs() < 1e-6);
    }
}

#[test]
fn floor_measures_the_convolutions_alone_and_only_in_training() {
    let result = &resnet(&format!("{TINY} --json --floor"), &[]).json_lines()[0];
    for key in ["floor_seconds", "fraction_of_floor"] {
        assert!(result[key].as_f64().is_some_and(|value| value > 0.0), "{key}: {result}");
    }
    resnet(&format!("{TINY} --mode inference --floor"), &[])
        .fails_with(2, &["--floor", "--mode train"]);
}

#[test]
fn the_text_shows_speed_work_and_phases_and_the_ratio_to_an_earlier_measurement() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("before.json");
    let before = resnet(&format!("{TINY} --json"), &[]).success();
    fs::write(&file, before).unwrap();
    let text = resnet(&format!("{TINY} --compare"), &[&file]).success();
    for part in ["images/s", "GFLOP/s", "backward", "peak memory", "times the images a second"] {
        assert!(text.contains(part), "{text}");
    }
    resnet(&format!("{TINY} --mode inference --compare"), &[&file])
        .fails_with(2, &["--compare", "its mode is \"train\""]);
    fs::write(&file, "no JSON").unwrap();
    resnet(&format!("{TINY} --compare"), &[&file]).fails_with(2, &["--compare", "before.json"]);
    let fifo = folder.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    resnet(&format!("{TINY} --compare"), &[&fifo]).fails_with(2, &["--compare", "FIFO"]);
    resnet("bench --batch-size 0", &[]).fails_with(2, &["--batch-size 0", "from 1"]);
    resnet("bench --mode both", &[]).fails_with(2, &["both", "inference"]);
}
