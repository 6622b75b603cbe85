//! What the guardian decides: a state machine without I/O, clock or thread.
//!
//! [`main`](super::main) feeds it what happened and carries out what it answers. The invariant: a
//! process of a term lives only while the term's deadline and the daemon allow it (R2, R4), and a
//! lease is given back only when the tree is proven empty and nothing else can run the job (R5).
//!
//! ```text
//! term   open ──Stop, Kill, D−G−K, daemon gone──▶ closed ──EndTerm, given back──▶ ended
//! tree   empty ──Start──▶ alive ──any stop──▶ stopping ──grace over, D−K──▶ killed ──▶ empty
//! daemon alive ──end of file──▶ closed ──▶ dead ──tree empty──▶ every lease is given back
//! ```
//! Where a closed term has a hook at its end, the tree is the hook's once it is empty of the job,
//! and only then empty for good.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::protocol::{CommandSpec, Exit, Refusal, Report, Request, TermSpec};
use crate::clock::Instant;
use crate::keys::LeaseId;
use crate::reason::EndReason;
use crate::revision::Token;
use crate::term::resignation::Resignation;

mod at_end;
pub(super) mod checks;
mod daemon;
mod own_key;
mod requests;
#[cfg(test)]
mod tests;
mod tree;

use at_end::AtEnd;
pub(crate) use at_end::HOOK;

/// From the first SIGKILL until the tree is taken for one that can't be emptied, and is renewed
/// for where nobody else does.
const UNKILLABLE: Duration = Duration::from_millis(100);

/// What happened.
#[derive(Debug)]
pub(crate) enum GuardEvent {
    /// The daemon asks for something.
    Request(Request),
    /// The main process of a run was executed.
    Executed { run: u64, pid: u32 },
    /// A run's command could not be executed. [`GuardEvent::TreeEmpty`] follows if it was alone.
    NotExecuted { run: u64, code: i32, error: String },
    /// The exec came too late, by the clock as the child read it. The same follows.
    TooLate { run: u64 },
    /// A run's process was killed before it was executed. The same follows.
    KilledEarly { run: u64, signal: i32 },
    /// The main process of a run was reaped.
    MainEnded { run: u64, pid: u32, exit: Exit },
    /// Processes were reaped, but not all.
    Reaped,
    /// No child is left.
    TreeEmpty,
    /// The daemon's end of the socket is closed, or can't be understood.
    DaemonClosed,
    /// The daemon is dead.
    DaemonDead,
    /// The attempt to give a lease back is over.
    GivenBack { lease: LeaseId, confirmed: bool },
    /// The key of the candidacy with this lease is gone, or another's.
    KeyGone { lease: LeaseId },
    /// Everything that lay in the socket at this time was handled, so timers may be acted on: a
    /// guardian that was stopped takes the newer deadline before it acts on an old one.
    Tick,
}

/// What is to be done about it, in order.
#[derive(Debug)]
pub(crate) enum GuardAction {
    /// Tell the daemon.
    Report(Report),
    /// Start a run, unless `before` has come; answered, at some time, by one of the events that say
    /// what became of it.
    Spawn {
        run: u64,
        command: CommandSpec,
        before: Instant,
    },
    /// Ask the tree to stop: the groups of all main processes, or where none is left, everyone.
    StopTree { signal: i32 },
    /// Pass a signal on to the tree, as [`GuardAction::StopTree`] does.
    SignalTree { signal: i32 },
    /// Send SIGKILL to the whole tree.
    KillTree,
    /// Send SIGKILL to the daemon.
    KillDaemon,
    /// Say, to the daemon and in the log, who can't be killed.
    SayStuck {
        token: Token,
        lease: Option<LeaseId>,
    },
    /// Get ready to speak to the store.
    Connect(Resignation),
    /// Look once for the candidacy's own key; answered by [`GuardEvent::KeyGone`] if that proves it gone.
    LookForKey(Resignation),
    /// Renew a lease once.
    Renew(Resignation),
    /// Give a lease back; answered by [`GuardEvent::GivenBack`].
    GiveBack {
        resignation: Resignation,
        until: Instant,
    },
    /// Write a line to the log.
    Say(GuardLine),
    /// Nothing is left to guard.
    Exit,
}

