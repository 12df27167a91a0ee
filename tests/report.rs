//! `resnet report`: the page about runs, opened in a browser too.

#![allow(clippy::unwrap_used, reason = "clippy allows it in tests, but not in their helpers")]

mod common;

use common::{TINY, resnet};
use serde_json::Value;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::{TempDir, tempdir};

/// Trains a tiny run, with a report at its end.
fn train(flags: &str, run: &Path) {
    resnet(&format!("{TINY} --limit-batches 4 --quiet --report true {flags} --run-dir"), &[run])
        .success();
}

fn page(file: &Path) -> String {
    fs::read_to_string(file).unwrap()
}

#[test]
fn a_run_ends_with_a_report_of_its_last_evaluation() {
    let folder = tempdir().unwrap();
    let run = folder.path().join("run");
    train("--epochs 2 --validation 500", &run);
    let written = page(&run.join("report.html"));
    let metrics = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let end: Value = serde_json::from_str(metrics.lines().last().unwrap()).unwrap();
    let accuracy = 100.0 * end["test_accuracy"].as_f64().unwrap();
    assert!(written.contains(&format!("<dd>{accuracy:.2} %</dd>")), "{accuracy}");
    assert!(written.contains("finished") && written.contains("Ankle boot"), "{written}");
    for name in ["accuracy", "loss", "learning-rate", "speed", "calibration", "confusion"] {
        let svg = page(&run.join(format!("report/{name}.svg")));
        assert!(svg.starts_with("<svg") && !svg.contains("<text"), "{name} needs a font");
        let png = fs::read(run.join(format!("report/{name}.png"))).unwrap();
        assert!(png.starts_with(b"\x89PNG"), "{name}");
    }

    assert!(fs::read(run.join("report/mistakes.png")).unwrap().starts_with(b"\x89PNG"));

    // The figures of the report are those of the checkpoint.
    let out = folder.path().join("again.html");
    let ran = resnet("report --threads 1 --quiet --offline --out", &[&out, &run]);
    assert_eq!(ran.success().trim(), out.to_str().unwrap());
    let again = page(&out);
    let last = run.join("checkpoints/last");
    let eval = &resnet("eval --threads 1 --quiet --json --offline", &[&last]).json_lines()[0];
    let confusion: Vec<Vec<u64>> = serde_json::from_value(eval["confusion"].clone()).unwrap();
    for (row, counts) in confusion.iter().enumerate() {
        for &count in counts.iter().filter(|&&count| count > 0) {
            assert!(again.contains(&format!(": {count}\"")), "row {row}: {count}");
        }
    }
    let error = eval["calibration_error"].as_f64().unwrap();
    assert!(again.contains(&format!("calibration error is {error:.4}")), "{error}");

    let without = folder.path().join("without");
    train("--epochs 1 --report false", &without);
    assert!(!without.join("report.html").exists() && !without.join("report").exists());
}

#[test]
fn runs_in_any_state_are_in_the_report() {
    let folder = tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    train("--epochs 1", &path("seed 0"));
    train("--epochs 1 --seed 1", &path("seed 1"));
    train("--epochs 3 --stop-after 1 --lr 0.02", &path("stopped"));
    train("--epochs 1", &path("damaged"));
    fs::write(path("damaged/config.toml"), "lr = <script>alert(1)</script>").unwrap();
    fs::write(path("damaged/metrics.jsonl"), "{\"event\":\"epoch\",\n").unwrap();
    train("--epochs 1", &path("running"));
    let mut metrics = fs::read_to_string(path("running/metrics.jsonl")).unwrap();
    metrics.truncate(metrics.trim_end().rfind('\n').unwrap() + 1);
    fs::write(path("running/metrics.jsonl"), metrics).unwrap();
    let lock = File::options().write(true).open(path("running/.lock")).unwrap();
    lock.lock().unwrap();
    fs::create_dir(path("empty")).unwrap();
    fs::write(path("empty/config.toml"), "").unwrap();

    let names = ["seed 0", "seed 1", "stopped", "damaged", "running", "empty"];
    let runs: Vec<PathBuf> = names.iter().map(|name| path(name)).collect();
    let paths: Vec<&Path> = runs.iter().map(PathBuf::as_path).collect();
    let out = path("all.html");
    let ran =
        resnet(&format!("report --threads 1 --offline --json --out {}", out.display()), &paths);
    assert_eq!(ran.printed_json()[0]["runs"].as_array().unwrap().len(), names.len());
    let ran = ran.done();
    ran.shows_no_trace();
    assert!(ran.stderr.contains("empty: the report lacks its test images"), "{}", ran.stderr);
    let written = page(&out);
    for word in names.iter().chain(&["finished", "damaged", "running", "Mean over seeds", "±"]) {
        assert!(written.contains(word), "{word}");
    }
    let (header, _) = written.split_once("<main>").unwrap();
    assert_eq!(header.matches(" on fashion-mnist<").count(), 1, "{header}");
    assert!(written.contains("class=\"differs\"") && !written.contains("alert(1)</script>"));
    assert!(path("all/seed_1-confusion.png").exists());

    resnet("report --threads 1", &[folder.path()]).fails_with(2, &["expected a run's folder"]);
    resnet("report --out report.pdf", &[&runs[0]]).fails_with(2, &["--out report.pdf", ".html"]);
    resnet("report --device cuda:99 --out x.html", &[&runs[0]]).fails_with(1, &["cuda:99"]);
}

