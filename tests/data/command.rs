//! `resnet data` through the binary, against Fashion-MNIST as a system package installs it, and
//! mirrors on this machine. Where no package is installed, the tests that need the images pass
//! without a check and say so.

use crate::mirror::{Reply, Server, mirror_of};
use flate2::read::GzDecoder;
use resnet::data::catalog::{self, Dataset};
use resnet::data::{self, Source, Split};
use resnet::ui::Ui;
use serde_json::Value;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

pub const FILES: [&str; 4] = [
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
];

/// The folder of the system's package, where it is installed.
pub fn system_folder() -> Option<PathBuf> {
    let folder = Path::new("/usr/share/datasets/fashion-mnist");
    let installed = folder.join(FILES[0]).is_file();
    if !installed {
        println!("not checked: no Fashion-MNIST in {}", folder.display());
    }
    installed.then(|| folder.to_owned())
}

/// A home without data sets, and no way to the published mirrors: a proxy at a closed port.
pub struct Home(TempDir);

impl Home {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    fn command(&self, args: &str) -> Command {
        self.resnet(&format!("data {args}"))
    }

    /// Any command of the program.
    pub fn resnet(&self, args: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_resnet"));
        command
            .args(args.split_whitespace())
            .current_dir(self.path())
            .env("HOME", self.0.path())
            .env("XDG_CACHE_HOME", self.0.path().join("cache"))
            .env("NO_PROXY", "127.0.0.1")
            .env_remove("RESNET_DATA")
            .env_remove("RESNET_MIRROR");
        for proxy in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"] {
            command.env(proxy, crate::mirror::refused());
        }
        command
    }

    fn run(&self, args: &str) -> Ended {
        Ended::from(self.command(args).output().unwrap())
    }

    /// The folder of a data set in the cache, made.
    fn dataset(&self, name: &str) -> PathBuf {
        let folder = self.0.path().join("cache/resnet/datasets").join(name);
        fs::create_dir_all(&folder).unwrap();
        folder
    }
}

#[derive(Debug)]
pub struct Ended {
    code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

impl Ended {
    #[track_caller]
    pub fn done(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// Ended with that code, nothing on stdout, and an error that says all of these.
    #[track_caller]
    pub fn failed(&self, code: i32, says: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.stderr.contains("error: "), "{self:?}");
        for text in says {
            assert!(self.stderr.contains(text), "`{text}` is not in {self:?}");
        }
    }

