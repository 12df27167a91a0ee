//! Every file in `configs/` trains.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic makes the test fail")]

mod common;

use common::resnet;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::tempdir;

fn configs(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let found = entries.flat_map(|path| if path.is_dir() { configs(&path) } else { vec![path] });
    found.collect()
}

/// A step of each network on a few of the program's own images, because not every data set is on every machine.
#[test]
fn every_config_takes_a_step() {
    let files = configs(&Path::new(env!("CARGO_MANIFEST_DIR")).join("configs"));
    assert!(files.len() > 12, "{files:?}");
    for file in files {
        let folder = tempdir().unwrap();
        let flags = format!(
            "train --config {} --dataset synthetic --offline --device cpu --batch-size 2 --validation 0 \
             --epochs 1 --lr 1e-9 --warmup-epochs 0 --limit-batches 1 --quiet --json --run-dir",
            file.display()
        );
        let lines = resnet(&flags, &[&folder.path().join("run")]).json_lines();
        let loss = lines[0]["train_loss"].as_f64();
        assert!(loss.is_some_and(f64::is_finite), "{}: {lines:?}", file.display());
    }
}
