//! `resnet data show`: a contact sheet of a data set.

use crate::cli::{NetworkOptions, Options, ShowArgs, ShowSplit, TrainOptions};
use crate::config::Config;
use crate::data::batch::{Batch, Targets};
use crate::data::catalog::{self, DatasetInfo};
use crate::data::dataset::Dataset;
use crate::data::pictures::Picture;
use crate::data::preprocess::Preprocess;
use crate::data::{self, Images, Split};
use crate::error::{in_range, usage};
use crate::files::write_atomically;
use crate::random::{self, Purpose};
use crate::report::sheet::{Cell, Row, Sheet};
use crate::train::epoch::{Epoch, EpochSums};
use crate::ui::{Ui, counted, short};
use anyhow::{Context, Result, anyhow};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

/// The images of a class, if the user gives no number.
const OF_A_CLASS: usize = 10;
/// The augmented images, if the user gives no number.
const AUGMENTED: usize = 32;
/// Pairs of an image and its augmented image in a row.
const PAIRS: usize = 4;
/// The most images of a sheet.
const MOST_IMAGES: usize = 10_000;
/// The most pixels that augmented images may have together.
const MOST_PIXELS: usize = 100_000_000;

/// Runs `resnet data show`.
///
/// # Errors
/// A setting is wrong, the data set cannot be read, or the file cannot be written.
pub fn run(args: &ShowArgs, ui: &Ui) -> Result<()> {
    if args.out.extension().is_none_or(|ending| ending != "png") {
        return Err(usage(format!(
            "--out {}: expected a name that ends in .png",
            args.out.display()
        )));
    }
    let (sheet, summary) = match asks_for_training(args) {
        true => of_training(args, ui)?,
        false => by_class(args, ui)?,
    };
    write_atomically(&args.out, &sheet.png()?)?;
    if ui.is_json() {
        ui.json(&json!({"file": args.out, "images": summary}));
    } else {
        let images = counted(summary.len() as u64, "image");
        ui.say(format!("{images} in {}: {}", args.out.display(), sheet.title));
    }
    Ok(())
}

/// Whether a setting of training is given, apart from the data set and the seed.
fn asks_for_training(args: &ShowArgs) -> bool {
    let options = &args.options;
    [
        args.config.is_some(),
        args.epoch.is_some(),
        args.size.is_some(),
        args.batch_size.is_some(),
        options.augment.is_some(),
        options.mix_epochs.is_some(),
        options.validation.is_some(),
        options.normalize.is_some(),
    ]
    .contains(&true)
}

/// A sheet with a row for each class, and a JSON object for each image.
fn by_class(args: &ShowArgs, ui: &Ui) -> Result<(Sheet, Vec<Value>)> {
    let name = args.options.dataset.as_deref().unwrap_or("fashion-mnist");
    let dataset = catalog::find(name)?;
    let count = args.count.unwrap_or(OF_A_CLASS);
    in_range("--count", count, 1..=MOST_IMAGES / dataset.classes.len())?;
    let (split, words) = match args.split {
        None | Some(ShowSplit::Train) => (Split::Train, "training images"),
        Some(ShowSplit::Test) => (Split::Test, "test images"),
    };
    let seed = args.seed.unwrap_or_default();
    let images = data::load(dataset, split, &args.data.source(), ui)?;
    let order = random::permutation(seed, Purpose::Show, 0, images.count);
    let (mut rows, mut summary) = (Vec::new(), Vec::new());
    for (class, name) in dataset.classes.iter().enumerate() {
        let is_of_class =
            |index: &usize| images.labels.get(*index).copied() == u8::try_from(class).ok();
        let indices = order.iter().map(|&index| index as usize).filter(is_of_class).take(count);
        let mut cells = Vec::new();
        for index in indices {
            let caption = vec![format!("#{index}")];
            cells.push(Cell { pictures: vec![picture(&images, index)?], caption });
            summary.push(json!({"index": index, "class": name}));
        }
        rows.push(Row { label: short(name), cells });
    }
    let title =
        format!("{}: {words} by class, seed {seed}; # is the place in the file", dataset.title);
    Ok((Sheet { title, rows }, summary))
}

/// An image of a data set, by its place in the file.
fn picture(images: &Images, index: usize) -> Result<Picture> {
    let Images { channels, height, width, .. } = *images;
    let bytes = channels * height * width;
    let pixels = images.pixels.get(index * bytes..(index + 1) * bytes);
    let pixels = pixels.context("an image is missing")?.to_vec();
    Ok(Picture { pixels, channels, height, width })
}

