//! TensorBoard's event files, read by a parser that shares no code with the program.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic makes the test fail")]

mod common;

use common::{Ran, TINY, program};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::tempdir;

const FLAGS: &str = "--dataset synthetic --batch-size 64 --limit-batches 5 --quiet --json";

/// Trains into `run`.
fn train(arguments: &str, run: &Path) -> Ran {
    program(&format!("{TINY} {FLAGS} {arguments} --run-dir")).arg(run).run()
}

/// A field of a protobuf message.
#[derive(Debug, Clone)]
enum Field {
    Number(u64),
    Double(f64),
    Float(f32),
    Bytes(Vec<u8>),
}

impl Field {
    fn bytes(&self) -> &[u8] {
        let Self::Bytes(bytes) = self else { panic!("{self:?} is not of variable length") };
        bytes
    }

    fn text(&self) -> String {
        String::from_utf8(self.bytes().to_vec()).unwrap()
    }

    fn double(&self) -> f64 {
        let Self::Double(number) = self else { panic!("{self:?} is not a double") };
        *number
    }
}

/// The fields of a message with their numbers.
type Fields = Vec<(u64, Field)>;

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut number = 0;
    for shift in (0..).step_by(7) {
        let byte = take(bytes, 1)[0];
        number |= u64::from(byte & 127) << shift;
        if byte < 128 {
            return number;
        }
    }
    unreachable!()
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(count);
    *bytes = rest;
    taken
}

fn fields(mut bytes: &[u8]) -> Fields {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let field = match key & 7 {
            0 => Field::Number(varint(&mut bytes)),
            1 => Field::Double(f64::from_le_bytes(take(&mut bytes, 8).try_into().unwrap())),
            5 => Field::Float(f32::from_le_bytes(take(&mut bytes, 4).try_into().unwrap())),
            2 => {
                let length = varint(&mut bytes) as usize;
                Field::Bytes(take(&mut bytes, length).to_vec())
            }
            other => panic!("wire type {other}"),
        };
        fields.push((key >> 3, field));
    }
    fields
}

fn field(fields: &[(u64, Field)], number: u64) -> Option<&Field> {
    fields.iter().find(|(found, _)| *found == number).map(|(_, field)| field)
}

/// The checksum of a part of a record: CRC-32C bit by bit, masked.
fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
        }
    }
    (!crc).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The messages of an event file. Checks the length and both checksums of each.
fn records(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = bytes;
    let mut records = Vec::new();
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
    while !rest.is_empty() {
        let length = take(&mut rest, 8);
        assert_eq!(number(take(&mut rest, 4)), checksum(length));
        let message = take(&mut rest, u64::from_le_bytes(length.try_into().unwrap()) as usize);
        assert_eq!(number(take(&mut rest, 4)), checksum(message));
        records.push(message.to_vec());
    }
    records
}

/// What a run's event files say, read as TensorBoard does: in the order of their names, and the start of a part removes
/// the later steps of the parts before.
#[derive(Default)]
struct Found {
    scalars: BTreeMap<String, Vec<(u64, f32)>>,
    /// Of each histogram: the step, and the fields of its message.
    histograms: BTreeMap<String, Vec<(u64, Fields)>>,
    /// Of each picture: the step, and the fields of its message.
    pictures: BTreeMap<String, Vec<(u64, Fields)>>,
    /// The content of each value of the plugin `hparams`, by tag.
    hparams: BTreeMap<String, Vec<u8>>,
    starts: Vec<u64>,
}

fn event_files(run: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(run).unwrap().map(|entry| entry.unwrap().path());
    let is_one = |path: &PathBuf| path.to_string_lossy().contains("tfevents");
    let mut files: Vec<PathBuf> = entries.filter(is_one).collect();
    files.sort();
    files
}

fn read(run: &Path) -> Found {
    let mut found = Found::default();
    for file in event_files(run) {
        let records = records(&fs::read(&file).unwrap());
        let version = fields(&records[0]);
        assert_eq!(field(&version, 3).unwrap().text(), "brain.Event:2");
        for record in &records[1..] {
            let event = fields(record);
            assert!(field(&event, 1).unwrap().double() > 1.6e9, "the time");
            let step = match field(&event, 2) {
                Some(Field::Number(step)) => *step,
                _ => 0,
            };
            if let Some(log) = field(&event, 7) {
                assert!(matches!(field(&fields(log.bytes()), 1), Some(Field::Number(1))));
                found.starts.push(step);
                found.scalars.values_mut().for_each(|points| points.retain(|p| p.0 < step));
                found.histograms.values_mut().for_each(|points| points.retain(|p| p.0 < step));
                found.pictures.values_mut().for_each(|points| points.retain(|p| p.0 < step));
                continue;
            }
            for (_, value) in fields(field(&event, 5).unwrap().bytes()) {
                add(&mut found, step, &fields(value.bytes()));
            }
        }
    }
    found
}

