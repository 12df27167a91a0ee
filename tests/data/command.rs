//! Runs `resnet data` with Fashion-MNIST as a system package installs it, and with mirrors on this machine. If the
//! package is not installed, the tests that need the images print this and pass without a check.

use crate::common::{Program, Ran, program};
use crate::mirror::{Reply, Server, mirror_of};
use flate2::read::GzDecoder;
use resnet::data::catalog::{self, DatasetInfo};
use resnet::data::{self, Source, Split};
use resnet::ui::Ui;
use serde_json::{Value, json};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tempfile::TempDir;

pub const FILES: [&str; 4] = [
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
];

/// The folder of the system package, if it is installed.
pub fn system_folder() -> Option<PathBuf> {
    let folder = Path::new("/usr/share/datasets/fashion-mnist");
    let installed = folder.join(FILES[0]).is_file();
    if !installed {
        println!("not checked: no Fashion-MNIST in {}", folder.display());
    }
    installed.then(|| folder.to_owned())
}

/// A home folder without data sets. The published mirrors cannot be reached, because the proxy is at a closed port.
pub struct Home(TempDir);

impl Home {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    fn command(&self, args: &str) -> Program {
        self.resnet(&format!("data {args}"))
    }

    /// The program with any command.
    pub fn resnet(&self, args: &str) -> Program {
        let program = program(args)
            .within(self.path())
            .env("HOME", self.path())
            .env("XDG_CACHE_HOME", self.path().join("cache"))
            .env("NO_PROXY", "127.0.0.1")
            .without("RESNET_DATA")
            .without("RESNET_MIRROR");
        let proxies = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"];
        proxies
            .into_iter()
            .fold(program, |program, proxy| program.env(proxy, crate::mirror::refused()))
    }

    fn run(&self, args: &str) -> Ran {
        self.command(args).run()
    }

    /// Creates the folder of a data set in the cache.
    fn dataset(&self, name: &str) -> PathBuf {
        let folder = self.0.path().join("cache/resnet/datasets").join(name);
        fs::create_dir_all(&folder).unwrap();
        folder
    }
}

#[test]
fn list_names_each_data_set() {
    let home = Home::new();
    let people = home.run("list").done();
    assert!(people.stdout.contains("cifar100"), "{people:?}");
    assert!(people.stderr.is_empty(), "{people:?}");
    let rows = home.run("list --json").json_lines();
    let names: Vec<&str> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["fashion-mnist", "mnist", "kmnist", "cifar10", "cifar100", "synthetic"]);
    assert_eq!(rows[1]["path"], Value::Null);
    assert_eq!(rows[3]["train_images"], 50_000);
}

#[test]
fn the_synthetic_set_is_built_in() {
    let home = Home::new();
    let people = home.run("list").success();
    let line = people.lines().find(|line| line.contains("synthetic")).unwrap();
    assert!(line.contains("8000") && line.contains("none") && line.contains("built in"), "{line}");
    let row = home.run("list --json").json_lines().pop().unwrap();
    assert_eq!((&row["path"], &row["built_in"]), (&Value::Null, &json!(true)));
    // A folder of data sets that does not exist makes no difference.
    for flags in ["", "--offline", "--offline --data-dir nope"] {
        let fetched = home.run(&format!("fetch synthetic {flags}")).done();
        assert!(fetched.stderr.contains("nothing to fetch"), "{fetched:?}");
        let verified = home.run(&format!("verify synthetic {flags}")).success();
        assert_eq!(verified, "ok   synthetic: made by the program, no files to check\n");
        home.run(&format!("path synthetic {flags}"))
            .fails_with(2, &["synthetic: is made by the program and has no folder"]);
    }
    let fetched = home.run("fetch synthetic --json").json_lines();
    assert_eq!(fetched, [json!({"name": "synthetic", "path": null})]);
    assert_eq!(home.run("verify synthetic --json").json_lines()[0]["ok"], true);
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0, "the program must write nothing");
}

/// Neither training nor the check of a data set waits for a FIFO or reads a device or a huge file.
#[test]
fn fifos_devices_folders_and_huge_files_in_place_of_a_data_file_are_refused() {
    let home = Home::new();
    let folder = home.dataset("fashion-mnist");
    for file in &FILES[1..] {
        fs::write(folder.join(file), "").unwrap();
    }
    let path = folder.join(FILES[0]);
    let fifo = || {
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
    };
    let puts: [(&str, &dyn Fn()); 4] = [
        ("is a FIFO, not a file", &fifo),
        ("is a device, not a file", &|| {
            std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        }),
        ("is a folder, not a file", &|| fs::create_dir(&path).unwrap()),
        ("has 1.00 TiB; expected no more than", &|| {
            fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
        }),
    ];
    let sets = home.path().join("cache/resnet/datasets");
    for (what, put) in puts {
        put();
        let said = format!("{}: {what}", path.display());
        let train =
            "train --offline --device cpu --blocks 1,1,1 --size 8 --time-limit 1s --data-dir";
        home.resnet(train).arg(&sets).run().fails_with(1, &[&said, "`resnet data fetch"]);
        let verified = home.command("verify --data-dir").arg(&sets).run();
        verified.fails_with(1, &["4 of 4 files"]);
        assert!(verified.stdout.starts_with(&format!("bad  {said}")), "{verified:?}");
        if path.is_dir() {
            fs::remove_dir(&path).unwrap();
        } else {
            fs::remove_file(&path).unwrap();
        }
    }
}

