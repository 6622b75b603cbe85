//! The daemon's side of its guardian: starts it, speaks to it, and fences when it is gone.
//!
//! The invariant: a request is never waited for by who sends it, and an acknowledgement that was
//! handed on was given by the guardian that lives. On its loss comes [`ClientEvent::Gone`], once and
//! last; the caller then [fences](Guardian::fence) and may start another.

use std::collections::VecDeque;
use std::io::ErrorKind::{TimedOut, UnexpectedEof};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as Socket;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::{Pid, PidfdFlags, WaitOptions, pidfd_open, waitpid};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, pipe};
use tokio::sync::{mpsc, oneshot, watch};

use super::fence::{Fence, FenceSettings, Fenced, become_subreaper};
use super::outgoing::{Outgoing, write};
use super::protocol::{Inbox, Report, Request, encode};
use crate::clock::Instant;
use crate::keys::{LeaseId, Prefix};
use crate::proc::survivor::learn_names;
use crate::proc::{Handle, Process};
use crate::revision::Token;
use crate::term::resignation::Resignation;

/// How long a guardian has to become ready; it takes a few milliseconds.
const START_LIMIT: Duration = Duration::from_secs(5);

/// How long the last reports of a dead guardian are awaited. They lie in the socket already.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// What the guardian has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientEvent {
    /// A report, acknowledgements included.
    Report(Report),
    /// The guardian is dead or its socket is closed: fence at once. The last event.
    Gone,
}

/// The guardian is gone: it will acknowledge nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the guardian is gone")]
pub struct Gone;

/// What a guardian is handed at its start.
#[derive(Clone, Copy, Debug, Default)]
pub struct HandedOver<'a> {
    /// What a run may have as its standard input.
    pub input: Option<BorrowedFd<'a>>,
    /// The file where its runs are to stand.
    pub runs: Option<BorrowedFd<'a>>,
}

/// A guardian that was started and has answered. Clones speak to the same one, from any thread.
///
/// Dropping the last clone closes the socket, which the guardian holds for this process's death:
/// unless nothing is left to guard, it kills this process. A process that means to live on, or to
/// exit with a code of its own, [dismisses](Guardian::dismiss) it.
#[derive(Clone, Debug)]
pub struct Guardian {
    pid: Pid,
    /// Its number may pass to another process once somebody has reaped it.
    process: Arc<Handle>,
    outgoing: mpsc::UnboundedSender<Outgoing>,
    waiting: Arc<Waiting>,
    acked: watch::Receiver<Option<(Token, Instant)>>,
    dead: watch::Receiver<bool>,
}

/// The guardians that this process has started, but for those that were seen dead, and those that are
/// just being started.
static STARTED: Mutex<StartedGuardians> = Mutex::new(StartedGuardians {
    known: Vec::new(),
    starting: 0,
});

struct StartedGuardians {
    known: Vec<Process>,
    starting: u32,
}

/// What a child of this process is to who looks for a guardian's tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kinship {
    /// A guardian.
    Guardian,
    /// Perhaps one that is just being started: its exec may hang, and nobody waits for that.
    Starting,
    /// Anything else.
    Other,
}

/// What this child of ours is.
pub(super) fn kinship(child: Process) -> Kinship {
    let started = started();
    if started.known.contains(&child) {
        return Kinship::Guardian;
    }
    let may_be = started.starting > 0;
    drop(started);
    // Before and after its exec it runs the program that runs here.
    let program = |pid| std::fs::read_link(format!("/proc/{pid}/exe")).ok();
    if may_be && program(child.pid) == program(Process::this().pid) {
        return Kinship::Starting;
    }
    Kinship::Other
}

/// The guardians but this one, by their numbers; and whether any is just being started.
pub(super) fn others(own: Pid) -> (Vec<i32>, bool) {
    let started = started();
    let others = started.known.iter().filter(|it| it.pid != own.as_raw_pid());
    let others = others.map(|guardian| guardian.pid).collect();
    (others, started.starting > 0)
}

fn started() -> MutexGuard<'static, StartedGuardians> {
    STARTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A start that is under way.
struct GuardianStart;

impl GuardianStart {
    fn begin() -> Self {
        let mut started = started();
        // One that can't be looked at may live.
        started
            .known
            .retain(|guardian| guardian.lives().unwrap_or(true));
        started.starting += 1;
        Self
    }

    /// It is this child.
    fn done(self, guardian: Process) {
        // In this order, or it would be nobody's for an instant.
        started().known.push(guardian);
        drop(self);
    }
}

impl Drop for GuardianStart {
    fn drop(&mut self) {
        started().starting -= 1;
    }
}

