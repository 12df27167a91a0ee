//! Pictures of the user: PNG and JPEG files of any size, as images of a data set.

use super::catalog::DatasetInfo;
use crate::error::usage;
use crate::files;
use anyhow::{Context, Result, anyhow, bail};
use image::imageops::FilterType;
use image::{DynamicImage, ImageFormat, ImageReader, Limits, Rgba, RgbaImage};
use std::ffi::OsStr;
use std::fs;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use tch::Tensor;

/// The name of standard input on the command line.
const STDIN: &str = "-";
/// The endings of the pictures in a folder.
const ENDINGS: [&str; 3] = ["png", "jpg", "jpeg"];
/// The largest file that is read, in bytes.
const LARGEST_FILE: u64 = 256 << 20;
/// The largest height and width that is decoded, in pixels. A file of a few bytes can claim any size.
const LARGEST_SIDE: u32 = 20_000;
/// The most memory that decoding may take, in bytes.
const MOST_MEMORY: u64 = 2 << 30;
/// Data sets whose mean brightness is below this have bright things on black; above 1 minus this, dark things on white.
/// The brightness of photographs lies between.
const DARK: f64 = 0.4;

/// Where a picture comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// Standard input.
    Stdin,
}

impl Source {
    /// The path, or `-`.
    pub fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Stdin => STDIN.to_owned(),
        }
    }

    fn read(&self) -> Result<Vec<u8>> {
        let Self::File(path) = self else {
            let mut bytes = Vec::new();
            std::io::stdin().lock().take(LARGEST_FILE).read_to_end(&mut bytes)?;
            return Ok(bytes);
        };
        Ok(files::read(path, LARGEST_FILE)?)
    }
}

/// The pictures that the arguments name: files, the PNG and JPEG files in folders in the order of their names, patterns
/// with `*`, `?` or `[…]`, and `-` for standard input.
///
/// # Errors
/// A usage error if an argument names nothing.
pub fn sources(arguments: &[PathBuf]) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for argument in arguments {
        let name = argument.display();
        if argument == Path::new(STDIN) {
            sources.push(Source::Stdin);
        } else if argument.is_dir() {
            let found = in_folder(argument).with_context(|| format!("cannot read {name}"))?;
            if found.is_empty() {
                return Err(usage(format!(
                    "{name}: this folder holds no pictures; expected files that end in .png, .jpg or .jpeg"
                )));
            }
            sources.extend(found.into_iter().map(Source::File));
        } else if argument.exists() {
            sources.push(Source::File(argument.clone()));
        } else {
            let found = matching(argument)?;
            if found.is_empty() {
                return Err(usage(format!(
                    "{name}: no such file; expected a PNG or JPEG file, a folder, a pattern such as 'images/*.png', or - for standard input"
                )));
            }
            sources.extend(found.into_iter().map(Source::File));
        }
    }
    Ok(sources)
}

fn in_folder(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let ending = path.extension().and_then(OsStr::to_str).map(str::to_lowercase);
        if ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str())) && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The files that match a pattern; none if it is not a pattern.
fn matching(pattern: &Path) -> Result<Vec<PathBuf>> {
    let wrong = |error: &dyn std::fmt::Display| {
        usage(format!(
            "{}: {error}; expected a file or a pattern such as 'images/*.png'",
            pattern.display()
        ))
    };
    let Some(text) = pattern.to_str() else { return Ok(Vec::new()) };
    let paths = glob::glob(text).map_err(|error| wrong(&error))?;
    let files = paths.filter(|path| path.as_ref().map_or(true, |path| path.is_file()));
    files.map(|path| path.map_err(|error| wrong(&error))).collect()
}

/// A picture as an image of a data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Bytes `[C, H, W]`.
    pub pixels: Vec<u8>,
    /// Channels: 1 for grey, 3 for red, green and blue.
    pub channels: usize,
    /// Height in pixels.
    pub height: usize,
    /// Width in pixels.
    pub width: usize,
}

impl Picture {
    /// The images of bytes `[N, C, H, W]`.
    ///
    /// # Errors
    /// The tensor has another shape, or an operation of libtorch failed.
    pub fn of_images(images: &Tensor) -> Result<Vec<Self>> {
        let (count, channels, height, width) = images.size4()?;
        let [channels, height, width] = [channels, height, width].map(|size| size as usize);
        let picture = |index| {
            let pixels = Vec::try_from(images.f_get(index)?.contiguous().flatten(0, -1))?;
            Ok(Self { pixels, channels, height, width })
        };
        (0..count).map(picture).collect()
    }

