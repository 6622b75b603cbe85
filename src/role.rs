//! The role of this candidate, as a pure state machine: no I/O, no clock.
//!
//! [`Machine::on`] takes what happened and returns what is to be done; the candidate does it, and
//! brings back what came of it. What the rules forbid can't be asked for here: a run is started
//! only while leading with an empty tree (R4), and a term is given back only after the tree was
//! proven empty (R5).
//!
//! ```text
//!            RejoinDue            Elected             Shutdown, StepDown, Unhealthy, Ended
//!  ┌─ Idle ───────────▶ Contending ──────▶ Leading ──────────────┬──────────────┐
//!  │   ▲ ▲                 │  Lost           │ Lost, StopDue,    ▼              │
//!  │   │ │                 ▼                 │ GuardianGone   Ending            │
//!  │   │ └──── Left ── GivingBack ◀── Empty, Fenced ───────────────┘
//!  │   └ cooldown           │ Left, after Shutdown
//!  └──── Shutdown ────────▶ Over
//! ```
//!
//! Without a guardian, and while its check fails, it stays in `Idle`: the time to rejoin that came
//! meanwhile is made up for.

use crate::job::restart::Verdict;

mod words;

pub use words::{Action, Event, Limit, Patience, Pause, Reason, Role};

/// Whether this candidate may stand, by its check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    /// It may: the check says so, or there is none.
    Well,
    /// The first check has not ended yet.
    Unknown,
    Ill,
}

/// What follows once everything is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Rejoin(Pause),
    /// With so much patience for a store that is away.
    Exit(Limit),
}

impl After {
    /// An exit within `limit`. Once only one attempt is left, no word gives more.
    const fn or_exit(self, limit: Limit) -> Self {
        match self {
            Self::Exit(Limit::OneAttempt) => self,
            Self::Exit(Limit::Deadline) | Self::Rejoin(_) => Self::Exit(limit),
        }
    }
}

/// How far the job has come in a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Run {
    /// Asked for, or alive.
    Up,
    /// Its main process has ended; the tree isn't proven empty yet.
    Emptying(Verdict),
    /// Over; the next one waits for its pause.
    Delayed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle { cooldown: bool },
    Contending,
    Leading(Run),
    Ending { after: After, fencing: bool },
    GivingBack(After),
    Over,
}

/// The machine.
#[derive(Debug)]
pub struct Machine {
    state: State,
    /// No guardian guards: nothing may be contended for until there is one.
    unguarded: bool,
    health: Health,
    /// The time to rejoin came while it could not stand.
    overdue: bool,
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

impl Machine {
    /// A candidate that stands nowhere yet, with a guardian.
    pub const fn new() -> Self {
        Self {
            state: State::Idle { cooldown: false },
            unguarded: false,
            health: Health::Well,
            overdue: false,
        }
    }

    /// A candidate that stands nowhere before it is told that it is healthy.
    pub const fn checked() -> Self {
        Self {
            health: Health::Unknown,
            ..Self::new()
        }
    }

    /// The role to publish.
    pub const fn role(&self) -> Role {
        match self.state {
            State::Idle { .. } if matches!(self.health, Health::Ill) => Role::Unhealthy,
            // What was lost may take long to be given back to a store that is away.
            State::Idle { cooldown: false }
            | State::GivingBack(After::Rejoin(Pause::Backoff(_))) => Role::Waiting,
            State::Idle { cooldown: true }
            | State::GivingBack(After::Rejoin(Pause::Cooldown(_))) => Role::Cooldown,
            State::Contending => Role::Campaigning,
            State::Leading(_) => Role::Leading,
            State::Ending { .. } | State::GivingBack(_) | State::Over => Role::Stopping,
        }
    }