/// Those who wait for a lease to be remembered, in the order of sending.
type RequestQueue = VecDeque<(LeaseId, oneshot::Sender<()>)>;

/// The [`RequestQueue`], or `None` once the guardian is gone.
#[derive(Debug)]
struct Waiting(Mutex<Option<RequestQueue>>);

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, Option<RequestQueue>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remembered(&self, lease: LeaseId) {
        let first = self.lock().as_mut().and_then(|queue| {
            let at = queue.iter().position(|(waiting, _)| *waiting == lease)?;
            queue.remove(at)
        });
        if let Some((_, waiting)) = first {
            // Who doesn't wait any more has no need to know.
            waiting.send(()).ok();
        }
    }
}

impl Guardian {
    /// Makes this process a subreaper, starts a guardian, and waits until it is ready, for at
    /// most 5 s. Its reports come from the receiver. Runs on the caller's tokio runtime, and needs
    /// an executable that has the subcommand `guardian`.
    ///
    /// # Errors
    /// Fails if it can't be started or isn't ready in time; then none is left.
    ///
    /// # Cancel safety
    /// Dropping the future closes the guardian's socket, and it leaves.
    pub async fn start(
        log: &crate::log::LogSettings,
        election: &Prefix,
        candidate: &str,
    ) -> io::Result<(Self, mpsc::UnboundedReceiver<ClientEvent>)> {
        Self::start_with(log, election, candidate, HandedOver::default()).await
    }

    /// As [`start`](Self::start), and hands these descriptors over.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    ///
    /// # Cancel safety
    /// As [`start`](Self::start).
    pub async fn start_with(
        log: &crate::log::LogSettings,
        election: &Prefix,
        candidate: &str,
        handed: HandedOver<'_>,
    ) -> io::Result<(Self, mpsc::UnboundedReceiver<ClientEvent>)> {
        let records = handed.runs.is_some();
        Self::greet(hello(log, election, candidate, false, records), handed).await
    }

    /// As [`start`](Self::start), for one that runs checks and guards no term. It never kills this
    /// process; dismissed, it kills what it runs and leaves.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    ///
    /// # Cancel safety
    /// As [`start`](Self::start).
    pub async fn start_checks(
        log: &crate::log::LogSettings,
        election: &Prefix,
        candidate: &str,
        handed: HandedOver<'_>,
    ) -> io::Result<(Self, mpsc::UnboundedReceiver<ClientEvent>)> {
        let records = handed.runs.is_some();
        Self::greet(hello(log, election, candidate, true, records), handed).await
    }

