//! `resnet predict`: pictures of the user, through the program.

#![allow(clippy::unwrap_used, reason = "clippy allows it in tests, but not in their helpers")]

mod common;

use common::{TINY, program, resnet};
use image::{GrayImage, ImageFormat};
use resnet::data::catalog::find;
use resnet::data::{self, Images, Source, Split};
use resnet::ui::Ui;
use serde_json::Value;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use tempfile::{TempDir, tempdir};

/// A folder with a trained run of a small network in `run`.
fn trained() -> (TempDir, PathBuf) {
    let folder = tempdir().unwrap();
    let run = folder.path().join("run");
    resnet(&format!("{TINY} --epochs 1 --limit-batches 60 --quiet --run-dir"), &[&run]).success();
    (folder, run)
}

fn test_images() -> Images {
    let source = Source::new(None, true);
    data::load(find("fashion-mnist").unwrap(), Split::Test, &source, &Ui::new(true, false)).unwrap()
}

fn picture(images: &Images, index: usize) -> GrayImage {
    let length = images.height * images.width;
    let pixels = images.pixels.get(index * length..(index + 1) * length).unwrap().to_vec();
    GrayImage::from_raw(images.width as u32, images.height as u32, pixels).unwrap()
}

/// The JSON lines of predictions for what `paths` name.
fn predictions(run: &Path, flags: &str, paths: &[&Path]) -> Vec<Value> {
    program(&format!("predict --threads 1 --json {flags}")).arg(run).args(paths).run().json_lines()
}

#[test]
fn all_test_images_as_pictures_have_the_classes_that_eval_counts() {
    let (folder, run) = trained();
    let images = test_images();
    let pictures = folder.path().join("pictures");
    fs::create_dir(&pictures).unwrap();
    for index in 0..images.count {
        picture(&images, index).save(pictures.join(format!("{index:05}.png"))).unwrap();
    }
    let found = predictions(&run, "", &[&pictures]);
    assert_eq!(found.len(), images.count);
    let mut confusion = vec![vec![0; 10]; 10];
    for (prediction, label) in found.iter().zip(&images.labels) {
        let predicted = prediction["index"].as_u64().unwrap() as usize;
        confusion[usize::from(*label)][predicted] += 1;
        assert_eq!(prediction["negative"], false, "{}", prediction["image"]);
    }
    let eval = resnet("eval --offline --threads 1 --json", &[&run]).json_lines();
    assert_eq!(eval[0]["confusion"], serde_json::json!(confusion));
    assert!(eval[0]["accuracy"].as_f64().unwrap() > 0.5, "the network learned something");
}

#[test]
fn pictures_come_from_files_folders_patterns_and_standard_input() {
    let (folder, run) = trained();
    let images = test_images();
    let (png, jpeg) = (folder.path().join("a.png"), folder.path().join("b.jpeg"));
    picture(&images, 0).save(&png).unwrap();
    picture(&images, 1).save_with_format(&jpeg, ImageFormat::Jpeg).unwrap();
    let name = |prediction: &Value| prediction["image"].as_str().unwrap().to_owned();
    let both = predictions(&run, "", &[folder.path()]);
    assert_eq!(
        both.iter().map(name).collect::<Vec<_>>(),
        [png.display().to_string(), jpeg.display().to_string()]
    );
    // The last bits of a probability can differ with the number of pictures in a batch.
    let matching = predictions(&run, "", &[&folder.path().join("*.jp*g")]);
    assert_eq!(matching.iter().map(name).collect::<Vec<_>>(), [jpeg.display().to_string()]);
    assert_eq!(matching[0]["class"], both[1]["class"]);
    let piped = program("predict --threads 1 --json").arg(&run).arg("-");
    let piped = piped.stdin(File::open(&png).unwrap()).run().json_lines();
    assert_eq!((&piped[0]["class"], name(&piped[0])), (&both[0]["class"], "-".to_owned()));
    let top = both[0]["top"].as_array().unwrap();
    assert_eq!((top.len(), &top[0]["class"]), (3, &both[0]["class"]));
    let probabilities: Vec<f64> =
        top.iter().map(|guess| guess["probability"].as_f64().unwrap()).collect();
    assert!(probabilities.is_sorted_by(|a, b| a >= b) && probabilities[0] <= 1.0);

    let csv = folder.path().join("out.csv");
    let flags = format!("predict --threads 1 --top 10 --csv {}", csv.display());
    let printed = program(&flags).arg(&run).arg(&png).run().success();
    assert!(printed.starts_with(&png.display().to_string()), "{printed}");
    let text = fs::read_to_string(&csv).unwrap();
    let (head, line) = text.trim_end().split_once('\n').unwrap();
    assert!(head.starts_with("image,class_1,probability_1,class_2"), "{head}");
    let numbers = line.split(',').filter_map(|cell| cell.parse::<f64>().ok());
    assert!((numbers.sum::<f64>() - 1.0).abs() < 1e-6, "{line}");
}

