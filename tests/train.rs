//! Runs `resnet train` and `resnet eval` on the real Fashion-MNIST with a tiny network.

#![allow(clippy::unwrap_used, reason = "clippy allows it in tests, but not in their helpers")]

mod common;

use common::runs::wait_for;
use common::{TINY, program, resnet};
use resnet::files::sha256;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use tempfile::tempdir;

/// Trains the tiny network with further flags, and returns the JSON lines.
fn train(flags: &str, run: &Path) -> Vec<Value> {
    resnet(&format!("{TINY} --json {flags} --run-dir"), &[run]).json_lines()
}

/// The metrics of a run without times, speeds and paths, which differ from run to run.
fn timeless(lines: &[Value]) -> Vec<Value> {
    lines.iter().cloned().map(common::runs::timeless).collect()
}

fn weights(run: &Path) -> Vec<u8> {
    fs::read(run.join("checkpoints/last/model.safetensors")).unwrap()
}

#[test]
fn a_run_learns_and_writes_the_documented_keys_and_files() {
    let folder = tempdir().unwrap();
    let run = folder.path().join("run");
    let lines = train("--epochs 2 --lr 0.2 --label-smoothing 0", &run);
    assert_eq!(lines.len(), 3);
    let contract = [
        "event",
        "epoch",
        "step",
        "lr",
        "train_loss",
        "train_accuracy",
        "test_loss",
        "test_accuracy",
        "images_per_second",
        "seconds",
    ];
    for key in contract {
        assert!(lines[0].get(key).is_some(), "{key}");
    }
    assert_eq!(lines[1]["step"], 2 * 235, "the last partial batch is used");
    let accuracy = lines[1]["test_accuracy"].as_f64().unwrap();
    assert!(accuracy > 0.6, "two epochs of a tiny network reach only {accuracy}");
    assert!(lines[1]["train_loss"].as_f64() < lines[0]["train_loss"].as_f64());
    assert_eq!(lines[2]["event"], "end");
    assert_eq!(lines[2]["test_accuracy"], lines[1]["test_accuracy"]);

    let metrics = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let metrics: Vec<Value> =
        metrics.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(metrics, lines);
    for name in ["470", "last", "best"] {
        for file in ["model.safetensors", "optimizer.safetensors", "state.json", "SHA256SUMS"] {
            assert!(run.join("checkpoints").join(name).join(file).is_file(), "{name}/{file}");
        }
    }

    // Evaluating the checkpoint gives exactly the accuracy that training reported.
    let eval = &resnet("eval --offline --json", &[&run]).json_lines()[0];
    assert_eq!(eval["accuracy"], lines[2]["test_accuracy"]);
    assert_eq!(eval["loss"], lines[1]["test_loss"]);
    assert_eq!(eval["images"], 10_000);
    assert_eq!(eval["split"], "test");
    let classes = eval["classes"].as_array().unwrap();
    assert_eq!(classes.len(), 10);
    assert!(classes.iter().all(|class| class["support"] == 1000));
    let confusion: u64 = eval["confusion"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|row| row.as_array().unwrap())
        .map(|count| count.as_u64().unwrap())
        .sum();
    assert_eq!(confusion, 10_000);
    let table = resnet("eval --offline", &[&run]).success();
    assert!(table.contains("Ankle boot") && table.contains("precision"), "{table}");
}

#[test]
fn the_average_of_the_weights_is_evaluated_and_saved_and_does_not_change_training() {
    let folder = tempdir().unwrap();
    let flags = "--epochs 2 --limit-batches 20 --lr 0.3";
    let runs = ["plain", "average"].map(|name| folder.path().join(name));
    let plain = train(flags, &runs[0]);
    let average = train(&format!("{flags} --ema-decay 0.9"), &runs[1]);
    for (plain, average) in plain.iter().zip(&average).take(2) {
        assert_eq!(plain["train_loss"], average["train_loss"]);
        assert_ne!(plain["test_loss"], average["test_loss"]);
    }
    assert_ne!(weights(&runs[0]), weights(&runs[1]));
    let eval = &resnet("eval --offline --json", &[&runs[1]]).json_lines()[0];
    assert_eq!(eval["images"], 10_000);
    resnet("train --offline --epochs 3 --ema-decay 0.5 --resume", &[&runs[1]])
        .fails_with(2, &["--ema-decay 0.5", "has 0.9"]);
    resnet("train --offline --epochs 3 --ema-decay 0.9 --resume", &[&runs[0]])
        .fails_with(2, &["--ema-decay 0.9", "has none"]);
}

