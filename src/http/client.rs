//! The other end of the control socket: what commands ask of the daemon on their host.

use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use super::Reloaded;
use crate::config::handed::{Handed, HandedSettings};
use crate::keys::JobName;
use crate::runtime_dir::{CONTROL_SOCKET, Dir};

/// The longest answer that is read.
const LONGEST_ANSWER: usize = 1 << 20;

/// Why a daemon gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Nobody listens.
    #[error("no daemon answers on {0}: {1}")]
    NoDaemon(String, io::Error),
    /// The connection broke.
    #[error("the daemon broke off: {0}")]
    Broken(String),
    /// The time was up.
    #[error("the daemon gave no answer within {}", humantime::format_duration(*.0))]
    TimedOut(Duration),
    /// The answer was another than one of those expected.
    #[error("the daemon answered {0}: {1}")]
    Unexpected(StatusCode, String),
}

impl Reloaded {
    /// Asks the daemon whose runtime directory is at `path` to read its configuration anew.
    ///
    /// # Errors
    /// If it does not say what came of it.
    pub(crate) async fn ask(path: &Path, limit: Duration) -> Result<Self, Error> {
        let (status, body) = ask(path, Method::POST, "/reload", limit).await?;
        match status {
            StatusCode::OK | StatusCode::UNPROCESSABLE_ENTITY => {
                serde_json::from_slice(&body).map_err(|error| Error::Broken(error.to_string()))
            }
            status => Err(Error::Unexpected(
                status,
                String::from_utf8_lossy(&body).trim().to_owned(),
            )),
        }
    }
}

/// The settings that the daemon of a run, which was told `handed`, runs its job by now; `None` if it
/// can't be asked. Blocks, but no longer than `limit` at each step.
pub(crate) fn settings(handed: &Handed, limit: Duration) -> Option<HandedSettings> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, sockopt};
    let stream = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .ok()?;
    // A stopped daemon accepts nothing, so that even to connect may block.
    for step in [sockopt::Timeout::Send, sockopt::Timeout::Recv] {
        sockopt::set_socket_timeout(&stream, step, Some(limit)).ok()?;
    }
    let opened = Dir::open_trusted(&handed.runtime_dir()).ok()?;
    let socket = opened.inside(CONTROL_SOCKET);
    connect(&stream, &SocketAddrUnix::new(&socket).ok()?).ok()?;
    let mut stream = std::os::unix::net::UnixStream::from(stream);
    let request = format!("GET {} HTTP/1.0\r\n\r\n", handed.path());
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    let most = u64::try_from(LONGEST_ANSWER).ok()?;
    stream.take(most).read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8(answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    (head.split(' ').nth(1)? == "200").then_some(())?;
    serde_json::from_str(body).ok()
}

/// The names of the jobs that the daemon whose runtime directory is at `path` has now, those that it still
/// ends included; none where it can't be asked within `limit`, or its job has no name.
pub(crate) async fn job_names(path: &Path, limit: Duration) -> Vec<JobName> {
    #[derive(serde::Deserialize)]
    struct Named {
        jobs: serde_json::Map<String, serde_json::Value>,
    }
    let answer = ask(path, Method::GET, "/status", limit).await;
    let told = answer
        .ok()
        .and_then(|(_, body)| serde_json::from_slice::<Named>(&body).ok());
    let names = told.iter().flat_map(|told| told.jobs.keys());
    names.filter_map(|name| JobName::new(name)).collect()
}

/// Makes one request on the control socket in `directory`, which must be ours, unless we are root.
///
/// # Errors
/// If there is no answer; any status is one.
pub(crate) async fn ask(
    directory: &Path,
    method: Method,
    path: &str,
    limit: Duration,
) -> Result<(StatusCode, Bytes), Error> {
    let asking = async {
        let no_daemon = |error| {
            let socket = directory.join(CONTROL_SOCKET);
            Error::NoDaemon(socket.display().to_string(), error)
        };
        let opened = Dir::open_trusted(directory).map_err(no_daemon)?;
        let stream = UnixStream::connect(opened.inside(CONTROL_SOCKET)).await;
        let stream = stream.map_err(no_daemon)?;
        exchange(stream, method, path)
            .await
            .map_err(|error| Error::Broken(format!("{error:#}")))
    };
    let answered = tokio::time::timeout(limit, asking).await;
    answered.map_err(|_| Error::TimedOut(limit))?
}

async fn exchange(
    stream: UnixStream,
    method: Method,
    path: &str,
) -> anyhow::Result<(StatusCode, Bytes)> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "localhost")
        .body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), LONGEST_ANSWER);
    let body = body.collect().await.map_err(anyhow::Error::from_boxed)?;
    driver.abort();
    Ok((status, body.to_bytes()))
}