#[test]
fn missing_data_gives_exit_code_1_and_names_the_remedy() {
    let home = Home::new();
    for command in ["verify mnist", "path mnist"] {
        let ended = home.run(command);
        ended.fails_with(
            1,
            &["mnist is not on this machine", "`resnet data fetch mnist` downloads"],
        );
        assert!(ended.stdout.is_empty(), "{ended:?}");
    }
    home.run("fetch mnist --offline").fails_with(1, &["--offline forbids a download"]);
}

#[test]
fn mistakes_of_the_user_give_exit_code_2() {
    let home = Home::new();
    home.run("fetch imagenet").fails_with(2, &["invalid value 'imagenet' for '[NAME]'", "kmnist"]);
    let ended = home.command("fetch mnist").env("RESNET_MIRROR", "mirror").run();
    ended.fails_with(2, &["RESNET_MIRROR is `mirror`", "https://example.org/"]);
}

#[test]
fn a_data_folder_that_is_a_file_is_an_error_that_names_it() {
    let home = Home::new();
    let file = home.0.path().join("file");
    fs::write(&file, "").unwrap();
    let ended = home.command("fetch mnist --data-dir").arg(&file).run();
    ended.fails_with(2, &["--data-dir ", "/file: is no folder"]);
}

#[test]
fn a_mirror_without_the_file_is_named_and_no_partial_file_stays() {
    let home = Home::new();
    let server = Server::start(|_, _| Reply::Html);
    let mirror = server.url.replace("http://", "http://me:secret@");
    let ended = home.command("fetch mnist").env("RESNET_MIRROR", mirror).run();
    let says = ["cannot download train-images-idx3-ubyte.gz of mnist", "web page", &server.url];
    ended.fails_with(1, &says);
    assert!(!ended.stderr.contains("secret"), "{ended:?}");
    // The user's mirror is tried before the published ones.
    let asked: Vec<_> = ended.stderr.match_indices("downloading ").map(|(at, _)| at).collect();
    assert!(ended.stderr[asked[0]..asked[1]].contains("from 127.0.0.1"), "{ended:?}");
    let left: Vec<_> = fs::read_dir(home.dataset("mnist")).unwrap().collect();
    assert_eq!(left.len(), 1, "expected only the lock: {left:?}");
}

#[test]
fn a_fetched_data_set_is_verified_and_used_offline() {
    let Some(system) = system_folder() else { return };
    let (home, server) = (Home::new(), mirror_of(system.clone()));
    let folder = home.0.path().join("sets");
    let run = |args: &str| {
        home.command(args).env("RESNET_DATA", &folder).env("RESNET_MIRROR", &server.url).run()
    };
    // Half of the largest file is there already.
    let inner = folder.join("fashion-mnist");
    fs::create_dir_all(&inner).unwrap();
    let images = fs::read(system.join(FILES[0])).unwrap();
    let half = images.len() / 2;
    fs::write(inner.join(format!("{}.part", FILES[0])), &images[..half]).unwrap();

    let fetched = run("fetch").done();
    assert!(fetched.stdout.is_empty() && fetched.stderr.contains("verified"), "{fetched:?}");
    let requests = server.requests();
    let files: Vec<&str> = requests.iter().map(|request| request.file.as_str()).collect();
    assert_eq!(files, FILES);
    assert_eq!(requests[0].range, Some(half));

    assert_eq!(run("path --offline").done().stdout.trim_end(), inner.to_str().unwrap());
    let rows = run("verify --json --offline").json_lines();
    assert_eq!(rows.len(), 4);
    assert!(rows.iter().all(|row| row["ok"] == true && row["checked"] == "sha256"), "{rows:?}");
    run("fetch").done();
    assert_eq!(server.requests().len(), 4, "existing files must not be fetched again");
}

#[test]
fn fetch_replaces_damaged_files() {
    let Some(system) = system_folder() else { return };
    let (home, server) = (Home::new(), mirror_of(system.clone()));
    let folder = home.0.path().join("fashion-mnist");
    fs::create_dir(&folder).unwrap();
    for file in FILES {
        fs::copy(system.join(file), folder.join(file)).unwrap();
    }
    fs::write(folder.join(FILES[1]), &fs::read(system.join(FILES[1])).unwrap()[..999]).unwrap();
    let command = home.command("fetch --data-dir").arg(home.path());
    let fetched = command.env("RESNET_MIRROR", &server.url).run().done();
    assert!(fetched.stderr.contains("the gzip data is cut off"), "{fetched:?}");
    let files: Vec<String> = server.requests().into_iter().map(|request| request.file).collect();
    assert_eq!(files, FILES[1..2]);
}

