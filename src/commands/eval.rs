//! `resnet eval`: evaluates a checkpoint on labelled images.

use super::trained::{Trained, evaluate};
use crate::checkpoint::{Checkpoint, HeldOut};
use crate::cli::{EvalArgs, EvalSplit};
use crate::data::catalog::DatasetInfo;
use crate::data::dataset::Dataset;
use crate::data::{self, Split};
use crate::error::{at_least_one, usage};
use crate::report::classification::{ClassFigures, by_class};
use crate::train::evaluate::{Evaluation, Evaluator, TOP_K, is_plausible};
use crate::train::memory::{BatchMemory, check_batches};
use crate::ui::{Ui, grouped, short, table};
use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use tch::Device;

/// The largest number of classes whose confusion matrix fits a terminal.
const MAX_MATRIX: usize = 20;

/// Runs `resnet eval`.
pub fn run(args: &EvalArgs, ui: &Ui) -> Result<()> {
    if let Some(batch_size) = args.batch_size {
        at_least_one("--batch-size", batch_size)?;
    }
    let trained = Trained::open(&args.checkpoint, &args.device, args.precision)?;
    let Trained { checkpoint, dataset, device, precision } = &trained;
    let (dataset, device, precision) = (*dataset, *device, *precision);
    let card = &checkpoint.card;
    let held_out = held_out(args, checkpoint, dataset, ui)?;
    let batch_size = args.batch_size.unwrap_or(card.batch_size);
    let at_once = batch_size.min(match args.split {
        EvalSplit::Train => dataset.train_images - held_out.images,
        EvalSplit::Validation => held_out.images,
        EvalSplit::Test => dataset.test_images,
    });
    let memory = BatchMemory::of_inference(&card.spec, precision).with_data();
    check_batches(memory, at_once, device)?;
    let network = checkpoint.network(device)?;
    let images = load(args, dataset, held_out, device, ui)?;
    precision.slow_warning(device).iter().for_each(|warning| ui.warn(warning));
    let preprocess = trained.preprocess();

    let plain = || Evaluator::new(&network, &images, &preprocess, batch_size, None);
    let evaluate = |evaluator: Evaluator| {
        evaluate(evaluator, ui)
            .with_context(|| format!("cannot evaluate {}", checkpoint.path.display()))
    };
    let evaluation = evaluate(plain())?;
    let augmented = args.tta.map(|views| evaluate(plain().with_views(views))).transpose()?;
    let images_name = match args.split {
        EvalSplit::Train => "training images",
        EvalSplit::Validation => "held-out images",
        EvalSplit::Test => "test images",
    };
    if !is_plausible(evaluation.loss) {
        bail!(
            "{}: its loss on the {} is {}, far beyond that of a guess; its weights are damaged, or its run diverged",
            checkpoint.path.display(),
            images_name,
            evaluation.loss
        );
    }

    let figures = by_class(&card.classes, &evaluation.confusion);
    let path = checkpoint.path.display().to_string();
    if ui.is_json() {
        let mut object = json!({
            "checkpoint": path,
            "split": args.split,
            "images": evaluation.images,
            "loss": evaluation.loss,
            "accuracy": evaluation.accuracy(),
            format!("top{TOP_K}_accuracy"): evaluation.top_k_accuracy(),
            "calibration_error": evaluation.calibration_error,
            "classes": figures,
            "confusion": evaluation.confusion,
        });
        if let (Some(views), Some(augmented), Some(keys)) =
            (args.tta, &augmented, object.as_object_mut())
        {
            let figures = json!({
                "views": views.count(),
                "loss": augmented.loss,
                "accuracy": augmented.accuracy(),
                format!("top{TOP_K}_accuracy"): augmented.top_k_accuracy(),
                "calibration_error": augmented.calibration_error,
            });
            keys.insert("tta".to_owned(), figures);
        }
        ui.json(&object);
        return Ok(());
    }
    ui.out(format!("{path}: {} on {}'s {images_name}", card.spec, dataset.title));
    ui.out(totals(&evaluation));
    if let (Some(views), Some(augmented)) = (args.tta, &augmented) {
        ui.out(format!("with {} views of each image: {}", views.count(), totals(augmented)));
    }
    ui.out("");
    print_figures(&evaluation, &figures, ui);
    Ok(())
}

