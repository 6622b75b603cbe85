//! Where the candidate stands, with what it holds there.
//!
//! ```text
//!            time to rejoin       elected             shutdown, step-down, unhealthy, run over
//!  ┌─ Out ────────────▶ Standing ───────▶ Leading ──────────────┬──────────────┐
//!  │   ▲ ▲                 │  lost           │ lost, deadline,   ▼              │
//!  │   │ │                 ▼                 │ guardian gone  Ending            │
//!  │   │ └───── left ── GivingBack ◀── empty, fenced ──────────────┘
//!  │   └ cooldown           │ left, after a shutdown
//!  └──── shutdown ────────▶ Over
//! ```
//!
//! What the rules forbid has no place here: a run stands only in a term (R4), and a term that is
//! given back has none (R5).

use std::sync::Arc;
use std::time::Duration;

use super::deadline::Due;
use super::run::{Run, What};
use super::words::{Elected, Joined, Left, Line};
use crate::clock::Instant;
use crate::config::timing::Timing;
use crate::job::restart::RestartVerdict;
use crate::keys::LeaseId;
use crate::reason::EndReason;
use crate::revision::Token;
use crate::session::Status;
use crate::term::record::Turn;
use crate::term::resignation::Resignation;

/// Where it stands.
#[derive(Debug, Default)]
pub(super) enum Place {
    /// Nowhere.
    Out(Out),
    /// On its way to the queue, or in it.
    Standing(Box<Candidacy>),
    /// In front of it, with a complete claim.
    Leading(Box<Tenure>, Job),
    /// Its term ends; the tree isn't proven empty yet.
    Ending(Box<Tenure>, Ending),
    /// Everything is given back.
    GivingBack(Held, After),
    /// It is done.
    #[default]
    Over,
}

/// Out of the queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Out {
    /// When it stands again; `None` when that time came and it could not, for want of a guardian or
    /// of health: then it stands as soon as it can.
    pub(super) rejoin_at: Option<Instant>,
    /// Whether it is out on purpose.
    pub(super) cooldown: bool,
}

/// How far the job has come in a term.
#[derive(Debug)]
pub(super) enum Job {
    /// Asked for, or alive.
    Up(Run),
    /// Its main process has ended; the tree isn't proven empty yet.
    Emptying(Run, RestartVerdict),
    /// The next run is due then.
    Due(Instant),
    /// Between the runs of a schedule.
    Idle,
}

impl Job {
    /// The run with this number is asked for, or comes to be `what` it was asked for.
    pub(super) fn runs(&mut self, id: u64, what: What, now: Instant) {
        match self {
            Self::Up(run) if run.id == id => run.what = what,
            job => *job = Self::Up(Run::new(id, what, now)),
        }
    }
}

/// How a term ends.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Ending {
    pub(super) run: Option<Run>,
    pub(super) after: After,
    /// Whether the guardian is gone, so that only the fence proves the tree empty.
    pub(super) fencing: bool,
    /// Whether the job is being killed; else it was asked to stop.
    pub(super) killing: bool,
    /// Whether the job may go on for a while, which its schedule gives it.
    pub(super) draining: bool,
    /// Whether the term is lost, or may be by now: nothing is waited for but an empty tree.
    pub(super) lost: bool,
    /// Whether the tree is proven empty, and what is to be recorded of its last run is waited for.
    pub(super) empty: bool,
}

/// What is given back.
#[derive(Debug)]
pub(super) enum Held {
    /// A place in the queue, or what there is of one.
    Place(Box<Candidacy>),
    /// A term.
    Term(Box<Tenure>),
}

/// What follows once everything is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// Another candidacy.
    Rejoin(Pause),
    /// The end, with so much patience for a store that is away.
    Exit(Limit),
}

impl After {
    /// An exit within `limit`. Once only one attempt is left, no word gives more.
    pub(super) const fn or_exit(self, limit: Limit) -> Self {
        match self {
            Self::Exit(Limit::OneAttempt) => self,
            Self::Exit(Limit::Deadline) | Self::Rejoin(_) => Self::Exit(limit),
        }
    }
}

/// How long to try to give back, when the daemon is to exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// Until the deadline: after it the lease is gone by itself.
    Deadline,
    /// One more attempt.
    OneAttempt,
}