#[test]
fn a_negative_is_told_and_inverted() {
    let (folder, run) = trained();
    let mut negative = picture(&test_images(), 2);
    let plain = folder.path().join("plain.png");
    negative.save(&plain).unwrap();
    image::imageops::invert(&mut negative);
    let path = folder.path().join("negative.png");
    negative.save(&path).unwrap();
    let ran = program("predict --threads 1").arg(&run).arg(&path).run();
    assert!(ran.stderr.contains("negative of the training images"), "{}", ran.stderr);
    assert!(ran.stderr.contains("--invert"), "{}", ran.stderr);
    ran.success();
    let inverted = predictions(&run, "--invert", &[&path]);
    let expected = predictions(&run, "", &[&plain]);
    assert_eq!(inverted[0]["top"], expected[0]["top"]);
}

#[test]
fn each_picture_is_explained_by_a_picture() {
    let (folder, run) = trained();
    let images = test_images();
    for part in ["one", "two"] {
        fs::create_dir(folder.path().join(part)).unwrap();
        picture(&images, 3).save(folder.path().join(part).join("thing.png")).unwrap();
    }
    let explained = folder.path().join("new/explained");
    let flags = format!("predict --threads 1 --explain {}", explained.display());
    let both = ["one", "two"].map(|part| folder.path().join(part));
    program(&flags).arg(&run).args(&both).run().success();
    let files: Vec<PathBuf> =
        fs::read_dir(&explained).unwrap().map(|entry| entry.unwrap().path()).collect();
    // The same name in two folders makes two pictures.
    assert_eq!(files.len(), 2, "{files:?}");
    for file in files {
        let picture = image::open(&file).unwrap().into_rgb8();
        assert_eq!(picture.dimensions(), (224, 224));
        let coloured = picture.pixels().any(|pixel| pixel.0[0].abs_diff(pixel.0[2]) > 40);
        assert!(coloured, "{} has no heat", file.display());
    }
}

#[test]
fn what_cannot_be_classified_is_an_error_and_the_rest_is_classified() {
    let (folder, run) = trained();
    let good = folder.path().join("good.png");
    picture(&test_images(), 0).save(&good).unwrap();
    let bad = folder.path().join("bad.png");
    let whole = fs::read(&good).unwrap();
    fs::write(&bad, &whole[..whole.len() / 2]).unwrap();
    let ran = program("predict --threads 1 --json").arg(&run).args([&bad, &good]).run();
    ran.fails_with(1, &["1 of 2 pictures", "bad.png: cannot be decoded"]);
    let lines = ran.printed_json();
    assert!(lines[0]["class"].is_string() && lines[1]["error"].is_string(), "{lines:?}");
    // A file that claims to have 10¹² pixels.
    let mut huge = whole;
    huge[16..24].copy_from_slice(&[0, 0x0f, 0x42, 0x40, 0, 0x0f, 0x42, 0x40]);
    fs::write(&bad, &huge).unwrap();
    program("predict --threads 1").arg(&run).arg(&bad).run().fails_with(1, &["bad.png"]);
    for (flags, image, parts) in [
        ("", "nowhere.png", ["nowhere.png: no such file", "a folder, a pattern"]),
        ("--top 11", "good.png", ["--top 11", "from 1 to the 10 classes"]),
        ("--explain good.png", "good.png", ["--explain good.png", "expected a folder"]),
    ] {
        let ran = program(&format!("predict --threads 1 {flags}"));
        ran.arg(&run).arg(image).within(folder.path()).run().fails_with(2, &parts);
    }
}
