//! Downloads from mirrors that misbehave. The data set is invented, so that it is small.

use crate::mirror::{Reply, Request, Server, refused};
use flate2::{Compression, write::GzEncoder};
use resnet::data::Split;
use resnet::data::catalog::{Checksum, DatasetInfo, File, Format, IdxFiles};
use resnet::data::download::{Downloader, Patience};
use resnet::ui::Ui;
use sha2::{Digest, Sha256};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

const IMAGES: &str = "images.gz";
const LABELS: &str = "labels.gz";
const COUNT: usize = 300;

const PATIENCE: Patience = Patience {
    retries: 2,
    first_pause: Duration::from_millis(1),
    connect: Duration::from_secs(5),
    stall: Duration::from_millis(300),
    least_rate: 1000,
};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Images that compression does not make smaller, so that the compressed file is long enough to be cut.
fn unpacked_images() -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, 3, 0, 0, 1, 44, 0, 0, 0, 2, 0, 0, 0, 2];
    bytes.extend((0..4 * COUNT as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8));
    bytes
}

fn images() -> Vec<u8> {
    gzip(&unpacked_images())
}

fn unpacked_labels() -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, 1, 0, 0, 1, 44];
    bytes.extend([1; COUNT]);
    bytes
}

/// The content of a file on a correct mirror.
fn published(file: &str) -> Vec<u8> {
    if file == IMAGES { images() } else { gzip(&unpacked_labels()) }
}

fn file(name: &'static str, unpacked: &[u8]) -> File {
    let hex: String = Sha256::digest(unpacked).iter().map(|byte| format!("{byte:02x}")).collect();
    let bytes = gzip(unpacked).len() as u64;
    File { name, bytes, checksum: Checksum::Unpacked(Box::leak(hex.into_boxed_str())) }
}

fn dataset() -> DatasetInfo {
    let files = || IdxFiles {
        images: file(IMAGES, &unpacked_images()),
        labels: file(LABELS, &unpacked_labels()),
    };
    DatasetInfo {
        name: "tiny",
        title: "Tiny",
        format: Format::Idx { train: files(), test: files() },
        mirrors: &[],
        classes: &["a", "b"],
        mean: &[0.5],
        std: &[0.5],
        augment: &[],
        train_images: COUNT,
        test_images: COUNT,
        channels: 1,
        height: 2,
        width: 2,
    }
}

fn try_fetch(folder: &Path, mirrors: &[&str]) -> Result<(), String> {
    let dataset = dataset();
    let mirrors = mirrors.iter().map(|base| base.parse().unwrap()).collect();
    Downloader::with(&dataset, mirrors, PATIENCE)
        .unwrap()
        .fetch(&dataset.parts(&[Split::Train]), folder, &Ui::new(true, false))
        .map_err(|error| error.to_string())
}

/// Fetches into a new folder. If `partial` is not empty, it is there as a partial file of the images.
fn fetch(partial: &[u8], mirrors: &[&str]) -> (TempDir, Result<(), String>) {
    let folder = tempfile::tempdir().unwrap();
    if !partial.is_empty() {
        std::fs::write(partial_images(&folder), partial).unwrap();
    }
    let result = try_fetch(folder.path(), mirrors);
    (folder, result)
}

fn partial_images(folder: &TempDir) -> PathBuf {
    folder.path().join("images.gz.part")
}

fn names(folder: &TempDir) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn assert_whole((folder, result): (TempDir, Result<(), String>)) {
    assert_eq!(result, Ok(()));
    assert_eq!(names(&folder), [".lock", IMAGES, LABELS]);
    assert_eq!(std::fs::read(folder.path().join(IMAGES)).unwrap(), images());
}

/// Checks that the download failed for this reason and left no files.
fn assert_refused((folder, result): (TempDir, Result<(), String>), reason: &str) {
    let error = result.unwrap_err();
    assert!(error.contains(reason), "`{reason}` is not in: {error}");
    assert!(error.contains("RESNET_MIRROR"), "no remedy in: {error}");
    assert_eq!(names(&folder), [".lock"], "{error}");
}

fn request(file: &str, range: Option<usize>) -> Request {
    Request { file: file.into(), range }
}

fn good() -> Server {
    Server::start(|request, _| Reply::Ranged(published(&request.file)))
}

#[test]
fn files_are_fetched_once() {
    let server = good();
    let (folder, result) = fetch(b"", &[&server.url]);
    assert_eq!(try_fetch(folder.path(), &[&server.url]), Ok(()));
    assert_whole((folder, result));
    assert_eq!(server.requests(), [request(IMAGES, None), request(LABELS, None)]);
}

#[test]
fn a_damaged_file_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(IMAGES), &images()[..99]).unwrap();
    let result = try_fetch(folder.path(), &[&good().url]);
    assert_whole((folder, result));
}

#[test]
fn a_partial_file_is_resumed() {
    let server = good();
    assert_whole(fetch(&images()[..500], &[&server.url]));
    assert_eq!(server.requests()[0], request(IMAGES, Some(500)));
}