#[test]
fn two_processes_fetch_each_file_once() {
    let Some(system) = system_folder() else { return };
    let (home, server) = (Home::new(), mirror_of(system));
    let spawn = || {
        let command = home.command("fetch --quiet --data-dir").arg(home.path().join("sets"));
        command.env("RESNET_MIRROR", &server.url).spawn(Stdio::inherit())
    };
    let both = [spawn(), spawn()];
    for mut child in both {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(server.requests().len(), 4);
}

/// MNIST and Fashion-MNIST have files of the same names and lengths.
#[test]
fn files_of_another_data_set_are_recognised() {
    let Some(system) = system_folder() else { return };
    let home = Home::new();
    let folder = home.dataset("mnist");
    for file in FILES {
        fs::copy(system.join(file), folder.join(file)).unwrap();
    }
    let ended = home.run("verify mnist");
    ended.fails_with(1, &["4 of 4 files of mnist"]);
    let said = "train-images-idx3-ubyte.gz: it holds Fashion-MNIST's train-images-idx3-ubyte.gz";
    assert!(ended.stdout.contains(said), "{ended:?}");
}

#[test]
fn files_with_the_right_names_and_wrong_content_are_refused() {
    let Some(system) = system_folder() else { return };
    let home = Home::new();
    let folder = home.dataset("fashion-mnist");
    for file in FILES {
        fs::copy(system.join(file), folder.join(file)).unwrap();
    }
    // The number of labels is right, but they belong to other images.
    let other = [&[0, 0, 8, 1, 0, 0, 0x27, 0x10][..], &[3; 10_000]].concat();
    let mut encoder = flate2::read::GzEncoder::new(&other[..], flate2::Compression::fast());
    let mut packed = Vec::new();
    encoder.read_to_end(&mut packed).unwrap();
    fs::write(folder.join(FILES[3]), packed).unwrap();

    let ended = home.run("verify");
    ended.fails_with(1, &["1 of 4 files of fashion-mnist", "`resnet data fetch fashion-mnist`"]);
    assert!(ended.stdout.contains("bad ") && ended.stdout.contains("2017-08-31"), "{ended:?}");
    home.run("fetch --offline").fails_with(1, &[FILES[3], "--offline forbids a download"]);
    // The file of labels under the name of the images.
    fs::copy(system.join(FILES[1]), folder.join(FILES[0])).unwrap();
    let rows = home.run("verify --json").printed_json();
    let error = rows[0]["error"].as_str().unwrap();
    assert!(error.contains("it has 60008 bytes unpacked, expected 47040016"), "{error}");
}

#[test]
fn unpacked_copies_are_accepted() {
    let Some(system) = system_folder() else { return };
    let home = Home::new();
    let folder = home.dataset("fashion-mnist");
    for file in FILES {
        let mut bytes = Vec::new();
        let packed = fs::File::open(system.join(file)).unwrap();
        GzDecoder::new(packed).read_to_end(&mut bytes).unwrap();
        fs::write(folder.join(file.strip_suffix(".gz").unwrap()), bytes).unwrap();
    }
    let verified = home.run("verify").done();
    assert_eq!(verified.stdout.matches("SHA-256").count(), 4, "{verified:?}");
    let path = home.run("path").done().stdout;
    assert_eq!(path.trim_end(), folder.to_str().unwrap());
}

#[test]
fn fashion_mnist_has_the_mean_and_deviation_of_the_table() {
    if system_folder().is_none() {
        return;
    }
    let fashion: &DatasetInfo = catalog::find("fashion-mnist").unwrap();
    let (source, ui) = (Source { folder: None, offline: true }, Ui::new(true, false));
    let train = data::load(fashion, Split::Train, &source, &ui).unwrap();
    assert_eq!((train.count, train.channels, train.height, train.width), (60_000, 1, 28, 28));
    let pixels = || train.pixels.iter().map(|&level| f64::from(level) / 255.0);
    let mean = pixels().sum::<f64>() / train.pixels.len() as f64;
    let square = pixels().map(|pixel| pixel * pixel).sum::<f64>() / train.pixels.len() as f64;
    assert!((mean - fashion.mean[0]).abs() < 5e-5, "{mean}");
    assert!(((square - mean * mean).sqrt() - fashion.std[0]).abs() < 5e-5);
    let mut classes = [0; 10];
    train.labels.iter().for_each(|&label| classes[usize::from(label)] += 1);
    assert_eq!(classes, [6000; 10]);
    let test = data::load(fashion, Split::Test, &source, &ui).unwrap();
    assert_eq!((test.count, test.labels.len()), (10_000, 10_000));
}
