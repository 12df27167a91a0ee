//! One HTTP transfer into a partial file. It resumes where it stopped, if the server supports that.

use super::{Patience, length, write_error};
use crate::data::catalog::Part;
use crate::error::one_line;
use crate::files::OWN_FILE;
use crate::ui::{Progress, Ui};
use anyhow::{Context, Result, anyhow};
use reqwest::blocking::{Client, Response};
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, RANGE};
use reqwest::{StatusCode, Url, redirect};
use std::error::Error;
use std::fmt;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

const MAX_REDIRECTS: usize = 5;
const BUFFER_BYTES: usize = 1 << 16;

/// Why a transfer failed.
#[derive(Debug)]
pub enum Failure {
    /// It may be temporary: trying again may help.
    Passing(anyhow::Error),
    /// This mirror does not have the file.
    Refused(anyhow::Error),
    /// The file cannot be written, so another mirror does not help.
    Local(anyhow::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Passing(error) | Self::Refused(error) | Self::Local(error)) = self;
        f.write_str(&one_line(error))
    }
}

/// An HTTP client that gives up when a server stalls.
#[derive(Debug)]
pub struct Transfer {
    client: Client,
    /// The least rate of a server in bytes a second, and the time over which it is measured.
    least_rate: (u64, Duration),
}

impl Transfer {
    pub fn new(patience: &Patience) -> Result<Self> {
        let client = Client::builder()
            .user_agent(concat!("resnet/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(patience.connect)
            // The blocking client's time-out applies to each read, not to the whole transfer.
            .timeout(patience.stall)
            .redirect(redirect::Policy::limited(MAX_REDIRECTS))
            .build()
            .context("cannot set up HTTPS")?;
        Ok(Self { client, least_rate: (patience.least_rate, patience.stall) })
    }

    /// Downloads the missing bytes of the file at `url` to the end of `partial`, and flushes them to disk.
    pub fn run(&self, url: Url, partial: &Path, part: &Part, ui: &Ui) -> Result<(), Failure> {
        let start = length(partial);
        let mut request = self.client.get(url);
        if start > 0 {
            request = request.header(RANGE, format!("bytes={start}-"));
        }
        let response = request.send().map_err(|error| send_failure(&error))?;
        let start = body_start(&response, start).inspect_err(|_| {
            if response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
                let _ = fs::remove_file(partial);
            }
        })?;
        refuse_web_page(&response)?;
        let total = whole_length(&response, start);
        if let Some(total) = total.filter(|&total| total > part.max_bytes()) {
            let expected = part.file.bytes;
            return Err(Failure::Refused(anyhow!("it has {total} bytes, expected {expected}")));
        }
        let label = part.file.name;
        let mut progress = ui.bytes_progress(label, total.unwrap_or(part.file.bytes));
        let outcome = self.receive(response, partial, start, part, &mut progress);
        progress.clear();
        outcome
    }

    fn receive(
        &self,
        mut response: Response,
        partial: &Path,
        start: u64,
        part: &Part,
        progress: &mut Progress,
    ) -> Result<(), Failure> {
        let local = |error: std::io::Error| write_failure(partial, &error);
        let mut file = open(partial, start).map_err(local)?;
        let total = whole_length(&response, start);
        let mut received = start;
        let mut pace = Pace::from(received);
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            match response.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    received += count as u64;
                    if received > part.max_bytes() {
                        let _ = fs::remove_file(partial);
                        let expected = part.file.bytes;
                        return Err(Failure::Refused(anyhow!(
                            "it sends more than {received} bytes, expected {expected}"
                        )));
                    }
                    let bytes = buffer.get(..count).unwrap_or(&buffer);
                    file.write_all(bytes).map_err(local)?;
                    progress.set(received);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    let reason = innermost(&error);
                    return Err(Failure::Passing(anyhow!(
                        "the transfer was interrupted after {received} bytes ({reason})"
                    )));
                }
            }
            if total != Some(received) && pace.is_below(self.least_rate, received) {
                let (least, span) = (self.least_rate.0, self.least_rate.1.as_secs_f32());
                return Err(Failure::Passing(anyhow!(
                    "it sent less than {least} bytes a second for {span} s, {received} bytes in all"
                )));
            }
        }
        file.sync_all().map_err(local)
    }
}