fn add(found: &mut Found, step: u64, value: &[(u64, Field)]) {
    let tag = field(value, 1).unwrap().text();
    if let Some(Field::Float(number)) = field(value, 2) {
        found.scalars.entry(tag).or_default().push((step, *number));
    } else if let Some(picture) = field(value, 4) {
        found.pictures.entry(tag).or_default().push((step, fields(picture.bytes())));
    } else if let Some(histogram) = field(value, 5) {
        found.histograms.entry(tag).or_default().push((step, fields(histogram.bytes())));
    } else {
        let metadata = fields(field(value, 9).unwrap().bytes());
        let plugin = fields(field(&metadata, 1).unwrap().bytes());
        assert_eq!(field(&plugin, 1).unwrap().text(), "hparams");
        found.hparams.insert(tag, field(&plugin, 2).unwrap().bytes().to_vec());
    }
}

/// The epochs of `metrics.jsonl`.
fn epochs(run: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["event"] == "epoch").collect()
}

/// Checks that the curves of epochs are the figures of `metrics.jsonl`, and that no step is there twice.
#[track_caller]
fn assert_same(found: &Found, run: &Path) {
    let epochs = epochs(run);
    let counts = ["epoch", "step", "test_images", "validation_images"];
    let keys: Vec<&String> = epochs[0].as_object().unwrap().keys().collect();
    let figures = keys.iter().filter(|key| !counts.contains(&key.as_str()) && **key != "event");
    let mut curves = 0;
    for key in figures {
        let expected: Vec<(u64, f32)> = epochs
            .iter()
            .map(|epoch| (epoch["step"].as_u64().unwrap(), epoch[*key].as_f64().unwrap() as f32))
            .collect();
        assert_eq!(found.scalars[&format!("epoch/{key}")], expected, "{key}");
        curves += 1;
    }
    assert_eq!(found.scalars.keys().filter(|tag| tag.starts_with("epoch/")).count(), curves);
    for (tag, points) in &found.scalars {
        assert!(points.is_sorted_by(|a, b| a.0 < b.0), "{tag}: {points:?}");
    }
}

#[test]
fn an_event_file_has_the_figures_of_the_metrics_the_settings_and_histograms() {
    let folder = tempdir().unwrap();
    let run = folder.path().join("run");
    train("--epochs 3 --validation 500 --tensorboard --tensorboard-histograms 2", &run).done();
    let found = read(&run);
    assert_same(&found, &run);
    assert_eq!(found.starts, [0; 0]);

    // With five steps in an epoch, each step is a point, and their mean is the epoch's loss.
    let losses = &found.scalars["step/train_loss"];
    assert_eq!(
        losses.iter().map(|(step, _)| *step).collect::<Vec<_>>(),
        (1..=15).collect::<Vec<_>>()
    );
    let first = losses[..5].iter().map(|(_, loss)| f64::from(*loss)).sum::<f64>() / 5.0;
    assert!((first - epochs(&run)[0]["train_loss"].as_f64().unwrap()).abs() < 1e-5);
    assert_eq!(found.scalars["step/lr"].len(), 15);
    assert_eq!(found.scalars["step/lr"][4], found.scalars["epoch/lr"][0]);

    // Histograms come after every second epoch: of each learned tensor, and of its gradient.
    let histogram = &found.histograms["weights/conv1.weight"];
    assert_eq!(histogram.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [10]);
    let weights = found.histograms.keys().filter(|tag| tag.starts_with("weights/"));
    let gradients = found.histograms.keys().filter(|tag| tag.starts_with("gradients/"));
    assert_eq!(weights.clone().count(), gradients.count());
    assert!(weights.count() > 10);
    for (tag, points) in &found.histograms {
        let doubles = |number| -> Vec<f64> {
            let packed = field(&points[0].1, number).unwrap().bytes();
            packed.chunks(8).map(|bytes| f64::from_le_bytes(bytes.try_into().unwrap())).collect()
        };
        let single = |number| field(&points[0].1, number).map_or(0.0, Field::double);
        let (limits, counts) = (doubles(6), doubles(7));
        assert_eq!(limits.len(), counts.len(), "{tag}");
        assert_eq!(counts.iter().sum::<f64>(), single(3), "{tag}");
        assert_eq!(limits.last(), Some(&single(2)), "{tag}");
        assert!(single(1) <= single(2) && limits.is_sorted(), "{tag}");
    }

    // Pictures of the results, after the last step.
    assert_eq!(found.pictures.keys().collect::<Vec<_>>(), ["test/confusion", "test/mistakes"]);
    for (tag, pictures) in &found.pictures {
        let [(15, picture)] = &pictures[..] else { panic!("{tag}: {pictures:?}") };
        let png = field(picture, 4).unwrap().bytes();
        assert!(png.starts_with(b"\x89PNG"), "{tag}");
        // A PNG file has its width and height at byte 16.
        let sizes = png[16..24].chunks(4).map(|size| u32::from_be_bytes(size.try_into().unwrap()));
        for (number, size) in [2, 1].into_iter().zip(sizes) {
            let Some(Field::Number(said)) = field(picture, number) else { panic!("{tag}") };
            assert_eq!(*said, u64::from(size), "{tag}");
        }
    }

    // The settings: a map of names to values in field 3 of the plugin's message.
    let start = fields(&found.hparams["_hparams_/session_start_info"]);
    let start = fields(field(&start, 3).unwrap().bytes());
    let settings: BTreeMap<String, Fields> = start
        .iter()
        .filter(|(number, _)| *number == 1)
        .map(|(_, entry)| {
            let entry = fields(entry.bytes());
            let value = field(&entry, 2).unwrap().bytes();
            (field(&entry, 1).unwrap().text(), fields(value))
        })
        .collect();
    assert_eq!(field(&settings["train.lr"], 2).unwrap().double(), 0.05);
    assert_eq!(field(&settings["data.dataset"], 3).unwrap().text(), "synthetic");
    assert!(matches!(field(&settings["data.normalize"], 4), Some(Field::Number(1))));
    assert!(!settings.contains_key("run.threads"));
    let end = fields(&found.hparams["_hparams_/session_end_info"]);
    let end = fields(field(&end, 4).unwrap().bytes());
    assert!(matches!(field(&end, 1), Some(Field::Number(1))), "success");
}