#[test]
fn the_same_seed_or_the_saved_configuration_gives_the_same_run() {
    let folder = tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let flags = "--epochs 2 --limit-batches 5 --accumulate 2 --clip-grad-norm 1";
    let first = train(&format!("{flags} --seed 5"), &path("first"));
    let again = train(&format!("{flags} --seed 5"), &path("again"));
    assert_eq!(timeless(&first), timeless(&again));
    assert_eq!(weights(&path("first")), weights(&path("again")));
    let other = train(&format!("{flags} --seed 6"), &path("other"));
    assert_ne!(timeless(&first), timeless(&other));
    assert_ne!(weights(&path("first")), weights(&path("other")));

    let config = path("first").join("config.toml");
    let flags = "train --offline --json --run-dir";
    let copy = resnet(flags, &[&path("copy"), Path::new("--config"), &config]).json_lines();
    assert_eq!(timeless(&first), timeless(&copy));
    assert_eq!(fs::read(&config).unwrap(), fs::read(path("copy").join("config.toml")).unwrap());
    assert_eq!(weights(&path("first")), weights(&path("copy")));
}

#[test]
fn a_resumed_run_ends_exactly_like_an_uninterrupted_run() {
    let folder = tempdir().unwrap();
    let run = folder.path().join("run");
    let lines = train("--epochs 4 --limit-batches 5 --keep 9 --checkpoint-every 1epochs", &run);
    let whole = weights(&run);
    let optimizer = |run: &Path| fs::read(run.join("checkpoints/last/optimizer.safetensors"));
    let whole_optimizer = optimizer(&run).unwrap();

    // Now the folder looks as if the run had been stopped after the third epoch was recorded in the metrics and
    // before its checkpoint was saved.
    let checkpoints = run.join("checkpoints");
    for step in ["15", "20"] {
        fs::remove_dir_all(checkpoints.join(step)).unwrap();
    }
    for name in ["last", "best"] {
        fs::remove_file(checkpoints.join(name)).unwrap();
        std::os::unix::fs::symlink("10", checkpoints.join(name)).unwrap();
    }
    fs::create_dir(checkpoints.join(".writing-15")).unwrap();

    let resumed = resnet("train --offline --json --resume", &[&run]).json_lines();
    assert_eq!(timeless(&resumed), timeless(&lines[2..]));
    assert_eq!(weights(&run), whole);
    assert_eq!(optimizer(&run).unwrap(), whole_optimizer);
    let metrics = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let epochs: Vec<u64> = metrics
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).unwrap()["epoch"].as_u64())
        .collect();
    assert_eq!(epochs, [1, 2, 3, 4]);
    assert!(!checkpoints.join(".writing-15").exists());

    let resume = |flags: &str| resnet(&format!("train --offline {flags} --resume"), &[&run]);
    resume("").fails_with(2, &["has done 4 of 4 epochs", "--epochs"]);
    resume("--epochs 6 --seed 3").fails_with(2, &["--seed 3", "has 0"]);
    resume("--epochs 6 --depth 18").fails_with(2, &["--depth 18"]);
    let longer = resume("--epochs 5 --json").json_lines();
    assert_eq!(longer[0]["epoch"], 5);
}