/// What to wait for before the next candidacy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pause {
    /// Nothing.
    None,
    /// The growing pause after a loss, for this reason.
    Backoff(EndReason),
    /// A fixed time out of the queue.
    Cooldown(Duration),
}

/// One candidacy, from the choice of its lease id on.
#[derive(Debug)]
pub(super) struct Candidacy {
    pub(super) lease: LeaseId,
    /// How to give it back; as the guardian and the stop hook know it.
    pub(super) resignation: Resignation,
    pub(super) timing: Timing,
    /// Since when it stands.
    pub(super) since: Instant,
    /// What is known of the lease, once it is granted.
    pub(super) status: Option<Status>,
    /// Its key in the queue, once there is one.
    pub(super) joined: Option<Joined>,
    /// Its turn, where it joined at a cold start.
    pub(super) turn: Option<Turn>,
}

/// A term that is led.
#[derive(Debug)]
pub(super) struct Tenure {
    pub(super) candidacy: Candidacy,
    pub(super) token: Token,
    /// Its times as they were granted.
    pub(super) granted: Timing,
    /// What is known of its lease.
    pub(super) status: Status,
    /// When it began, for people.
    pub(super) began: Arc<str>,
    /// What the guardian has been told of it.
    pub(super) guard: Guard,
    /// Whether a run was asked for in it.
    pub(super) has_run: bool,
    /// Whether the guardian waits for the end of a Rust job.
    pub(super) in_daemon: bool,
    /// Since when the hook at its end runs.
    pub(super) hook_since: Option<Instant>,
    /// The wish to step down that is being looked into.
    pub(super) wish: Option<Wish>,
    /// What its deadline has asked for so far.
    due: Due,
    /// Why it ends, for the history.
    pub(super) reason: EndReason,
    /// What was said of its loss.
    said: Said,
    /// The guardian has given the lease back in our place, and said so.
    pub(super) resigned_by_guardian: bool,
}

/// What the guardian has been told of a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guard {
    /// Nothing.
    None,
    /// All that it needs.
    Current,
    /// The configuration has changed since.
    Outdated,
}

/// A wish to step down, until the contest has told whether somebody can follow.
#[derive(Debug)]
pub(super) struct Wish {
    /// Never used twice: what the contest tells of an earlier one says nothing of this one.
    pub(super) number: u64,
    /// Who asked.
    pub(super) by: String,
    /// Whether only a term without a run is to end for it.
    pub(super) between_runs: bool,
}

/// What was said of a term's loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Nothing,
    /// The own key is gone; the line waits until it is known how.
    KeyGone,
    /// By the guardian, in our place.
    ByGuardian,
    Reason(EndReason),
}

impl Place {
    pub(super) fn candidacy(&self) -> Option<&Candidacy> {
        match self {
            Self::Standing(candidacy) | Self::GivingBack(Held::Place(candidacy), _) => {
                Some(candidacy)
            }
            Self::Leading(tenure, _)
            | Self::Ending(tenure, _)
            | Self::GivingBack(Held::Term(tenure), _) => Some(&tenure.candidacy),
            Self::Out(_) | Self::Over => None,
        }
    }

    pub(super) fn candidacy_mut(&mut self) -> Option<&mut Candidacy> {
        match self {
            Self::Standing(candidacy) | Self::GivingBack(Held::Place(candidacy), _) => {
                Some(candidacy)
            }
            Self::Leading(tenure, _)
            | Self::Ending(tenure, _)
            | Self::GivingBack(Held::Term(tenure), _) => Some(&mut tenure.candidacy),
            Self::Out(_) | Self::Over => None,
        }
    }

    pub(super) fn tenure(&self) -> Option<&Tenure> {
        match self {
            Self::Leading(tenure, _)
            | Self::Ending(tenure, _)
            | Self::GivingBack(Held::Term(tenure), _) => Some(tenure),
            _ => None,
        }
    }

    pub(super) fn tenure_mut(&mut self) -> Option<&mut Tenure> {
        match self {
            Self::Leading(tenure, _)
            | Self::Ending(tenure, _)
            | Self::GivingBack(Held::Term(tenure), _) => Some(tenure),
            _ => None,
        }
    }

    pub(super) const fn run(&self) -> Option<&Run> {
        match self {
            Self::Leading(_, Job::Up(run) | Job::Emptying(run, _)) => Some(run),
            Self::Ending(_, ending) => ending.run.as_ref(),
            _ => None,
        }
    }

