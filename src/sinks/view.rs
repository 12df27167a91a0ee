//! The live view of a run: one screen with its curves and figures. `resnet train --view` shows it from the run's
//! events, and `resnet watch` from the files in the run's folder.

pub mod board;
mod chart;
mod draw;
mod figures;
mod scale;
mod theme;

use self::board::Board;
use super::memory_in_use;
use super::tracker::Tracker;
use crate::config::Config;
use crate::run::progress::Progress;
use crate::train::{Event, Sink};
use crate::ui::{Input, Screen, Ui};
use anyhow::{Context, Result};
use ratatui::Frame;
use rustix::process::{Signal, kill_current_process_group};
use std::io;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tch::Device;
use theme::Theme;

/// How long the view waits for a key before it looks for something new. A shorter wait would wake its thread more often,
/// and slow the training.
pub const WAIT: Duration = Duration::from_millis(200);
/// The view rests this many times as long as a drawing took, so that it takes less than 1 % of a processor.
const REST: u32 = 100;

/// Draws the view of a run.
pub fn draw(frame: &mut Frame, board: &Board) {
    draw::draw(frame, board, Theme::of_terminal());
}

/// What the view shows, as lines of text.
pub fn lines(board: &Board) -> Vec<String> {
    figures::lines(board)
}

/// Decides when the view is drawn again.
#[derive(Debug)]
pub struct Pace {
    next: Instant,
    /// Whether the view shows something old.
    stale: bool,
}

impl Default for Pace {
    fn default() -> Self {
        Self { next: Instant::now(), stale: true }
    }
}

impl Pace {
    /// There is something new to show.
    pub fn mark(&mut self) {
        self.stale = true;
    }

    /// The terminal has another size, so the view is drawn at once.
    pub fn mark_urgent(&mut self) {
        *self = Self::default();
    }

    /// Draws the view if that is due.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn draw(&mut self, screen: &mut Screen, board: &Board) -> io::Result<()> {
        let start = Instant::now();
        if self.stale && start >= self.next {
            screen.draw(|frame| draw(frame, board))?;
            self.stale = false;
            self.next = start + WAIT.max(start.elapsed() * REST);
        }
        Ok(())
    }
}

/// The live view of a run that this process trains. Its screen opens when the first epoch begins. A thread of its own
/// draws it and waits for keys, so that the training never waits for the terminal.
#[derive(Debug)]
pub struct View(Stage);

#[derive(Debug)]
enum Stage {
    /// The screen is not open yet.
    Waiting(Box<Painter>),
    /// The thread gets the events and shows them.
    Shown { events: Sender<(Instant, Event)>, painter: JoinHandle<()> },
    /// The view is over.
    Over,
}

impl View {
    /// The view of a run that computes on `device` and begins with what `board` shows. If the terminal can show no
    /// view, this says why.
    pub fn new(config: &Config, board: Board, device: Device, ui: Ui) -> Self {
        let obstacle = if ui.is_quiet() { Some("--quiet hides it") } else { Screen::obstacle() };
        let stage = match obstacle {
            Some(reason) => {
                ui.say(format!("--view: {reason}, so the progress is shown without the view"));
                Stage::Over
            }
            None => {
                let tracker = Tracker::new(config);
                Stage::Waiting(Box::new(Painter { board, tracker, device }))
            }
        };
        Self(stage)
    }

    fn open(painter: Painter) -> Result<Stage> {
        let (events, received) = channel();
        let screen = Screen::open().context("--view: the terminal cannot be set up")?;
        let thread = thread::Builder::new().name("view".to_owned());
        let painter = thread
            .spawn(move || painter.paint(screen, &received))
            .context("--view: the system starts no thread")?;
        Ok(Stage::Shown { events, painter })
    }

    /// Closes the view, and waits until the terminal is as before.
    fn close(&mut self) {
        if let Stage::Shown { events, painter } = std::mem::replace(&mut self.0, Stage::Over) {
            drop(events);
            // If the thread panicked, its message is already printed.
            let _ = painter.join();
        }
    }
}

impl Sink for View {
    fn take(&mut self, event: &Event) -> Result<()> {
        if let (Event::EpochStart { .. }, Stage::Waiting(_)) = (event, &self.0)
            && let Stage::Waiting(painter) = std::mem::replace(&mut self.0, Stage::Over)
        {
            self.0 = Self::open(*painter)?;
        }
        match (&self.0, event) {
            (_, Event::Stop { .. } | Event::End(_)) => self.close(),
            (Stage::Shown { events, .. }, _) => {
                // It fails after `q`. Then nobody needs the events.
                let _ = events.send((Instant::now(), event.clone()));
            }
            _ => {}
        }
        Ok(())
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.close();
    }
}

/// What the view's thread works with.
#[derive(Debug)]
struct Painter {
    board: Board,
    tracker: Tracker,
    device: Device,
}

impl Painter {
    /// Shows the events until there are no more, or until the user leaves.
    fn paint(mut self, mut screen: Screen, events: &Receiver<(Instant, Event)>) {
        let mut pace = Pace::default();
        // An error means that the terminal is gone. The training continues.
        while let Ok(input) = screen.input(WAIT) {
            match input {
                Some(Input::Leave) => return,
                Some(Input::Interrupt) => interrupt(),
                Some(Input::Resize) => pace.mark_urgent(),
                None => {}
            }
            if !self.receive(events, &mut pace) {
                return;
            }
            for message in screen.messages() {
                self.board.add_message(&message);
                pace.mark();
            }
            if pace.draw(&mut screen, &self.board).is_err() {
                return;
            }
        }
    }

    /// Takes the events that have come. Returns whether more can come.
    fn receive(&mut self, events: &Receiver<(Instant, Event)>, pace: &mut Pace) -> bool {
        loop {
            match events.try_recv() {
                Ok((time, event)) => {
                    self.tracker.take(&event, time);
                    self.board.take(&event);
                    pace.mark();
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
        if let Some(progress) = self.tracker.progress() {
            let memory_bytes = memory_in_use(self.device);
            self.board.progress = Some(Progress { memory_bytes, ..progress.clone() });
        }
        true
    }
}

/// Does what the terminal does for Ctrl-C when no screen is shown: it interrupts the program and its companions, such
/// as the script that started it.
fn interrupt() {
    let _ = kill_current_process_group(Signal::INT);
}
