//! `resnet report`: a page about runs.

use super::trained::{Trained, evaluate};
use crate::checkpoint;
use crate::cli::ReportArgs;
use crate::data::dataset::Dataset;
use crate::data::{self, Split};
use crate::device;
use crate::error::{one_line, usage};
use crate::report::gather::{RunReport, TestResults};
use crate::report::write::{REPORT, write};
use crate::run::folder::CONFIG_FILE;
use crate::run::overview::is_run;
use crate::train::evaluate::{Evaluator, is_plausible};
use crate::train::memory::{BatchMemory, check_batches};
use crate::ui::Ui;
use anyhow::{Result, ensure};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Runs `resnet report`.
///
/// # Errors
/// A folder is not a run's folder, the device is not possible, or the report cannot be written. A run that is damaged or
/// has no checkpoint is no error: the report says so.
pub fn run(args: &ReportArgs, ui: &Ui) -> Result<()> {
    let file = file_of(args)?;
    for run in &args.runs {
        if !is_run(run) {
            return Err(usage(format!(
                "{}: expected a run's folder, with {CONFIG_FILE} in it",
                run.display()
            )));
        }
    }
    device::check_threads(args.device.threads)?;
    device::choose(&args.device.device)?;
    let report = |run: &PathBuf| {
        let test = results(run, args, ui).map_err(|error| one_line(&error));
        if let Err(why) = &test {
            ui.warn(format!("{}: the report lacks its test images: {why}", run.display()));
        }
        RunReport::new(run, test)
    };
    let reports: Vec<RunReport> = args.runs.iter().map(report).collect();
    write(&reports, &file)?;
    match ui.is_json() {
        true => ui.json(&json!({"report": file, "runs": args.runs})),
        false => ui.out(file.display().to_string()),
    }
    Ok(())
}

/// The file to write.
fn file_of(args: &ReportArgs) -> Result<PathBuf> {
    match (&args.out, &args.runs[..]) {
        (Some(file), _) if file.extension().is_some_and(|ending| ending == "html") => {
            Ok(file.clone())
        }
        (Some(file), _) => {
            Err(usage(format!("--out {}: expected a file that ends in .html", file.display())))
        }
        (None, [run]) => Ok(run.join(REPORT)),
        (None, _) => Ok(PathBuf::from(REPORT)),
    }
}

/// Evaluates a run's last checkpoint on the test images.
fn results(run: &Path, args: &ReportArgs, ui: &Ui) -> Result<TestResults> {
    let trained = Trained::open(&checkpoint::latest(run)?, &args.device, None)?;
    let Trained { checkpoint, dataset, device, precision } = &trained;
    let card = &checkpoint.card;
    let memory = BatchMemory::of_inference(&card.spec, *precision).with_data();
    check_batches(memory, card.batch_size.min(dataset.test_images), *device)?;
    let network = checkpoint.network(*device)?;
    let images = Dataset::new(&data::load(dataset, Split::Test, &args.data.source(), ui)?, *device);
    let preprocess = trained.preprocess();
    let evaluation =
        evaluate(Evaluator::new(&network, &images, &preprocess, card.batch_size, None), ui)?;
    ensure!(
        is_plausible(evaluation.loss),
        "its loss on the test images is {}; its weights are damaged, or the run diverged",
        evaluation.loss
    );
    TestResults::new(&evaluation, &network, &images, &preprocess, &card.classes)
}
