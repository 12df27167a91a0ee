//! Runs the scripts in `scripts/` in a project with small replacements of libtorch and the program, because the real
//! set-up downloads half a gigabyte.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "clippy allows it in tests, but not in their helpers")]

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

/// A temporary project folder with the real scripts.
struct Project {
    root: TempDir,
}

impl Project {
    fn new() -> Self {
        let project = Self { root: tempfile::tempdir().unwrap() };
        for file in ["resnet", "setup", "lib/common.sh", "lib/libtorch.sh", "lib/data.sh"] {
            project.copy(&format!("scripts/{file}"));
        }
        project.write("src/lib.rs", "");
        for file in ["build.rs", "Cargo.toml", "Cargo.lock", ".cargo/config.toml"] {
            project.write(file, "");
        }
        project
    }

    /// A project in which everything is set up. Its program prints its working folder and its arguments. Its
    /// `scripts/setup` only records its arguments.
    fn built() -> Self {
        let project = Self::new();
        project.libtorch(".libtorch", "2.11.0+cpu");
        project.program("target/release/resnet", "echo \"$PWD: $*\"");
        project.program("scripts/setup", "echo \"$*\" >>\"$(dirname \"$0\")/../calls\"");
        project.write("target/release/.resnet-sources", "");
        project
    }

    fn path(&self, file: &str) -> PathBuf {
        self.root.path().canonicalize().unwrap().join(file)
    }

