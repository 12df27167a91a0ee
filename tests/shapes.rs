//! Runs `resnet shapes` with the flags that describe a network.

mod common;

use common::resnet;

#[test]
fn depth_18_prints_the_chapters_eight_rows_and_totals() {
    let stdout = resnet("shapes --depth 18 --size 224", &[]).success();
    let outputs: Vec<&str> = stdout
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with("1×")))
        .collect();
    let expected = [
        "1×1×224×224",
        "1×64×56×56",
        "1×64×56×56",
        "1×128×28×28",
        "1×256×14×14",
        "1×512×7×7",
        "1×512×1×1",
        "1×512",
        "1×10",
    ];
    assert_eq!(outputs, expected);
    assert!(stdout.contains("11,175,370"));
}

#[test]
fn json_is_one_object_with_the_documented_keys() {
    let lines = resnet("shapes --depth 50 --size 224 --channels 3 --classes 1000 --json", &[]);
    let lines = lines.json_lines();
    assert_eq!(lines.len(), 1);
    let shapes = &lines[0];
    assert_eq!(shapes["depth"], 50);
    assert_eq!(shapes["parameters"], 25_557_032);
    assert_eq!(shapes["input"], serde_json::json!([1, 3, 224, 224]));
    let layers = shapes["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 8);
    for key in ["name", "kind", "output", "parameters", "macs"] {
        assert!(layers[0].get(key).is_some(), "{key}");
    }
    let macs: u64 = layers.iter().map(|layer| layer["macs"].as_u64().unwrap()).sum();
    assert_eq!(shapes["macs"], macs);
}

#[test]
fn all_prints_every_block_and_a_batch_multiplies_the_multiply_adds() {
    let one = &resnet("shapes --depth 20 --all --json", &[]).json_lines()[0];
    let four = &resnet("shapes --depth 20 --batch-size 4 --json", &[]).json_lines()[0];
    let layers = one["layers"].as_array().unwrap();
    let names: Vec<&str> = layers
        .iter()
        .flat_map(|layer| layer["parts"].as_array().unwrap())
        .map(|part| part["name"].as_str().unwrap())
        .collect();
    assert!(names.contains(&"layer3.2") && names.contains(&"conv1"), "{names:?}");
    let text = resnet("shapes --depth 20 --all", &[]).success();
    assert!(names.iter().all(|name| text.contains(name)), "{text}");
    assert_eq!(four["macs"].as_u64(), one["macs"].as_u64().map(|macs| 4 * macs));
    assert_eq!(four["layers"][0]["output"][0], 4);
}

#[test]
fn impossible_networks_are_usage_errors_that_name_flag_and_choices() {
    for (flags, parts) in [
        ("--depth 19", ["--depth 19", "18, 34, 50"]),
        ("--width 0", ["--width 0", "from 1"]),
        ("--size 16", ["--size 16", "at least 17"]),
        ("--blocks 2,2", ["--blocks 2,2", "4 numbers"]),
        ("--blocks 2,2,2,2 --depth 34", ["--depth 34", "drop one"]),
        ("--classes 1", ["--classes 1", "from 2"]),
        ("--batch-size 0", ["--batch-size 0", "from 1"]),
        ("--depth eighteen", ["eighteen", "--depth"]),
    ] {
        resnet(&format!("shapes {flags}"), &[]).fails_with(2, &parts);
    }
}

#[test]
fn the_largest_possible_network_is_measured_without_allocating_it() {
    let flags = "shapes --blocks 3,3,3,3 --block bottleneck --width 4096 --size 4096 --json";
    let lines = resnet(flags, &[]).json_lines();
    assert!(lines[0]["parameters"].as_u64().unwrap() > 10_000_000_000);
    assert!(lines[0]["macs"].as_u64().unwrap() > 1 << 46);
    resnet(&format!("{flags} --batch-size 1048576"), &[])
        .fails_with(2, &["--batch-size 1048576", "multiply-adds", "smaller"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_output_device_is_an_error_and_a_closed_pipe_is_not() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_resnet"));
    let status = command.args(["--quiet", "shapes"]).stdout(full).status().unwrap();
    assert_eq!(status.code(), Some(1));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_resnet"));
    let status = command.arg("shapes").stdout(writer).status().unwrap();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn completions_are_made_for_every_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let script = resnet(&format!("completions {shell}"), &[]).success();
        assert!(script.contains("resnet") && script.contains("zero-init-residual"));
    }
}
