//! `resnet eval`: a checkpoint against labelled images.

use crate::checkpoint::{self, Checkpoint};
use crate::cli::EvalArgs;
use crate::data::batches::{DeviceImages, Preprocess};
use crate::data::{self, catalog};
use crate::device;
use crate::error::at_least_one;
use crate::precision::Precision;
use crate::report::classification::{ClassFigures, by_class};
use crate::train::evaluate::{Evaluation, TOP_K, evaluate};
use crate::train::memory::{BatchMemory, check_batches};
use crate::ui::{Ui, grouped, table};
use anyhow::{Context, Result};
use serde_json::json;

/// The most classes whose confusion matrix fits a terminal.
const MAX_MATRIX: usize = 20;

/// Runs `resnet eval`.
pub fn run(args: &EvalArgs, ui: &Ui) -> Result<()> {
    if let Some(batch_size) = args.batch_size {
        at_least_one("--batch-size", batch_size)?;
    }
    device::check_threads(args.threads)?;
    let checkpoint = Checkpoint::open(&checkpoint::resolve(&args.checkpoint)?)?;
    let device = device::choose(&args.device)?;
    device::set_threads(args.threads);
    let card = &checkpoint.card;
    let dataset = catalog::find(&card.dataset)
        .map_err(|error| anyhow::anyhow!("{}: {error}", checkpoint.path.display()))?;
    let precision = match (args.precision, card.precision) {
        (Some(choice), _) => choice.resolve(device)?,
        (None, Precision::Tf32) if !device.is_cuda() => Precision::Fp32,
        (None, trained) => trained,
    };
    precision.apply();
    let batch_size = args.batch_size.unwrap_or(card.batch_size);
    let at_once = batch_size.min(dataset.images(args.split));
    let memory = BatchMemory::of_inference(&card.spec, precision).with_data();
    check_batches(memory, at_once, device)?;
    let network = checkpoint.network(device)?;
    let source = args.data.source();
    let images = DeviceImages::new(&data::load(dataset, args.split, &source, ui)?, device);
    precision.warn_if_slow(device, ui);
    let options = (precision.kind(), device);
    let preprocess = Preprocess::new(&card.mean, &card.std, card.spec.size, options);

    let mut progress = ui.steps_progress("evaluating", images.len() as u64);
    let evaluation = evaluate(&network, &images, &preprocess, batch_size, None, &mut |done| {
        progress.set(done as u64);
        true
    })
    .transpose()
    .context("was broken off")
    .flatten()
    .with_context(|| format!("cannot evaluate {}", checkpoint.path.display()))?;
    progress.clear();

    let figures = by_class(&card.classes, &evaluation.confusion);
    let path = checkpoint.path.display().to_string();
    if ui.is_json() {
        ui.json(&json!({
            "checkpoint": path,
            "split": args.split.to_string(),
            "images": evaluation.images,
            "loss": evaluation.loss,
            "accuracy": evaluation.accuracy(),
            format!("top{TOP_K}_accuracy"): evaluation.top_k_accuracy(),
            "classes": figures,
            "confusion": evaluation.confusion,
        }));
        return Ok(());
    }
    ui.out(format!("{path}: {} on {}'s {} images", card.spec, dataset.title, args.split));
    print_figures(&evaluation, &figures, ui);
    Ok(())
}

fn print_figures(evaluation: &Evaluation, figures: &[ClassFigures], ui: &Ui) {
    ui.out(format!(
        "accuracy {:.4} ({} of {}), top-{TOP_K} {:.4}, loss {:.4}\n",
        evaluation.accuracy(),
        grouped(evaluation.correct() as usize),
        grouped(evaluation.images),
        evaluation.top_k_accuracy(),
        evaluation.loss
    ));
    let mut lines =
        vec![["class", "precision", "recall", "F1", "images"].map(String::from).to_vec()];
    for class in figures {
        lines.push(vec![
            class.name.clone(),
            format!("{:.4}", class.precision),
            format!("{:.4}", class.recall),
            format!("{:.4}", class.f1),
            grouped(class.support as usize),
        ]);
    }
    ui.out(table(&lines, 1..5));
    if figures.len() > MAX_MATRIX {
        ui.out(format!("\nthe confusion matrix of {} classes is in --json", figures.len()));
        return;
    }
    ui.out("\nrows: the true class; columns: what it was taken for");
    let columns = (0..figures.len()).map(|class| class.to_string());
    let mut lines = vec![std::iter::once(String::new()).chain(columns).collect::<Vec<_>>()];
    for (class, (figures, row)) in figures.iter().zip(&evaluation.confusion).enumerate() {
        let mut line = vec![format!("{class} {}", figures.name)];
        line.extend(
            row.iter().map(|&count| if count == 0 { "·".to_owned() } else { count.to_string() }),
        );
        lines.push(line);
    }
    ui.out(table(&lines, 1..figures.len() + 1));
}