    async fn greet(
        hello: Request,
        handed: HandedOver<'_>,
    ) -> io::Result<(Self, mpsc::UnboundedReceiver<ClientEvent>)> {
        become_subreaper()?;
        // Whom it can't see, neither it nor this process could kill.
        crate::proc::sees_own_children()?;
        crate::proc::ticks::children_share_clocks()?;
        learn_names();
        let (pid, pidfd, socket) = spawn_aside(hello, handed).await?;
        let socket = UnixStream::from_std(socket)?;
        let process = Handle::open(pid.as_raw_nonzero().get())?;
        let process = process.ok_or_else(|| gone_already(Errno::SRCH))?;
        let (outgoing, queue) = mpsc::unbounded_channel();
        let (events, mut reports) = mpsc::unbounded_channel();
        let (acked_sender, acked) = watch::channel(None);
        let (dead_sender, dead) = watch::channel(false);
        let guardian = Self {
            pid,
            process: Arc::new(process),
            outgoing,
            waiting: Arc::new(Waiting(Mutex::new(Some(VecDeque::new())))),
            acked,
            dead,
        };
        let (reader, writer) = socket.into_split();
        let reader = ReportReader {
            socket: reader,
            inbox: Inbox::default(),
            events,
            waiting: Arc::clone(&guardian.waiting),
            acked: acked_sender,
        };
        // No pipe, but a descriptor that becomes readable, which is all that is asked of it.
        let death = pipe::Receiver::from_owned_fd_unchecked(pidfd)?;
        tokio::spawn(await_death(death, dead_sender));
        tokio::spawn(write(queue, writer));
        tokio::spawn(reader.run(guardian.dead.clone()));
        match tokio::time::timeout(START_LIMIT, reports.recv()).await {
            Ok(Some(ClientEvent::Report(Report::Ready { .. }))) => Ok((guardian, reports)),
            answer => {
                guardian.kill();
                guardian.dismiss(START_LIMIT).await;
                Err(match answer {
                    Err(_) => io::Error::new(TimedOut, "the guardian isn't ready in time"),
                    Ok(_) => {
                        io::Error::new(UnexpectedEof, "the guardian ended before it was ready")
                    }
                })
            }
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        super::proc::id(self.pid)
    }

    /// Sends a request; never blocks. To a guardian that is gone it is lost.
    pub fn send(&self, request: Request) {
        if let Request::Lease(resignation) = request {
            drop(self.send_lease(*resignation));
        } else {
            self.outgoing.send(Outgoing::Request(request)).ok();
        }
    }

    /// Holds back all that is sent from now on until `done` is said, or its sender is gone; or until
    /// something is sent that ends anything: then all goes out in order.
    pub fn hold(&self, done: oneshot::Receiver<()>) {
        self.outgoing.send(Outgoing::After(done)).ok();
    }

    /// Has the guardian remember a lease; returns once it has.
    ///
    /// # Errors
    /// Fails if the guardian is gone.
    ///
    /// # Cancel safety
    /// The guardian is asked before this function returns its future; dropping that changes
    /// nothing.
    pub fn remember(
        &self,
        resignation: Resignation,
    ) -> impl Future<Output = Result<(), Gone>> + Send + use<> {
        let remembered = self.send_lease(resignation);
        async { remembered.await.map_err(|_| Gone) }
    }

    fn send_lease(&self, resignation: Resignation) -> oneshot::Receiver<()> {
        let (sender, remembered) = oneshot::channel();
        // Sent under the lock, so that the order of waiting is that of sending.
        if let Some(queue) = &mut *self.waiting.lock() {
            queue.push_back((resignation.lease, sender));
            let request = Request::Lease(Box::new(resignation));
            self.outgoing.send(Outgoing::Request(request)).ok();
        }
        remembered
    }

    /// The term and deadline that the guardian acknowledged last.
    pub fn acked_deadline(&self) -> Option<(Token, Instant)> {
        *self.acked.borrow()
    }

    /// Kills the guardian and then every other descendant of this process, on a thread of its own, but
    /// for other guardians and what they guard, and what came of other runs of Rust jobs; returns
    /// whether the tree was proven empty in time. Tells who lives on after a while, and every few
    /// seconds from then on.
    ///
    /// # Cancel safety
    /// Dropping the future stops nothing: the thread goes on until the time is over.
    pub async fn fence(&self, settings: FenceSettings) -> bool {
        let mut fence = Fence::new(Arc::clone(&self.process), self.pid, settings);
        loop {
            let (sender, proven) = oneshot::channel();
            let thread = std::thread::Builder::new().name("fence".to_owned());
            let on_thread = fence.clone();
            if thread.spawn(move || sender.send(on_thread.run())).is_ok() {
                return proven.await.unwrap_or(false);
            }
            // Without a thread to spare, a round here, and time for the main loop in between: it
            // renews as long as anything lives.
            match fence.round() {
                Fenced::Empty => return true,
                Fenced::GivenUp => return false,
                Fenced::Alive(_) => Fence::pause().await,
            }
        }
    }

    /// Lets the guardian go once it has all that was sent, and reaps it; returns whether it has
    /// gone within `limit`.
    ///
    /// Only with every lease forgotten, every term ended and the tree empty: a guardian that
    /// still has something to guard kills this process instead.
    pub async fn dismiss(&self, limit: Duration) -> bool {
        self.outgoing.send(Outgoing::Close).ok();
        let mut dead = self.dead.clone();
        let gone = tokio::time::timeout(limit, dead.wait_for(|dead| *dead)).await;
        // Others may have reaped it before, and then it is gone too.
        gone.is_ok() && !matches!(waitpid(Some(self.pid), WaitOptions::NOHANG), Ok(None))
    }

    /// Kills it; the kernel kills the main processes of what it runs.
    pub(crate) fn kill(&self) {
        self.process.kill().ok();
    }
}

fn hello(
    log: &crate::log::LogSettings,
    election: &Prefix,
    candidate: &str,
    checks: bool,
    records: bool,
) -> Request {
    Request::Hello {
        daemon: std::process::id(),
        log: log.clone(),
        election: election.clone(),
        candidate: candidate.to_owned(),
        checks,
        records,
    }
}

/// Starts the process on a thread of its own: its exec may hang, as that of a job may.
async fn spawn_aside(hello: Request, handed: HandedOver<'_>) -> io::Result<(Pid, OwnedFd, Socket)> {
    let handed = handed.runs.into_iter().chain(handed.input);
    let handed = handed.map(|it| it.try_clone_to_owned());
    let handed: Vec<_> = handed.collect::<io::Result<_>>()?;
    let (sender, spawned) = oneshot::channel();
    let body = move || {
        // One that nobody waits for any more finds its socket closed, and leaves.
        drop(sender.send(spawn(&hello, &handed)));
    };
    let thread = std::thread::Builder::new().name("guardian".to_owned());
    thread.spawn(body)?;
    match tokio::time::timeout(START_LIMIT, spawned).await {
        Ok(Ok(spawned)) => spawned,
        Ok(Err(_)) => Err(io::Error::other("the guardian can't be started")),
        Err(_) => Err(io::Error::other("the guardian isn't executed in time")),
    }
}

/// Starts the process: the executable that runs now, even if its file was replaced meanwhile.
/// Its first message lies in the socket by then, and what it is handed beside it.
fn spawn(hello: &Request, handed: &[OwnedFd]) -> io::Result<(Pid, OwnedFd, Socket)> {
    let (ours, theirs) = Socket::pair()?;
    ours.set_nonblocking(true)?;
    let line = encode(hello)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    let handed: Vec<_> = handed.iter().map(AsFd::as_fd).collect();
    if !handed.is_empty() {
        beside.push(SendAncillaryMessage::ScmRights(&handed));
    }
    let sent = sendmsg(
        &ours,
        &[IoSlice::new(&line)],
        &mut beside,
        SendFlags::NOSIGNAL,
    )?;
    if sent < line.len() {
        return Err(io::Error::other(
            "the first message is longer than a socket holds",
        ));
    }
    let start = GuardianStart::begin();
    let mut child = Command::new("/proc/self/exe")
        .arg0("incumbent")
        .arg("guardian")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("no such process id"))?;
    let Some(guardian) = Process::with_pid(pid.as_raw_pid()) else {
        // Nobody would know it for one.
        child.kill().ok();
        let why = "the guardian can't be looked at";
        return Err(io::Error::new(UnexpectedEof, why));
    };
    start.done(guardian);
    // Not reaped yet, so the id is still its own; or its end was so quick that it is nobody's.
    let pidfd = pidfd_open(pid, PidfdFlags::NONBLOCK).map_err(gone_already)?;
    Ok((pid, pidfd, ours))
}

