//! The candidate's hold on its guardian: which one there is, and how the next one is started.

use std::io;
use std::io::ErrorKind::{TimedOut, UnexpectedEof};
use std::os::fd::AsFd;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::lines::Lines;
use crate::clock;
use crate::config::Config;
use crate::faults::may_pass;
use crate::guardian::client::{ClientEvent, Guardian, HandedOver};
use crate::guardian::protocol::Request;
use crate::proc::Process;
use crate::runtime_dir::lease_file::Keeper;

/// So often a first guardian may end before it says why.
const MOST_UNEXPLAINED: u32 = 60;

/// A guardian and what it says.
pub(super) type NewGuardian = (Guardian, mpsc::UnboundedReceiver<ClientEvent>);

/// Pause before another try to start a guardian.
const START_PAUSE: Duration = Duration::from_secs(1);

/// The guardian.
#[derive(Debug)]
pub(super) struct Guarding {
    guardian: Guardian,
    /// Its process, for the stop hook.
    process: Option<Process>,
    events: mpsc::UnboundedReceiver<ClientEvent>,
    /// It was given up on; the next one isn't there yet.
    gone: bool,
}

/// Starts a guardian for the candidate of `config`, which hands our standard input over to it if
/// its job is to have that. Its runs stand in the file that `files` has for them.
pub(super) async fn start(
    config: &Config,
    files: &Keeper,
    with_input: bool,
) -> io::Result<NewGuardian> {
    let stdin = io::stdin();
    let input = with_input.then(|| stdin.as_fd());
    let (election, candidate) = (&config.election.prefix, &config.candidate_name);
    let runs = Some(files.runs());
    let handed = HandedOver { input, runs };
    Guardian::start_with(&config.log, election, candidate, handed).await
}

/// Starts a guardian as `start` does, trying until there is one.
pub(super) async fn until_started<F>(lines: &Lines, start: impl Fn() -> F) -> NewGuardian
where
    F: Future<Output = io::Result<NewGuardian>>,
{
    loop {
        match start().await {
            Ok(started) => return started,
            Err(error) => say_and_pause(lines, &error).await,
        }
    }
}

/// Starts the first guardian as `start` does, trying again where what it lacks may be had a moment later,
/// or where it ends by itself, which may be for the same reason: a minute long.
pub(super) async fn try_to_start<F>(lines: &Lines, start: impl Fn() -> F) -> io::Result<NewGuardian>
where
    F: Future<Output = io::Result<NewGuardian>>,
{
    let mut unexplained = 0;
    loop {
        let started = start().await;
        let ended = |error: &io::Error| matches!(error.kind(), TimedOut | UnexpectedEof);
        unexplained += u32::from(started.as_ref().is_err_and(ended));
        match started {
            Err(error) if may_pass(&error) || ended(&error) && unexplained < MOST_UNEXPLAINED => {
                say_and_pause(lines, &error).await;
            }
            done => return done,
        }
    }
}

/// Between two tries.
async fn say_and_pause(lines: &Lines, error: &io::Error) {
    lines.guardian_not_started(error);
    clock::sleep(START_PAUSE).await;
}

/// What was said that was not heard yet.
pub(super) fn unheard(events: &mut mpsc::UnboundedReceiver<ClientEvent>) -> Vec<ClientEvent> {
    std::iter::from_fn(|| events.try_recv().ok()).collect()
}

impl Guarding {
    pub(super) async fn start(
        lines: &Lines,
        config: &Config,
        files: &Keeper,
        with_input: bool,
    ) -> io::Result<Self> {
        let started = try_to_start(lines, || start(config, files, with_input));
        Ok(Self::new(started.await?))
    }

    fn new((guardian, events): NewGuardian) -> Self {
        let process = i32::try_from(guardian.pid()).ok();
        Self {
            guardian,
            process: process.and_then(Process::with_pid),
            events,
            gone: false,
        }
    }

    /// Waits for the guardian's next word.
    pub(super) async fn next(&mut self) -> ClientEvent {
        if self.gone {
            return std::future::pending().await;
        }
        self.events.recv().await.unwrap_or(ClientEvent::Gone)
    }

    /// What the guardian has said that was not heard yet.
    pub(super) fn waiting(&mut self) -> Vec<ClientEvent> {
        if self.gone {
            return Vec::new();
        }
        unheard(&mut self.events)
    }

    /// Hears it no more.
    pub(super) const fn give_up(&mut self) {
        self.gone = true;
    }

    pub(super) fn replace(&mut self, started: NewGuardian) {
        *self = Self::new(started);
    }

    pub(super) fn guardian(&self) -> Guardian {
        self.guardian.clone()
    }

    /// Its process, for the stop hook.
    pub(super) fn process(&self) -> Option<Process> {
        self.process
    }

    pub(super) fn send(&self, request: Request) {
        self.guardian.send(request);
    }

    /// Holds back all that is sent from now on until `done` is said.
    pub(super) fn hold(&self, done: oneshot::Receiver<()>) {
        self.guardian.hold(done);
    }
}