/// A browser, if the machine has one. With `RESNET_CHROMIUM` the test must not do without.
fn chromium() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("RESNET_CHROMIUM") {
        return Some(named.into());
    }
    let folders = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let mut found = std::env::split_paths(&folders)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .filter(|path| path.is_file());
    found.next()
}

/// What a browser of this width shows of a page.
fn open(browser: &Path, file: &Path, width: u32, flags: &[&str]) -> Value {
    let probed = file.with_extension("probed.html");
    let head = format!("<head><script>{}</script>", include_str!("report/errors.js"));
    let foot = format!("<script>{}</script></body>", include_str!("report/probe.js"));
    let text = page(file).replacen("<head>", &head, 1).replacen("</body>", &foot, 1);
    fs::write(&probed, text).unwrap();
    let profile = tempdir().unwrap();
    let ran = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"])
        .args(["--virtual-time-budget=5000", &format!("--window-size={width},900")])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(flags)
        .arg(format!("file://{}", probed.display()))
        .output()
        .unwrap();
    let dom = String::from_utf8_lossy(&ran.stdout).into_owned();
    let (_, from) = dom
        .split_once("<pre id=\"probe\">")
        .unwrap_or_else(|| panic!("no probe in: {dom}\n{}", String::from_utf8_lossy(&ran.stderr)));
    let json = from.split_once("</pre>").unwrap().0;
    let json = json.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    serde_json::from_str(&json).unwrap()
}

#[test]
fn a_browser_shows_all_of_a_report_and_loads_nothing_else() {
    let Some(browser) = chromium() else {
        println!("skipped: no Chromium on this machine");
        return;
    };
    let folder: TempDir = tempdir().unwrap();
    let runs = ["a", "b"].map(|name| folder.path().join(name));
    train("--epochs 3 --validation 500", &runs[0]);
    train("--epochs 3 --validation 500 --seed 1", &runs[1]);
    let both = folder.path().join("both.html");
    resnet("report --threads 1 --offline --quiet --out", &[&both, &runs[0], &runs[1]]).success();

    let mut grounds = Vec::new();
    for (file, count) in [(runs[0].join("report.html"), 1), (both, 2)] {
        for (width, flags) in
            [(1200, &[][..]), (500, &["--blink-settings=preferredColorScheme=0"][..])]
        {
            let seen = open(&browser, &file, width, flags);
            assert_eq!(seen["faults"], serde_json::json!([]), "{seen}");
            assert_eq!(seen["sent"], serde_json::json!([]), "{seen}");
            assert_eq!(seen["overflow"], 0, "{seen}");
            assert_eq!(seen["broken"], 0, "{seen}");
            assert_eq!(seen["mistakes"], 48 * count, "{seen}");
            assert_eq!(seen["images"], 2 * 48 * count, "{seen}");
            let rows = &seen["rows"];
            assert_eq!(
                (&rows["classes"], &rows["confusion"]),
                (&(10 * count).into(), &(10 * count).into())
            );
            assert_eq!(rows["epochs"], 3 * count, "{seen}");
            assert!(rows["network"].as_u64().unwrap() >= 5, "{seen}");
            let charts = seen["charts"].as_array().unwrap();
            assert_eq!(charts.len(), 4 + count, "{seen}");
            for chart in charts {
                let name = chart["name"].as_str().unwrap();
                let lines = match name {
                    "accuracy" | "loss" => 3,
                    "calibration" => 2,
                    _ => 1,
                };
                assert_eq!((name, &chart["lines"]), (name, &lines.into()));
                assert_eq!((name, &chart["before"]), (name, &true.into()));
                assert_eq!((name, &chart["after"]), (name, &true.into()));
                assert_eq!((name, &chart["inside"]), (name, &true.into()));
                if name != "calibration" && !chart["pointed"].is_null() {
                    assert!(chart["pointed"].as_str().unwrap().starts_with("epoch 3"), "{chart}");
                    assert!(chart["first"].as_str().unwrap().starts_with("epoch 1"), "{chart}");
                }
            }
            assert!(charts.iter().filter(|chart| chart["pointed"].is_string()).count() >= 4);
            grounds.push(seen["ground"].clone());
        }
    }
    assert_ne!(grounds[0], grounds[1], "light and dark have the same ground");
}