    /// Reads a picture and makes it an image of a data set: its channels and its size. A picture of this size keeps its
    /// bytes. Another one is resized as in training (bilinear, smoothed where it shrinks); one that is not as wide as
    /// high first gets borders of the colour of its own border. Transparent pixels become the data set's background.
    ///
    /// # Errors
    /// The file cannot be read, is not a PNG or JPEG file, is damaged, or is too large.
    pub fn read(source: &Source, dataset: &DatasetInfo) -> Result<Self> {
        let bytes = source.read()?;
        let format = image::guess_format(&bytes).ok();
        if !matches!(format, Some(ImageFormat::Png | ImageFormat::Jpeg)) {
            bail!("is not a PNG or JPEG picture");
        }
        let mut reader = ImageReader::new(Cursor::new(bytes));
        let mut limits = Limits::default();
        limits.max_image_width = Some(LARGEST_SIDE);
        limits.max_image_height = Some(LARGEST_SIDE);
        limits.max_alloc = Some(MOST_MEMORY);
        reader.limits(limits);
        if let Some(format) = format {
            reader.set_format(format);
        }
        let decoded = reader.decode().map_err(|error| anyhow!("cannot be decoded: {error}"))?;
        let background = if mean(dataset) < 0.5 { 0 } else { 255 };
        let opaque = without_transparency(decoded, background);
        let (width, height) = (dataset.width as u32, dataset.height as u32);
        let fitted = if (opaque.width(), opaque.height()) == (width, height) {
            opaque
        } else {
            let square = with_borders(&opaque, width, height);
            square.resize_exact(width, height, FilterType::Triangle)
        };
        let interleaved = match dataset.channels {
            1 => fitted.into_luma8().into_raw(),
            _ => fitted.into_rgb8().into_raw(),
        };
        let channels = dataset.channels;
        let planes = (0..channels).flat_map(|c| interleaved.iter().skip(c).step_by(channels));
        Ok(Self {
            pixels: planes.copied().collect(),
            channels,
            height: dataset.height,
            width: dataset.width,
        })
    }

    /// The negative: bright becomes dark.
    #[must_use]
    pub fn inverted(mut self) -> Self {
        for byte in &mut self.pixels {
            *byte = 255 - *byte;
        }
        self
    }

    /// Whether the picture has bright and dark the other way round than the images of the data set: its border is bright
    /// although theirs is dark, or dark although theirs is bright. False for data sets of photographs.
    pub fn is_negative_of(&self, dataset: &DatasetInfo) -> bool {
        let (width, last_row) = (self.width, self.height.saturating_sub(1));
        let on_border = |place: usize| {
            let (row, column) = (place / width % self.height, place % width);
            row == 0 || row == last_row || column == 0 || column + 1 == width
        };
        let border: Vec<u8> = (self.pixels.iter().enumerate())
            .filter(|(place, _)| on_border(*place))
            .map(|(_, byte)| *byte)
            .collect();
        let bright = border.iter().filter(|byte| **byte > 127).count();
        let usual = mean(dataset);
        (usual < DARK && bright * 4 > border.len() * 3)
            || (usual > 1.0 - DARK && bright * 4 < border.len())
    }
}

/// The mean brightness of a data set's images, from 0 to 1.
pub fn mean(dataset: &DatasetInfo) -> f64 {
    dataset.mean.iter().sum::<f64>() / dataset.mean.len().max(1) as f64
}

fn without_transparency(picture: DynamicImage, background: u8) -> DynamicImage {
    if !picture.color().has_alpha() {
        return picture;
    }
    let mut picture = picture.into_rgba8();
    for Rgba([red, green, blue, alpha]) in picture.pixels_mut() {
        for colour in [red, green, blue] {
            let (over, share) = (u32::from(*colour), u32::from(*alpha));
            let mixed = (over * share + u32::from(background) * (255 - share) + 127) / 255;
            *colour = mixed as u8;
        }
        *alpha = 255;
    }
    picture.into()
}

/// The picture in the middle of an area with the proportions of `width` and `height`. The rest has the mean colour of
/// the picture's border.
fn with_borders(picture: &DynamicImage, width: u32, height: u32) -> DynamicImage {
    let (across, down) = (picture.width(), picture.height());
    let wanted = |other: u32, own: u32, by: u32| {
        u32::try_from(u64::from(other) * u64::from(own) / u64::from(by)).unwrap_or(u32::MAX)
    };
    let (new_width, new_height) =
        (across.max(wanted(down, width, height)), down.max(wanted(across, height, width)));
    if (new_width, new_height) == (across, down) {
        return picture.clone();
    }
    let picture = picture.to_rgba8();
    let mut area = RgbaImage::from_pixel(new_width, new_height, border_colour(&picture));
    let (left, top) = ((new_width - across) / 2, (new_height - down) / 2);
    image::imageops::replace(&mut area, &picture, left.into(), top.into());
    area.into()
}

fn border_colour(picture: &RgbaImage) -> Rgba<u8> {
    let (width, height) = picture.dimensions();
    let rows = (0..width).flat_map(|x| [(x, 0), (x, height - 1)]);
    let columns = (0..height).flat_map(|y| [(0, y), (width - 1, y)]);
    let (mut sums, mut count) = ([0u64; 4], 0u64);
    for (x, y) in rows.chain(columns) {
        for (sum, byte) in sums.iter_mut().zip(picture.get_pixel(x, y).0) {
            *sum += u64::from(byte);
        }
        count += 1;
    }
    Rgba(sums.map(|sum| (sum / count.max(1)) as u8))
}

