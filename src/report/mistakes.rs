//! Pictures of the images that a network is most wrong about, and of what it looked at.

use super::cam::{grad_cam, overlay};
use super::outcome::{Guess, Mistake, Outcome};
use super::sheet::{Cell, Row, Sheet};
use crate::data::dataset::Dataset;
use crate::data::pictures::Picture;
use crate::data::preprocess::Preprocess;
use crate::model::Network;
use crate::ui::short;
use anyhow::{Context, Result, anyhow};
use image::{DynamicImage, GrayImage, ImageFormat, RgbImage};
use std::io::Cursor;
use tch::{Device, Kind, Tensor};

/// The number of images in a report.
const MOST: usize = 48;
/// Height and width of the pictures of what the network looked at, in pixels.
const SEEN_SIZE: usize = 96;
/// The number of images in a row of a contact sheet.
const COLUMNS: usize = 6;
/// Images that go through the network at once, because large images take much memory.
const AT_ONCE: usize = 16;

/// An image that was classified wrongly, with its pictures.
#[derive(Debug, Clone)]
pub struct WrongImage {
    /// What is wrong.
    pub mistake: Mistake,
    /// The image.
    pub picture: Picture,
    /// What speaks for the class that the network predicted (Grad-CAM): bytes `[H, W, 3]`, 96 × 96 pixels.
    pub seen: Vec<u8>,
}

impl WrongImage {
    /// The image as a PNG file.
    ///
    /// # Errors
    /// The image has not as many pixels as its size says.
    pub fn png(&self) -> Result<Vec<u8>> {
        in_format(&as_image(&self.picture)?, ImageFormat::Png)
    }

    /// What speaks for the predicted class, as a JPEG file.
    ///
    /// # Errors
    /// It has not as many pixels as its size says.
    pub fn seen_jpeg(&self) -> Result<Vec<u8>> {
        let side = SEEN_SIZE as u32;
        let seen = RgbImage::from_raw(side, side, self.seen.clone()).context("a picture")?;
        in_format(&seen.into(), ImageFormat::Jpeg)
    }

    /// What speaks for the predicted class, with the channels first.
    fn seen_picture(&self) -> Picture {
        let channel = |channel: usize| self.seen.iter().skip(channel).step_by(3).copied();
        let pixels = (0..3).flat_map(channel).collect();
        Picture { pixels, channels: 3, height: SEEN_SIZE, width: SEEN_SIZE }
    }
}

/// The images on a contact sheet, with their predicted and their true classes.
pub fn sheet(outcome: &Outcome, wrong: &[WrongImage]) -> Sheet {
    let text = |before: &str, guess: &Guess| {
        let name = short(outcome.name(guess.class));
        format!("{before}{name} {:.1} %", 100.0 * guess.probability)
    };
    let cell = |wrong: &WrongImage| Cell {
        pictures: vec![wrong.picture.clone(), wrong.seen_picture()],
        caption: vec![text("", &wrong.mistake.predicted), text("true: ", &wrong.mistake.truth)],
    };
    Sheet {
        title: "The test images whose true class got the lowest probability".to_owned(),
        rows: Row::grid(wrong.iter().map(cell).collect(), COLUMNS),
    }
}

/// The images that a network is most wrong about, the worst first. `images` is the data set of the outcome.
///
/// # Errors
/// An operation of libtorch failed.
pub fn wrong_images(
    outcome: &Outcome,
    network: &Network,
    images: &Dataset,
    preprocess: &Preprocess,
) -> Result<Vec<WrongImage>> {
    let mut wrong = Vec::new();
    for mistakes in outcome.mistakes(MOST).chunks(AT_ONCE) {
        let tensor = |values: Vec<i64>| Tensor::from_slice(&values).to_device(network.device());
        let places = tensor(mistakes.iter().map(|mistake| mistake.image as i64).collect());
        let classes = mistakes.iter().map(|mistake| mistake.predicted.class as i64).collect();
        let batch = images.batch(&places)?;
        let maps = grad_cam(network, &preprocess.apply(&batch), &tensor(classes))?;
        let maps = maps.to_device(Device::Cpu).to_kind(Kind::Float);
        let pictures = Picture::of_images(&batch.pixels().to_device(Device::Cpu))?;
        for (place, (mistake, picture)) in mistakes.iter().zip(pictures).enumerate() {
            let map = maps.f_get(place as i64)?.contiguous().flatten(0, -1);
            let map = Vec::<f32>::try_from(map).map_err(|error| anyhow!("map: {error}"))?;
            let seen = overlay(&picture, &map, SEEN_SIZE);
            wrong.push(WrongImage { mistake: mistake.clone(), picture, seen });
        }
    }
    Ok(wrong)
}

fn as_image(picture: &Picture) -> Result<DynamicImage> {
    let Picture { pixels, channels, height, width } = picture;
    let (height, width) = (*height as u32, *width as u32);
    let plane = pixels.len() / (*channels).max(1);
    let image = match channels {
        1 => GrayImage::from_raw(width, height, pixels.clone()).map(DynamicImage::from),
        _ => {
            let at = |place, channel| pixels.get(channel * plane + place).copied().unwrap_or(0);
            let bytes = (0..plane).flat_map(|place| [0, 1, 2].map(|channel| at(place, channel)));
            RgbImage::from_raw(width, height, bytes.collect()).map(DynamicImage::from)
        }
    };
    image.context("an image of this size")
}

fn in_format(image: &DynamicImage, format: ImageFormat) -> Result<Vec<u8>> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format)?;
    Ok(bytes.into_inner())
}
