//! What ends a run before its last epoch: Ctrl-C, a request to terminate, or the time limit.

use crate::error::INTERRUPTED;
use crate::ui::{self, Ui};
use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::low_level::{self, pipe};
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Whether a run is to stop.
#[derive(Debug)]
pub struct Stop {
    signalled: Arc<AtomicBool>,
    /// The thread that prints a message at the first signal, even in the middle of a step.
    answer: JoinHandle<()>,
    deadline: Option<Instant>,
}

/// Why a run stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// SIGINT or SIGTERM.
    Signal,
    /// The time limit.
    TimeLimit,
}

impl Stop {
    /// Listens for signals from now on. After the first signal, a message is printed at once, and the run is
    /// saved and then stops. A second signal ends the process at once and leaves the last checkpoint as it is.
    ///
    /// # Errors
    /// The system does not let the process listen for signals.
    pub fn listen(start: Instant, time_limit: Option<Duration>, ui: Ui) -> Result<Self> {
        let signalled = Arc::new(AtomicBool::new(false));
        let answer = register(&signalled, ui).context("cannot listen for signals")?;
        let deadline = time_limit.and_then(|limit| start.checked_add(limit));
        Ok(Self { signalled, answer, deadline })
    }

    /// If a signal came, waits until its message is printed.
    pub fn wait_for_answer(self) {
        if self.is_signalled() {
            let _ = self.answer.join();
        }
    }

    /// Whether a signal came.
    pub fn is_signalled(&self) -> bool {
        self.signalled.load(Ordering::Relaxed)
    }

    /// The reason to stop now, if there is one.
    pub fn reason(&self) -> Option<Reason> {
        if self.is_signalled() {
            Some(Reason::Signal)
        } else if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            Some(Reason::TimeLimit)
        } else {
            None
        }
    }
}

fn register(signalled: &Arc<AtomicBool>, ui: Ui) -> io::Result<JoinHandle<()>> {
    let (mut signals, handler) = UnixStream::pair()?;
    for signal in [SIGINT, SIGTERM] {
        let is_second = signalled.clone();
        let restore = move || {
            if is_second.load(Ordering::Relaxed) {
                ui::restore();
            }
        };
        // The second signal ends the process in the next handler, so the terminal is restored before it.
        // SAFETY: a signal handler may read a flag and call this function.
        unsafe { low_level::register(signal, restore) }?;
        // The order matters: at the first signal the flag is not set yet, so the process does not end. When the
        // flag is set, the message is already under way.
        flag::register_conditional_shutdown(signal, INTERRUPTED.into(), signalled.clone())?;
        pipe::register(signal, handler.try_clone()?)?;
        flag::register(signal, signalled.clone())?;
    }
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        if signals.read_exact(&mut [0]).is_ok() {
            ui.say("stopping after this step; Ctrl-C again stops at once, without saving");
        }
    })
}
