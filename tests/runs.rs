//! `resnet runs`, `compare` and `curves`: what became of runs, how they differ, and how they learned.

#![allow(clippy::unwrap_used, reason = "clippy allows it in tests, but not in their helpers")]

mod common;

use common::{TINY, resnet};
use serde_json::Value;
use std::fs::{self, File};
use std::path::Path;
use tempfile::tempdir;

fn train(flags: &str, run: &Path) {
    resnet(&format!("{TINY} --limit-batches 2 --quiet {flags} --run-dir"), &[run]).success();
}

#[test]
fn runs_are_listed_with_what_became_of_them_the_newest_first() {
    let folder = tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    train("--epochs 2 --validation 500", &path("finished"));
    train("--epochs 3 --stop-after 1", &path("stopped"));
    train("--epochs 1", &path("sweep/runs/inner"));
    train("--epochs 2 --stop-after 1", &path("running"));
    let lock = File::options().write(true).create(true).truncate(false).open(path("running/.lock"));
    let lock = lock.unwrap();
    lock.lock().unwrap();
    train("--epochs 1", &path("damaged"));
    fs::write(path("damaged/metrics.jsonl"), "{\"event\":\"epoch\",\n").unwrap();
    fs::create_dir(path("no run")).unwrap();
    fs::create_dir(path("empty")).unwrap();
    fs::write(path("empty/config.toml"), "").unwrap();

    let listed = resnet("runs --json", &[folder.path()]).json_lines();
    let state = |name: &str| -> &Value {
        listed.iter().find(|run| run["run"] == path(name).to_str().unwrap()).unwrap()
    };
    assert_eq!(listed.len(), 6);
    let finished = state("finished");
    assert_eq!(finished["state"], "finished");
    assert_eq!((&finished["epochs_done"], &finished["epochs"]), (&2.into(), &2.into()));
    assert_eq!(finished["dataset"], "fashion-mnist");
    assert!(finished["network"].as_str().unwrap().starts_with("ResNet-8"), "{finished}");
    assert!(finished["best_accuracy"].is_f64() && finished["test_accuracy"].is_f64());
    assert!(finished["seconds"].as_f64().unwrap() > 0.0);
    let stopped = state("stopped");
    assert_eq!((&stopped["state"], &stopped["epochs_done"]), (&"stopped".into(), &1.into()));
    assert_eq!(state("sweep/runs/inner")["state"], "finished");
    assert_eq!(state("running")["state"], "running");
    assert_eq!(state("damaged")["state"], "damaged");
    // A run that has only its settings.
    assert_eq!(
        (&state("empty")["state"], &state("empty")["epochs_done"]),
        (&"stopped".into(), &0.into())
    );
    let times: Vec<u64> = listed.iter().map(|run| run["changed"].as_u64().unwrap()).collect();
    assert!(times.is_sorted_by(|a, b| a >= b), "{times:?}");

    drop(lock);
    let ran = resnet("runs", &[folder.path()]);
    assert!(ran.stderr.contains("damaged/metrics.jsonl: line 1 is damaged"), "{}", ran.stderr);
    let table = ran.success();
    assert!(table.lines().next().unwrap().starts_with("run"), "{table}");
    let line = table.lines().find(|line| line.starts_with("running")).unwrap();
    assert!(line.ends_with("stopped"), "{line}");
    // A run's own folder gives this run; a folder without runs gives none.
    assert_eq!(resnet("runs --json", &[&path("stopped")]).json_lines().len(), 1);
    assert!(resnet("runs --json", &[&path("no run")]).json_lines().is_empty());
    resnet("runs", &[&path("nowhere")]).fails_with(2, &["nowhere: no such folder"]);
}