    pub(super) const fn run_mut(&mut self) -> Option<&mut Run> {
        match self {
            Self::Leading(_, Job::Up(run) | Job::Emptying(run, _)) => Some(run),
            Self::Ending(_, ending) => ending.run.as_mut(),
            _ => None,
        }
    }

    /// What is known of the lease.
    pub(super) fn status(&self) -> Option<&Status> {
        match self.tenure() {
            Some(tenure) => Some(&tenure.status),
            None => self.candidacy()?.status.as_ref(),
        }
    }

    /// There is news of the lease.
    pub(super) fn know(&mut self, status: Status) {
        if let Some(tenure) = self.tenure_mut() {
            tenure.status = status;
        } else if let Some(candidacy) = self.candidacy_mut() {
            candidacy.status = Some(status);
        }
    }
}

impl Candidacy {
    pub(super) fn granted(&mut self, timing: Timing, status: Status) {
        self.timing = timing;
        self.resignation.ttl = timing.ttl();
        self.status = Some(status);
    }
}

impl Tenure {
    /// The term that a candidacy has come to.
    pub(super) fn new(mut candidacy: Candidacy, elected: Elected) -> Self {
        let Elected {
            token,
            cluster,
            status,
            at,
        } = elected;
        candidacy.resignation.token = Some(token);
        candidacy.resignation.cluster = cluster;
        candidacy.resignation.may_mark = true;
        Self {
            token,
            granted: candidacy.timing,
            candidacy,
            status,
            began: at,
            guard: Guard::None,
            has_run: false,
            in_daemon: false,
            hook_since: None,
            wish: None,
            due: Due::default(),
            reason: EndReason::Resigned,
            said: Said::Nothing,
            resigned_by_guardian: false,
        }
    }

    pub(super) const fn lease(&self) -> LeaseId {
        self.candidacy.lease
    }

    pub(super) const fn timing(&self) -> &Timing {
        &self.candidacy.timing
    }

    /// `D`.
    pub(super) const fn deadline(&self) -> Instant {
        self.status.deadline
    }

    /// D−K.
    pub(super) fn kill_at(&self) -> Instant {
        self.timing().kill(self.deadline())
    }

    /// Whether it is lost, or has come to the time of the polite stop, by its times as granted.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        let stop = self.granted.polite_stop(self.deadline());
        self.status.loss.is_some() || stop.after(now).is_zero()
    }

    /// The next of the polite stop and the SIGKILL.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.next_at(self.timing(), self.deadline())
    }

    /// What the deadline asks for by now, each once.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Due> {
        let (timing, deadline) = (self.candidacy.timing, self.deadline());
        self.due.take(&timing, deadline, now)
    }

    /// The guardian has ended the term, given the lease back, and said all that there is to say.
    pub(super) const fn given_back_by_guardian(&mut self) {
        self.resigned_by_guardian = true;
        if !matches!(self.said, Said::Reason(_)) {
            self.said = Said::ByGuardian;
        }
    }

    /// Says once why the term was lost.
    pub(super) fn say_lost(&mut self, reason: EndReason) -> Option<Line> {
        if matches!(self.said, Said::ByGuardian | Said::Reason(_)) {
            return None;
        }
        self.said = Said::Reason(reason);
        Some(Line::TermLost {
            lease: self.lease(),
            token: self.token,
            reason,
        })
    }

    /// The term is lost: says why, or waits with it, since a key that is gone was deleted, or its
    /// lease revoked, and the contest asks which.
    pub(super) fn lost(&mut self, reason: EndReason) -> Option<Line> {
        self.reason = reason;
        if reason != EndReason::Deleted {
            return self.say_lost(reason);
        }
        if self.said == Said::Nothing {
            self.said = Said::KeyGone;
        }
        None
    }

    /// The key was gone; the revocation has told whether the lease was gone with it.
    pub(super) fn say_lost_with_lease(&mut self, left: Left) -> Option<Line> {
        if self.said != Said::KeyGone {
            return None;
        }
        self.say_lost(left.explain(EndReason::Deleted))
    }

    /// Why the term ended, by the last that is known.
    pub(super) const fn ended(&self) -> EndReason {
        match self.said {
            Said::Reason(reason) => reason,
            Said::Nothing | Said::KeyGone | Said::ByGuardian => self.reason,
        }
    }
}
