//! `resnet find-lr`: a range test of the learning rate.

use super::train::load::{self, RunImages};
use super::train::task;
use crate::cli::FindLrArgs;
use crate::config::Config;
use crate::data::preprocess::Preprocess;
use crate::device;
use crate::error::{above_zero, in_range, usage};
use crate::report::chart::{Chart, Line, Scale, files_of};
use crate::train::Trainer;
use crate::train::range_test::{self, Range, RangeStep};
use crate::ui::{Ui, rounded, table};
use anyhow::{Result, bail};
use serde_json::json;

/// The most lines of the table.
const LINES: usize = 20;
/// Far more steps than any test needs.
const MOST_STEPS: u64 = 1_000_000;

/// Runs `resnet find-lr`.
///
/// # Errors
/// A setting is wrong, the data cannot be read, or the loss did not fall at any rate.
pub fn run(args: &FindLrArgs, ui: &Ui) -> Result<()> {
    let range = range(args)?;
    let pictures = args.picture.as_ref().map(|path| files_of("--picture", path)).transpose()?;
    let mut config = Config::load(args.config.as_deref(), &args.options)?;
    let device = device::choose(&config.device)?;
    let precision = task::prepare(&mut config, device, ui)?;
    if let Some(shortage) = task::shortage(&config, precision, device) {
        return Err(usage(shortage));
    }
    precision.slow_warning(device).iter().for_each(|warning| ui.warn(warning));
    let images = RunImages::load(&config, &args.data.source(), device, ui)?;
    let network = load::new_network(&config, device);
    let (mean, std) = config.normalisation();
    let options = (precision.kind(), device);
    let preprocess = Preprocess::new(&mean, &std, config.spec.size, options);
    let mut trainer = Trainer::new(&network, &images.train, &preprocess, &config.recipe);
    let mut progress = ui.steps_progress("finding a learning rate", range.steps);
    let steps = range_test::measure(&mut trainer, range, &mut |done| progress.set(done))?;
    progress.clear();
    let suggestion = range_test::suggestion(&steps);
    for file in pictures.iter().flatten() {
        chart(&steps, &config).write(file)?;
    }
    if ui.is_json() {
        ui.json(&json!({"suggestion": suggestion, "steps": steps}));
    } else {
        print(&steps, ui);
    }
    match suggestion {
        Some(_) if ui.is_json() => {}
        Some(lr) => ui.out(format!("\nsuggested peak learning rate: --lr {}", rounded(lr))),
        None => bail!(
            "the loss did not fall at any learning rate from {} to {}; try a smaller --from, more --steps, or look at the data",
            args.from,
            args.to
        ),
    }
    Ok(())
}

fn range(args: &FindLrArgs) -> Result<Range> {
    above_zero("--from", args.from)?;
    above_zero("--to", args.to)?;
    in_range("--steps", args.steps, 2..=MOST_STEPS)?;
    if args.to <= args.from {
        return Err(usage(format!(
            "--to {}: expected a larger learning rate than --from {}",
            args.to, args.from
        )));
    }
    Ok(Range { first: args.from, last: args.to, steps: args.steps })
}

/// A table of some steps, at equal distances.
fn print(steps: &[RangeStep], ui: &Ui) {
    let mut lines = vec![["learning rate", "loss", "smoothed loss"].map(String::from)];
    let every = steps.len().div_ceil(LINES).max(1);
    for step in steps.iter().step_by(every) {
        lines.push([
            rounded(step.lr),
            format!("{:.4}", step.loss),
            format!("{:.4}", step.smoothed),
        ]);
    }
    ui.out(table(&lines, 0..3));
}

fn chart(steps: &[RangeStep], config: &Config) -> Chart {
    let line = |name: &str, thin: bool, of: fn(&RangeStep) -> f64| Line {
        name: name.to_owned(),
        colour: 0,
        thin,
        points: steps.iter().map(|step| (step.lr.log10(), of(step))).collect(),
    };
    Chart {
        title: format!("Loss at rising learning rates: {}", config.spec),
        x: "learning rate".to_owned(),
        y: "loss".to_owned(),
        x_scale: Scale::Log10,
        y_scale: Scale::Linear,
        lines: vec![
            line("smoothed", false, |step| step.smoothed),
            line("each step", true, |step| step.loss),
        ],
    }
}
