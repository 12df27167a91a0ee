//! Damaged and forged files, and the messages about them.

use super::common::{program, resnet};
use super::{finished, limited, resume, text};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

#[test]
fn eval_refuses_a_checkpoint_without_checksums() {
    let (folder, run) = finished();
    let checkpoint = run.join("checkpoints/8");
    let [sums, model] = ["SHA256SUMS", "model.safetensors"].map(|name| checkpoint.join(name));
    let original = text(&sums);
    let spoils: [(&str, &dyn Fn()); 4] = [
        ("missing", &|| {}),
        ("a folder", &|| fs::create_dir(&sums).unwrap()),
        ("a FIFO", &|| {
            assert!(Command::new("mkfifo").arg(&sums).status().unwrap().success());
        }),
        ("a dangling link", &|| symlink("nothing", &sums).unwrap()),
    ];
    for (what, spoil) in spoils {
        fs::remove_file(&sums).unwrap();
        spoil();
        let whole = run.join("checkpoints/6").display().to_string();
        for path in [&run, &checkpoint] {
            let ran = limited("eval --offline --threads 1", path);
            assert!(!ran.stdout.contains("loss"), "{what}: {}", ran.stdout);
            ran.fails_with(1, &["8/SHA256SUMS", &format!("resnet eval {whole}")]);
        }
        // If the user names the file of weights itself, it needs no SHA256SUMS. But if there is one, it must be
        // readable.
        let named = limited("eval --offline --threads 1", &model);
        match what {
            "missing" => drop(named.success()),
            _ => named.fails_with(1, &["SHA256SUMS"]),
        }
        let _ = fs::remove_dir(&sums);
        let _ = fs::remove_file(&sums);
        fs::write(&sums, &original).unwrap();
    }
    let alone = folder.path().join("my.safetensors");
    fs::copy(&model, &alone).unwrap();
    resnet("eval --offline --threads 1", &[&alone]).success();
    let mut bytes = fs::read(&model).unwrap();
    let end = bytes.len() - 1;
    bytes[end] ^= 1;
    fs::write(&model, bytes).unwrap();
    resnet("eval --offline --threads 1", &[&model]).fails_with(1, &["damaged"]);
    resnet("eval --offline --threads 1", &[&run])
        .fails_with(1, &["8/model.safetensors", "checkpoints/6"]);
}

#[test]
fn eval_of_nan_infinite_or_huge_weights_is_an_error() {
    let (folder, run) = finished();
    let bytes = fs::read(run.join("checkpoints/8/model.safetensors")).unwrap();
    for (name, factor) in [("nan", f32::NAN), ("inf", f32::INFINITY), ("large", 1e12)] {
        let mut bytes = bytes.clone();
        let data = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        for number in bytes[data..].chunks_exact_mut(4) {
            let weight = f32::from_le_bytes(number.try_into().unwrap());
            number.copy_from_slice(&(weight * factor).to_le_bytes());
        }
        let alone = folder.path().join(format!("{name}.safetensors"));
        fs::write(&alone, bytes).unwrap();
        let ran = resnet("eval --offline --threads 1 --json", &[&alone]);
        assert_eq!(ran.stdout, "", "{name}");
        ran.fails_with(1, &[name, "loss"]);
    }
}

#[test]
fn damaged_lines_of_the_metrics_are_named_and_kept() {
    let (_folder, run) = finished();
    let path = run.join("metrics.jsonl");
    let lines: Vec<String> = text(&path).lines().map(str::to_owned).collect();
    let first = &lines[0];
    for (line, spoilt) in [
        (1, [&first[..40], &lines[1], &lines[2]].join("\n") + "\n"),
        (
            1,
            [&first.replace("\"train_loss\":2", "\"train_loss\":\"2"), lines[1].as_str()]
                .join("\n"),
        ),
        (1, ["{\"event\":\"epoch\",\"epoch\":1}", &lines[1]].join("\n") + "\n"),
        (2, [first, first, &lines[1]].map(String::as_str).join("\n") + "\n"),
        (2, [first, "[]", &lines[1], ""].join("\n")),
        (2, [first, &lines[1][..30]].join("\n")),
    ] {
        fs::write(&path, &spoilt).unwrap();
        let listed = resnet("checkpoints --json", &[&run]);
        let named = format!("metrics.jsonl: line {line}");
        assert_eq!(listed.code, Some(1), "{}", listed.stderr);
        assert!(listed.stderr.contains(&named), "no {named}: {}", listed.stderr);
        assert_eq!(listed.stdout.lines().count(), 4);
        let ran = super::limited("train --offline --epochs 2 --resume", &run.join("checkpoints/6"));
        assert!(ran.stderr.contains(&named), "no {named}: {}", ran.stderr);
        assert!(ran.stderr.contains("metrics.jsonl.damaged"), "{}", ran.stderr);
        ran.success();
        assert_eq!(text(&run.join("metrics.jsonl.damaged")), spoilt);
        fs::remove_file(run.join("metrics.jsonl.damaged")).unwrap();
        let metrics = text(&path);
        assert!(metrics.lines().all(|line| line.ends_with('}') && line.starts_with('{')));
        assert_eq!(metrics.lines().filter(|line| line.contains("\"epoch\":2")).count(), 1);
    }
}