/// What the system said of a process that was just started; where it is gone, of the kind of a guardian
/// that ended before it was ready.
fn gone_already(error: Errno) -> io::Error {
    match error {
        Errno::SRCH => io::Error::new(UnexpectedEof, io::Error::from(error)),
        other => other.into(),
    }
}

/// Learns of the guardian's death by its pidfd, which tells it even if the socket doesn't.
async fn await_death(pidfd: pipe::Receiver, dead: watch::Sender<bool>) {
    // A failure of the poll can't be told from a death, and is as bad.
    drop(pidfd.readable().await);
    dead.send_replace(true);
}

/// Hands on what the guardian says, until it says no more.
struct ReportReader {
    socket: OwnedReadHalf,
    inbox: Inbox,
    events: mpsc::UnboundedSender<ClientEvent>,
    waiting: Arc<Waiting>,
    acked: watch::Sender<Option<(Token, Instant)>>,
}

impl ReportReader {
    async fn run(mut self, mut dead: watch::Receiver<bool>) {
        let died = async { drop(dead.wait_for(|dead| *dead).await) };
        let dead_first = tokio::select! {
            () = self.read() => false,
            () = died => true,
        };
        if dead_first {
            tokio::time::timeout(LAST_WORDS, self.read()).await.ok();
        }
        self.waiting.lock().take();
        self.events.send(ClientEvent::Gone).ok();
    }

    /// Cancel safe: what has arrived is kept.
    async fn read(&mut self) {
        let mut chunk = vec![0; 4 * 1024];
        loop {
            match self.socket.read(&mut chunk).await {
                Ok(length) if length > 0 => self.inbox.push(&chunk[..length]),
                // A guardian that hung up is of no more use.
                Ok(_) | Err(_) => return,
            }
            loop {
                match self.inbox.take() {
                    Ok(Some(report)) => self.hand_on(report),
                    Ok(None) => break,
                    Err(error) => {
                        tracing::error!(%error, "guardian not understood");
                        return;
                    }
                }
            }
        }
    }

    fn hand_on(&self, report: Report) {
        match report {
            Report::Remembered { lease } => self.waiting.remembered(lease),
            Report::Guarded { token, deadline } => {
                self.acked.send_replace(Some((token, deadline)));
            }
            _ => {}
        }
        // Who doesn't listen any more has dropped the receiver.
        self.events.send(ClientEvent::Report(report)).ok();
    }
}
