//! One HTTP transfer into a partial file, resumed where it stopped if the server can.

use super::{Patience, length, write_error};
use crate::data::catalog::Part;
use crate::error::one_line;
use crate::ui::Ui;
use anyhow::{Context, Result, anyhow};
use reqwest::blocking::{Client, Response};
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, RANGE};
use reqwest::{StatusCode, Url, redirect};
use std::error::Error;
use std::fmt;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::Path;

const MAX_REDIRECTS: usize = 5;
const BUFFER_BYTES: usize = 1 << 16;

/// Why a transfer did not bring the file.
#[derive(Debug)]
pub enum Failure {
    /// Trying again may help.
    Passing(anyhow::Error),
    /// This mirror does not have the file.
    Refused(anyhow::Error),
    /// The file cannot be written: no mirror helps.
    Local(anyhow::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Passing(error) | Self::Refused(error) | Self::Local(error)) = self;
        f.write_str(&one_line(error))
    }
}

/// An HTTP client that gives up on servers that stall.
#[derive(Debug)]
pub struct Transfer {
    client: Client,
}

impl Transfer {
    pub fn new(patience: &Patience) -> Result<Self> {
        let client = Client::builder()
            .user_agent(concat!("resnet/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(patience.connect)
            // The blocking client's time-out is of each read, not of the whole transfer.
            .timeout(patience.stall)
            .redirect(redirect::Policy::limited(MAX_REDIRECTS))
            .build()
            .context("cannot set up HTTPS")?;
        Ok(Self { client })
    }

    /// Adds to `partial` what it lacks of the file at `url`, and flushes it to the disk.
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
        let total = response.content_length().map(|rest| start + rest);
        if let Some(total) = total.filter(|&total| total > part.max_bytes()) {
            let expected = part.file.bytes;
            return Err(Failure::Refused(anyhow!("it has {total} bytes, expected {expected}")));
        }
        let label = part.file.name;
        let progress = ui.bytes_progress(label, Some(total.unwrap_or(part.file.bytes)));
        receive(response, partial, start, part, progress)
    }
}

/// Where in the file the body of a response begins, if it is one of the file.
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
        // The partial file is as long as this mirror's file or longer, so it is of another one.
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

/// Networks that ask for a login, and hosts whose files moved, answer 200 with a page.
fn refuse_web_page(response: &Response) -> Result<(), Failure> {
    let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    match content_type {
        Some(found) if found.starts_with("text/html") => {
            Err(Failure::Refused(anyhow!("it sent a web page instead of the file")))
        }
        _ => Ok(()),
    }
}

fn receive(
    mut response: Response,
    partial: &Path,
    start: u64,
    part: &Part,
    mut progress: crate::ui::Progress,
) -> Result<(), Failure> {
    let local = |error: std::io::Error| {
        // A full disk is better off without a file that cannot be finished.
        if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
            let _ = fs::remove_file(partial);
        }
        Failure::Local(write_error(partial, &error))
    };
    let mut options = File::options();
    options.create(true).write(true);
    let options = if start == 0 { options.truncate(true) } else { options.append(true) };
    let mut file = options.open(partial).map_err(local)?;
    let mut received = start;
    let mut buffer = vec![0; BUFFER_BYTES];
    let outcome = loop {
        match response.read(&mut buffer) {
            Ok(0) => break Ok(()),
            Ok(count) => {
                received += count as u64;
                if received > part.max_bytes() {
                    let _ = fs::remove_file(partial);
                    let expected = part.file.bytes;
                    let error = anyhow!("it sends more than {received} bytes, expected {expected}");
                    break Err(Failure::Refused(error));
                }
                let bytes = buffer.get(..count).unwrap_or(&buffer);
                file.write_all(bytes).map_err(local)?;
                progress.set(received);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                let reason = innermost(&error);
                let error = anyhow!("the transfer broke off after {received} bytes ({reason})");
                break Err(Failure::Passing(error));
            }
        }
    };
    progress.clear();
    outcome?;
    file.sync_all().map_err(local)
}

fn send_failure(error: &reqwest::Error) -> Failure {
    if error.is_redirect() {
        return Failure::Refused(anyhow!("it redirects more than {MAX_REDIRECTS} times"));
    }
    let what = if error.is_connect() { "cannot connect" } else { "no answer" };
    Failure::Passing(anyhow!("{what} ({})", innermost(error)))
}

/// The cause that says something: the layers around it only repeat that a request failed.
fn innermost(error: &dyn Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