/// A log line that the guardian writes since the daemon can't.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GuardLine {
    /// `term lost`.
    TermLost {
        lease: Option<LeaseId>,
        token: Token,
        reason: EndReason,
    },
    /// `job stopped`.
    JobStopped {
        lease: Option<LeaseId>,
        token: Token,
        pid: Option<u32>,
        killed: bool,
        took: Duration,
    },
    /// `hook ended`.
    HookEnded {
        lease: Option<LeaseId>,
        token: Token,
        pid: Option<u32>,
        exit: Option<Exit>,
        /// Whether it was killed when its time was over.
        killed: bool,
        ran: Duration,
    },
    /// `resigned`.
    Resigned {
        lease: LeaseId,
        token: Option<Token>,
        confirmed: bool,
    },
}

/// The state that decisions follow from.
#[derive(Debug, Default)]
pub(crate) struct TermGuard {
    leases: BTreeMap<LeaseId, Lease>,
    term: Option<Guarded>,
    /// Every term up to this token has ended here.
    ended: Option<Token>,
    /// The last run that a start was asked for.
    last_run: u64,
    /// The living processes; `None` if proven empty.
    tree: Option<GuardedTree>,
    daemon: Daemon,
    /// When SIGKILL was sent to the daemon.
    daemon_killed: Option<Instant>,
    /// When the leases are renewed next, should somebody have to.
    next_renewal: Option<Instant>,
    /// When the own key is looked for next, should nobody else watch it.
    next_look: Instant,
    actions: Vec<GuardAction>,
}

/// What is known of the daemon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Daemon {
    /// Its end of the socket is open.
    #[default]
    Alive,
    /// It is being killed, and won't be heard any more.
    Closed,
    /// Its pidfd says that it is dead.
    Dead,
}

/// A lease to give back.
#[derive(Debug)]
struct Lease {
    resignation: Resignation,
    given_back: bool,
}

/// The present term.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Guarded {
    term: TermSpec,
    /// Whether starts are refused for good.
    closed: bool,
    /// Whether D−G−K has come; the deadline doesn't move any more.
    late: bool,
    /// Whether the daemon said that nothing of it runs; kept only until the tree is empty.
    over: bool,
    /// When the daemon is to kill itself for a Rust job's sake, unless D−K comes first.
    daemon_grace_end: Option<Instant>,
    /// When the guardian gives the lease back, unless the daemon speaks up.
    silent_until: Option<Instant>,
    /// The job's end, for the log, should the daemon not speak up.
    stopped: Option<GuardLine>,
    /// When to get ready to speak to the store, unless that was done.
    connect_at: Option<Instant>,
    /// What is to run at its end, until that begins or there is no time for it.
    at_end: Option<AtEnd>,
    /// Whether anything was run in it.
    has_run: bool,
}

/// The living processes.
#[derive(Debug)]
struct GuardedTree {
    /// The term they belong to.
    token: Token,
    /// The runs whose main process lives, or is being started.
    mains: BTreeSet<u64>,
    /// The main process that was started last.
    pid: Option<u32>,
    stop: Option<TreeStop>,
    /// The hook at the term's end, if the tree is that.
    at_end: Option<at_end::RunningHook>,
}

/// A stop of the tree.
#[derive(Debug)]
struct TreeStop {
    signal: i32,
    began: Instant,
    /// When SIGKILL follows, unless D−K comes first.
    grace_end: Instant,
    /// Whether those that a main process left behind were asked too.
    asked_all: bool,
    killing: Option<Killing>,
}

/// A tree that SIGKILL was sent to.
#[derive(Debug)]
struct Killing {
    since: Instant,
    next_round: Instant,
    next_word: Instant,
}