/// Measures the rate of a transfer. Without it, a server that sends a byte now and then would block a
/// download for ever.
struct Pace {
    since: Instant,
    bytes: u64,
}

impl Pace {
    fn from(bytes: u64) -> Self {
        Self { since: Instant::now(), bytes }
    }

    /// Whether the rate was below the least one. Measured once in each span of time; `false` before its end.
    fn is_below(&mut self, (least, span): (u64, Duration), bytes: u64) -> bool {
        let elapsed = self.since.elapsed();
        if elapsed < span {
            return false;
        }
        let came = bytes - self.bytes;
        *self = Self::from(bytes);
        (came as f64) < least as f64 * elapsed.as_secs_f64()
    }
}

/// Opens the partial file to append after `start` bytes. If `start` is 0, a new file replaces whatever has
/// that name. A link is removed; the file that it leads to is not changed.
fn open(partial: &Path, start: u64) -> std::io::Result<File> {
    let mut options = File::options();
    options.custom_flags(OWN_FILE);
    if start > 0 {
        return options.append(true).open(partial);
    }
    match fs::remove_file(partial) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => options.write(true).create_new(true).open(partial),
    }
}

fn write_failure(partial: &Path, error: &std::io::Error) -> Failure {
    // On a full disk, a file that cannot be finished only takes space.
    if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
        let _ = fs::remove_file(partial);
    }
    Failure::Local(write_error(partial, error))
}

/// The position in the file at which the body of a response begins.
fn body_start(response: &Response, asked: u64) -> Result<u64, Failure> {
    let status = response.status();
    match status {
        StatusCode::OK => Ok(0),
        StatusCode::PARTIAL_CONTENT => {
            let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
            let begins_there = range.is_some_and(|r| r.starts_with(&format!("bytes {asked}-")));
            if begins_there {
                Ok(asked)
            } else {
                let found = range.unwrap_or("no range");
                Err(Failure::Refused(anyhow!("it sent {found}, asked for bytes from {asked}")))
            }
        }
        // The partial file is at least as long as this mirror's file, so it is a part of another file.
        StatusCode::RANGE_NOT_SATISFIABLE => {
            Err(Failure::Passing(anyhow!("it has no bytes after {asked}: starting over")))
        }
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
            Err(Failure::Passing(anyhow!("HTTP {status}")))
        }
        _ if status.is_server_error() => Err(Failure::Passing(anyhow!("HTTP {status}"))),
        _ => Err(Failure::Refused(anyhow!("HTTP {status}"))),
    }
}

/// The length of the whole file, if the response says how many bytes follow the first `start` ones.
fn whole_length(response: &Response, start: u64) -> Option<u64> {
    response.content_length().map(|rest| start.saturating_add(rest))
}

/// A network that asks for a login, or a host whose files moved, answers with status 200 and a web page.
fn refuse_web_page(response: &Response) -> Result<(), Failure> {
    let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    match content_type {
        Some(found) if found.starts_with("text/html") => {
            Err(Failure::Refused(anyhow!("it sent a web page instead of the file")))
        }
        _ => Ok(()),
    }
}

fn send_failure(error: &reqwest::Error) -> Failure {
    if error.is_redirect() {
        return Failure::Refused(anyhow!("it redirects more than {MAX_REDIRECTS} times"));
    }
    let what = if error.is_connect() { "cannot connect" } else { "no answer" };
    Failure::Passing(anyhow!("{what} ({})", innermost(error)))
}

/// The innermost cause. The outer ones only repeat that a request failed.
fn innermost(error: &dyn Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
