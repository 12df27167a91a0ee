//! Functions for tests that stop a run, and comparisons of two runs.

use resnet::files::sha256;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

/// A signal to a running program.
#[derive(Debug, Clone, Copy)]
pub enum Signal {
    Int,
    Term,
    Kill,
    Stop,
    Cont,
}

impl Signal {
    pub fn send(self, to: &Child) {
        let name = format!("-{self:?}").to_uppercase();
        let sent = Command::new("kill").args([&name, &to.id().to_string()]).status();
        assert!(sent.expect("`kill` starts").success(), "{name}");
    }
}

/// Changes the text of a file of a checkpoint, and updates its checksum.
pub fn edit(checkpoint: &Path, name: &str, change: impl FnOnce(String) -> String) {
    let (file, sums) = (checkpoint.join(name), checkpoint.join("SHA256SUMS"));
    let before = fs::read_to_string(&file).expect("a file of a checkpoint");
    let listed = fs::read_to_string(&sums).expect("its checksums");
    let sum = sha256(before.as_bytes());
    assert!(listed.contains(&sum), "{listed}");
    let after = change(before);
    fs::write(&sums, listed.replace(&sum, &sha256(after.as_bytes())))
        .expect("a checkpoint to change");
    fs::write(&file, after).expect("a checkpoint to change");
}

/// A run's metrics without times, speeds and paths, which differ from run to run.
pub fn timeless_metrics(run: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).expect("a run has metrics");
    let lines = text.lines().map(|line| serde_json::from_str(line).expect("a JSON line"));
    lines.map(timeless).collect()
}

/// A line of metrics without times, speeds and paths, which differ from run to run.
pub fn timeless(mut line: Value) -> Value {
    let object = line.as_object_mut().expect("a line is an object");
    for key in ["seconds", "evaluation_seconds", "images_per_second", "run_dir"] {
        object.remove(key);
    }
    line
}

/// Waits until a path exists. Fails if the program ends before that.
pub fn wait_for(path: &Path, running: &mut Child) {
    while !path.exists() {
        let ended = running.try_wait().expect("the program can be waited for");
        assert!(ended.is_none(), "{}: not there when the program ended: {ended:?}", path.display());
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Checks that two runs have the same weights and optimizer state, bit for bit, and the same metrics.
pub fn assert_same_run(run: &Path, other: &Path) {
    assert_eq!(timeless_metrics(run), timeless_metrics(other), "{}", run.display());
    assert!(run.join("checkpoints/best/model.safetensors").is_file(), "{}", run.display());
    for file in ["last/model.safetensors", "last/optimizer.safetensors"] {
        let bytes =
            |run: &Path| fs::read(run.join("checkpoints").join(file)).expect("a checkpoint");
        assert!(bytes(run) == bytes(other), "{}: {file} differs", run.display());
    }
}

/// Checks that the last line of a run with held-out images has the accuracy of the checkpoint that `best` points to.
pub fn assert_best_is_in_the_last_line(run: &Path) {
    let metrics = timeless_metrics(run);
    let best = fs::read_link(run.join("checkpoints/best")).expect("the best checkpoint");
    let of_best = metrics.iter().find(|line| {
        line["event"] == "epoch" && Some(line["step"].to_string().as_str()) == best.to_str()
    });
    let accuracy = &of_best.expect("the best checkpoint ends an epoch")["validation_accuracy"];
    let end = metrics.iter().find(|line| line["event"] == "end").expect("the run's end");
    assert_eq!(&end["best_accuracy"], accuracy, "{}: best is {}", run.display(), best.display());
}
