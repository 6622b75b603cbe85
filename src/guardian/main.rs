//! The guardian's own process: `incumbent guardian`, started by [`client`](super::client) with a
//! socket to the daemon as its standard input.
//!
//! One thread waits for messages, ends of processes, the daemon's death and the clock, asks
//! `decide` what follows, and does it. It never waits for anything else: not for
//! the daemon to read, not for the store, not for who reads the log, not for an exec. It is the thread that forks,
//! since the kernel kills the main processes when that thread ends.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{PidfdFlags, Signal, getpid, getppid, pidfd_open, pidfd_send_signal, setsid};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};

use super::decide::checks::CheckGuard;
use super::decide::{GuardAction, GuardEvent, GuardLine, TermGuard};
use super::link::Link;
use super::offspring::{Orphans, Round};
use super::proc;
use super::protocol::{Exit, Report, Request};
use super::resigner::{Resigner, ResignerOutcome};
use super::signals;
use super::tree::Tree;
use super::waits::Waits;
use crate::clock::{self, Instant, Timer};
use crate::keys::{LeaseId, Prefix};
use crate::lines::{HookEnd, Speaker, Voice};
use crate::proc::survivor::{Survivor, learn_names};
use crate::revision::Token;
use crate::term::record::Unkillable;

/// Guards until nothing is left to guard; the exit code of the process.
pub fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            // Nothing is guarded yet, so a reader who doesn't read this holds up nothing.
            writeln!(io::stderr(), "incumbent: guardian: {error}").ok();
            ExitCode::FAILURE
        }
    }
}

/// Makes ready, greets the daemon and works. Fails only before it guards.
fn run() -> io::Result<ExitCode> {
    leave_session()?;
    // The end of a child is told by a signal, and the job's processes begin with this mask.
    signals::empty_mask()?;
    let mut link = Link::on_stdin().map_err(|_| {
        let text = "it is started by `incumbent run`, not by hand";
        io::Error::new(io::ErrorKind::Unsupported, text)
    })?;
    let parent = getppid().ok_or(Errno::SRCH)?;
    let pidfd = pidfd_open(parent, PidfdFlags::empty())?;
    rustix::thread::set_name(crate::proc::GUARDIAN)?;
    // Later on it waits for no disk.
    learn_names();
    let tree = Tree::new()?;
    let ends = listen_to_signals()?;
    let mut waits = Waits::new(&link)?;
    let Some((hello, rest)) = greet(&mut link, &mut waits)? else {
        return Ok(ExitCode::SUCCESS);
    };
    // Its id could have been given to another before the pidfd was opened.
    if proc::id(parent) != hello.daemon || getppid() != Some(parent) {
        return Err(io::Error::other("its parent is not the daemon"));
    }
    let mut tree = tree;
    if hello.records {
        tree.record_in(link.take_handed_over());
    }
    tree.take_input(link.take_handed_over());
    let mind = if hello.checks {
        rustix::thread::set_name(crate::proc::CHECKS)?;
        GuardianMind::Checks(CheckGuard::default())
    } else {
        GuardianMind::Guard(Box::default())
    };
    let mut resigner = Resigner::new()?;
    if !hello.checks {
        resigner.start()?;
    }
    let log = crate::log::init(&hello.log)?;
    crate::vital::watch(crate::log::flush);
    let timer = Timer::new()?;
    waits.add_daemon(&pidfd)?;
    waits.add(&ends)?;
    waits.add(&timer)?;
    waits.add(&resigner)?;
    log.speak_for(&hello.election, &hello.candidate);
    let mut guardian = GuardianLoop {
        log,
        mind,
        tree,
        link,
        daemon: WatchedDaemon {
            pidfd,
            orphans: Orphans::of(parent.as_raw_pid()),
            exited: false,
            dead: false,
            closed: false,
        },
        resigner,
        timer,
        waits,
        ends,
        election: hello.election,
        candidate: hello.candidate,
        says_next: Instant::BOOT,
        stuck: Vec::new(),
        leaving: false,
    };
    let pid = proc::id(getpid());
    guardian.link.send(&Report::Ready { pid });
    let outcome = guardian.work(rest);
    if let Err(error) = &outcome {
        tracing::error!(%error, "guardian failed");
    }
    Ok(outcome.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS))
}