    /// Takes in what happened; returns what is to be done, in order.
    pub fn on(&mut self, event: Event) -> Vec<Action> {
        match event {
            Event::GuardianGone => self.guardian_gone(),
            Event::Fenced => self.fenced(),
            Event::Guarded => self.guarded(),
            Event::Healthy => self.healthy(),
            Event::Unhealthy => self.unhealthy(),
            event => match self.state {
                State::Idle { .. } => self.while_idle(&event),
                State::Contending => self.while_contending(&event),
                State::Leading(run) => self.while_leading(run, &event),
                State::Ending { after, fencing } => self.while_ending(after, fencing, &event),
                State::GivingBack(after) => self.while_giving_back(after, &event),
                State::Over => vec![],
            },
        }
    }

    fn while_idle(&mut self, event: &Event) -> Vec<Action> {
        match event {
            Event::RejoinDue if self.unguarded || self.health != Health::Well => {
                self.overdue = true;
                vec![]
            }
            Event::RejoinDue => {
                self.state = State::Contending;
                vec![Action::Contend]
            }
            Event::Shutdown | Event::ShutdownNow => self.exit(),
            _ => vec![],
        }
    }

    fn while_contending(&mut self, event: &Event) -> Vec<Action> {
        match event {
            Event::Elected => {
                self.state = State::Leading(Run::Up);
                vec![Action::StartRun]
            }
            Event::Lost(reason) => self.give_back(After::Rejoin(Pause::Backoff(*reason))),
            Event::StepDown => self.give_back(After::Rejoin(Pause::None)),
            Event::Shutdown => self.give_back(After::Exit(Limit::Deadline)),
            Event::ShutdownNow => self.give_back(After::Exit(Limit::OneAttempt)),
            _ => vec![],
        }
    }

    fn while_leading(&mut self, run: Run, event: &Event) -> Vec<Action> {
        match (run, event) {
            (Run::Up, Event::MainEnded(verdict)) => {
                self.state = State::Leading(Run::Emptying(*verdict));
                vec![Action::StopRun]
            }
            (Run::Emptying(verdict), Event::Empty) => self.run_over(verdict),
            (Run::Delayed, Event::RestartDue) => {
                self.state = State::Leading(Run::Up);
                vec![Action::StartRun]
            }
            (_, Event::Shutdown) => self.end(
                After::Exit(Limit::Deadline),
                Action::StopJob(Patience::Planned),
            ),
            (_, Event::ShutdownNow) => self.end(After::Exit(Limit::OneAttempt), Action::KillJob),
            (_, Event::StepDown) => self.end(
                After::Rejoin(Pause::None),
                Action::StopJob(Patience::Planned),
            ),
            (_, Event::Lost(reason)) => self.lose(*reason, Action::KillJob),
            // What the guardian refuses to start, it refuses because the term is ending.
            (_, Event::StopDue | Event::NotStarted) => {
                self.lose(Reason::DEADLINE, Action::StopJob(Patience::Lost))
            }
            (_, Event::KillDue) => self.lose(Reason::DEADLINE, Action::KillJob),
            _ => vec![],
        }
    }

    fn run_over(&mut self, verdict: Verdict) -> Vec<Action> {
        match verdict {
            Verdict::Again(pause) => {
                self.state = State::Leading(Run::Delayed);
                vec![Action::RestartAfter(pause)]
            }
            // The tree is empty already, but the term must refuse any further start first.
            Verdict::GiveBack(pause) => self.end(
                After::Rejoin(Pause::Cooldown(pause)),
                Action::StopJob(Patience::Planned),
            ),
        }
    }

    fn while_ending(&mut self, after: After, fencing: bool, event: &Event) -> Vec<Action> {
        match event {
            Event::Empty if !fencing => self.give_back(after),
            Event::Shutdown => {
                self.state = State::Ending {
                    after: after.or_exit(Limit::Deadline),
                    fencing,
                };
                vec![]
            }
            Event::ShutdownNow => {
                self.state = State::Ending {
                    after: after.or_exit(Limit::OneAttempt),
                    fencing,
                };
                vec![Action::KillJob]
            }
            Event::StopDue if !fencing => vec![Action::StopJob(Patience::Lost)],
            Event::KillDue | Event::Lost(_) => vec![Action::KillJob],
            _ => vec![],
        }
    }

