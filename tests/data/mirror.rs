//! A mirror on this machine that misbehaves as a test asks.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A request to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The file name at the end of the path.
    pub file: String,
    /// The first byte of the requested range, if there is a `Range` header.
    pub range: Option<usize>,
}

/// What the server answers.
pub enum Reply {
    /// A status and no body.
    Status(u16),
    /// 200 and all of these bytes. A requested range is ignored.
    Whole(Vec<u8>),
    /// These bytes from the start of the requested range, like a server that can resume.
    Ranged(Vec<u8>),
    /// 200 with a web page.
    Html,
    /// The length of all bytes, but only this number of bytes before the connection closes.
    CutOff(Vec<u8>, usize),
    /// The same, but the connection is reset, as if the server had crashed.
    Reset(Vec<u8>, usize),
    /// This number of bytes, then silence until the client closes the connection. If the client waits for
    /// [`LONGEST_WAIT`], it gets the rest.
    Stall(Vec<u8>, usize),
    /// The same silence, but before the first byte.
    Silence(Vec<u8>),
    /// One byte every 10 ms.
    Drip(Vec<u8>),
    /// The length of the first bytes, then the first and the second bytes.
    Overlong(Vec<u8>, Vec<u8>),
    /// These bytes without a length. The end of the connection is the end of the bytes.
    Unmeasured(Vec<u8>),
    /// 200 with a length and nothing else.
    Length(u64),
    /// A redirect to the same path.
    RedirectToSelf,
    /// A redirect to the same file below another base URL.
    RedirectTo(String),
}

/// Far longer than the client in a test should wait, but short enough if a faulty client does not give up.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

pub struct Server {
    /// Base URL, which ends in `/`.
    pub url: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Serves until the test ends; `reply` also gets the number of requests before this one.
    pub fn start(reply: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (log, reply) = (requests.clone(), Arc::new(reply));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (log, reply) = (log.clone(), reply.clone());
                thread::spawn(move || {
                    let stream = stream.unwrap();
                    let request = read_request(&stream);
                    let before = {
                        let mut log = log.lock().unwrap();
                        log.push(request.clone());
                        log.len() - 1
                    };
                    // In some tests the client closes the connection early.
                    let _ = send(&stream, &request, reply(&request, before));
                });
            }
        });
        Self { url, requests }
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

/// A mirror with the files of a folder.
pub fn mirror_of(folder: PathBuf) -> Server {
    Server::start(move |request, _| {
        std::fs::read(folder.join(&request.file)).map_or(Reply::Status(404), Reply::Ranged)
    })
}

/// A base URL at which nothing listens.
pub fn refused() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}/", listener.local_addr().unwrap())
}

fn read_request(stream: &TcpStream) -> Request {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let first = lines.next().unwrap_or_default();
    let path = first.split(' ').nth(1).unwrap_or_default();
    let file = path.rsplit('/').next().unwrap_or_default().to_owned();
    let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let range = head.iter().find_map(|line| {
        let value = line.to_ascii_lowercase();
        value.strip_prefix("range: bytes=")?.trim_end_matches('-').parse().ok()
    });
    Request { file, range }
}

fn send(mut stream: &TcpStream, request: &Request, reply: Reply) -> std::io::Result<()> {
    let head = |status: u16, length: u64, headers: &str| {
        write!(
            &mut { stream },
            "HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
        )
    };
    match reply {
        Reply::Status(status) => head(status, 0, ""),
        Reply::Whole(bytes) => {
            head(200, bytes.len() as u64, "")?;
            stream.write_all(&bytes)
        }
        Reply::Ranged(bytes) => match request.range {
            Some(start) if start >= bytes.len() => head(416, 0, ""),
            Some(start) => {
                let (last, total) = (bytes.len() - 1, bytes.len());
                let range = format!("Content-Range: bytes {start}-{last}/{total}\r\n");
                head(206, (total - start) as u64, &range)?;
                stream.write_all(&bytes[start..])
            }
            None => {
                head(200, bytes.len() as u64, "")?;
                stream.write_all(&bytes)
            }
        },
        Reply::Html => {
            let page = b"<!DOCTYPE html><title>Log in</title>";
            head(200, page.len() as u64, "Content-Type: text/html; charset=utf-8\r\n")?;
            stream.write_all(page)
        }
        Reply::CutOff(bytes, sent) => {
            head(200, bytes.len() as u64, "")?;
            stream.write_all(&bytes[..sent])
        }
        Reply::Reset(bytes, sent) => {
            head(200, bytes.len() as u64, "")?;
            stream.write_all(&bytes[..sent])?;
            // The sent bytes must arrive first, because a reset discards bytes that have not arrived.
            thread::sleep(Duration::from_millis(50));
            reset_when_closed(stream);
            Ok(())
        }
        Reply::Stall(bytes, sent) => {
            head(200, bytes.len() as u64, "")?;
            stream.write_all(&bytes[..sent])?;
            wait_for_the_end(stream)?;
            stream.write_all(&bytes[sent..])
        }
        Reply::Silence(bytes) => {
            wait_for_the_end(stream)?;
            head(200, bytes.len() as u64, "")?;
            stream.write_all(&bytes)
        }
        Reply::Drip(bytes) => {
            head(200, bytes.len() as u64, "")?;
            bytes.iter().try_for_each(|byte| {
                thread::sleep(Duration::from_millis(10));
                stream.write_all(&[*byte])
            })
        }
        Reply::Overlong(bytes, more) => {
            head(200, bytes.len() as u64, "")?;
            stream.write_all(&[bytes, more].concat())
        }
        Reply::Unmeasured(bytes) => {
            write!(stream, "HTTP/1.1 200 X\r\nConnection: close\r\n\r\n")?;
            stream.write_all(&bytes)
        }
        Reply::Length(length) => head(200, length, ""),
        Reply::RedirectToSelf => head(302, 0, &format!("Location: /{}\r\n", request.file)),
        Reply::RedirectTo(base) => head(302, 0, &format!("Location: {base}{}\r\n", request.file)),
    }
}

/// Waits until the client closes the connection, at most for [`LONGEST_WAIT`].
fn wait_for_the_end(mut stream: &TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(LONGEST_WAIT))?;
    let _ = stream.read(&mut [0]);
    Ok(())
}

/// Sets the linger time of the socket to zero, so that closing it resets the connection.
fn reset_when_closed(stream: &TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let length = size_of::<libc::linger>() as libc::socklen_t;
    // SAFETY: the socket is open, and the pointer and the length belong to a live value.
    let result = unsafe {
        let value = std::ptr::from_ref(&linger).cast();
        libc::setsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, value, length)
    };
    assert_eq!(result, 0);
}
