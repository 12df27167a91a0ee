//! Options of training beyond the usual recipe: each trains, and resumes bit for bit; what is not possible is refused.

#![allow(clippy::unwrap_used, reason = "clippy allows it in tests, but not in their helpers")]

mod common;

use common::runs::assert_same_run;
use common::{TINY, resnet};
use std::fs;
use std::path::Path;
use std::process::Command;
use tempfile::tempdir;

/// Recipes that together use every option.
const RECIPES: [&str; 4] = [
    "--augment alternating-flip,reflect-crop:2,mixup,cutmix,erase,cutout:4 --mix-epochs 2 --swa-epochs 1.5",
    "--augment trivial,rotate:10,scale:0.1 --optimizer lars --lr 2 --rates stem=2,decay=0.9 \
     --momentum-end 0.95 --weight-decay-end 0.001 --sizes 6:0.3,8:0.6 --ema-decay 0.9 --schedule linear",
    "--augment crop:1,mixup:0.4 --optimizer adamw --lr 0.002 --beta2 0.99 --decay-all --accumulate 2 \
     --rates fc=0 --sizes 8:0.5 --swa-epochs 1",
    "--augment flip,cutmix --precision bf16 --optimizer adamw --lr 0.002 --clip-grad-norm 1 \
     --schedule step --milestones 10steps,18steps --warmup-steps 3",
];

/// Trains a whole run, and the same run again from a checkpoint in the middle of its second epoch.
fn resumes_exactly(recipe: &str) {
    let folder = tempdir().unwrap();
    let (whole, run) = (folder.path().join("whole"), folder.path().join("run"));
    let flags = "--epochs 3 --limit-batches 8 --checkpoint-every 4steps --keep 9 --quiet";
    resnet(&format!("{TINY} {flags} {recipe} --run-dir"), &[&whole]).success();
    assert!(Command::new("cp").arg("-r").args([&whole, &run]).status().unwrap().success());
    resnet("train --offline --quiet --resume", &[&run.join("checkpoints/12")]).success();
    assert_same_run(&run, &whole);
}

#[test]
fn every_option_resumes_bit_for_bit() {
    RECIPES.into_iter().for_each(resumes_exactly);
}

#[test]
fn an_option_changes_the_result() {
    let folder = tempdir().unwrap();
    let weights = |name: &str, flags: &str| {
        let run = folder.path().join(name);
        let flags = format!("{TINY} --epochs 2 --limit-batches 4 --quiet {flags} --run-dir");
        resnet(&flags, &[&run]).success();
        fs::read(run.join("checkpoints/last/model.safetensors")).unwrap()
    };
    let plain = weights("plain", "");
    for (index, flags) in [
        "--optimizer adamw",
        "--optimizer lars",
        "--rates layer1=0.5",
        "--momentum-end 0.5",
        "--weight-decay-end 0.1",
        "--swa-epochs 1",
        "--sizes 8:0.5",
        "--schedule linear",
        "--schedule step --milestones 1.25",
        "--warmup-steps 4",
    ]
    .into_iter()
    .enumerate()
    {
        assert_ne!(weights(&index.to_string(), flags), plain, "{flags}");
    }
}

#[test]
fn the_settings_of_a_run_are_saved_and_read_back() {
    let folder = tempdir().unwrap();
    let (run, file) = (folder.path().join("run"), folder.path().join("settings.toml"));
    fs::write(
        &file,
        "[data]\naugment = [\"crop:2\", \"flip\", \"erase:0.5\"]\n[train]\nsizes = \"6:0.5\"\n\
         [optimizer.rates]\nstem = 2.0\nlayer1 = 1.5\n",
    )
    .unwrap();
    let flags = format!("{TINY} --epochs 1 --limit-batches 1 --config {}", file.display());
    resnet(&format!("{flags} --run-dir"), &[&run]).success();
    let saved = fs::read_to_string(run.join("config.toml")).unwrap();
    for line in [
        "augment = \"flip,crop:2,erase:0.5\"\n",
        "sizes = \"6:0.5\"\n",
        "[optimizer]\nrates = \"layer1=1.5,stem=2\"\n",
    ] {
        assert!(saved.contains(line), "no {line} in {saved}");
    }
    let again = folder.path().join("again");
    let flags = format!("train --offline --config {}/config.toml --run-dir", run.display());
    let ran = resnet(&flags, &[&again]);
    assert!(ran.stderr.contains("rates layer1=1.5,stem=2, sizes 6:0.5"), "{}", ran.stderr);
    assert_eq!(fs::read_to_string(again.join("config.toml")).unwrap(), saved);
}