#[test]
fn a_server_that_cannot_resume_sends_all_again() {
    let server = Server::start(|request, _| Reply::Whole(published(&request.file)));
    assert_whole(fetch(&images()[..500], &[&server.url]));
}

#[test]
fn a_connection_that_breaks_off_or_is_reset_is_resumed() {
    for breaks in [Reply::CutOff, Reply::Reset] {
        let server = Server::start(move |request, before| match before {
            0 => breaks(published(&request.file), 500),
            _ => Reply::Ranged(published(&request.file)),
        });
        assert_whole(fetch(b"", &[&server.url]));
        assert_eq!(server.requests()[1], request(IMAGES, Some(500)));
    }
}

#[test]
fn a_stalled_transfer_is_resumed() {
    let server = Server::start(|request, before| match before {
        0 => Reply::Stall(published(&request.file), 500),
        _ => Reply::Ranged(published(&request.file)),
    });
    assert_whole(fetch(b"", &[&server.url]));
    assert_eq!(server.requests()[1], request(IMAGES, Some(500)));
}

#[test]
fn after_a_mirror_that_is_silent_or_too_slow_the_next_one_is_used() {
    for slow in [Reply::Silence, Reply::Drip] {
        let first = Server::start(move |request, _| slow(published(&request.file)));
        let next = good();
        assert_whole(fetch(b"", &[&first.url, &next.url]));
        let files: Vec<String> = next.requests().into_iter().map(|request| request.file).collect();
        assert_eq!(files, [IMAGES, LABELS]);
    }
}

#[test]
fn a_body_that_is_too_long_is_cut_at_its_length_or_refused() {
    let server =
        Server::start(|request, _| Reply::Overlong(published(&request.file), b"and more".to_vec()));
    assert_whole(fetch(b"", &[&server.url]));
    let longer = || {
        Server::start(|request, _| {
            Reply::Unmeasured([published(&request.file), b"and more".to_vec()].concat())
        })
    };
    assert_refused(fetch(b"", &[&longer().url]), "8 bytes follow its gzip data");
    assert_whole(fetch(b"", &[&longer().url, &good().url]));
    let measured = Server::start(|request, _| {
        Reply::Whole([published(&request.file), b"and more".to_vec()].concat())
    });
    assert_refused(fetch(b"", &[&measured.url]), "8 bytes follow its gzip data");
    // A complete body without a length is accepted.
    let unmeasured = Server::start(|request, _| Reply::Unmeasured(published(&request.file)));
    assert_whole(fetch(b"", &[&unmeasured.url]));
}

#[test]
fn links_in_place_of_a_partial_file_are_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let others = folder.path().join("another's");
    let sets = folder.path().join("sets");
    std::fs::create_dir(&sets).unwrap();
    std::fs::write(&others, [b'x'; 500]).unwrap();
    let partials = [IMAGES, LABELS].map(|file| sets.join(format!("{file}.part")));
    std::os::unix::fs::symlink(&others, &partials[0]).unwrap();
    std::fs::hard_link(&others, &partials[1]).unwrap();
    let server = good();
    assert_eq!(try_fetch(&sets, &[&server.url]), Ok(()));
    assert_eq!(std::fs::read(sets.join(IMAGES)).unwrap(), images());
    assert_eq!(std::fs::read(&others).unwrap(), [b'x'; 500]);
    assert_eq!(server.requests(), [request(IMAGES, None), request(LABELS, None)]);
}

#[test]
fn a_link_in_place_of_the_lock_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let others = folder.path().join("another's");
    std::fs::write(&others, "precious").unwrap();
    let sets = folder.path().join("sets");
    std::fs::create_dir(&sets).unwrap();
    let lock = sets.join(".lock");
    std::os::unix::fs::symlink(&others, &lock).unwrap();
    let error = try_fetch(&sets, &[&good().url]).unwrap_err();
    assert!(error.contains(&format!("cannot write {}: it is a link", lock.display())), "{error}");
    assert_eq!(std::fs::read_to_string(&others).unwrap(), "precious");
}

#[test]
fn a_fifo_in_place_of_the_lock_is_refused_without_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let lock = folder.path().join(".lock");
    assert!(std::process::Command::new("mkfifo").arg(&lock).status().unwrap().success());
    let error = try_fetch(folder.path(), &[&good().url]).unwrap_err();
    assert!(error.contains(&format!("cannot write {}", lock.display())), "{error}");
}

#[test]
fn a_mirrors_password_is_sent_and_never_shown() {
    let with_password = |url: &str| url.replace("http://", "http://me:secret@");
    assert_whole(fetch(b"", &[&with_password(&good().url)]));
    let pages = Server::start(|_, _| Reply::Html);
    for base in [&refused(), &pages.url] {
        let (folder, result) = fetch(b"", &[&with_password(base)]);
        let error = result.clone().unwrap_err();
        assert!(error.contains(base.as_str()) && !error.contains("secret"), "{error}");
        assert_refused((folder, result), "RESNET_MIRROR");
    }
}

