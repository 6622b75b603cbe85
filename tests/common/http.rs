//! A client for the daemon's endpoints, as plain as one can be.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::daemon::Daemon;
use super::wait::{patience, secs};

/// Longest time for an answer.
const LIMIT: Duration = Duration::from_secs(20);

/// An answer to a request.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The headers' lines.
    pub head: String,
    /// The body.
    pub body: String,
}

/// An address that nobody listens on just now.
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

impl Daemon {
    /// The reply to a request without a body on the control socket.
    #[track_caller]
    pub fn ask(&self, method: &str, path: &str) -> Reply {
        self.try_ask(method, path, LIMIT).unwrap()
    }

    /// As [`ask`](Self::ask), for a daemon that may not answer within `limit`.
    pub fn try_ask(&self, method: &str, path: &str, limit: Duration) -> std::io::Result<Reply> {
        let stream = UnixStream::connect(self.folder().join("run/control.sock"))?;
        stream.set_read_timeout(Some(patience(limit)))?;
        exchange(stream, method, path)
    }

    /// The body of a good reply to a GET on the control socket.
    #[track_caller]
    pub fn get(&self, path: &str) -> String {
        let reply = self.ask("GET", path);
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        reply.body
    }

    /// `/status`.
    #[track_caller]
    pub fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.get("/status")).unwrap()
    }

    /// The value of one series of `/metrics`.
    #[track_caller]
    pub fn metric(&self, series: &str) -> f64 {
        let text = self.get("/metrics");
        let value = text.lines().find_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            (without_election(name) == series).then(|| value.parse().unwrap())
        });
        value.unwrap_or_else(|| panic!("no {series} in {text}"))
    }
}

/// A series without the label that each has.
fn without_election(series: &str) -> String {
    let Some((name, labels)) = series.split_once("{election=\"") else {
        return series.to_owned();
    };
    let (_, own) = labels.split_once('"').unwrap();
    match own.trim_start_matches(',') {
        "}" => name.to_owned(),
        own => format!("{name}{{{own}"),
    }
}

/// The reply to a request without a body on TCP.
pub fn request(address: SocketAddr, method: &str, path: &str) -> std::io::Result<Reply> {
    let stream = TcpStream::connect_timeout(&address, patience(secs(5)))?;
    stream.set_read_timeout(Some(patience(LIMIT)))?;
    exchange(stream, method, path)
}

fn exchange(mut stream: impl Read + Write, method: &str, path: &str) -> std::io::Result<Reply> {
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"
    )?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let broken = || std::io::Error::other(format!("no reply: {text:?}"));
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(broken)?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok(Reply {
        status: status.ok_or_else(broken)?,
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    })
}
