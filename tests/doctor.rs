//! Runs `resnet doctor`.
#![allow(clippy::unwrap_used, reason = "clippy allows it in tests, but not in their helpers")]

use std::process::{Command, Output};

/// Runs `resnet doctor` in an empty folder. No environment variable is set, so none helps to find libtorch.
fn doctor(args: &[&str]) -> Output {
    doctor_with(args, &[])
}

fn doctor_with(args: &[&str], variables: &[(&str, &str)]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    Command::new(env!("CARGO_BIN_EXE_resnet"))
        .arg("doctor")
        .args(args)
        .current_dir(folder.path())
        .env_clear()
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "the report must go to stdout alone");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn the_binary_runs_in_any_folder_without_variables_and_shows_versions_cpu_and_cuda() {
    let text = stdout(&doctor(&[]));
    let value = |name: &str| {
        let line = text.lines().find(|line| line.split_whitespace().next() == Some(name));
        line.unwrap_or_else(|| panic!("no line {name} in:\n{text}")).to_owned()
    };
    assert_eq!(value("resnet"), format!("resnet    {}", env!("CARGO_PKG_VERSION")));
    assert!(value("tch").starts_with("tch       0.24"));
    assert!(value("libtorch").starts_with("libtorch  2.11.0 in /"));
    assert!(value("threads").contains(" within operations"));
    for name in ["cpu", "cuda"] {
        assert!(value(name).len() > 20, "{}", value(name));
    }
}

#[test]
fn json_is_one_object_that_says_why_cuda_is_or_is_not_usable() {
    let text = stdout(&doctor(&["--json"]));
    assert_eq!(text.lines().count(), 1);
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["resnet"], env!("CARGO_PKG_VERSION"));
    assert_eq!(report["libtorch"]["version"], "2.11.0");
    assert!(report["cpu"]["usable_cores"].as_u64().unwrap() >= 1);
    assert!(report["threads"]["within_operations"].as_u64().unwrap() >= 1);
    let usable = report["cuda"]["usable"].as_bool().unwrap();
    assert_eq!(usable, !report["cuda"]["devices"].as_array().unwrap().is_empty());
    assert!(!report["cuda"]["status"].as_str().unwrap().is_empty());
}

#[test]
fn the_number_of_threads_follows_omp_num_threads_and_omp_proc_bind_does_not_reduce_it() {
    let threads = |variables: &[(&str, &str)]| {
        let text = stdout(&doctor_with(&["--json"], variables));
        let report: serde_json::Value = serde_json::from_str(&text).unwrap();
        report["threads"]["within_operations"].as_u64().unwrap()
    };
    assert_eq!(threads(&[("OMP_NUM_THREADS", "1")]), 1);
    assert_eq!(threads(&[("OMP_PROC_BIND", "true")]), threads(&[]));
}
