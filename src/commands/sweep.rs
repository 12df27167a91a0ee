//! `resnet sweep`: trains every combination of some settings, each run in a process of its own, and compares them.

mod process;
mod results;

use crate::cli::{Cli, Command, SweepArgs};
use crate::config::Config;
use crate::error::{Interrupted, at_least_one, usage};
use crate::files;
use crate::run::sweep::{Sweep, survivors};
use crate::ui::{Ui, counted, quoted};
use anyhow::{Context, Result, bail};
use clap::Parser;
use process::{Outcome, Stop, Worker};
use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// The copy of the sweep's file in its folder.
const FILE: &str = "sweep.toml";

/// A run of a sweep: a trial with a seed.
#[derive(Debug, Clone)]
struct Job {
    /// The number of its trial.
    trial: usize,
    seed: u64,
    /// The arguments of `resnet train`, without the run's folder.
    arguments: Vec<String>,
    folder: PathBuf,
}

impl Job {
    fn name(&self) -> String {
        name(self.trial, self.seed)
    }

    /// The messages of the run.
    fn log(&self) -> PathBuf {
        self.folder.with_file_name(format!("{}.log", self.name()))
    }

    /// Exists if the run failed.
    fn failed(&self) -> PathBuf {
        self.folder.with_file_name(format!("{}.failed", self.name()))
    }
}

fn name(trial: usize, seed: u64) -> String {
    format!("{trial:04}-seed{seed}")
}

/// Runs `resnet sweep`.
///
/// # Errors
/// The sweep's file or one of its runs has a wrong setting; the folder belongs to another sweep; every run failed.
pub fn run(args: &SweepArgs, ui: &Ui) -> Result<()> {
    at_least_one("--parallel", args.parallel)?;
    let (sweep, text) = Sweep::read(&args.file)?;
    let trials = sweep.trials();
    let jobs: Vec<Job> = trials
        .iter()
        .flat_map(|trial| sweep.seeds.iter().map(move |&seed| (trial, seed)))
        .map(|(trial, seed)| Job {
            trial: trial.number,
            seed,
            arguments: sweep.arguments(trial, seed),
            folder: args.dir.join(name(trial.number, seed)),
        })
        .collect();
    let most_epochs = check(&sweep, &jobs, &args.file)?;
    claim(&args.dir, &args.file, &text)?;
    let stop = Stop::listen()?;
    let worker = Worker::new(args, &stop)?;
    let mut active: Vec<usize> = trials.iter().map(|trial| trial.number).collect();
    for stop_after in rungs(&sweep, most_epochs) {
        let of_rung = jobs.iter().filter(|job| active.contains(&job.trial));
        let of_rung: Vec<Job> = of_rung.cloned().collect();
        let what = match stop_after {
            None => counted(of_rung.len() as u64, "run"),
            Some(epochs) => format!("{} to epoch {epochs}", counted(of_rung.len() as u64, "run")),
        };
        ui.say(format!("{what}, in {}", args.dir.display()));
        train(&of_rung, &worker, args.parallel, stop_after, ui)?;
        if stop.is_signalled() {
            ui.say(format!(
                "stopped, and saved; continue with: resnet sweep {} --dir {}",
                quoted(&args.file),
                quoted(&args.dir)
            ));
            return Err(Interrupted.into());
        }
        if let (Some(epochs), Some(halving)) = (stop_after, sweep.halving) {
            let accuracies: Vec<_> = active
                .iter()
                .map(|&number| (number, results::validation_accuracy(&jobs, number, epochs)))
                .collect();
            active = survivors(&accuracies, halving.keep);
            active.sort_unstable();
        }
    }
    let all_failed = jobs.iter().all(|job| job.failed().exists());
    results::show(&trials, &jobs, args, ui)?;
    if all_failed {
        bail!("every run failed; their messages are in {}/*.log", args.dir.display());
    }
    Ok(())
}

/// Checks the settings of all runs before the first one begins. Returns the largest number of epochs.
fn check(sweep: &Sweep, jobs: &[Job], file: &Path) -> Result<u64> {
    let mut most = 0;
    for job in jobs {
        let words = ["resnet", "train"].map(str::to_owned);
        let wrong =
            |error: String| usage(format!("{}: trial {}: {error}", file.display(), job.trial));
        let cli = Cli::try_parse_from(words.into_iter().chain(job.arguments.clone()));
        let cli = cli.map_err(|error| {
            let text = error.to_string().replace("error: ", "");
            wrong(text.lines().next().unwrap_or_default().to_owned())
        })?;
        let Command::Train(train) = cli.command else { continue };
        let config = Config::load(train.config.as_deref(), &train.options)
            .map_err(|error| wrong(format!("{error:#}")))?;
        if sweep.halving.is_some() && config.validation == 0 {
            return Err(wrong(
                "[halving] needs held-out images, because the test images choose nothing; set validation = 5000".to_owned(),
            ));
        }
        most = most.max(config.recipe.epochs);
    }
    Ok(most)
}

/// Makes the sweep's folder, or makes sure that it belongs to the same sweep.
fn claim(folder: &Path, file: &Path, text: &str) -> Result<()> {
    let copy = folder.join(FILE);
    match fs::read_to_string(&copy) {
        Ok(found) if found == text => return Ok(()),
        Ok(_) => {
            return Err(usage(format!(
                "--dir {}: its sweep was begun with another {FILE} than {}; expected the same file, or another folder",
                folder.display(),
                file.display()
            )));
        }
        Err(_) => {}
    }
    let is_used = fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
    if is_used {
        return Err(usage(format!(
            "--dir {}: is not empty and holds no sweep; expected a new or empty folder",
            folder.display()
        )));
    }
    fs::create_dir_all(folder)
        .with_context(|| format!("--dir {}: cannot make the folder", folder.display()))?;
    files::write_atomically(&copy, text.as_bytes())
        .with_context(|| format!("cannot write {}", copy.display()))
}

/// The epochs after which all runs stop, and `None` for the end of the runs.
fn rungs(sweep: &Sweep, most_epochs: u64) -> Vec<Option<u64>> {
    let first = sweep.halving.map(|halving| halving.epochs);
    let doubled = std::iter::successors(first, |epochs| epochs.checked_mul(2));
    let before_end = doubled.take_while(|epochs| *epochs < most_epochs);
    before_end.map(Some).chain([None]).collect()
}

/// Trains runs in parallel until each is over, has failed or has done `stop_after` epochs, or until a signal comes.
fn train(
    jobs: &[Job],
    worker: &Worker,
    parallel: usize,
    stop_after: Option<u64>,
    ui: &Ui,
) -> Result<()> {
    let waiting = Mutex::new(jobs.iter().collect::<VecDeque<_>>());
    let progress = Mutex::new(ui.steps_progress("runs", jobs.len() as u64));
    let done = AtomicU64::new(0);
    let next = || waiting.lock().ok()?.pop_front();
    let work = || -> Result<()> {
        while let Some(job) = next() {
            match worker.train(job, stop_after)? {
                Outcome::Interrupted => break,
                Outcome::Failed => {
                    ui.warn(format!("{} failed: see {}", job.name(), job.log().display()))
                }
                Outcome::Done => {}
            }
            if let Ok(progress) = &mut progress.lock() {
                progress.set(done.fetch_add(1, Ordering::Relaxed) + 1);
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..parallel).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| match worker.join() {
            Ok(result) => result,
            Err(_) => bail!("a thread of the sweep failed"),
        })
    })
}
