//! What the live view shows, as plain data.

use crate::run::overview::{Overview, State};
use crate::run::progress::Progress;
use crate::train::Event;
use crate::train::event::EpochFigures;
use crate::ui::{rounded, short};
use std::path::Path;

/// The number of messages that are kept.
const MESSAGES: usize = 50;

/// Who shows the view. It decides what the keys do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Viewer {
    /// The process that trains the run.
    Trainer,
    /// Another process.
    Watcher,
}

/// What the view shows of a run.
#[derive(Debug, Clone)]
pub struct Board {
    /// Who shows it.
    pub viewer: Viewer,
    /// The run's folder.
    pub run: String,
    /// The network and the data set.
    pub about: String,
    /// What became of the run.
    pub state: State,
    /// Epochs in the run.
    pub epochs: u64,
    /// The epochs that are over.
    pub history: Vec<EpochFigures>,
    /// How far the epoch under way is. None before the first one, between two, and if no process trains the run.
    pub progress: Option<Progress>,
    /// Seconds of the run, if it is over.
    pub seconds: Option<f64>,
    /// The latest messages, the last one last.
    pub messages: Vec<String>,
}

impl Board {
    /// The board of a run in a folder of which `events` are known.
    pub fn new(viewer: Viewer, overview: &Overview, events: &[Event]) -> Self {
        let about = [&overview.network, &overview.dataset].map(|name| name.as_deref().map(short));
        let is_over = matches!(overview.state, State::Finished | State::Diverged);
        let mut board = Self {
            viewer,
            run: short(&name(&overview.run)),
            about: about.into_iter().flatten().collect::<Vec<_>>().join(" on "),
            state: overview.state,
            epochs: overview.epochs.unwrap_or(overview.epochs_done),
            history: Vec::new(),
            progress: None,
            seconds: is_over.then_some(overview.seconds),
            messages: Vec::new(),
        };
        for event in events {
            board.take(event);
            board.messages.extend(message(event));
        }
        board.messages.extend(overview.fault.as_deref().map(short));
        board
    }

    /// Takes an event of the run.
    pub fn take(&mut self, event: &Event) {
        match event {
            Event::EpochStart { .. } => self.state = State::Running,
            Event::Epoch(figures) => {
                self.history.push(figures.clone());
                self.progress = None;
            }
            _ => {}
        }
    }

    /// Adds a message. Each of its lines becomes a line of the board.
    pub fn add_message(&mut self, message: &str) {
        self.messages.extend(message.lines().map(|line| line.replace('\t', " ")));
        let surplus = self.messages.len().saturating_sub(MESSAGES);
        self.messages.drain(..surplus);
    }

    /// What the run does now, in a word.
    pub fn activity(&self) -> &'static str {
        match (self.state, &self.progress) {
            (State::Running, Some(Progress { evaluated: Some(_), .. })) => "evaluating",
            (State::Running, None) if self.history.is_empty() => "starting",
            (State::Running, _) => "training",
            (state, _) => state.name(),
        }
    }

    /// Epochs that are over, and the fraction of the epoch under way.
    pub fn epochs_done(&self) -> f64 {
        let over = self.history.last().map_or(0, |figures| figures.epoch) as f64;
        match &self.progress {
            Some(progress) => progress.epoch.saturating_sub(1) as f64 + progress.of_epoch(),
            None => over,
        }
    }
}

/// The last part of the path of a run's folder.
fn name(run: &Path) -> String {
    let whole = run.canonicalize().unwrap_or_else(|_| run.to_owned());
    whole.file_name().unwrap_or(run.as_os_str()).to_string_lossy().into_owned()
}

/// What an event in a run's metrics says to the user.
fn message(event: &Event) -> Option<String> {
    match event {
        Event::OutOfMemory { step, accumulate, .. } => Some(format!(
            "out of memory at step {step}: from there on as with --accumulate {accumulate}"
        )),
        Event::Resume { step, changes, .. } => {
            let changes = changes.keys().map(|key| short(key));
            let changes = changes.collect::<Vec<_>>().join(", ");
            Some(format!("resumed after step {step} with other settings: {}", short(&changes)))
        }
        _ => None,
    }
}