    fn while_giving_back(&mut self, after: After, event: &Event) -> Vec<Action> {
        match (event, after) {
            (Event::Left, After::Exit(_)) => self.exit(),
            (Event::Left, After::Rejoin(pause)) => {
                let cooldown = matches!(pause, Pause::Cooldown(_));
                self.state = State::Idle { cooldown };
                vec![Action::RejoinAfter(pause)]
            }
            (Event::Shutdown, _) => self.hurry(after, Limit::Deadline),
            (Event::ShutdownNow, _) => self.hurry(after, Limit::OneAttempt),
            _ => vec![],
        }
    }

    fn guardian_gone(&mut self) -> Vec<Action> {
        self.unguarded = true;
        match self.state {
            State::Over => vec![],
            State::Leading(_) => {
                let after = After::Rejoin(Pause::Backoff(Reason::GUARDIAN));
                self.state = State::Ending {
                    after,
                    fencing: true,
                };
                vec![Action::SayLost(Reason::GUARDIAN), Action::Fence]
            }
            State::Ending { after, .. } => {
                self.state = State::Ending {
                    after,
                    fencing: true,
                };
                vec![Action::Fence]
            }
            // No job runs, but nobody would give the place back if this daemon were killed.
            State::Contending => {
                let mut actions = vec![Action::Fence];
                actions.extend(self.give_back(After::Rejoin(Pause::Backoff(Reason::GUARDIAN))));
                actions
            }
            State::Idle { .. } | State::GivingBack(_) => vec![Action::Fence],
        }
    }

    fn fenced(&mut self) -> Vec<Action> {
        match self.state {
            State::Ending { after, .. } => self.give_back(after),
            _ => vec![],
        }
    }

    fn guarded(&mut self) -> Vec<Action> {
        self.unguarded = false;
        self.make_up()
    }

    fn healthy(&mut self) -> Vec<Action> {
        self.health = Health::Well;
        self.make_up()
    }

    fn unhealthy(&mut self) -> Vec<Action> {
        self.health = Health::Ill;
        let after = After::Rejoin(Pause::None);
        match self.state {
            State::Contending => self.give_back(after),
            State::Leading(_) => self.end(after, Action::StopJob(Patience::Planned)),
            // What goes on ends in any case, and it stands again only once it is healthy.
            State::Idle { .. } | State::Ending { .. } | State::GivingBack(_) | State::Over => {
                vec![]
            }
        }
    }

    /// Stands for election if the time for it came while it could not.
    fn make_up(&mut self) -> Vec<Action> {
        match self.state {
            State::Idle { .. } if std::mem::take(&mut self.overdue) => self.on(Event::RejoinDue),
            _ => vec![],
        }
    }

    fn lose(&mut self, reason: Reason, action: Action) -> Vec<Action> {
        let mut actions = vec![Action::SayLost(reason)];
        actions.extend(self.end(After::Rejoin(Pause::Backoff(reason)), action));
        actions
    }

    fn end(&mut self, after: After, action: Action) -> Vec<Action> {
        self.state = State::Ending {
            after,
            fencing: false,
        };
        vec![action]
    }

    fn give_back(&mut self, after: After) -> Vec<Action> {
        self.state = State::GivingBack(after);
        match after {
            After::Exit(limit) => vec![Action::GiveBack, Action::Hurry(limit)],
            After::Rejoin(_) => vec![Action::GiveBack],
        }
    }

    fn hurry(&mut self, before: After, limit: Limit) -> Vec<Action> {
        let after = before.or_exit(limit);
        if after == before {
            // The attempts that go on already are not begun anew.
            return vec![];
        }
        self.state = State::GivingBack(after);
        vec![Action::Hurry(limit)]
    }

    fn exit(&mut self) -> Vec<Action> {
        self.state = State::Over;
        vec![Action::Exit]
    }
}

#[cfg(test)]
mod tests;
