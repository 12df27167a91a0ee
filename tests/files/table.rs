//! `metrics.csv` has the epochs of `metrics.jsonl`, whatever happened to both files.

use super::{finished, limited, text};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// Checks that the table has the figures of the metrics, with the same digits, and nothing else.
#[track_caller]
fn assert_consistent(run: &Path, epochs: usize) {
    let mut table = csv::Reader::from_path(run.join("metrics.csv")).unwrap();
    let header: Vec<String> = table.headers().unwrap().iter().map(str::to_owned).collect();
    let rows: Vec<csv::StringRecord> = table.records().map(Result::unwrap).collect();
    let metrics = text(&run.join("metrics.jsonl"));
    let lines: Vec<Value> =
        metrics.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let lines: Vec<&Value> = lines.iter().filter(|line| line["event"] == "epoch").collect();
    assert_eq!((lines.len(), rows.len()), (epochs, epochs), "{metrics}");
    for (line, row) in lines.iter().zip(&rows) {
        for (key, cell) in header.iter().zip(row) {
            let figure = match &line[key] {
                Value::Null => String::new(),
                figure => figure.to_string(),
            };
            assert_eq!(cell, figure, "{key}");
        }
        let keys = line.as_object().unwrap().keys();
        assert!(keys.filter(|key| *key != "event").all(|key| header.contains(key)), "{header:?}");
    }
}

#[test]
fn the_table_follows_the_metrics_through_resumes_and_damage() {
    let (_folder, run) = finished();
    let table = run.join("metrics.csv");
    assert_consistent(&run, 2);

    // Both epochs are trained again, then only the second one, then a third.
    for (checkpoint, epochs) in [("2", 2), ("4", 2), ("last", 3)] {
        let path = run.join("checkpoints").join(checkpoint);
        limited(&format!("train --offline --epochs {epochs} --resume"), &path).success();
        assert_consistent(&run, epochs);
    }

    // A process that was killed can leave half a line, or a file without the last epoch. Users can do anything.
    let whole = text(&table);
    let spoils: [&dyn Fn(); 4] = [
        &|| fs::write(&table, &whole[..whole.len() - 20]).unwrap(),
        &|| fs::write(&table, "something else\n").unwrap(),
        &|| fs::remove_file(&table).unwrap(),
        &|| {
            let path = run.join("metrics.jsonl");
            let damaged = text(&path).replacen("train_accuracy", "train_ac", 1);
            fs::write(path, damaged).unwrap();
        },
    ];
    for (number, spoil) in spoils.into_iter().enumerate() {
        spoil();
        let epochs = 4 + number;
        limited(&format!("train --offline --epochs {epochs} --resume"), &run).success();
        assert_consistent(&run, if number == 3 { epochs - 1 } else { epochs });
    }
}

#[test]
fn a_table_that_cannot_be_written_is_a_warning() {
    let (_folder, run) = finished();
    let table = run.join("metrics.csv");
    fs::remove_file(&table).unwrap();
    fs::create_dir(&table).unwrap();
    let ran = limited("train --offline --epochs 3 --resume", &run);
    assert!(ran.stderr.contains("warning: cannot write"), "{}", ran.stderr);
    assert!(ran.stderr.contains("metrics.csv"), "{}", ran.stderr);
    ran.success();
    assert_eq!(text(&run.join("metrics.jsonl")).matches("\"event\":\"epoch\"").count(), 3);
    fs::remove_dir(&table).unwrap();
    limited("train --offline --epochs 4 --resume", &run).success();
    assert_consistent(&run, 4);
}