/// A sheet of the first images of an epoch, each beside its augmented image, and a JSON object for each.
fn of_training(args: &ShowArgs, ui: &Ui) -> Result<(Sheet, Vec<Value>)> {
    if args.split == Some(ShowSplit::Test) {
        return Err(usage(
            "--split test: test images are never augmented; remove the flag, or the settings of training",
        ));
    }
    let config = Config::load(args.config.as_deref(), &settings(args))?;
    let (recipe, side) = (&config.recipe, config.spec.size);
    let number = in_range("--epoch", args.epoch.unwrap_or(1), 1..=recipe.epochs)?;
    let count = in_range("--count", args.count.unwrap_or(AUGMENTED), 1..=MOST_IMAGES)?;
    if side.saturating_mul(side).saturating_mul(2 * count) > MOST_PIXELS {
        return Err(usage(format!(
            "--count {count}: so many images of {side}×{side} pixels are too large for a sheet; show fewer, or use a smaller --size"
        )));
    }
    let device = Device::Cpu;
    let images = data::load(config.dataset, Split::Train, &args.data.source(), ui)?;
    let (images, _) = Dataset::new(&images, device).hold_out(config.validation, recipe.seed);
    let (mean, std) = config.normalisation();
    let preprocess = Preprocess::new(&mean, &std, side, (Kind::Float, device));
    let epoch = Epoch::new(number, (&images, &preprocess), recipe, EpochSums::default());
    let total_steps = recipe.schedule(epoch.steps_left()).total_steps;
    let (mut cells, mut summary) = (Vec::new(), Vec::new());
    let mut steps = epoch.step()..;
    for index in 0..epoch.steps_left() {
        let left = count - cells.len();
        let (Some(step), Some((original, augmented))) =
            (steps.next().filter(|_| left > 0), epoch.batch_before_and_after(index, &images)?)
        else {
            break;
        };
        let shown = 0..left.min(original.len());
        let (original, augmented) = (original.range(&shown), augmented.range(&shown));
        let size = recipe.sizes.as_ref().and_then(|sizes| sizes.at(step, total_steps));
        let inputs = preprocess.apply_at(&augmented, size.unwrap_or(side) as i64);
        let pairs = Picture::of_images(original.pixels())?
            .into_iter()
            .zip(Picture::of_images(&preprocess.bytes(&inputs))?);
        for (pair, label) in pairs.zip(labels(&augmented, config.dataset)?) {
            cells.push(Cell { pictures: vec![pair.0, pair.1], caption: label.caption() });
            summary.push(label.json(step + 1));
        }
    }
    let title = format!(
        "{}: epoch {number}, batch {}, seed {}, augmentation {}; each image beside what the network gets",
        config.dataset.title, recipe.batch_size, recipe.seed, recipe.augment
    );
    Ok((Sheet { title, rows: Row::grid(cells, PAIRS) }, summary))
}

/// The settings of training that the flags choose.
fn settings(args: &ShowArgs) -> Options {
    Options {
        network: NetworkOptions { size: args.size, ..NetworkOptions::default() },
        data: args.options.clone(),
        train: TrainOptions {
            batch_size: args.batch_size,
            seed: args.seed,
            ..TrainOptions::default()
        },
        ..Options::default()
    }
}

/// What an image is labelled as: one class, or two of which the first has this share.
struct Label {
    class: &'static str,
    other: Option<(&'static str, f32)>,
}

/// The labels of a batch's images.
fn labels(batch: &Batch, dataset: &'static DatasetInfo) -> Result<Vec<Label>> {
    let names = |classes: &Tensor| -> Result<Vec<&'static str>> {
        let classes = Vec::<i64>::try_from(classes)?;
        let name = |class: &i64| dataset.classes.get(*class as usize).copied();
        classes.iter().map(|class| name(class).context("a class without a name")).collect()
    };
    let targets: &Targets = batch.targets();
    let mut labels: Vec<Label> =
        names(targets.classes())?.into_iter().map(|class| Label { class, other: None }).collect();
    if let Some((classes, shares)) = targets.mixed() {
        let shares = Vec::<f32>::try_from(shares).map_err(|error| anyhow!("shares: {error}"))?;
        for (label, other) in labels.iter_mut().zip(names(classes)?.into_iter().zip(shares)) {
            label.other = Some(other).filter(|(_, share)| *share < 1.0);
        }
    }
    Ok(labels)
}

impl Label {
    fn caption(&self) -> Vec<String> {
        match self.other {
            None => vec![short(self.class)],
            Some((other, share)) => [(self.class, share), (other, 1.0 - share)]
                .map(|(class, share)| format!("{:.0} % {}", 100.0 * share, short(class)))
                .into(),
        }
    }

    /// The label of an image of a step, which is counted from 1.
    fn json(&self, step: u64) -> Value {
        match self.other {
            None => json!({"step": step, "class": self.class}),
            Some((other, share)) => {
                json!({"step": step, "class": self.class, "share": share, "mixed_with": other})
            }
        }
    }
}