#[test]
fn runs_are_compared_by_what_differs() {
    let folder = tempdir().unwrap();
    let [a, b, c] = ["a", "b", "c"].map(|name| folder.path().join(name));
    train("--epochs 1 --seed 1", &a);
    train("--epochs 1 --seed 2", &b);
    train("--epochs 2 --seed 1 --lr 0.01 --warmup-epochs 0.1", &c);
    let lines = resnet("compare --json", &[&a, &b, &c]).json_lines();
    let settings: Vec<&String> = lines[0]["settings"].as_object().unwrap().keys().collect();
    assert_eq!(settings, ["train.epochs", "train.lr", "train.seed", "train.warmup-epochs"]);
    assert_eq!(lines[2]["settings"]["train.lr"], 0.01);
    assert_eq!(lines[2]["figures"]["epochs"], 2.0);
    let accuracy = |line: &Value| line["figures"]["test_accuracy"].as_f64().unwrap();

    let table = resnet("compare", &[&a, &b]).success();
    let row = |name: &str| -> String {
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        table.lines().map(words).find(|line| line.starts_with(name)).unwrap()
    };
    assert_eq!(row("a b"), "a b mean ± sd");
    assert_eq!(row("seed"), "seed 1 2");
    let (one, two) = (accuracy(&lines[0]), accuracy(&lines[1]));
    let (mean, sd) = ((one + two) / 2.0, (one - two).abs() / 2f64.sqrt());
    assert_eq!(
        row("test accuracy"),
        format!("test accuracy {one:.4} {two:.4} {mean:.4} ± {sd:.4}")
    );
    // Runs that differ by more have no mean.
    assert!(!resnet("compare", &[&a, &c]).success().contains('±'));
    resnet("compare", &[&a, folder.path()]).fails_with(2, &["config.toml", "a run's folder"]);
    resnet("compare", &[&a]).fails_with(2, &["2"]);
}

#[test]
fn curves_are_means_over_seeds_and_are_drawn_by_epoch_or_against_a_setting() {
    let folder = tempdir().unwrap();
    let [a, b, c, picture] = ["a", "b", "c", "errors"].map(|name| folder.path().join(name));
    train("--epochs 2 --seed 1", &a);
    train("--epochs 2 --seed 2", &b);
    train("--epochs 2 --lr 0.01", &c);
    let figures = resnet("compare --json", &[&a, &b]).json_lines();
    let accuracies: Vec<f64> =
        figures.iter().map(|run| run["figures"]["test_accuracy"].as_f64().unwrap()).collect();
    let mean = accuracies.iter().sum::<f64>() / 2.0;

    let lines = resnet("curves --json", &[&a, &b, &c]).json_lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    let averaged = lines.iter().find(|line| line["runs"].as_array().unwrap().len() == 2).unwrap();
    assert!((averaged["test_accuracy"]["mean"].as_f64().unwrap() - mean).abs() < 1e-9);
    assert_eq!(averaged["epochs"], 2);

    let flags = format!("curves --picture {}", picture.display());
    let table = resnet(&flags, &[&a, &b, &c]).success();
    let error = format!(" {:.2} ± ", 100.0 * (1.0 - mean));
    assert!(table.contains(&error), "{error}: {table}");
    assert!(fs::read(picture.with_extension("png")).unwrap().starts_with(b"\x89PNG"));
    let by_epoch = fs::read_to_string(picture.with_extension("svg")).unwrap();
    let against = folder.path().join("against.svg");
    let flags = format!("curves --against lr --picture {}", against.display());
    resnet(&flags, &[&a, &b, &c]).success();
    let against = fs::read_to_string(&against).unwrap();
    assert!(against.starts_with("<svg") && against != by_epoch);

    let flags = format!("curves --against augment --picture {}", picture.display());
    resnet(&flags, &[&a, &c]).fails_with(2, &["--against augment", "number"]);
    resnet("curves --against lr", &[&a, &c]).fails_with(2, &["--picture"]);
    resnet("curves --picture errors.pdf", &[&a]).fails_with(2, &["--picture errors.pdf", ".svg"]);
    resnet("curves", &[folder.path()]).fails_with(2, &["config.toml", "a run's folder"]);
}
