//! What ends a run before its last epoch: Ctrl-C, a request to terminate, or the time limit.

use crate::error::INTERRUPTED;
use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Whether a run is to stop.
#[derive(Debug)]
pub struct Stop {
    signalled: Arc<AtomicBool>,
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
    /// Listens for signals from now on. The first has the run saved; a second ends the process at
    /// once, which leaves the last checkpoint as it is.
    ///
    /// # Errors
    /// A system that has no signals to give.
    pub fn listen(start: Instant, time_limit: Option<Duration>) -> Result<Self> {
        let signalled = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first signal finds the flag unset.
            flag::register_conditional_shutdown(signal, INTERRUPTED.into(), signalled.clone())
                .and_then(|_| flag::register(signal, signalled.clone()))
                .context("cannot listen for signals")?;
        }
        Ok(Self { signalled, deadline: time_limit.and_then(|limit| start.checked_add(limit)) })
    }

    /// Whether a signal came.
    pub fn is_signalled(&self) -> bool {
        self.signalled.load(Ordering::Relaxed)
    }

    /// Why to stop now, if so.
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