    fn json(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

#[test]
fn list_names_each_data_set() {
    let home = Home::new();
    let people = home.run("list").done();
    assert!(people.stdout.contains("cifar100"), "{people:?}");
    assert!(people.stderr.is_empty(), "{people:?}");
    let rows = home.run("list --json").done().json();
    let names: Vec<&str> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["fashion-mnist", "mnist", "kmnist", "cifar10", "cifar100"]);
    assert_eq!(rows[1]["path"], Value::Null);
    assert_eq!(rows[3]["train_images"], 50_000);
}

#[test]
fn what_is_missing_ends_with_1_and_the_remedy() {
    let home = Home::new();
    for command in ["verify mnist", "path mnist"] {
        let ended = home.run(command);
        ended.failed(1, &["mnist is not on this machine", "`resnet data fetch mnist` downloads"]);
        assert!(ended.stdout.is_empty(), "{ended:?}");
    }
    home.run("fetch mnist --offline").failed(1, &["--offline forbids a download"]);
}

#[test]
fn what_the_user_got_wrong_ends_with_2() {
    let home = Home::new();
    home.run("fetch imagenet").failed(2, &["invalid value 'imagenet' for '[NAME]'", "kmnist"]);
    let ended = home.command("fetch mnist").env("RESNET_MIRROR", "mirror").output().unwrap();
    Ended::from(ended).failed(2, &["RESNET_MIRROR is `mirror`", "https://example.org/"]);
}

#[test]
fn a_folder_that_is_a_file_is_named() {
    let home = Home::new();
    let file = home.0.path().join("file");
    fs::write(&file, "").unwrap();
    let ended = home.command("fetch mnist --data-dir").arg(&file).output().unwrap();
    Ended::from(ended).failed(2, &["--data-dir ", "/file: is no folder"]);
}

#[test]
fn a_mirror_without_the_file_is_named_and_nothing_is_left() {
    let home = Home::new();
    let server = Server::start(|_, _| Reply::Html);
    let mirror = server.url.replace("http://", "http://me:secret@");
    let ended = home.command("fetch mnist").env("RESNET_MIRROR", mirror).output().unwrap();
    let says = ["cannot download train-images-idx3-ubyte.gz of mnist", "web page", &server.url];
    let ended = Ended::from(ended);
    ended.failed(1, &says);
    assert!(!ended.stderr.contains("secret"), "{ended:?}");
    // The user's mirror comes before the published ones.
    let asked: Vec<_> = ended.stderr.match_indices("downloading ").map(|(at, _)| at).collect();
    assert!(ended.stderr[asked[0]..asked[1]].contains("from 127.0.0.1"), "{ended:?}");
    let left: Vec<_> = fs::read_dir(home.dataset("mnist")).unwrap().collect();
    assert_eq!(left.len(), 1, "only the lock: {left:?}");
}

#[test]
fn a_fetched_data_set_is_verified_and_used_offline() {
    let Some(system) = system_folder() else { return };
    let (home, server) = (Home::new(), mirror_of(system.clone()));
    let folder = home.0.path().join("sets");
    let run = |args: &str| {
        let mut command = home.command(args);
        command.env("RESNET_DATA", &folder).env("RESNET_MIRROR", &server.url);
        Ended::from(command.output().unwrap())
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
    let rows = run("verify --json --offline").done().json();
    assert_eq!(rows.len(), 4);
    assert!(rows.iter().all(|row| row["ok"] == true && row["checked"] == "sha256"), "{rows:?}");
    run("fetch").done();
    assert_eq!(server.requests().len(), 4, "what is there is not fetched again");
}

#[test]
fn fetch_replaces_what_is_damaged() {
    let Some(system) = system_folder() else { return };
    let (home, server) = (Home::new(), mirror_of(system.clone()));
    let folder = home.0.path().join("fashion-mnist");
    fs::create_dir(&folder).unwrap();
    for file in FILES {
        fs::copy(system.join(file), folder.join(file)).unwrap();
    }
    fs::write(folder.join(FILES[1]), &fs::read(system.join(FILES[1])).unwrap()[..999]).unwrap();
    let mut command = home.command("fetch --data-dir");
    command.arg(home.0.path()).env("RESNET_MIRROR", &server.url);
    let fetched = Ended::from(command.output().unwrap()).done();
    assert!(fetched.stderr.contains("the gzip data is cut off"), "{fetched:?}");
    let files: Vec<String> = server.requests().into_iter().map(|request| request.file).collect();
    assert_eq!(files, FILES[1..2]);
}

#[test]
fn two_processes_fetch_each_file_once() {
    let Some(system) = system_folder() else { return };
    let (home, server) = (Home::new(), mirror_of(system));
    let spawn = || {
        let mut command = home.command("fetch --quiet --data-dir");
        command.arg(home.0.path().join("sets")).env("RESNET_MIRROR", &server.url);
        command.spawn().unwrap()
    };
    let both = [spawn(), spawn()];
    for mut child in both {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(server.requests().len(), 4);
}

/// MNIST and Fashion-MNIST have files of the same names and lengths.
#[test]
fn files_of_another_data_set_are_named() {
    let Some(system) = system_folder() else { return };
    let home = Home::new();
    let folder = home.dataset("mnist");
    for file in FILES {
        fs::copy(system.join(file), folder.join(file)).unwrap();
    }
    let ended = home.run("verify mnist");
    ended.failed(1, &["4 of 4 files of mnist"]);
    let said = "train-images-idx3-ubyte.gz: it holds Fashion-MNIST's train-images-idx3-ubyte.gz";
    assert!(ended.stdout.contains(said), "{ended:?}");
}

#[test]
fn other_bytes_under_these_names_are_refused() {
    let Some(system) = system_folder() else { return };
    let home = Home::new();
    let folder = home.dataset("fashion-mnist");
    for file in FILES {
        fs::copy(system.join(file), folder.join(file)).unwrap();
    }
    // Labels of the right number, but of other images.
    let other = [&[0, 0, 8, 1, 0, 0, 0x27, 0x10][..], &[3; 10_000]].concat();
    let mut encoder = flate2::read::GzEncoder::new(&other[..], flate2::Compression::fast());
    let mut packed = Vec::new();
    encoder.read_to_end(&mut packed).unwrap();
    fs::write(folder.join(FILES[3]), packed).unwrap();

    let ended = home.run("verify");
    ended.failed(1, &["1 of 4 files of fashion-mnist", "`resnet data fetch fashion-mnist`"]);
    assert!(ended.stdout.contains("bad ") && ended.stdout.contains("2017-08-31"), "{ended:?}");
    home.run("fetch --offline").failed(1, &[FILES[3], "--offline forbids a download"]);
    // The labels under the images' name.
    fs::copy(system.join(FILES[1]), folder.join(FILES[0])).unwrap();
    let rows = home.run("verify --json").json();
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
    let fashion: &Dataset = catalog::find("fashion-mnist").unwrap();
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
