//! Status endpoints, metrics and the page for people; on the control socket also what the daemon
//! is asked to do.
//!
//! All of it runs on a thread of its own, at a lower priority, and reads what the candidate
//! publishes: no client, however slow or hostile, comes near the main loop or the renewals. What
//! changes anything is reachable on the control socket only, which lies in the runtime directory
//! and so is open to the daemon's own user alone.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;

use crate::candidate::{JobStanding, Standings};
use crate::clock;
use crate::config::Config;
use crate::runtime_dir::{CONTROL_SOCKET, Dir};
use crate::vital;

pub(crate) mod client;
mod connections;
mod hosts;
mod page;
mod reader;
mod routes;
mod status;
mod tcp;

use connections::Connections;
use reader::OverviewReader;
use tcp::Tcp;

/// How much less than the threads that matter this one may have of a busy processor.
const NICE: i32 = 10;

/// How many connections may be open at once on the control socket, and on TCP; one more closes the
/// oldest, so that a flood is the flood's own trouble.
const MOST_OPEN: usize = 64;

/// Pause after a connection could not be accepted: there are no descriptors left.
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

/// By which way a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Via {
    /// The control socket.
    Control,
    /// `http.listen`, at this address of the host's.
    Tcp(Option<IpAddr>),
}

/// What the daemon is asked to do.
#[derive(Debug)]
pub(crate) enum Ask {
    /// To read its configuration anew, and to say what came of it.
    Reload(oneshot::Sender<Reloaded>),
}

/// What came of a reload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reloaded {
    /// Whether the new configuration holds.
    pub reloaded: bool,
    /// All that is wrong with it; if anything is, nothing has changed.
    pub problems: Vec<String>,
}

/// What all requests look at.
struct ServerState {
    standings: Standings,
    /// What all jobs have in common.
    shared: Mutex<Arc<Config>>,
    asks: mpsc::UnboundedSender<Ask>,
    reader: Arc<OverviewReader>,
}

impl ServerState {
    fn shared(&self) -> Arc<Config> {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&shared)
    }

    /// What the daemon stands for now, by the names of its jobs.
    fn standings(&self) -> Arc<[JobStanding]> {
        Arc::clone(&self.standings.borrow())
    }
}

/// What the thread is told.
enum ControlCommand {
    Reload(Arc<Config>, Option<std::net::TcpListener>),
}

/// The thread that answers; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    commands: mpsc::UnboundedSender<ControlCommand>,
    listen: Option<SocketAddr>,
}

impl Server {
    /// Listens on the control socket in `directory`, and on TCP if `config` says so, which has what all
    /// jobs have in common.
    ///
    /// An address that can't be had now is tried again: the job is worth more than its page.
    ///
    /// # Errors
    /// If there is no control socket, or no thread.
    pub(crate) fn start(
        directory: &Dir,
        config: &Arc<Config>,
        standings: &Standings,
        asks: &mpsc::UnboundedSender<Ask>,
    ) -> io::Result<Self> {
        let control = control_socket(directory)?;
        let listen = config.http_listen;
        let state = Arc::new(ServerState {
            standings: standings.clone(),
            reader: Arc::new(OverviewReader::new(config.etcd.clone())),
            shared: Mutex::new(Arc::clone(config)),
            asks: asks.clone(),
        });
        let (commands, inbox) = mpsc::unbounded_channel();
        let builder = tokio::runtime::Builder::new_current_thread();
        vital::spawn_with_runtime("http", builder, move |runtime| {
            // Of this thread alone, as Linux has it. Where it is refused nothing is lost but
            // politeness.
            _ = rustix::process::setpriority_process(None, NICE);
            LocalSet::new().block_on(&runtime, serve(control, listen, &state, inbox))
        })?;
        Ok(Self { commands, listen })
    }

    /// Goes on with this configuration.
    ///
    /// # Errors
    /// If it listens on another address that can't be had; nothing has changed then.
    pub(crate) fn reload(&mut self, config: &Arc<Config>) -> io::Result<()> {
        let listen = config.http_listen;
        let is_elsewhere = |old: SocketAddr, new: SocketAddr| old.port() != new.port();
        let listener = match (self.listen, listen) {
            // The old address may be in the new one's way until it is closed.
            (Some(old), Some(new)) if !is_elsewhere(old, new) => None,
            (_, Some(new)) => Some(tcp::bind(new)?),
            (_, None) => None,
        };
        self.listen = listen;
        // The thread ends only with the daemon.
        drop(
            self.commands
                .send(ControlCommand::Reload(Arc::clone(config), listener)),
        );
        Ok(())
    }
}

/// Makes the socket anew: the runtime directory is held, so whoever left one is gone.
fn control_socket(directory: &Dir) -> io::Result<std::os::unix::net::UnixListener> {
    directory.remove(CONTROL_SOCKET)?;
    let path = directory.inside(CONTROL_SOCKET);
    let socket = std::os::unix::net::UnixListener::bind(&path)?;
    // Until here the directory has kept others out.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

async fn serve(
    control: std::os::unix::net::UnixListener,
    listen: Option<SocketAddr>,
    state: &Arc<ServerState>,
    mut commands: mpsc::UnboundedReceiver<ControlCommand>,
) -> io::Result<()> {
    let control = UnixListener::from_std(control)?;
    let mut tcp = Tcp::new(listen);
    let mut to_control = Connections::new(MOST_OPEN, state);
    let mut to_tcp = Connections::new(MOST_OPEN, state);
    let mut said = false;
    loop {
        let accepted = tokio::select! {
            command = commands.recv() => match command {
                Some(ControlCommand::Reload(config, listener)) => {
                    tcp.change(config.http_listen, listener);
                    state.reader.reload(config.etcd.clone());
                    let mut held = state.shared.lock().unwrap_or_else(PoisonError::into_inner);
                    *held = config;
                    Ok(())
                }
                None => return Ok(()),
            },
            accepted = control.accept() => {
                accepted.map(|(stream, _)| to_control.serve(stream, Via::Control))
            },
            accepted = tcp.accept() => accepted.map(|stream| {
                let local = stream.local_addr().ok().map(|local| local.ip());
                to_tcp.serve(stream, Via::Tcp(local));
            }),
        };
        match accepted {
            Ok(()) => said = false,
            Err(error) => {
                // Once until one is accepted again: clients come back all the time.
                if !std::mem::replace(&mut said, true) {
                    tracing::warn!(%error, "connection not accepted: trying again");
                }
                clock::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