    /// Copies a file of the real project.
    fn copy(&self, file: &str) {
        let copy = self.path(file);
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        let _lock = STARTING.lock().unwrap();
        fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join(file), copy).unwrap();
    }

    fn write(&self, file: &str, text: &str) {
        let _lock = STARTING.lock().unwrap();
        let path = self.path(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn program(&self, file: &str, body: &str) {
        self.write(file, &format!("#!/usr/bin/env bash\n{body}\n"));
        fs::set_permissions(self.path(file), fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn libtorch(&self, folder: &str, version: &str) {
        let extension = std::env::consts::DLL_EXTENSION;
        self.write(&format!("{folder}/build-version"), &format!("{version}\n"));
        self.write(&format!("{folder}/lib/libtorch_cpu.{extension}"), "");
        self.write(&format!("{folder}/include/ATen/ATen.h"), "");
    }

    /// A script that is started from another folder.
    fn script(&self, name: &str, args: &[&str]) -> Command {
        let elsewhere = self.path("elsewhere");
        fs::create_dir_all(&elsewhere).unwrap();
        let mut command = Command::new(self.path("scripts").join(name));
        command.args(args).current_dir(elsewhere);
        command.env("RESNET_DATA", self.path("datasets"));
        for variable in ["LIBTORCH", "RESNET_LIBTORCH_URL", "CARGO_TARGET_DIR"] {
            command.env_remove(variable);
        }
        command
    }

    /// Runs `scripts/resnet`. Returns the arguments of each call of `scripts/setup`.
    fn setup_calls(&self, args: &[&str]) -> Vec<String> {
        let _ = fs::remove_file(self.path("calls"));
        let output = output(&mut self.script("resnet", args));
        let expected = format!("{}: {}\n", self.path("elsewhere").display(), args.join(" "));
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{output:?}");
        let calls = fs::read_to_string(self.path("calls")).unwrap_or_default();
        calls.lines().map(str::to_owned).collect()
    }
}

/// Held while a file is written or a process starts. A process that starts while another thread writes a script keeps
/// that script open for a moment, and a script that is open for writing cannot be started.
static STARTING: Mutex<()> = Mutex::new(());

fn output(command: &mut Command) -> Output {
    let lock = STARTING.lock().unwrap();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    drop(lock);
    child.wait_with_output().unwrap()
}

fn failure(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn if_everything_is_set_up_the_program_starts_at_once_in_the_users_folder() {
    let project = Project::built();
    assert!(project.setup_calls(&["shapes", "--depth", "18"]).is_empty());
}

#[test]
fn a_changed_source_or_a_missing_libtorch_starts_set_up_again() {
    let project = Project::built();
    let later = SystemTime::now() + Duration::from_secs(2);
    File::open(project.path("src/lib.rs")).unwrap().set_modified(later).unwrap();
    assert_eq!(project.setup_calls(&["doctor"]), ["libtorch build"]);

    let project = Project::built();
    fs::remove_dir_all(project.path(".libtorch")).unwrap();
    assert_eq!(project.setup_calls(&["doctor"]), ["libtorch build"]);
}

#[test]
fn fashion_mnist_is_fetched_only_for_commands_that_use_it_and_may_download() {
    let project = Project::new();
    let wants_data = |args: &[&str]| {
        let ask = "source \"$0\"; wants_data \"$@\" && echo \"${RESNET_DATA:-default}\"";
        let mut bash = Command::new("bash");
        bash.args(["-c", ask]).arg(project.path("scripts/lib/data.sh")).args(args);
        let output = output(bash.env_remove("RESNET_DATA"));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(wants_data(&["--json", "train", "--epochs", "1"]), "default");
    assert_eq!(wants_data(&["eval", "runs/1"]), "default");
    assert_eq!(wants_data(&["train", "--data-dir", "/mine"]), "/mine");
    assert_eq!(wants_data(&["train", "--dataset", "fashion-mnist", "--data-dir=/mine"]), "/mine");
    for args in [
        [].as_slice(),
        &["shapes", "--depth", "18"],
        &["train", "--offline"],
        &["train", "--help"],
        &["train", "--dataset", "cifar10"],
        &["train", "--dataset=cifar10"],
    ] {
        assert_eq!(wants_data(args), "", "{args:?}");
    }
}

#[test]
fn training_fetches_missing_images_once() {
    let project = Project::built();
    // If the named folder does not exist, the script fetches nothing, and the program reports the error.
    assert!(project.setup_calls(&["train"]).is_empty());
    fs::create_dir(project.path("datasets")).unwrap();
    assert_eq!(project.setup_calls(&["train"]), ["data"]);
    project.write("datasets/fashion-mnist/file", "");
    assert!(project.setup_calls(&["train"]).is_empty());
}

#[test]
fn the_users_libtorch_is_linked_and_another_version_is_refused() {
    let project = Project::new();
    project.libtorch("mine", "2.11.0");
    let setup = |folder: &Path, args: &[&str]| {
        output(project.script("setup", args).env("LIBTORCH", folder))
    };
    let mine = project.path("mine");
    let output = setup(&mine, &["libtorch"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(fs::read_link(project.path(".libtorch")).unwrap(), mine);

    assert!(failure(&setup(&mine, &["--cuda", "libtorch"])).contains("is built for CPU"));
    project.libtorch("old", "2.4.1+cu121");
    let message = failure(&setup(&project.path("old"), &["libtorch"]));
    assert!(message.contains("holds version 2.4.1+cu121, 2.11.0 is wanted"), "{message}");
    assert!(message.contains("remedy: unset LIBTORCH"), "{message}");
}

#[test]
fn a_missing_zip_of_libtorch_leaves_no_files_behind() {
    let project = Project::new();
    let url = format!("file://{}", project.path("none.zip").display());
    let mut setup = project.script("setup", &["libtorch"]);
    let message = failure(&output(setup.env("RESNET_LIBTORCH_URL", &url)));
    assert!(message.contains("RESNET_LIBTORCH_URL=file://"), "{message}");
    let names = fs::read_dir(project.path("")).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = names.filter(|name| name.to_string_lossy().contains(".libtorch.")).collect();
    assert!(left.iter().all(|name| name == ".libtorch.lock"), "{left:?}");
}

#[test]
fn an_unknown_argument_of_set_up_is_a_usage_error() {
    let output = output(&mut Project::new().script("setup", &["--gpu"]));
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("usage: scripts/setup"));
}

/// A project whose `resnet bench` reports half a second for each step.
fn with_peers() -> Project {
    let project = Project::new();
    project.copy("scripts/peers/run");
    project.copy("scripts/peers/rivals.py");
    project.program("target/release/resnet", "echo '{\"step_seconds\": 0.5}'");
    project
}

#[test]
fn rivals_that_are_not_installed_are_named_and_the_others_are_measured() {
    let project = with_peers();
    let burn = "scripts/peers/burn/target/release/burn-peer";
    project.program(burn, "echo ready; while read -r count; do echo \"[$count.0]\"; done");
    let args = ["--depth", "18", "50", "--batch-size", "1", "--rounds", "2"];
    let output = output(&mut project.script("peers/run", &args));
    assert!(output.status.success(), "{output:?}");
    let stdout = String::from_utf8_lossy(&output.stdout);
    for row in [
        "| ResNet-18 | resnet | 2.0 | 500.0 | 1.00 |",
        "| ResNet-18 | burn | 1.0 | 1000.0 | 2.00 |",
        "| ResNet-50 | burn | 1.0 | 1000.0 | 2.00 |",
    ] {
        assert!(stdout.contains(row), "{stdout}");
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let remedies =
        ["PyTorch, plain is left out: not installed; give --python", "candle && cargo build"];
    assert!(remedies.iter().all(|remedy| stderr.contains(remedy)), "{stderr}");
}

#[test]
fn a_rival_that_fails_is_left_out_and_its_message_is_shown() {
    let project = with_peers();
    let candle = "scripts/peers/candle/target/release/candle-peer";
    project.program(candle, "echo ready; read -r; echo 'out of memory' >&2; exit 3");
    let args = ["--rivals", "candle", "--json"];
    let output = output(&mut project.script("peers/run", &args));
    assert!(output.status.success(), "{output:?}");
    let stderr = String::from_utf8_lossy(&output.stderr);
    let warning = "warning: candle is left out: it ended with status 3\n    out of memory\n";
    assert_eq!(stderr, warning);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.contains(r#""step_seconds": {"ResNet-18": {"resnet": 0.5}}"#), "{stdout}");
}

/// A project with `scripts/gpu-check`, whose `resnet doctor` has this value in the field `cuda`.
fn with_gpu_check(cuda: &str) -> Project {
    let project = Project::new();
    project.copy("scripts/gpu-check");
    project.copy("scripts/peers/rivals.py");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/gpu_check");
    for file in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()) {
        if Path::new(&file).extension().is_some_and(|extension| extension == "py") {
            project.copy(&format!("scripts/gpu_check/{}", file.to_str().unwrap()));
        }
    }
    let report = format!(
        r#"{{"resnet": "1", "libtorch": {{"version": "2", "folder": ""}}, "data": null,
             "cpu": {{"model": "", "usable_cores": 1}}, "cuda": {cuda}}}"#
    );
    project.program("target/release/resnet", &format!("echo '{}'", report.replace('\n', " ")));
    project
}

#[test]
fn gpu_check_lists_its_parts_and_stops_with_doctors_reason_if_cuda_cannot_be_used() {
    let project = with_gpu_check(
        r#"{"usable": false, "status": "no NVIDIA driver", "library": "libtorch_cuda.so",
            "driver_version": null, "devices": [], "graphs": true, "compiler_problem": null}"#,
    );
    let list = output(&mut project.script("gpu-check", &["--list"]));
    assert!(list.status.success(), "{list:?}");
    let names = String::from_utf8(list.stdout).unwrap();
    let names: Vec<_> = names.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names.first(), Some(&"gradients"));
    assert!(names.contains(&"headline") && names.contains(&"tuning-pays"), "{names:?}");

    let message = failure(&output(&mut project.script("gpu-check", &[])));
    assert_eq!(message, "error: --device cuda: no NVIDIA driver\n");
}

#[test]
fn gpu_check_tries_other_seeds_only_for_errors_that_some_seeds_do_not_have() {
    let project = with_gpu_check("{}");
    let program = "\
import math
from array import array
from gpu_check.agreement import errors, over_seeds
flips = [{'first': 0.3, 'second': 0.0}, {'first': 0.0, 'second': 0.2}]
print(over_seeds(lambda seed: {'momentum': flips[seed % 2]}, {'momentum': 0.1}))
print(over_seeds(lambda seed: {'momentum': {'first': 0.2 + seed}}, {'momentum': 0.1}))
ones = {'a': array('f', [3.0, 4.0])}
print([errors(ones, {'a': array('f', [3.0, y])})['a'] for y in (4.0, 6.0, math.nan)])
";
    let mut python = Command::new("python3");
    python.args(["-c", program]).current_dir(project.path("scripts"));
    let output = output(&mut python);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "({'momentum': 0.0}, 2)\n({'momentum': 0.2}, 6)\n[0.0, 0.4, inf]\n"
    );
}

/// Calls a function of `scripts/lib/libtorch.sh` with a folder. Returns what it prints.
#[cfg(target_os = "linux")]
fn of_libtorch_sh(function: &str, folder: &Path) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/lib/libtorch.sh");
    let mut bash = Command::new("bash");
    bash.args(["-ec", "root=/ source \"$1\"; \"$2\" \"$3\"", "-"]).arg(script).arg(function);
    let output = output(bash.arg(folder));
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn libraries_whose_names_have_a_hash_get_links_of_their_usual_names() {
    let project = Project::new();
    for file in ["libnvrtc-08c4863f.so.13", "libnvrtc-builtins.so.13.0", "libcublas-notahash.so.13"]
    {
        project.write(&format!("lib/{file}"), file);
    }
    of_libtorch_sh("libtorch_link_names", &project.path("lib"));
    let mut names: Vec<_> = fs::read_dir(project.path("lib"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "libcublas-notahash.so.13",
            "libnvrtc-08c4863f.so.13",
            "libnvrtc-builtins.so.13.0",
            "libnvrtc.so.13"
        ]
    );
    let linked = fs::read_to_string(project.path("lib/libnvrtc.so.13")).unwrap();
    assert_eq!(linked, "libnvrtc-08c4863f.so.13");
}

#[cfg(target_os = "linux")]
#[test]
fn a_libtorch_that_lacks_a_library_of_its_cuda_part_is_told_by_the_librarys_name() {
    let project = Project::new();
    let lib = project.path("lib");
    fs::create_dir(&lib).unwrap();
    project.write("empty.c", "");
    for link in [
        ["-o", "libneeded.so.7", "-Wl,-soname,libneeded.so.7", "../empty.c", ""],
        ["-o", "libcuda.so.1", "-Wl,-soname,libcuda.so.1", "../empty.c", ""],
        ["-o", "libtorch_cuda.so", "-Wl,--no-as-needed", "libneeded.so.7", "libcuda.so.1"],
    ] {
        let arguments = link.iter().filter(|argument| !argument.is_empty());
        let mut cc = Command::new("c++");
        cc.args(["-shared", "-nostdlib", "-Wl,-rpath,$ORIGIN"]).args(arguments).current_dir(&lib);
        let output = output(&mut cc);
        assert!(output.status.success(), "{output:?}");
    }
    fs::remove_file(lib.join("libcuda.so.1")).unwrap();
    assert_eq!(of_libtorch_sh("libtorch_lacks", &lib), "");
    fs::remove_file(lib.join("libneeded.so.7")).unwrap();
    assert_eq!(of_libtorch_sh("libtorch_lacks", &lib), "it lacks libneeded.so.7");
}
