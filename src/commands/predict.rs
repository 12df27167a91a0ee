//! `resnet predict`: classifies pictures of the user.

mod explain;

use super::trained::Trained;
use crate::cli::PredictArgs;
use crate::data::batch::{Batch, Targets};
use crate::data::pictures::{Picture, Source, mean, sources};
use crate::error::{one_line, usage};
use crate::files::write_atomically;
use crate::model::{Folded, Network};
use crate::train::memory::{BatchMemory, check_batches};
use crate::ui::{Ui, counted, short, table};
use anyhow::{Result, anyhow, bail, ensure};
use serde::Serialize;
use serde_json::json;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// The largest number of pictures that are shown on a terminal.
const MOST_SHOWN: usize = 8;

/// A class and its probability.
#[derive(Debug, Clone, Serialize)]
struct Guess {
    class: String,
    /// The place of the class among the logits.
    index: usize,
    probability: f64,
}

/// A picture, and what the network says about it.
struct Prediction {
    name: String,
    picture: Picture,
    /// Whether bright and dark are the other way round than in the training images.
    negative: bool,
    /// The most likely classes first.
    guesses: Vec<Guess>,
}

/// Runs `resnet predict`.
///
/// # Errors
/// The checkpoint or an argument is wrong. Some pictures cannot be read; the others are classified first.
pub fn run(args: &PredictArgs, ui: &Ui) -> Result<()> {
    let sources = sources(&args.images)?;
    let trained = Trained::open(&args.checkpoint, &args.device, args.precision)?;
    let card = &trained.checkpoint.card;
    if args.top == 0 || args.top > card.classes.len() {
        return Err(usage(format!(
            "--top {}: expected a number from 1 to the {} classes of this network",
            args.top,
            card.classes.len()
        )));
    }
    let at_once = sources.len().min(card.batch_size);
    check_batches(
        BatchMemory::of_inference(&card.spec, trained.precision),
        at_once,
        trained.device,
    )?;
    let network = trained.checkpoint.network(trained.device)?;
    let explain = args.explain.as_deref().map(explain::Folder::make).transpose()?;
    let mut classifier = Classifier { trained: &trained, network, folded: None };

    let mut progress = ui.steps_progress("classifying", sources.len() as u64);
    let (mut predictions, mut done, mut faults) = (Vec::new(), 0, Vec::new());
    for chunk in sources.chunks(at_once.max(1)) {
        let (read, unread) = read_all(chunk, &trained, args.invert);
        faults.extend(unread);
        let found = classifier.classify(read, args.top)?;
        if let Some(folder) = &explain {
            folder.write(&classifier.network, &trained.preprocess(), &found)?;
        }
        done += chunk.len();
        progress.set(done as u64);
        predictions.extend(found);
    }
    progress.clear();

    if let Some(path) = &args.csv {
        write_csv(&predictions, args.top, path)?;
    }
    if ui.is_json() {
        print_json(&predictions, &faults, ui);
    } else {
        print(&predictions, ui);
    }
    faults.iter().for_each(|(name, fault)| ui.warn(format!("{name}: {fault}")));
    let negatives: Vec<&Prediction> = predictions.iter().filter(|found| found.negative).collect();
    if let Some(first) = negatives.first() {
        let which = match negatives.len() {
            1 => format!("{} looks", first.name),
            several => format!("{several} pictures, such as {}, look", first.name),
        };
        let remedy = if args.invert { "remove --invert" } else { "try --invert" };
        ui.warn(format!(
            "{which} like a negative of the training images, which have {}: {remedy}",
            if mean(trained.dataset) < 0.5 {
                "bright things on a dark ground"
            } else {
                "dark things on a bright ground"
            }
        ));
    }
    if !faults.is_empty() {
        bail!("{} of {} could not be read", faults.len(), counted(sources.len() as u64, "picture"));
    }
    Ok(())
}

/// The name of a picture that could not be read, and why.
type Fault = (String, String);

/// The pictures that can be read, and the faults of the others.
fn read_all(
    sources: &[Source],
    trained: &Trained,
    invert: bool,
) -> (Vec<(String, Picture)>, Vec<Fault>) {
    let (mut read, mut faults) = (Vec::new(), Vec::new());
    for source in sources {
        match Picture::read(source, trained.dataset) {
            Ok(picture) if invert => read.push((source.name(), picture.inverted())),
            Ok(picture) => read.push((source.name(), picture)),
            Err(error) => faults.push((source.name(), one_line(&error))),
        }
    }
    (read, faults)
}

/// A network that classifies pictures in batches.
struct Classifier<'a> {
    trained: &'a Trained,
    network: Network,
    /// The network for inference; `None` before the first batch.
    folded: Option<Folded>,
}