impl TermGuard {
    /// Takes in one event and returns what is to be done, in order.
    pub(crate) fn handle(&mut self, event: GuardEvent, now: Instant) -> Vec<GuardAction> {
        match event {
            GuardEvent::Request(request) if self.daemon == Daemon::Alive => {
                self.asked(request, now);
            }
            // What a daemon said that is being killed counts no more; of a hook that came too late there
            // is nothing to say.
            GuardEvent::Request(_) | GuardEvent::TooLate { run: HOOK } => {}
            GuardEvent::Executed { run: HOOK, pid } => self.at_end_executed(pid),
            GuardEvent::NotExecuted {
                run: HOOK,
                code,
                error,
            } => self.at_end_ended(Exit::NotExecuted { code, error }),
            GuardEvent::KilledEarly { run: HOOK, signal } => {
                self.at_end_ended(Exit::Signal(signal));
            }
            GuardEvent::MainEnded {
                run: HOOK, exit, ..
            } => self.at_end_ended(exit),
            GuardEvent::Executed { run, pid } => self.executed(run, pid),
            GuardEvent::NotExecuted { run, code, error } => self.not_executed(run, code, error),
            GuardEvent::KilledEarly { run, signal } => self.killed_early(run, signal),
            GuardEvent::TreeEmpty => self.tree_empty(now),
            GuardEvent::TooLate { run } => {
                self.not_started(run);
                self.refuse(run, Refusal::Deadline);
            }
            GuardEvent::MainEnded { run, pid, exit } => self.main_ended(run, pid, exit),
            GuardEvent::Reaped => self.reaped(now),
            GuardEvent::DaemonClosed => self.daemon_closed(now),
            GuardEvent::DaemonDead => self.daemon_dead(now),
            GuardEvent::GivenBack { lease, confirmed } => self.given_back(lease, confirmed),
            GuardEvent::KeyGone { lease } => self.key_gone(lease, now),
            GuardEvent::Tick => self.tick(now),
        }
        std::mem::take(&mut self.actions)
    }

    /// Whether a Rust job may run in the daemon.
    pub(super) fn runs_in_daemon(&self) -> bool {
        let term = self.term.as_ref();
        term.is_some_and(|guarded| guarded.term.in_daemon)
    }

    /// When the next [`GuardEvent::Tick`] is due.
    pub(crate) fn next_timer(&self) -> Option<Instant> {
        let timers = [self.next_deadline(), self.look_at()];
        timers.into_iter().flatten().reduce(Instant::min)
    }

    /// The same, but for looks for the own key.
    fn next_deadline(&self) -> Option<Instant> {
        let term = self.term.as_ref().filter(|guarded| !guarded.over);
        let killing = self.killing();
        [
            term.filter(|guarded| !guarded.late && self.daemon == Daemon::Alive)
                .map(|guarded| guarded.term.stop_at()),
            term.and_then(|guarded| guarded.silent_until),
            term.and_then(|guarded| guarded.connect_at),
            self.daemon_kill_at(),
            self.tree_kill_at(),
            killing.map(|killing| killing.next_round),
            self.renewal_at(),
        ]
        .into_iter()
        .flatten()
        .reduce(Instant::min)
    }

    fn tick(&mut self, now: Instant) {
        let term = self.term.as_mut().filter(|guarded| !guarded.over);
        if let Some(guarded) = term
            && self.daemon == Daemon::Alive
            && !guarded.late
            && now >= guarded.term.stop_at()
        {
            guarded.late = true;
            guarded.closed = true;
            let (token, signal) = (guarded.term.token, guarded.term.stop_signal);
            let kill_at = guarded.term.kill_at();
            self.report(Report::Stopping { token });
            self.stop_tree(token, signal, kill_at, now);
            self.listen(now);
        }
        if self.tree_kill_at().is_some_and(|at| now >= at) {
            self.kill_tree(now);
        }
        if self
            .killing()
            .is_some_and(|killing| now >= killing.next_round)
        {
            self.kill_round(now);
        }
        if self.daemon_kill_at().is_some_and(|at| now >= at) {
            self.say_why_killed(now);
            self.kill_daemon(now);
        }
        if self.renewal_at().is_some_and(|at| now >= at) {
            self.renew(now);
        }
        self.stand_in(now);
        self.make_ready(now);
        if self.look_at().is_some_and(|at| now >= at) {
            self.look(now);
        }
    }

    /// The present term, if this is its token.
    fn present(&mut self, token: Token) -> Option<&mut Guarded> {
        self.term
            .as_mut()
            .filter(|guarded| guarded.term.token == token)
    }

    /// The lease that the term of this token hangs on.
    fn lease_of(&self, token: Token) -> Option<LeaseId> {
        let mut leases = self.leases.iter();
        let lease = leases.find(|(_, lease)| lease.resignation.token == Some(token))?;
        Some(*lease.0)
    }

    fn act(&mut self, action: GuardAction) {
        self.actions.push(action);
    }

    fn report(&mut self, report: Report) {
        self.act(GuardAction::Report(report));
    }

    fn refuse(&mut self, run: u64, reason: Refusal) {
        self.report(Report::Refused { run, reason });
    }
}