#[test]
fn metrics_of_epochs_that_are_trained_again_are_kept_in_another_file() {
    let (_folder, run) = finished();
    let before = text(&run.join("metrics.jsonl"));
    let ran = limited("train --offline --resume", &run.join("checkpoints/2"));
    assert!(ran.stderr.contains("metrics.jsonl.abandoned"), "{}", ran.stderr);
    ran.success();
    assert_eq!(text(&run.join("metrics.jsonl.abandoned")), before);
    let again = text(&run.join("metrics.jsonl"));
    limited("train --offline --resume", &run.join("checkpoints/4")).success();
    let second = text(&run.join("metrics.jsonl.abandoned-2"));
    assert_eq!(second.lines().collect::<Vec<_>>(), again.lines().skip(1).collect::<Vec<_>>());
    // Only the line of the run's end is dropped now. It is not kept, because the last epoch's line has its figures.
    resume(&run).success();
    assert!(!run.join("metrics.jsonl.abandoned-3").exists());
}

#[test]
fn resnet_checkpoints_fails_if_a_checkpoint_is_damaged_or_the_folder_is_missing() {
    let (folder, run) = finished();
    fs::remove_file(run.join("checkpoints/4/optimizer.safetensors")).unwrap();
    let listed = resnet("checkpoints --json", &[&run]);
    assert_eq!(listed.stdout.lines().count(), 4);
    listed.fails_with(1, &["4/optimizer.safetensors", "1 of 4"]);
    resnet("checkpoints", &[&run]).fails_with(1, &["4/optimizer.safetensors"]);
    let missing = folder.path().join("missing");
    for command in ["checkpoints", "train --offline --resume"] {
        resnet(command, &[&missing]).fails_with(2, &["missing: no such folder"]);
    }
    resnet("checkpoints", &[folder.path()]).fails_with(2, &["holds no checkpoints"]);
}

#[test]
fn a_model_card_with_more_layers_than_tensors_is_refused_before_the_network_is_built() {
    let (folder, run) = finished();
    let file = forged(&run, folder.path(), |card| {
        card["spec"]["blocks"] = serde_json::json!([2000, 2000, 2000]);
    });
    resnet("eval --offline --threads 1", &[&file]).fails_with(1, &["12002 layers", "tensors"]);
}

#[test]
fn names_from_files_are_printed_short_and_without_control_characters() {
    let (folder, run) = finished();
    let evil = format!("\u{1b}[31m\u{9b}2J\u{7}{}", "x".repeat(10_000));
    let file = forged(&run, folder.path(), |card| card["classes"][3] = evil.clone().into());
    let stdout = resnet("eval --offline --threads 1", &[&file]).success();
    assert!(stdout.contains("\\u{1b}[31m"), "{stdout}");
    assert!(!stdout.contains(|c: char| c.is_control() && c != '\n'), "{stdout:?}");
    assert!(stdout.lines().all(|line| line.chars().count() < 200), "{stdout}");
    let renamed = |bytes: &mut String| {
        *bytes = bytes.replace("\"fc.bias\"", &serde_json::to_string(&evil).unwrap())
    };
    let file = rewritten(&run, folder.path(), renamed);
    let ran = resnet("eval --offline --threads 1", &[&file]);
    assert!(!ran.stderr.contains(|c: char| c.is_control() && c != '\n'), "{:?}", ran.stderr);
    assert!(ran.stderr.len() < 2000, "{}", ran.stderr.len());
    ran.fails_with(1, &["fc.bias"]);
}

#[test]
fn escape_sequences_in_a_path_are_not_sent_to_the_terminal() {
    let (folder, run) = finished();
    let evil = folder.path().join("a\u{1b}]0;title\u{7}b");
    for command in ["eval --offline --threads 1", "checkpoints", "train --resume", "train --config"]
    {
        let ran = program(command).arg(&evil).run();
        assert!(!ran.stderr.contains(['\u{1b}', '\u{7}']), "{:?}", ran.stderr);
        ran.fails_with(2, &["a\\u{1b}]0;title\\u{7}b"]);
    }
    // The same for an unexpected argument.
    let unknown = resnet("eval run b", &[&evil]);
    assert!(!unknown.stderr.contains(['\u{1b}', '\u{7}']), "{:?}", unknown.stderr);
    fs::rename(&run, &evil).unwrap();
    let ran = resume(&evil);
    assert!(!ran.stderr.contains(['\u{1b}', '\u{7}']), "{:?}", ran.stderr);
    assert!(!ran.success().contains(['\u{1b}', '\u{7}']));
}

/// A copy of a run's file of weights with another model card.
fn forged(
    run: &Path,
    folder: &Path,
    change: impl Fn(&mut serde_json::Value),
) -> std::path::PathBuf {
    rewritten(run, folder, |header| {
        let mut json: serde_json::Value = serde_json::from_str(header).unwrap();
        let card = json["__metadata__"]["resnet"].as_str().unwrap();
        let mut card = serde_json::from_str(card).unwrap();
        change(&mut card);
        json["__metadata__"]["resnet"] = card.to_string().into();
        *header = json.to_string();
    })
}

/// A copy of a run's file of weights with another header.
fn rewritten(run: &Path, folder: &Path, change: impl Fn(&mut String)) -> std::path::PathBuf {
    let bytes = fs::read(run.join("checkpoints/last/model.safetensors")).unwrap();
    let data = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header = String::from_utf8(bytes[8..data].to_vec()).unwrap();
    change(&mut header);
    let path = folder.join("forged.safetensors");
    let length = (header.len() as u64).to_le_bytes();
    fs::write(&path, [&length, header.as_bytes(), &bytes[data..]].concat()).unwrap();
    path
}