#[test]
fn a_resumed_run_is_one_curve_in_which_no_step_is_there_twice() {
    let folder = tempdir().unwrap();
    let run = folder.path().join("run");
    train("--epochs 3 --keep 3 --checkpoint-every 1 --tensorboard", &run).done();
    let first = read(&run);
    // The third epoch is trained again, and two more.
    let resume = "train --offline --quiet --epochs 5 --resume";
    program(resume).arg(run.join("checkpoints/10")).run().done();
    // Each part has a file, and one for the pictures of its end.
    assert_eq!(event_files(&run).len(), 4);
    let found = read(&run);
    assert_eq!(found.starts, [11]);
    assert_same(&found, &run);
    let steps: Vec<u64> = found.scalars["step/train_loss"].iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, (1..=25).collect::<Vec<u64>>());
    let (before, after) = (&first.scalars["step/train_loss"], &found.scalars["step/train_loss"]);
    assert_eq!(before[..10], after[..10]);
    let pictures = &found.pictures["test/confusion"];
    assert_eq!(pictures.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [25]);
}

#[test]
fn the_result_is_the_same_with_and_without_tensorboard() {
    let folder = tempdir().unwrap();
    let [with, without] = ["with", "without"].map(|name| folder.path().join(name));
    // Dropout, an average and mixed images draw random numbers or keep state of their own.
    let flags =
        "--epochs 2 --dropout 0.2 --stochastic-depth 0.2 --ema-decay 0.9 --augment mixup,erase";
    train(&format!("{flags} --tensorboard"), &with).done();
    train(flags, &without).done();
    assert_eq!((event_files(&with).len(), event_files(&without).len()), (2, 0));
    for name in ["model.safetensors", "optimizer.safetensors"] {
        let [with, without] =
            [&with, &without].map(|run| fs::read(run.join("checkpoints/last").join(name)).unwrap());
        assert!(with == without, "{name} differs");
    }
}

#[test]
fn a_file_that_cannot_be_written_is_a_warning_and_a_flag_without_effect_an_error() {
    let folder = tempdir().unwrap();
    let run = folder.path().join("run");
    let ran = train("--epochs 1 --tensorboard-histograms 2", &run);
    ran.fails_with(2, &["--tensorboard-histograms 2", "--tensorboard false", "only with"]);
    assert!(!run.exists());

    // No file can grow beyond a small size; the checkpoints of this network are smaller.
    let limited = common::program_in_shell(
        "trap '' XFSZ; ulimit -f 64; exec",
        &format!("{TINY} {FLAGS} --width 2 --epochs 9 --limit-batches 2 --tensorboard --run-dir"),
    );
    let ran = limited.arg(&run).run();
    ran.shows_no_trace();
    assert_eq!(ran.stderr.matches("TensorBoard gets no more figures").count(), 1, "{}", ran.stderr);
    assert_eq!(epochs(&run).len(), 9, "{}", ran.stderr);
}
