//! Contact sheets: `resnet data show`.

use crate::common::{Ran, resnet};
use image::RgbImage;
use serde_json::Value;
use std::path::Path;
use tempfile::tempdir;

fn show(arguments: &str, file: &Path) -> Ran {
    resnet(&format!("data show --offline --json --dataset synthetic {arguments} --out"), &[file])
}

/// The image objects of a sheet, and the sheet.
fn shown(arguments: &str, file: &Path) -> (Vec<Value>, RgbImage) {
    let line = show(arguments, file).json_lines().remove(0);
    let sheet = image::open(file).unwrap().to_rgb8();
    (line["images"].as_array().unwrap().clone(), sheet)
}

#[test]
fn each_class_is_a_row_and_the_seed_chooses_the_images() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("sheet.png");
    let (images, sheet) = shown("--count 3", &file);
    assert_eq!(images.len(), 30);
    assert!(images.chunks(3).all(|row| row.iter().all(|image| image["class"] == row[0]["class"])));
    assert!(sheet.height() > 10 * 56, "{}", sheet.height());
    assert_eq!(shown("--count 3 --seed 0", &file), (images.clone(), sheet));
    assert_ne!(shown("--count 3 --seed 1", &file).0, images);
    assert_ne!(shown("--count 3 --split test", &file).0, images);
}

/// The pairs of pictures in the last row of a sheet of 28×28 images, which are enlarged to 56×56 pixels. Below them are
/// this number of lines of text.
fn pairs(sheet: &RgbImage, lines: u32) -> Vec<[Vec<u8>; 2]> {
    let top = sheet.height() - 20 - lines * 16 - 56;
    let picture = |left: u32| {
        let places = (0..28).flat_map(|y| (0..28).map(move |x| (y, x)));
        places.map(|(y, x)| sheet.get_pixel(left + 2 * x, top + 2 * y)[0]).collect()
    };
    (0..4).map(|pair| 20 + pair * (116 + 14)).map(|left| [left, left + 60].map(picture)).collect()
}

#[test]
fn augmented_images_are_those_of_the_epoch_and_stand_beside_their_originals() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("sheet.png");
    let sized = "--count 4 --size 28 --batch-size 4";
    let (images, sheet) = shown(&format!("{sized} --augment none"), &file);
    let plain = pairs(&sheet, 1);
    assert!(plain.iter().all(|[original, augmented]| original == augmented));
    assert!(plain.iter().all(|[original, _]| original.iter().any(|byte| *byte > 0)));
    assert!(images.iter().all(|image| image["step"] == 1));

    // Cutout erases a square of at most 9×9 pixels, and nothing else.
    let (_, sheet) = shown(&format!("{sized} --augment cutout:9"), &file);
    for ([original, augmented], [before, _]) in pairs(&sheet, 1).iter().zip(&plain) {
        assert_eq!(original, before);
        let changed = original.iter().zip(augmented).filter(|(a, b)| a != b).count();
        assert!((1..=81).contains(&changed), "{changed}");
    }
    let (second, _) = shown(&format!("{sized} --augment none --epoch 2"), &file);
    assert_ne!(second, images);
    // The fifth image belongs to the second step.
    let (steps, _) = shown("--count 5 --size 28 --batch-size 4", &file);
    assert_eq!(steps.iter().map(|image| image["step"].as_u64().unwrap()).max(), Some(2));
}

#[test]
fn mixed_images_show_both_labels_and_their_shares() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("sheet.png");
    let (images, sheet) =
        shown("--count 4 --size 28 --batch-size 4 --augment cutmix --mix-epochs 1", &file);
    let mixed: Vec<&Value> = images.iter().filter(|image| image["share"].is_f64()).collect();
    assert!(!mixed.is_empty(), "{images:?}");
    assert!(mixed.iter().all(|image| image["mixed_with"].is_string()));
    // A rectangle of the other image changes no more than its share of the pixels.
    for (image, [original, augmented]) in images.iter().zip(pairs(&sheet, 2)) {
        let changed = original.iter().zip(&augmented).filter(|(a, b)| a != b).count();
        let taken = 1.0 - image["share"].as_f64().unwrap_or(1.0);
        assert!(changed as f64 <= taken * 784.0 + 1e-3, "{image}: {changed}");
    }
    let (images, _) = shown(
        "--count 4 --size 28 --batch-size 4 --augment cutmix --mix-epochs 1 --epoch 2",
        &file,
    );
    assert!(images.iter().all(|image| image.get("share").is_none()), "{images:?}");
}

#[test]
fn what_cannot_be_shown_is_named() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("sheet.png");
    for (arguments, parts) in [
        ("--split test --augment flip", ["--split test", "never augmented"]),
        ("--epoch 11", ["--epoch 11", "from 1 to 10"]),
        ("--count 0", ["--count 0", "from 1 to 1000"]),
        ("--count 9000 --size 224", ["--count 9000", "--size"]),
    ] {
        show(arguments, &file).fails_with(2, &parts);
    }
    show("", &folder.path().join("sheet.jpg")).fails_with(2, &["--out", "sheet.jpg", ".png"]);
    show("", &folder.path().join("missing/sheet.png")).fails_with(1, &["cannot write"]);
    assert!(!file.exists());
}