#[cfg(test)]
mod tests {
    use super::super::catalog::find;
    use super::*;
    use image::{GrayImage, Luma};

    fn fashion() -> &'static DatasetInfo {
        find("fashion-mnist").unwrap()
    }

    fn saved(picture: &DynamicImage, name: &str) -> (tempfile::TempDir, Source) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        picture.save(&path).unwrap();
        (folder, Source::File(path))
    }

    #[test]
    fn a_picture_of_the_data_sets_size_keeps_its_bytes() {
        let grey = GrayImage::from_fn(28, 28, |x, y| Luma([(x * 9 + y) as u8]));
        let (_folder, source) = saved(&grey.clone().into(), "grey.png");
        let picture = Picture::read(&source, fashion()).unwrap();
        assert_eq!(picture.pixels, grey.into_raw());
        assert_eq!(picture.clone().inverted().inverted(), picture);
    }

    #[test]
    fn colours_become_grey_and_planes_are_in_order() {
        let colours = image::RgbImage::from_fn(32, 32, |x, _| image::Rgb([x as u8, 100, 200]));
        let (_folder, source) = saved(&colours.into(), "colours.png");
        let cifar = Picture::read(&source, find("cifar10").unwrap()).unwrap();
        assert_eq!(cifar.pixels[..2], [0, 1]);
        assert_eq!(cifar.pixels[32 * 32..][..2], [100, 100]);
        assert_eq!(cifar.pixels[2 * 32 * 32..][..2], [200, 200]);
        let grey = Picture::read(&source, fashion()).unwrap();
        assert_eq!((grey.channels, grey.pixels.len()), (1, 28 * 28));
    }

    #[test]
    fn a_wide_picture_keeps_its_proportions() {
        // A white bar across a black picture that is twice as wide as high.
        let wide =
            GrayImage::from_fn(112, 56, |_, y| Luma([if y.abs_diff(28) < 14 { 255 } else { 0 }]));
        let (_folder, source) = saved(&wide.into(), "wide.png");
        let picture = Picture::read(&source, fashion()).unwrap();
        let bright = picture.pixels.chunks(28).filter(|row| row[14] > 127).count();
        assert!((6..=8).contains(&bright), "{bright} rows of 28 are bright, expected a quarter");
    }

    #[test]
    fn transparent_pixels_become_the_background_of_the_data_set() {
        let clear = RgbaImage::from_pixel(28, 28, Rgba([255, 255, 255, 0]));
        let (_folder, source) = saved(&clear.into(), "clear.png");
        let picture = Picture::read(&source, fashion()).unwrap();
        assert!(picture.pixels.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn dark_things_on_white_are_told_from_bright_things_on_black() {
        let thing = |thing: u8, ground: u8| {
            let inside = |x: u32, y: u32| (6..22).contains(&x) && (4..28).contains(&y);
            let grey = GrayImage::from_fn(28, 28, |x, y| {
                Luma([if inside(x, y) { thing } else { ground }])
            });
            let (_folder, source) = saved(&grey.into(), "thing.png");
            Picture::read(&source, fashion()).unwrap()
        };
        assert!(thing(20, 250).is_negative_of(fashion()));
        assert!(!thing(250, 0).is_negative_of(fashion()));
        assert!(!thing(20, 250).is_negative_of(find("cifar10").unwrap()));
    }

    #[test]
    fn what_is_no_picture_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        fs::write(&path, "text").unwrap();
        let error = Picture::read(&Source::File(path.clone()), fashion()).unwrap_err();
        assert_eq!(error.to_string(), "is not a PNG or JPEG picture");
        // The first bytes of a PNG file, and nothing after them.
        fs::write(&path, b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR").unwrap();
        let error = Picture::read(&Source::File(path), fashion()).unwrap_err();
        assert!(error.to_string().starts_with("cannot be decoded"), "{error}");
    }

    #[test]
    fn arguments_name_files_folders_and_patterns() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.png", "a.JPG", "notes.txt"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let names = |argument: PathBuf| -> Vec<String> {
            let found = sources(&[argument]).unwrap();
            let name = |source: &Source| source.name().rsplit('/').next().unwrap().to_owned();
            found.iter().map(name).collect()
        };
        assert_eq!(names(folder.path().to_owned()), ["a.JPG", "b.png"]);
        assert_eq!(names(folder.path().join("*.png")), ["b.png"]);
        assert_eq!(names(folder.path().join("notes.txt")), ["notes.txt"]);
        assert_eq!(sources(&["-".into()]).unwrap(), [Source::Stdin]);
        let error = sources(&[folder.path().join("*.gif")]).unwrap_err().to_string();
        assert!(error.contains("no such file"), "{error}");
    }
}