#[test]
fn a_partial_file_of_other_bytes_is_thrown_away() {
    let server = good();
    assert_whole(fetch(&[b'x'; 500], &[&server.url]));
    assert_eq!(server.requests()[..2], [request(IMAGES, Some(500)), request(IMAGES, None)]);
}

#[test]
fn a_partial_file_longer_than_the_true_one_is_thrown_away() {
    assert_whole(fetch(&[b'x'; 9000], &[&good().url]));
}

#[test]
fn files_that_one_mirror_lacks_come_from_the_next() {
    for status in [403, 404] {
        let lacking = Server::start(move |_, _| Reply::Status(status));
        assert_whole(fetch(b"", &[&lacking.url, &good().url]));
        assert_eq!(
            lacking.requests().len(),
            2,
            "one request for each file, because {status} is not temporary"
        );
    }
}

#[test]
fn a_busy_server_is_asked_again() {
    let server = Server::start(|request, before| match before {
        0 | 1 => Reply::Status(503),
        _ => Reply::Ranged(published(&request.file)),
    });
    assert_whole(fetch(b"", &[&server.url]));
}

#[test]
fn the_number_of_retries_is_limited() {
    let server = Server::start(|_, _| Reply::Status(503));
    assert_refused(fetch(b"", &[&server.url]), "HTTP 503");
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn files_with_wrong_bytes_are_refused() {
    let wrong = || {
        let mut bytes = unpacked_images();
        bytes[20] ^= 1;
        Reply::Whole(gzip(&bytes))
    };
    let server = Server::start(move |_, _| wrong());
    assert_refused(fetch(b"", &[&server.url]), "the SHA-256 of the unpacked bytes is");
    assert_whole(fetch(b"", &[&server.url, &good().url]));
}

#[test]
fn a_web_page_is_refused() {
    let server = Server::start(|_, _| Reply::Html);
    assert_refused(fetch(b"", &[&server.url]), "web page");
    let unlabelled = Server::start(|_, _| Reply::Whole(b"<html>Log in</html>".to_vec()));
    assert_refused(fetch(b"", &[&unlabelled.url]), "web page");
}

#[test]
fn a_truncated_file_is_refused() {
    let server = Server::start(|_, _| Reply::Whole(images()[..500].to_vec()));
    assert_refused(fetch(b"", &[&server.url]), "the gzip data is cut off");
}

#[test]
fn a_file_that_is_far_too_long_is_refused_before_it_is_read() {
    let server = Server::start(|_, _| Reply::Length(1 << 40));
    assert_refused(fetch(b"", &[&server.url]), "it has 1099511627776 bytes, expected");
}

#[test]
fn a_redirect_is_followed() {
    let target = good().url;
    let server = Server::start(move |_, _| Reply::RedirectTo(target.clone()));
    assert_whole(fetch(b"", &[&server.url]));
}

#[test]
fn the_number_of_redirects_is_limited() {
    let server = Server::start(|_, _| Reply::RedirectToSelf);
    assert_refused(fetch(b"", &[&server.url]), "redirects more than 5 times");
}

#[test]
fn a_refused_connection_is_named() {
    assert_refused(fetch(b"", &[&refused()]), "cannot connect (Connection refused");
}

#[test]
fn a_server_without_tls_is_named() {
    let url = good().url.replace("http:", "https:");
    let (folder, result) = fetch(b"", &[&url]);
    let error = result.clone().unwrap_err();
    assert!(error.contains(&url) && error.to_lowercase().contains("connect"), "{error}");
    assert_refused((folder, result), "127.0.0.1");
}

#[test]
fn a_partial_file_is_kept_after_a_temporary_failure() {
    let server = Server::start(|request, before| match before {
        0 => Reply::CutOff(published(&request.file), 500),
        _ => Reply::Status(503),
    });
    let (folder, result) = fetch(b"", &[&server.url]);
    assert!(result.is_err());
    assert_eq!(names(&folder), [".lock", "images.gz.part"]);
    assert_eq!(std::fs::read(partial_images(&folder)).unwrap(), &images()[..500]);
}

#[test]
fn a_folder_that_cannot_be_created_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = try_fetch(&file.join("tiny"), &[&good().url]).unwrap_err();
    assert!(error.starts_with("cannot write ") && error.contains("--data-dir"), "{error}");
}

#[test]
fn two_threads_fetch_each_file_once() {
    let server = good();
    let folder = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        let both = [(); 2].map(|()| scope.spawn(|| try_fetch(folder.path(), &[&server.url])));
        for thread in both {
            assert_eq!(thread.join().unwrap(), Ok(()));
        }
    });
    assert_eq!(names(&folder), [".lock", IMAGES, LABELS]);
    assert_eq!(server.requests().len(), 2);
}