/// The learning rates that a run writes, of its first step and of the last step of each epoch.
#[test]
fn cuts_and_warm_up_come_where_they_are_chosen() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("cuts.toml");
    fs::write(
        &file,
        "[train]\nschedule = \"step\"\nstep-every = 1\nwarmup-epochs = 0.0\nlr = 0.5\n",
    )
    .unwrap();
    let rates = |flags: &str| {
        let flags = format!("{TINY} --epochs 4 --limit-batches 2 --json --quiet {flags} --config");
        let run = tempdir().unwrap();
        let ran = resnet(&flags, &[&file, Path::new("--run-dir"), run.path()]);
        let lines = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap());
        let epochs = lines.filter(|line: &serde_json::Value| line["event"] == "epoch");
        let rate = |epoch: serde_json::Value| (epoch["lr"].as_f64().unwrap() * 1e6).round() / 1e6;
        epochs.map(rate).collect::<Vec<_>>()
    };
    assert_eq!(rates(""), [0.5, 0.05, 0.005, 0.0005]);
    // A flag replaces the key of the file that says the same in other units.
    assert_eq!(rates("--milestones 2.5"), [0.5, 0.5, 0.05, 0.05]);
    assert_eq!(rates("--milestones 2steps,6steps"), [0.5, 0.05, 0.05, 0.005]);
    assert_eq!(rates("--milestones 3 --warmup-steps 4"), [0.25, 0.5, 0.5, 0.05]);
}

#[test]
fn what_is_not_possible_is_refused_with_what_is() {
    for (flags, parts) in [
        ("--augment flip,blur", vec!["--augment", "expected none or a list of trivial, rotate"]),
        ("--augment erase:2", vec!["erase needs a number above 0, at most 1"]),
        ("--mix-epochs 3", vec!["--mix-epochs 3", "--augment flip", "mixup or cutmix"]),
        ("--rates layer4=2", vec!["--rates layer4=2", "no layer4", "layer1 to layer3"]),
        ("--rates head=2", vec!["--rates", "expected a list such as stem=2"]),
        ("--sizes 14:0.5", vec!["--sizes 14:0.5", "larger than --size 12"]),
        ("--sizes 8:1.5", vec!["--sizes", "expected a list such as 20:0.4"]),
        ("--beta2 0.9", vec!["--beta2 0.9", "only with --optimizer adamw"]),
        ("--optimizer adamw --nesterov", vec!["--nesterov true", "--optimizer adamw"]),
        ("--optimizer adamw --beta2 1", vec!["--beta2 1", "below 1"]),
        ("--swa-epochs 1 --ema-decay 0.9", vec!["--swa-epochs 1", "--ema-decay 0.9"]),
        ("--swa-epochs 99", vec!["--swa-epochs 99"]),
        ("--momentum 0 --momentum-end 0.9", vec!["--momentum-end 0.9", "--momentum 0"]),
        ("--milestones 1,2", vec!["--milestones 1,2", "only with --schedule step"]),
        (
            "--schedule step --milestones 2,1",
            vec!["--milestones", "expected rising numbers of epochs, such as 30,60"],
        ),
        ("--epochs 2 --schedule step --milestones 1,2", vec!["--milestones 1,2", "2 epochs"]),
        ("--warmup-steps 3 --warmup-epochs 1", vec!["--warmup-steps", "--warmup-epochs"]),
        ("--patience 2", vec!["--patience 2", "--validation"]),
        ("--patience 0 --validation 500", vec!["--patience 0"]),
    ] {
        resnet(&format!("{TINY} {flags}"), &[]).fails_with(2, &parts);
    }
}

