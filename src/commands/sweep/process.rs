//! Runs of a sweep as processes of `resnet train`.

use super::Job;
use crate::checkpoint::{self, State};
use crate::cli::SweepArgs;
use crate::error::INTERRUPTED;
use crate::run::metrics::has_end;
use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// How a run of a sweep ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is over, or did as many epochs as it was told to.
    Done,
    /// It failed, and will not be tried again.
    Failed,
    /// A signal stopped it, after it was saved.
    Interrupted,
}

/// Whether the sweep is to stop.
#[derive(Debug)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Listens for signals from now on. After the first one, all runs are saved and stop. A second one ends this process
    /// at once, and the system then stops the runs.
    ///
    /// # Errors
    /// The system does not let the process listen for signals.
    pub fn listen() -> Result<Self> {
        let signalled = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            flag::register_conditional_shutdown(signal, INTERRUPTED.into(), signalled.clone())
                .and_then(|_| flag::register(signal, signalled.clone()))
                .context("cannot listen for signals")?;
        }
        Ok(Self(signalled))
    }

    /// Whether a signal came.
    pub fn is_signalled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Starts runs.
#[derive(Debug)]
pub struct Worker<'a> {
    program: PathBuf,
    /// Arguments that all runs have.
    common: Vec<String>,
    stop: &'a Stop,
}

impl<'a> Worker<'a> {
    /// A worker that starts runs with the sweep's data and its part of the cores.
    ///
    /// # Errors
    /// The system does not say where this program is.
    pub fn new(args: &SweepArgs, stop: &'a Stop) -> Result<Self> {
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut common = vec!["--quiet".to_owned()];
        if args.parallel > 1 {
            let cores = thread::available_parallelism().map_or(1, usize::from);
            common.push(format!("--threads={}", (cores / args.parallel).max(1)));
        }
        common.extend(args.data.arguments());
        Ok(Self { program, common, stop })
    }

    /// Trains a run until it is over or has done `stop_after` epochs. A run that was begun continues.
    ///
    /// # Errors
    /// The process cannot be started, or its folder cannot be read.
    pub fn train(&self, job: &Job, stop_after: Option<u64>) -> Result<Outcome> {
        if self.stop.is_signalled() {
            return Ok(Outcome::Interrupted);
        }
        if job.failed().exists() {
            return Ok(Outcome::Failed);
        }
        let last = checkpoint::latest(&job.folder).ok();
        let epoch =
            last.as_deref().and_then(|last| State::read(last).ok()).map(|state| state.epoch);
        let is_far_enough = stop_after.zip(epoch).is_some_and(|(stop, epoch)| epoch >= stop);
        if is_far_enough || has_end(&job.folder).unwrap_or(false) {
            return Ok(Outcome::Done);
        }
        let mut command = Command::new(&self.program);
        command.arg("train").args(&self.common);
        match last {
            Some(_) => command.arg("--resume").arg(&job.folder),
            None => {
                remove_beginning(job);
                command.args(&job.arguments).arg("--run-dir").arg(&job.folder)
            }
        };
        command.args(stop_after.map(|epochs| format!("--stop-after={epochs}")));
        let log = File::options().create(true).append(true).open(job.log());
        let log = log.with_context(|| format!("cannot write {}", job.log().display()))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let status =
            self.wait(in_own_group(&mut command).spawn().context("cannot start a run")?)?;
        Ok(match status.code() {
            Some(0) => Outcome::Done,
            _ if self.stop.is_signalled() => Outcome::Interrupted,
            _ => {
                fs::write(job.failed(), format!("{status}\n"))
                    .with_context(|| format!("cannot write {}", job.failed().display()))?;
                Outcome::Failed
            }
        })
    }

    /// Waits for a run. Hands the first signal on to it, so that it is saved.
    fn wait(&self, mut run: Child) -> Result<ExitStatus> {
        let mut told = false;
        loop {
            if let Some(status) = run.try_wait().context("cannot wait for a run")? {
                return Ok(status);
            }
            if self.stop.is_signalled() && !told {
                told = true;
                if let Some(process) = rustix::process::Pid::from_raw(run.id() as i32) {
                    let _ = rustix::process::kill_process(process, rustix::process::Signal::INT);
                }
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Ctrl-C at the terminal reaches only the sweep, which hands it on once. If the sweep is killed, the system stops its
/// runs, which save themselves.
fn in_own_group(command: &mut Command) -> &mut Command {
    command.process_group(0);
    #[cfg(target_os = "linux")]
    // SAFETY: the function calls `prctl` alone, which may be called between `fork` and `exec`.
    unsafe {
        command.pre_exec(|| {
            let signal = Some(rustix::process::Signal::INT);
            Ok(rustix::process::set_parent_process_death_signal(signal)?)
        });
    }
    command
}

/// Removes what a run wrote that was killed before its first checkpoint. Files of others stay, and then the run fails
/// with a message.
fn remove_beginning(job: &Job) {
    for file in ["config.toml", "metrics.jsonl", ".lock"] {
        let _ = fs::remove_file(job.folder.join(file));
    }
    for folder in [job.folder.join("checkpoints"), job.folder.clone()] {
        let _ = fs::remove_dir(folder);
    }
}
