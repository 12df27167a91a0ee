//! FIFOs, devices and huge files in place of each file of a run.

use super::{finished, limited};
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

/// Each file, and the commands that read it.
const FILES: [(&str, &[&str]); 6] = [
    ("checkpoints/8/model.safetensors", &["checkpoints", "eval --offline --threads 1", RESUME]),
    ("checkpoints/8/optimizer.safetensors", &["checkpoints", RESUME]),
    ("checkpoints/8/state.json", &["checkpoints", RESUME]),
    ("checkpoints/8/SHA256SUMS", &["checkpoints", "eval --offline --threads 1", RESUME]),
    ("metrics.jsonl", &["checkpoints", RESUME]),
    ("config.toml", &["train --offline --config"]),
];

const RESUME: &str = "train --offline --epochs 3 --resume";

fn refused_in_place_of_each_file(what: &str, put: impl Fn(&Path)) {
    let (_folder, run) = finished();
    for (name, commands) in FILES {
        let path = run.join(name);
        let bytes = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        put(&path);
        for command in commands {
            let argument = if name == "config.toml" { &path } else { &run };
            let ran = limited(command, argument);
            assert!(
                matches!(ran.code, Some(1 | 2)),
                "{what} as {name}, {command}: {:?} {}",
                ran.code,
                ran.stderr
            );
            let code = ran.code.unwrap();
            ran.fails_with(code, &[name.strip_prefix("checkpoints/").unwrap_or(name)]);
        }
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
    }
    limited(RESUME, &run).success();
}

#[test]
fn the_program_never_waits_for_a_fifo() {
    refused_in_place_of_each_file("a FIFO", |path| {
        assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    });
}

#[test]
fn a_device_is_never_read() {
    refused_in_place_of_each_file("a device", |path| symlink("/dev/zero", path).unwrap());
}

#[test]
fn a_huge_file_is_never_read_to_its_end() {
    refused_in_place_of_each_file("a sparse file", |path| {
        File::create(path).unwrap().set_len(1 << 40).unwrap();
    });
}

#[test]
fn a_header_that_claims_a_huge_tensor_is_refused_before_the_tensor_is_read() {
    let (_folder, run) = finished();
    for name in ["model.safetensors", "optimizer.safetensors"] {
        let path = run.join("checkpoints/8").join(name);
        let bytes = fs::read(&path).unwrap();
        let end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let mut header: serde_json::Value = serde_json::from_slice(&bytes[8..end]).unwrap();
        let (from, length) = ((bytes.len() - end) as u64, 1_u64 << 40);
        header["huge"] = serde_json::json!({
            "dtype": "F32", "shape": [length / 4], "data_offsets": [from, from + length],
        });
        let header = header.to_string();
        let start = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
        fs::write(&path, [&start[..], &bytes[end..]].concat()).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(start.len() as u64 + from + length).unwrap();
        for command in ["checkpoints", RESUME] {
            limited(command, &run).fails_with(1, &[name]);
        }
        fs::write(&path, bytes).unwrap();
    }
}