#[test]
fn a_run_ends_when_its_patience_does_and_stays_over() {
    let folder = tempdir().unwrap();
    let run = folder.path().join("run");
    // The learning rate is so small that the accuracy stays the same, so the first epoch is the best.
    let flags =
        "--epochs 9 --limit-batches 2 --validation 500 --patience 2 --lr 1e-12 --augment none";
    let ran = resnet(&format!("{TINY} {flags} --json --run-dir"), &[&run]);
    assert!(ran.stderr.contains("has not risen for 2 epochs (--patience)"), "{}", ran.stderr);
    let lines = ran.json_lines();
    let epochs = lines.iter().filter(|line| line["event"] == "epoch").count();
    assert_eq!((epochs, &lines.last().unwrap()["epochs"]), (3, &3.into()));
    resnet("train --offline --resume", &[&run]).fails_with(2, &["the run is over", "--patience 2"]);
    // The line of the end is lost, as if the process had been killed before it was written.
    let metrics = run.join("metrics.jsonl");
    let text = fs::read_to_string(&metrics).unwrap();
    let (rest, _) = text.trim_end().rsplit_once('\n').unwrap();
    fs::write(&metrics, format!("{rest}\n")).unwrap();
    let lines = resnet("train --offline --json --resume", &[&run]).json_lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    let more = resnet("train --offline --json --patience 3 --resume", &[&run]).json_lines();
    assert_eq!(more.iter().filter(|line| line["event"] == "epoch").count(), 1, "{more:?}");
}

#[test]
fn eval_shows_the_mean_of_several_views_beside_the_plain_figures() {
    let folder = tempdir().unwrap();
    let run = folder.path().join("run");
    resnet(&format!("{TINY} --epochs 1 --limit-batches 30 --quiet --run-dir"), &[&run]).success();
    let eval = |flags: &str| {
        let flags = format!("eval --offline --device cpu --threads 1 --json {flags}");
        resnet(&flags, &[&run]).json_lines().remove(0)
    };
    let (plain, views) = (eval(""), eval("--tta flip,shift:1"));
    let error = plain["calibration_error"].as_f64().unwrap();
    assert!((0.0..1.0).contains(&error) && error > 0.0, "{plain}");
    assert_eq!(plain["accuracy"], views["accuracy"]);
    assert_eq!((&views["tta"]["views"], plain.get("tta")), (&10.into(), None));
    assert_ne!(views["tta"]["loss"], views["loss"]);
    let text = resnet("eval --offline --threads 1 --tta flip", &[&run]).success();
    assert!(text.contains("\nwith 2 views of each image: accuracy 0."), "{text}");
    resnet("eval --offline --tta mirror", &[&run]).fails_with(2, &["--tta", "flip,shift:1"]);
}

#[test]
fn find_lr_suggests_a_rate_at_which_the_loss_falls() {
    let folder = tempdir().unwrap();
    let picture = folder.path().join("lr");
    let tiny = TINY.strip_prefix("train").unwrap();
    let find = |flags: &str, paths: &[&Path]| resnet(&format!("find-lr {tiny} {flags}"), paths);
    let found = find("--steps 40 --json --picture", &[&picture]).json_lines().remove(0);
    let suggestion = found["suggestion"].as_f64().unwrap();
    assert!((1e-3..5.0).contains(&suggestion), "{suggestion}");
    let steps = found["steps"].as_array().unwrap();
    assert!(steps.len() <= 40 && steps[0]["lr"] == 0.0001, "{found}");
    assert!(fs::read(picture.with_extension("png")).unwrap().starts_with(b"\x89PNG"));
    assert!(fs::read_to_string(picture.with_extension("svg")).unwrap().contains("learning rate"));
    let text = find("--steps 40", &[]).success();
    assert!(text.contains("suggested peak learning rate: --lr "), "{text}");
    find("--from 1 --to 0.1", &[]).fails_with(2, &["--to 0.1", "--from 1"]);
    find("--steps 1", &[]).fails_with(2, &["--steps 1"]);
    find("--steps 4 --from 1e-12 --to 1e-11", &[]).fails_with(1, &["did not fall"]);
}