/// A learning rate for people.
pub fn rate(lr: f64) -> String {
    if lr >= 1e-4 { format!("{lr:.4}") } else { rounded(lr) }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::path::PathBuf;

    fn overview(state: State) -> Overview {
        Overview {
            run: PathBuf::from("runs/my-run"),
            state,
            network: Some("ResNet-18".to_owned()),
            dataset: Some("mnist".to_owned()),
            epochs_done: 0,
            epochs: Some(8),
            test_accuracy: None,
            best_accuracy: None,
            seconds: 65.0,
            changed: 0,
            fault: None,
        }
    }

    /// A board of a running run after some epochs, the last of which have these figures.
    pub(in super::super) fn board(done: u64, epochs: u64) -> Board {
        let mut board = Board::new(Viewer::Trainer, &overview(State::Running), &[]);
        board.epochs = epochs;
        for epoch in 1..=done {
            let left = (done - epoch) as f64 / 1000.0;
            board.take(&Event::Epoch(EpochFigures {
                epoch,
                lr: 0.05,
                train_loss: 0.5 + left,
                train_accuracy: 0.8 - left / 2.0,
                test_loss: Some(0.45 + left),
                test_accuracy: Some(0.85 - left / 2.0),
                images_per_second: 4000.0,
                ..EpochFigures::default()
            }));
        }
        board
    }

    /// The progress in the middle of an epoch.
    pub(in super::super) fn progress(epoch: u64) -> Progress {
        Progress {
            epoch,
            epochs: 8,
            step: 120,
            steps: 240,
            loss: Some(0.3),
            accuracy: Some(0.88),
            images_per_second: Some(4321.4),
            lr: Some(0.04309),
            epoch_seconds_left: Some(41.0),
            run_seconds_left: Some(3725.0),
            memory_bytes: Some(3 << 29),
            ..Progress::default()
        }
    }

    #[test]
    fn the_activity_follows_the_events() {
        let mut board = board(0, 8);
        assert_eq!((board.activity(), board.epochs_done()), ("starting", 0.0));
        board.progress = Some(progress(1));
        assert_eq!((board.activity(), board.epochs_done()), ("training", 0.5));
        board.progress = Some(Progress { evaluated: Some(3), to_evaluate: Some(9), ..progress(1) });
        assert_eq!(board.activity(), "evaluating");
        board.take(&Event::Epoch(EpochFigures { epoch: 1, ..EpochFigures::default() }));
        assert_eq!((board.activity(), board.epochs_done()), ("training", 1.0));
        for (state, activity) in [(State::Stopped, "stopped"), (State::Diverged, "diverged")] {
            let board = Board::new(Viewer::Watcher, &overview(state), &[]);
            assert_eq!(board.activity(), activity);
            assert_eq!(board.seconds.is_some(), state == State::Diverged);
        }
    }

    #[test]
    fn messages_are_kept_in_lines_and_the_oldest_are_dropped() {
        let mut board = board(0, 8);
        board.add_message("one\n\ttwo");
        assert_eq!(board.messages, ["one", " two"]);
        (0..100).for_each(|number| board.add_message(&number.to_string()));
        assert_eq!((board.messages.len(), board.messages[0].as_str()), (MESSAGES, "50"));
        let changes = toml::Table::from_iter([("train.lr".to_owned(), toml::Value::from(1))]);
        let events = [Event::Resume { epoch: 1, step: 7, changes }];
        let damaged =
            Overview { fault: Some("line 3 is damaged".to_owned()), ..overview(State::Damaged) };
        let board = Board::new(Viewer::Watcher, &damaged, &events);
        assert!(board.messages[0].contains("step 7") && board.messages[0].contains("train.lr"));
        assert_eq!(board.messages[1], "line 3 is damaged");
    }
}