/// Leaves the daemon's session and process group: what stops or kills that group as a whole, from
/// a terminal or a shell, would leave nobody to end the job.
fn leave_session() -> io::Result<()> {
    match setsid() {
        // The leader of a group, which no child of a daemon is, has one of its own already.
        Ok(_) | Err(Errno::PERM) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Signals that the daemon understands, and that reach its guardian too where they are sent by
/// name or through the unit's cgroup. A terminal's stop signals don't: the kernel spares a group
/// whose session has no other.
const DEAF_TO: [i32; 6] = [SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2];

/// Survives what is meant for the daemon, and hears of the ends of processes.
///
/// The former is caught, not ignored: an exec resets what is caught.
fn listen_to_signals() -> io::Result<UnixStream> {
    for signal in DEAF_TO {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
    }
    let (ends, wakes) = UnixStream::pair()?;
    ends.set_nonblocking(true)?;
    signal_hook::low_level::pipe::register(SIGCHLD, wakes)?;
    Ok(ends)
}

/// The daemon's first message.
struct Hello {
    daemon: u32,
    log: crate::log::LogSettings,
    election: Prefix,
    candidate: String,
    checks: bool,
    records: bool,
}

/// Waits for the first message; returns it and what came with it, or nothing if the daemon left.
fn greet(link: &mut Link, waits: &mut Waits) -> io::Result<Option<(Hello, Vec<Request>)>> {
    loop {
        let mut requests = link.receive().into_iter();
        match requests.next() {
            Some(Request::Hello {
                daemon,
                log,
                election,
                candidate,
                checks,
                records,
            }) => {
                let hello = Hello {
                    daemon,
                    log,
                    election,
                    candidate,
                    checks,
                    records,
                };
                return Ok(Some((hello, requests.collect())));
            }
            Some(_) => return Err(io::Error::other("the first message was no hello")),
            None if !link.is_open() => return Ok(None),
            None => drop(waits.wait()?),
        }
    }
}

/// Between two words of a guardian that is killing.
const PROGRESS: Duration = Duration::from_millis(20);

/// The daemon, as the guardian sees it.
struct WatchedDaemon {
    pidfd: OwnedFd,
    /// What its Rust job leaves behind.
    orphans: Orphans,
    /// Whether its end was seen.
    exited: bool,
    /// Whether it is dead, and with it all that came of a Rust job in it.
    dead: bool,
    /// Whether the end of its socket was seen.
    closed: bool,
}

/// Who decides: of a term, or of checks.
enum GuardianMind {
    Guard(Box<TermGuard>),
    Checks(CheckGuard),
}

impl GuardianMind {
    fn handle(&mut self, event: GuardEvent, now: Instant) -> Vec<GuardAction> {
        match self {
            Self::Guard(guard) => guard.handle(event, now),
            Self::Checks(checks) => checks.handle(event, now),
        }
    }

    /// Whether a Rust job may have run in the daemon, and left processes behind.
    fn may_have_orphans(&self) -> bool {
        matches!(self, Self::Guard(guard) if guard.runs_in_daemon())
    }

    fn next_timer(&self) -> Option<Instant> {
        match self {
            Self::Guard(guard) => guard.next_timer(),
            Self::Checks(checks) => checks.next_timer(),
        }
    }
}

/// Everything that the loop works with.
struct GuardianLoop {
    log: crate::log::LogGuard,
    mind: GuardianMind,
    tree: Tree,
    link: Link,
    daemon: WatchedDaemon,
    resigner: Resigner,
    timer: Timer,
    waits: Waits,
    /// Readable when a child has ended.
    ends: UnixStream,
    election: Prefix,
    candidate: String,
    /// When it may say again that it is killing.
    says_next: Instant,
    /// What of the job was sent SIGKILL and lives on, as last said.
    stuck: Vec<Unkillable>,
    leaving: bool,
}

impl GuardianLoop {
    fn work(&mut self, first: Vec<Request>) -> io::Result<()> {
        let now = clock::now();
        for request in first {
            self.feed(GuardEvent::Request(request), now);
        }
        let mut daemon_died = false;
        loop {
            self.round(daemon_died);
            if self.leaving {
                return Ok(());
            }
            daemon_died = self.wait()?;
        }
    }

    /// Takes in all that has happened, and does what follows.
    fn round(&mut self, daemon_died: bool) {
        // Read before the socket is: should this process be stopped in between, timers that come
        // due meanwhile wait for the next round, and so for what the daemon has sent meanwhile.
        let now = clock::now();
        for request in self.link.receive() {
            self.feed(GuardEvent::Request(request), now);
        }
        self.notice_closed(now);
        let mut wakes = [0; 64];
        while matches!(self.ends.read(&mut wakes), Ok(length) if length > 0) {}
        self.reap(now);
        self.daemon.exited |= daemon_died;
        if self.daemon.exited && !self.daemon.dead && self.is_rid_of_orphans(now) {
            self.daemon.dead = true;
            self.feed(GuardEvent::DaemonDead, now);
        }
        for outcome in self.resigner.outcomes() {
            let event = match outcome {
                ResignerOutcome::GivenBack(lease, confirmed) => {
                    GuardEvent::GivenBack { lease, confirmed }
                }
                ResignerOutcome::KeyGone(lease) => GuardEvent::KeyGone { lease },
            };
            self.feed(event, now);
        }
        self.feed(GuardEvent::Tick, now);
        self.link.flush();
        self.notice_closed(now);
    }

    /// Kills what a Rust job in the daemon left behind; returns whether nothing of it is left. Until
    /// then the daemon isn't dead.
    fn is_rid_of_orphans(&mut self, now: Instant) -> bool {
        if !self.mind.may_have_orphans() {
            return true;
        }
        match self.daemon.orphans.round(now) {
            Round::Clean => true,
            Round::Left(pids) => {
                if !pids.is_empty() {
                    let text = format!("{pids:?}");
                    self.speaker().leftovers_can_not_be_killed(&text);
                    let them: Vec<_> = pids
                        .iter()
                        .map(|pid| Survivor::of(pid.cast_signed()))
                        .collect();
                    self.stuck = Unkillable::first_of(&them);
                }
                false
            }
        }
    }

    fn reap(&mut self, now: Instant) {
        for event in self.tree.reap() {
            self.feed(event, now);
        }
    }

    fn notice_closed(&mut self, now: Instant) {
        if !self.link.is_open() && !self.daemon.closed {
            self.daemon.closed = true;
            self.feed(GuardEvent::DaemonClosed, now);
        }
    }

    /// Waits for whatever comes first; returns whether the daemon is dead.
    fn wait(&mut self) -> io::Result<bool> {
        let orphans = self.daemon.orphans.next_round();
        let timers = [
            self.mind.next_timer(),
            orphans.filter(|_| !self.daemon.dead),
        ];
        self.timer
            .arm(timers.into_iter().flatten().reduce(Instant::min))?;
        // What has ended is readable for ever, and is left out.
        if self.daemon.exited {
            self.waits.leave_daemon(&self.daemon.pidfd);
        }
        let (is_open, backlog) = (self.link.is_open(), self.link.has_backlog());
        self.waits.set_link(&self.link, is_open, backlog);
        for news in self.tree.news() {
            self.waits.add_once(news);
        }
        self.waits.wait()
    }

    fn feed(&mut self, event: GuardEvent, now: Instant) {
        if let GuardEvent::Request(Request::Log(settings)) = &event {
            self.log.reload(settings);
        }
        for action in self.mind.handle(event, now) {
            self.act(action, now);
        }
    }

    fn act(&mut self, action: GuardAction, now: Instant) {
        match action {
            GuardAction::Report(report) => {
                if matches!(report, Report::Empty { .. } | Report::AtEnd { .. }) {
                    self.stuck.clear();
                }
                self.link.send(&report);
            }
            GuardAction::Spawn {
                run,
                command,
                before,
            } => {
                if let Some(failed) = self.tree.spawn(run, command, before) {
                    self.feed(failed, now);
                    // Nothing that ends would tell that the tree is empty.
                    self.reap(now);
                }
            }
            GuardAction::StopTree { signal } => self.tree.stop(signal),
            GuardAction::SignalTree { signal } => self.tree.signal(signal),
            GuardAction::KillTree => self.kill_tree(now),
            GuardAction::KillDaemon => {
                if let Err(error) = pidfd_send_signal(&self.daemon.pidfd, Signal::KILL)
                    && error != Errno::SRCH
                {
                    tracing::error!(%error, "daemon not killed");
                }
            }
            GuardAction::SayStuck { token, lease } => self.say_stuck(token, lease),
            GuardAction::Connect(resignation) => self.resigner.connect(resignation),
            GuardAction::LookForKey(resignation) => self.resigner.look_for_key(resignation),
            GuardAction::Renew(resignation) => {
                let shown = resignation.token.map(|_| self.stuck.clone());
                self.resigner.renew(resignation, shown.unwrap_or_default());
            }
            GuardAction::GiveBack { resignation, until } => {
                self.resigner.give_back(resignation, until);
            }
            GuardAction::Say(line) => self.say(&line),
            GuardAction::Exit => self.leaving = true,
        }
    }

    fn kill_tree(&mut self, now: Instant) {
        // Before the work, which may take long: who is at it must not pass for stopped.
        if now >= self.says_next {
            self.says_next = now + PROGRESS;
            self.link.send_now(&Report::Killing);
        }
        for event in self.tree.kill() {
            self.feed(event, now);
        }
    }

    fn say_stuck(&mut self, token: Token, lease: Option<LeaseId>) {
        let survivors = self.tree.survivors();
        self.speaker()
            .job_can_not_be_killed(lease, Some(token), &survivors, None);
        self.stuck = Unkillable::first_of(&survivors);
        self.link.send(&Report::Stuck { token, survivors });
    }

    fn speaker(&self) -> Speaker<'_> {
        Speaker {
            voice: Voice::Guardian,
            election: &self.election,
            candidate: &self.candidate,
        }
    }

    fn say(&self, line: &GuardLine) {
        let speaker = self.speaker();
        match *line {
            GuardLine::TermLost {
                lease,
                token,
                reason,
            } => speaker.term_lost(lease, token, reason),
            GuardLine::JobStopped {
                lease,
                token,
                pid,
                killed,
                took,
            } => speaker.job_stopped(lease, token, pid, killed, took),
            GuardLine::HookEnded {
                lease,
                token,
                pid,
                ref exit,
                killed,
                ran,
            } => {
                let (code, signal, error) = exit.as_ref().map(Exit::parts).unwrap_or_default();
                let end = HookEnd {
                    hook: "on_lost",
                    pid,
                    code,
                    signal,
                    error,
                    killed,
                    ran,
                };
                speaker.hook_ended(lease, token, &end);
            }
            GuardLine::Resigned {
                lease,
                token,
                confirmed,
            } => speaker.resigned(lease, token, confirmed),
        }
    }
}