/// The figures over all images, in one line.
fn totals(evaluation: &Evaluation) -> String {
    format!(
        "accuracy {:.4} ({} of {}), top-{TOP_K} {:.4}, loss {:.4}, calibration error {:.4}",
        evaluation.accuracy(),
        grouped(evaluation.correct() as usize),
        grouped(evaluation.images),
        evaluation.top_k_accuracy(),
        evaluation.loss,
        evaluation.calibration_error
    )
}

/// Which training images the checkpoint's run held out.
fn held_out(
    args: &EvalArgs,
    checkpoint: &Checkpoint,
    dataset: &DatasetInfo,
    ui: &Ui,
) -> Result<HeldOut> {
    let path = checkpoint.path.display();
    if checkpoint.card.held_out.is_none() && args.split == EvalSplit::Train {
        ui.warn(format!(
            "{path}: does not say which training images were held out, so all of them are evaluated"
        ));
    }
    let held_out = checkpoint.card.held_out.unwrap_or(HeldOut { images: 0, seed: 0 });
    ensure!(
        held_out.images < dataset.train_images,
        "cannot use {path}: it says that {} training images were held out, but {} has only {}",
        held_out.images,
        dataset.name,
        dataset.train_images
    );
    if held_out.images == 0 && args.split == EvalSplit::Validation {
        return Err(usage(format!(
            "--split validation: the run of {path} held out no images; expected a run that was trained with --validation"
        )));
    }
    Ok(held_out)
}

fn load(
    args: &EvalArgs,
    dataset: &DatasetInfo,
    held_out: HeldOut,
    device: Device,
    ui: &Ui,
) -> Result<Dataset> {
    let load = |split| -> Result<Dataset> {
        Ok(Dataset::new(&data::load(dataset, split, &args.data.source(), ui)?, device))
    };
    let parts = || Ok(load(Split::Train)?.hold_out(held_out.images, held_out.seed));
    match args.split {
        EvalSplit::Train if held_out.images == 0 => load(Split::Train),
        EvalSplit::Train => parts().map(|(trained_on, _)| trained_on),
        EvalSplit::Validation => parts().map(|(_, validation)| validation),
        EvalSplit::Test => load(Split::Test),
    }
}

fn print_figures(evaluation: &Evaluation, figures: &[ClassFigures], ui: &Ui) {
    let mut lines =
        vec![["class", "precision", "recall", "F1", "images"].map(String::from).to_vec()];
    for class in figures {
        lines.push(vec![
            short(&class.name),
            format!("{:.4}", class.precision),
            format!("{:.4}", class.recall),
            format!("{:.4}", class.f1),
            grouped(class.support as usize),
        ]);
    }
    ui.out(table(&lines, 1..5));
    if figures.len() > MAX_MATRIX {
        ui.out(format!("\nthe confusion matrix has {} classes; --json prints it", figures.len()));
        return;
    }
    ui.out("\nrows: true class; columns: predicted class");
    let columns = (0..figures.len()).map(|class| class.to_string());
    let mut lines = vec![std::iter::once(String::new()).chain(columns).collect::<Vec<_>>()];
    for (class, (figures, row)) in figures.iter().zip(&evaluation.confusion).enumerate() {
        let mut line = vec![format!("{class} {}", short(&figures.name))];
        line.extend(
            row.iter().map(|&count| if count == 0 { "·".to_owned() } else { count.to_string() }),
        );
        lines.push(line);
    }
    ui.out(table(&lines, 1..figures.len() + 1));
}