#[test]
fn a_run_keeps_its_precision() {
    let folder = tempdir().unwrap();
    let run = folder.path().join("run");
    let lines = train("--epochs 1 --limit-batches 10 --lr 0.2 --precision bf16", &run);
    let config = fs::read_to_string(run.join("config.toml")).unwrap();
    assert!(config.contains("precision = \"bf16\""), "{config}");
    let limited = &resnet("train --offline --json --epochs 2 --resume", &[&run]).json_lines()[0];
    assert!(limited["train_loss"].as_f64() < lines[0]["train_loss"].as_f64());
    resnet("train --offline --epochs 3 --precision fp32 --resume", &[&run])
        .fails_with(2, &["--precision \"fp32\"", "\"bf16\""]);
    // Evaluation reads the precision from this file.
    let model = String::from_utf8_lossy(&weights(&run)).into_owned();
    assert!(model.contains(r#"\"precision\":\"bf16\""#));
    let half = folder.path().join("half");
    let lines = train("--epochs 1 --limit-batches 10 --lr 0.2 --precision fp16", &half);
    let again = &resnet("train --offline --json --epochs 2 --resume", &[&half]).json_lines()[0];
    assert!(again["train_loss"].as_f64() < lines[0]["train_loss"].as_f64());
    let state = fs::read(half.join("checkpoints/last/optimizer.safetensors")).unwrap();
    assert!(String::from_utf8_lossy(&state).contains("loss_scale.scale"));
    // Without `--precision` the run uses the precision that is fastest on this machine, and saves its name.
    let auto = folder.path().join("auto");
    train("--epochs 1 --limit-batches 1", &auto);
    let config = fs::read_to_string(auto.join("config.toml")).unwrap();
    assert!(config.contains("precision = \"fp32\"") || config.contains("precision = \"bf16\""));
}

#[test]
fn the_best_checkpoint_has_the_highest_accuracy_on_held_out_images() {
    let folder = tempdir().unwrap();
    let run = folder.path().join("run");
    let flags = "--epochs 4 --limit-batches 8 --validation 5000 --keep 1 --lr 0.3";
    let lines = train(flags, &run);
    let epochs = &lines[..4];
    let accuracy = |line: &Value| line["validation_accuracy"].as_f64().unwrap();
    let best = epochs.iter().rev().max_by(|a, b| accuracy(a).total_cmp(&accuracy(b))).unwrap();
    assert_eq!(lines[4]["best_accuracy"].as_f64(), Some(accuracy(best)));
    let link = fs::read_link(run.join("checkpoints/best")).unwrap();
    assert_eq!(link.to_str(), Some(best["step"].to_string().as_str()));
    let kept = fs::read_dir(run.join("checkpoints")).unwrap().count();
    assert!((3..=4).contains(&kept), "last, best and one or two checkpoints: {kept}");
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run_before_a_checkpoint_is_saved() {
    let folder = tempdir().unwrap();
    let run = folder.path().join("run");
    train("--epochs 1 --limit-batches 3", &run);
    let before = weights(&run);
    // Another run diverges in its first steps. No checkpoint of it is saved, and the message names the step.
    let other = folder.path().join("other");
    let flags = "--epochs 2 --lr 1e30 --schedule constant --limit-batches 5 --run-dir";
    resnet(&format!("{TINY} {flags}"), &[&other]).fails_with(
        1,
        &[
            "stopped before its first checkpoint (delete the folder",
            "at step",
            "learning rate 1e30)",
            "--lr",
        ],
    );
    assert!(!other.join("checkpoints/last").exists());
    // A second attempt in this folder is refused, and the message says what to do with the folder.
    resnet(&format!("{TINY} {flags}"), &[&other])
        .fails_with(2, &["a run without a checkpoint", "delete it", "empty folder"]);
    resnet("train --offline --resume", &[&other])
        .fails_with(2, &["no checkpoint to go on from", "delete the folder"]);
    assert_eq!(weights(&run), before);
    // No training loss shows the update of the last step, so the evaluation's loss must show it.
    let last_step = folder.path().join("last step");
    let flags = "--epochs 1 --lr 1e30 --warmup-epochs 0 --limit-batches 1 --run-dir";
    resnet(&format!("{TINY} {flags}"), &[&last_step])
        .fails_with(1, &["loss became", "at step 1 ", "before its first checkpoint"]);
    assert!(!last_step.join("checkpoints/last").exists());
}

/// The steps are so large that the losses are certainly huge, and so few that the losses stay finite.
#[test]
fn a_run_whose_loss_exploded_is_reported_as_diverged_and_fails() {
    let folder = tempdir().unwrap();
    let run = folder.path().join("run");
    let flags = "--epochs 2 --limit-batches 5 --lr 10000 --clip-grad-norm 1 --momentum 0 \
        --weight-decay 0 --schedule constant --precision fp32";
    let ran = resnet(&format!("{TINY} --json {flags} --run-dir"), &[&run]);
    let lines: Vec<Value> =
        ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines[0]["train_loss"].as_f64() > Some(231.0), "{}", lines[0]);
    assert_eq!(lines[2]["diverged"], true);
    assert!(ran.stderr.contains("warning: epoch 1: the training loss is"), "{}", ran.stderr);
    ran.fails_with(1, &["the run has diverged", "that of a guess 2.303", "--lr"]);
    // Its checkpoints are saved like those of any run. But its results mean nothing, so `eval` fails.
    let listed = resnet("checkpoints --json", &[&run]).json_lines();
    assert!(listed.iter().all(|checkpoint| checkpoint["whole"] == true), "{listed:?}");
    resnet("eval --offline --json", &[&run]).fails_with(1, &["beyond that of a guess"]);
    let lines = train("--epochs 1 --limit-batches 1", &folder.path().join("other"));
    assert_eq!(lines[1]["diverged"], false);
}

#[test]
fn a_run_never_overwrites_another_run_or_other_files() {
    let folder = tempdir().unwrap();
    fs::write(folder.path().join("thesis.txt"), "mine").unwrap();
    resnet(&format!("{TINY} --run-dir"), &[folder.path()])
        .fails_with(2, &["--run-dir", "is not empty", "a new or empty folder"]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    let run = folder.path().join("run");
    train("--epochs 1 --limit-batches 1", &run);
    resnet(&format!("{TINY} --run-dir"), &[&run])
        .fails_with(2, &["--run-dir", "holds a run", &format!("--resume {}", run.display())]);
    resnet(&format!("{TINY} --run-dir"), &[&folder.path().join("thesis.txt")])
        .fails_with(2, &["--run-dir", "thesis.txt", "folder"]);
}

#[test]
fn runs_that_start_at_the_same_time_get_different_folders() {
    let folder = tempdir().unwrap();
    let start = || {
        let flags = format!("{TINY} --epochs 1 --limit-batches 1 --quiet");
        program(&flags).within(folder.path()).spawn(Stdio::inherit())
    };
    let runs = [start(), start(), start()];
    assert!(runs.into_iter().all(|mut run| run.wait().unwrap().success()));
    let folders: Vec<_> = fs::read_dir(folder.path().join("runs")).unwrap().collect();
    assert_eq!(folders.len(), 3);
    for run in folders {
        let metrics = fs::read_to_string(run.unwrap().path().join("metrics.jsonl")).unwrap();
        assert_eq!(metrics.lines().count(), 2, "{metrics}");
    }
}

#[test]
fn only_one_process_at_a_time_can_train_in_a_folder() {
    let folder = tempdir().unwrap();
    let run = folder.path().join("run");
    let flags = format!("{TINY} --epochs 100000 --limit-batches 1 --quiet --run-dir");
    let mut training = program(&flags).arg(&run).spawn(Stdio::null());
    wait_for(&run.join("checkpoints/last"), &mut training);
    let resume = || resnet("train --offline --epochs 100001 --resume", &[&run]);
    resume().fails_with(2, &[&format!("process {}", training.id()), "trains in this folder"]);
    training.kill().unwrap();
    training.wait().unwrap();
    // The lock ends with its process, so the run can be resumed. Weights of another network are refused, and the
    // message names their file.
    let other = folder.path().join("other");
    train("--epochs 1 --limit-batches 1 --stem imagenet", &other);
    let last = run.join("checkpoints/last").canonicalize().unwrap();
    let model = Path::new("checkpoints/last/model.safetensors");
    let (found, sums) = (last.join("model.safetensors"), last.join("SHA256SUMS"));
    let before = sha256(&fs::read(&found).unwrap());
    fs::copy(other.join(model), &found).unwrap();
    let after = sha256(&fs::read(&found).unwrap());
    fs::write(&sums, fs::read_to_string(&sums).unwrap().replace(&before, &after)).unwrap();
    resume().fails_with(1, &["model.safetensors", "ResNet-8 (width 8, imagenet stem)"]);
}

#[test]
fn a_run_that_cannot_start_leaves_no_folder() {
    let folder = tempdir().unwrap();
    let (run, data) = (folder.path().join("run"), folder.path().join("data"));
    fs::create_dir(&data).unwrap();
    resnet(&format!("{TINY} --dataset kmnist --run-dir"), &[&run, Path::new("--data-dir"), &data])
        .fails_with(1, &["--offline"]);
    assert!(!run.exists());
}

#[test]
fn wrong_settings_are_usage_errors_that_name_flag_value_and_remedy() {
    for (flags, parts) in [
        ("--lr 0", ["--lr 0", "above 0"]),
        ("--lr nan", ["--lr NaN", "above 0"]),
        ("--epochs 0", ["--epochs 0", "from 1"]),
        ("--epochs 18446744073709551615", ["--epochs", "whole number"]),
        ("--epochs -3", ["'-3'", "whole number"]),
        ("--lr -0.1", ["--lr -0.1", "above 0"]),
        ("--seed 9223372036854775808", ["--seed", "whole number"]),
        ("--batch-size 1 --size 32", ["--batch-size 1", "batch norm"]),
        ("--batch-size 8 --accumulate 8 --size 32", ["micro-batch", "at least 2"]),
        ("--batch-size 0", ["--batch-size 0", "from 1"]),
        ("--batch-size 70000", ["--batch-size 70000", "60000 training images"]),
        ("--accumulate 300", ["--accumulate 300", "batch size 256"]),
        ("--momentum 2", ["--momentum 2", "0 to 1"]),
        ("--momentum 0 --nesterov", ["--nesterov", "--momentum"]),
        ("--validation 59999", ["--validation 59999", "0 to 59998"]),
        ("--dataset cifar", ["'cifar' for '--dataset", "cifar10"]),
        ("--channels 3", ["--channels 3", "fashion-mnist"]),
        ("--device tpu", ["--device tpu", "cuda:N"]),
        ("--device cuda:x", ["--device cuda:x", "cuda:N"]),
        ("--threads 0", ["--threads 0", "from 1"]),
        ("--ema-decay 1", ["--ema-decay 1", "below 1"]),
        ("--depth 152 --batch-size 60000 --device cpu", ["GiB are free", "--accumulate"]),
        ("--precision tf32 --device cpu", ["--precision tf32", "bf16"]),
        ("--warmup-epochs 11", ["--warmup-epochs 11", "0 to 10"]),
        ("--schedule square", ["square", "cosine"]),
        ("--schedule cosine --step-every 3", ["--step-every 3", "--schedule cosine"]),
        ("--step-factor 0.5", ["--step-factor 0.5", "--schedule step"]),
        ("--resume nowhere --run-dir x", ["--resume", "--run-dir"]),
        ("--config nowhere.toml", ["nowhere.toml", "TOML"]),
    ] {
        // If the program does not notice a mistake, the run ends soon.
        let flags = format!("train --offline --time-limit 1s {flags}");
        resnet(&flags, &[]).fails_with(2, &parts);
    }
    resnet("train --resume nowhere", &[]).fails_with(2, &["--resume nowhere", "no such folder"]);
}

#[test]
fn a_config_files_mistakes_are_shown_with_their_line() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("mine.toml");
    for (text, parts) in [
        ("[train]\nlearning-rate = 0.1\n", ["learning-rate", "lr"]),
        ("[train]\nlr = \"fast\"\n", ["fast\", expected a number", "line 2"]),
        ("[train]\nepochs = 1.5\n", ["expected a whole number", "line 2"]),
        ("[train]\nnesterov = 1\n", ["expected true or false", "line 2"]),
        ("[tarin]\nlr = 0.1\n", ["tarin", "train"]),
        ("[train\n", ["line 1", "mine.toml"]),
        ("[network]\ndepth = 19\n", ["mine.toml: depth 19", "18, 34"]),
        ("[train]\nlr = -1.0\n", ["mine.toml: lr -1", "above 0"]),
        ("[train]\nbatch-size = 9223372036854775808\n", ["mine.toml", "line 2"]),
        ("[run]\ndevice = \"gpu\"\n", ["mine.toml: device gpu", "cuda:N"]),
        ("[data]\ndataset = \"imagenet\"\n", ["mine.toml: dataset imagenet", "cifar10"]),
    ] {
        fs::write(&file, text).unwrap();
        resnet("train --offline --config", &[&file]).fails_with(2, &parts);
    }
    // A wrong value that comes from a flag is reported with the name of the flag.
    fs::write(&file, "[train]\nlr = 0.3\n").unwrap();
    resnet("train --offline --lr 0 --config", &[&file]).fails_with(2, &["error: --lr 0"]);
    // A flag overrides the file, and the file overrides the default.
    fs::write(&file, "[train]\nlr = 0.3\nseed = 4\n[network]\ndepth = 34\n").unwrap();
    let run = folder.path().join("run");
    let flags = format!("{TINY} --lr 0.01 --epochs 1 --limit-batches 1 --json --run-dir");
    resnet(&flags, &[&run, Path::new("--config"), &file]).success();
    let saved = fs::read_to_string(run.join("config.toml")).unwrap();
    let has = |line: &str| saved.lines().any(|saved| saved == line);
    assert!(has("lr = 0.01") && has("seed = 4") && has("momentum = 0.9"), "{saved}");
    assert!(has("blocks = [1, 1, 1]") && !has("depth = 34"), "{saved}");
}

#[test]
fn results_go_to_stdout_and_messages_to_stderr() {
    let folder = tempdir().unwrap();
    let flags = format!("{TINY} --epochs 1 --limit-batches 2 --run-dir");
    let ran = resnet(&flags, &[&folder.path().join("plain")]);
    assert!(!ran.stderr.contains('\u{1b}'), "there must be no colours without a terminal");
    assert!(ran.stderr.contains("epoch 1/1") && ran.stderr.contains("resnet eval"));
    let lines = ran.stderr.lines().count();
    assert!(lines < 12, "{lines} lines for a short run");
    let stdout = ran.success();
    assert!(stdout.starts_with("test accuracy 0.") && stdout.lines().count() == 1, "{stdout}");
    let quiet = resnet(&format!("--quiet {flags}"), &[&folder.path().join("quiet")]);
    assert_eq!(quiet.stderr, "");
    assert_eq!(quiet.success(), stdout);
}

#[test]
fn files_that_are_not_checkpoints_are_refused_by_name() {
    let folder = tempdir().unwrap();
    let run = folder.path().join("run");
    train("--epochs 1 --limit-batches 1", &run);
    let eval = |path: &Path| resnet("eval --offline", &[path]);
    let good = weights(&run);
    let file = folder.path().join("model.safetensors");
    eval(&folder.path().join("absent")).fails_with(2, &["absent", "not found"]);
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    eval(&empty).fails_with(2, &["empty", "holds no checkpoint"]);

    fs::write(&file, b"PK\x03\x04 a zip of pickles").unwrap();
    eval(&file).fails_with(1, &["model.safetensors", "no whole safetensors file"]);
    fs::write(&file, &good[..good.len() - 7]).unwrap();
    eval(&file).fails_with(1, &["model.safetensors", "no whole safetensors file"]);
    let replaced = |from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        let mut bytes = good.clone();
        let at = bytes.windows(from.len()).position(|part| part == from.as_bytes()).unwrap();
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        fs::write(&file, bytes).unwrap();
    };
    replaced(r#"\"format\":1"#, r#"\"format\":9"#);
    eval(&file).fails_with(1, &["format 9", "format 1"]);
    replaced(r#"\"width\":8"#, r#"\"width\":4"#);
    eval(&file).fails_with(1, &["cannot use", "shape"]);
    replaced(r#"\"width\":8"#, r#"\"width\":0"#);
    eval(&file).fails_with(1, &["impossible network", "0"]);
    replaced("layer1.0.conv1.weight", "layer1.0.conv9.weight");
    eval(&file).fails_with(1, &["lacks", "layer1.0.conv1.weight"]);
    fs::write(&file, &good).unwrap();
    eval(&file).success();
}
