//! Pictures with Grad-CAM laid over them.

use super::{Prediction, batch_of};
use crate::data::preprocess::Preprocess;
use crate::error::usage;
use crate::files::{numbered, write_atomically};
use crate::model::Network;
use crate::report::cam::{grad_cam, overlay};
use anyhow::{Context, Result, anyhow};
use image::{ImageFormat, RgbImage};
use std::cell::RefCell;
use std::collections::HashSet;
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

/// Height and width of the pictures that are written, in pixels.
const SIZE: usize = 224;

/// The folder that the pictures are written into.
pub struct Folder {
    path: PathBuf,
    /// The names that are taken: pictures of different folders can have the same name.
    taken: RefCell<HashSet<String>>,
}

impl Folder {
    /// Makes the folder, if it is missing.
    ///
    /// # Errors
    /// A usage error if it cannot be made.
    pub fn make(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).map_err(|error| {
            usage(format!("--explain {}: {error}; expected a folder", path.display()))
        })?;
        Ok(Self { path: path.to_owned(), taken: RefCell::default() })
    }

    /// Writes a picture for each prediction: what speaks for the most likely class.
    ///
    /// # Errors
    /// The folder cannot be written to, or an operation of libtorch failed.
    pub fn write(
        &self,
        network: &Network,
        preprocess: &Preprocess,
        predictions: &[Prediction],
    ) -> Result<()> {
        if predictions.is_empty() {
            return Ok(());
        }
        let batch = batch_of(predictions.iter().map(|found| &found.picture), network.device())?;
        let inputs = preprocess.apply(&batch);
        let classes = predictions
            .iter()
            .map(|found| found.guesses.first().map_or(0, |best| best.index as i64));
        let classes = Tensor::from_slice(&classes.collect::<Vec<_>>()).to_device(network.device());
        let maps =
            grad_cam(network, &inputs, &classes)?.to_device(Device::Cpu).to_kind(Kind::Float);
        for (place, found) in predictions.iter().enumerate() {
            let map = Vec::<f32>::try_from(maps.f_get(place as i64)?.contiguous().flatten(0, -1))
                .map_err(|error| anyhow!("map: {error}"))?;
            let pixels = overlay(&found.picture, &map, SIZE);
            let side = SIZE as u32;
            let picture =
                RgbImage::from_raw(side, side, pixels).context("a picture of this size")?;
            let mut bytes = Cursor::new(Vec::new());
            picture.write_to(&mut bytes, ImageFormat::Png)?;
            write_atomically(&self.path.join(self.name(found)), &bytes.into_inner())?;
        }
        Ok(())
    }

    /// The name of a picture's file, such as `shoe-Sneaker.png`.
    fn name(&self, found: &Prediction) -> String {
        let stem = Path::new(&found.name).file_stem().unwrap_or_default().to_string_lossy();
        let class = found.guesses.first().map_or("", |best| best.class.as_str());
        let plain = |c: char| if c.is_alphanumeric() || "._-".contains(c) { c } else { '_' };
        let name: String = format!("{stem}-{class}").chars().map(plain).collect();
        let mut taken = self.taken.borrow_mut();
        let free = numbered(&name).find(|name| !taken.contains(name)).unwrap_or_default();
        taken.insert(free.clone());
        format!("{free}.png")
    }
}
