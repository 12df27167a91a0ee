//! `resnet watch`: a run that another process trains, or that is over, on one screen.

use crate::cli::WatchArgs;
use crate::error::{Interrupted, usage};
use crate::run::overview::{Overview, State, is_run, overview};
use crate::run::progress::{self, Progress};
use crate::sinks::view::board::{Board, Viewer};
use crate::sinks::view::{Pace, WAIT, lines};
use crate::train::Event;
use crate::train::event::EpochFigures;
use crate::ui::{Input, Screen, Ui};
use anyhow::{Context, Result};
use serde::Serialize;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// The shortest time between two readings of the run's folder.
const INTERVAL: Duration = Duration::from_secs(1);
/// The reader rests this many times as long as a reading took: the metrics of a very long run take a while.
const REST: u32 = 20;

/// Runs `resnet watch`.
///
/// # Errors
/// A usage error if the folder is not a run's folder. [`Interrupted`] after Ctrl-C.
pub fn run(args: &WatchArgs, ui: &Ui) -> Result<()> {
    let run_dir = args.run.as_path();
    if !is_run(run_dir) {
        let found = if run_dir.is_dir() { "holds no run" } else { "no such folder" };
        return Err(usage(format!(
            "{}: {found}; expected a run's folder, such as one in the ./runs that `resnet train` makes",
            run_dir.display()
        )));
    }
    let seen = Seen::read(run_dir);
    if ui.is_json() {
        ui.json(&seen.summary());
    } else if ui.is_quiet() || Screen::obstacle().is_some() || !io::stdout().is_terminal() {
        ui.out(lines(&seen.board()).join("\n"));
        seen.overview.fault.iter().for_each(|fault| ui.warn(fault));
    } else {
        return watch(seen, run_dir);
    }
    Ok(())
}

/// What a run's folder says at one moment.
struct Seen {
    overview: Overview,
    events: Vec<Event>,
    progress: Option<Progress>,
}

/// A line of `resnet watch --json`.
#[derive(Serialize)]
struct Summary<'a> {
    #[serde(flatten)]
    overview: &'a Overview,
    last_epoch: Option<&'a EpochFigures>,
    progress: Option<&'a Progress>,
}

impl Seen {
    fn read(run_dir: &Path) -> Self {
        // The progress is read first. If its epoch ends before the metrics are read, it is dropped below.
        let progress = progress::read(run_dir);
        let (overview, events) = overview(run_dir);
        // A process that was killed may have left its progress.
        let is_new = |progress: &Progress| {
            overview.state == State::Running && progress.epoch > overview.epochs_done
        };
        let progress = progress.filter(is_new);
        Self { overview, events, progress }
    }

    fn board(&self) -> Board {
        let mut board = Board::new(Viewer::Watcher, &self.overview, &self.events);
        board.progress = self.progress.clone();
        board
    }

    fn summary(&self) -> Summary<'_> {
        let last_epoch = self.events.iter().rev().find_map(|event| match event {
            Event::Epoch(figures) => Some(figures),
            _ => None,
        });
        Summary { overview: &self.overview, last_epoch, progress: self.progress.as_ref() }
    }
}

/// Shows a run until the user leaves.
fn watch(seen: Seen, run_dir: &Path) -> Result<()> {
    let ended = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        flag::register(signal, ended.clone()).context("cannot listen for signals")?;
    }
    let mut board = seen.board();
    let (sender, boards) = sync_channel(1);
    let folder = run_dir.to_owned();
    thread::Builder::new()
        .name("reader".to_owned())
        .spawn(move || keep_reading(&folder, &sender))
        .context("the system starts no thread")?;
    let mut screen = Screen::open().context("the terminal cannot be set up")?;
    let mut pace = Pace::default();
    loop {
        match screen.input(WAIT).context("the terminal is gone")? {
            Some(Input::Leave) => return Ok(()),
            Some(Input::Interrupt) => return Err(Interrupted.into()),
            Some(Input::Resize) => pace.mark_urgent(),
            None => {}
        }
        if ended.load(Ordering::Relaxed) {
            return Err(Interrupted.into());
        }
        if let Some(newest) = newest(&boards) {
            board = newest;
            pace.mark();
        }
        pace.draw(&mut screen, &board).context("the terminal is gone")?;
    }
}

/// The last board that has come.
fn newest(boards: &Receiver<Board>) -> Option<Board> {
    boards.try_iter().last()
}

/// Reads a run's folder again and again, until nobody wants the result. A folder that was removed stays as it was.
fn keep_reading(run_dir: &Path, boards: &SyncSender<Board>) {
    loop {
        let start = Instant::now();
        if is_run(run_dir) && boards.send(Seen::read(run_dir).board()).is_err() {
            return;
        }
        thread::sleep(INTERVAL.max(start.elapsed() * REST));
    }
}