impl Classifier<'_> {
    fn classify(&mut self, read: Vec<(String, Picture)>, top: usize) -> Result<Vec<Prediction>> {
        if read.is_empty() {
            return Ok(Vec::new());
        }
        let batch = batch_of(read.iter().map(|(_, picture)| picture), self.trained.device)?;
        let probabilities = tch::no_grad(|| {
            let inputs = self.trained.preprocess().apply(&batch);
            let folded = match self.folded.take() {
                Some(folded) => folded,
                None => Folded::for_images(&self.network, &inputs)?,
            };
            let logits = self.folded.insert(folded).forward(&inputs);
            Ok::<_, anyhow::Error>(logits.softmax(1, Kind::Double).to_device(Device::Cpu))
        })?;
        ensure!(
            probabilities.isfinite().all().int64_value(&[]) == 1,
            "{}: the network's output is not a number; its weights are damaged, or its run diverged",
            self.trained.checkpoint.path.display()
        );
        let (likely, indices) = probabilities.topk(top as i64, 1, true, true);
        let rows = |error| anyhow!("probabilities: {error}");
        let likely = Vec::<f64>::try_from(likely.flatten(0, -1)).map_err(rows)?;
        let indices = Vec::<i64>::try_from(indices.flatten(0, -1)).map_err(rows)?;
        let classes = &self.trained.checkpoint.card.classes;
        let guesses = likely.chunks(top).zip(indices.chunks(top)).map(|(likely, indices)| {
            let guess = |(&probability, &index): (&f64, &i64)| Guess {
                class: classes.get(index as usize).cloned().unwrap_or_default(),
                index: index as usize,
                probability,
            };
            likely.iter().zip(indices).map(guess).collect()
        });
        let predictions = read.into_iter().zip(guesses).map(|((name, picture), guesses)| {
            let negative = picture.is_negative_of(self.trained.dataset);
            Prediction { name, picture, negative, guesses }
        });
        Ok(predictions.collect())
    }
}

/// Pictures of one size as a batch. It has no targets, so every class is 0.
fn batch_of<'a>(pictures: impl Iterator<Item = &'a Picture>, device: Device) -> Result<Batch> {
    let (mut bytes, mut count, mut shape) = (Vec::new(), 0i64, [0i64; 3]);
    for picture in pictures {
        bytes.extend_from_slice(&picture.pixels);
        count += 1;
        shape = [picture.channels, picture.height, picture.width].map(|number| number as i64);
    }
    let [channels, height, width] = shape;
    let pixels = Tensor::from_slice(&bytes).f_view([count, channels, height, width])?;
    let classes = Tensor::zeros([count], (Kind::Int64, device));
    Ok(Batch::new(pixels.to_device(device), Targets::new(classes)))
}

fn print_json(predictions: &[Prediction], faults: &[Fault], ui: &Ui) {
    for found in predictions {
        let Some(best) = found.guesses.first() else { continue };
        ui.json(&json!({
            "image": found.name,
            "class": best.class,
            "index": best.index,
            "probability": best.probability,
            "top": found.guesses,
            "negative": found.negative,
        }));
    }
    for (name, fault) in faults {
        ui.json(&json!({"image": name, "error": fault}));
    }
}

fn print(predictions: &[Prediction], ui: &Ui) {
    if predictions.len() <= MOST_SHOWN {
        for Prediction { name, picture, .. } in predictions {
            ui.picture(name, &picture.pixels, picture.channels, picture.width);
        }
    }
    let lines: Vec<Vec<String>> = predictions
        .iter()
        .map(|found| {
            let guess = |guess: &Guess| [short(&guess.class), format!("{:.4}", guess.probability)];
            std::iter::once(short(&found.name))
                .chain(found.guesses.iter().flat_map(guess))
                .collect()
        })
        .collect();
    if !lines.is_empty() {
        ui.out(table(&lines, 0..0));
    }
}

fn write_csv(predictions: &[Prediction], top: usize, path: &Path) -> Result<()> {
    let mut csv = csv::Writer::from_writer(Vec::new());
    let heads = (1..=top).flat_map(|rank| [format!("class_{rank}"), format!("probability_{rank}")]);
    csv.write_record(std::iter::once("image".to_owned()).chain(heads))?;
    for found in predictions {
        let guess = |guess: &Guess| [guess.class.clone(), guess.probability.to_string()];
        let guesses = found.guesses.iter().flat_map(guess);
        csv.write_record(std::iter::once(found.name.clone()).chain(guesses))?;
    }
    let bytes = csv.into_inner().map_err(|error| anyhow!("{}", error.error()))?;
    write_atomically(path, &bytes)
        .map_err(|error| usage(format!("--csv {}: {error:#}", path.display())))
}
