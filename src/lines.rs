//! The lines of the log that more than one process writes, and that scripts rely on: the daemon, its
//! guardian and the unit's stop hook stand in for each other, and say the same.

use std::time::Duration;

use tracing::field::display;

use crate::keys::{LeaseId, Prefix};
use crate::proc::survivor::{Survivor, listed};
use crate::reason::EndReason;
use crate::revision::Token;

/// Which part of the program speaks: the target of its lines, by which they are filtered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Voice {
    /// The daemon's candidate.
    Candidate,
    /// The daemon, before it has one.
    Daemon,
    /// The guardian.
    Guardian,
    /// The unit's stop hook.
    Release,
}

impl Voice {
    /// Who gave a lease back.
    const fn word(self) -> &'static str {
        match self {
            Self::Candidate | Self::Daemon => "daemon",
            Self::Guardian => "guardian",
            Self::Release => "release",
        }
    }
}

/// Who speaks of which candidate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Speaker<'a> {
    pub(crate) voice: Voice,
    pub(crate) election: &'a Prefix,
    pub(crate) candidate: &'a str,
}

/// How a hook ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HookEnd<'a> {
    /// `on_elected` or `on_lost`.
    pub(crate) hook: &'static str,
    pub(crate) pid: Option<u32>,
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) error: Option<&'a str>,
    /// Whether it was killed when its time was over.
    pub(crate) killed: bool,
    pub(crate) ran: Duration,
}

/// Milliseconds, as fields of the log have them.
pub(crate) fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Writes one line with the fields that all lines have. A target is a constant of the place that writes
/// it, so there is one for each voice.
macro_rules! line {
    ($level:ident, $self:ident, $($rest:tt)*) => {
        match $self.voice {
            Voice::Candidate => line!(@ "incumbent::candidate::lines", $level, $self, $($rest)*),
            Voice::Daemon => line!(@ "incumbent::daemon", $level, $self, $($rest)*),
            Voice::Guardian => line!(@ "incumbent::guardian::main", $level, $self, $($rest)*),
            Voice::Release => line!(@ "incumbent::release", $level, $self, $($rest)*),
        }
    };
    (@ $target:literal, $level:ident, $self:ident, $($rest:tt)*) => {
        tracing::$level!(
            target: $target,
            election = %$self.election,
            candidate = $self.candidate,
            $($rest)*
        )
    };
}

impl Speaker<'_> {
    pub(crate) fn term_lost(&self, lease: Option<LeaseId>, token: Token, reason: EndReason) {
        let (lease, token, reason) = (lease.map(display), token.get(), reason.word());
        line!(error, self, lease, token, reason, "term lost");
    }

    pub(crate) fn job_stopped(
        &self,
        lease: Option<LeaseId>,
        token: Token,
        pid: Option<u32>,
        killed: bool,
        took: Duration,
    ) {
        let (lease, token, took_ms) = (lease.map(display), token.get(), ms(took));
        line!(
            info,
            self,
            lease,
            token,
            pid,
            killed,
            took_ms,
            "job stopped"
        );
    }

    pub(crate) fn hook_ended(&self, lease: Option<LeaseId>, token: Token, end: &HookEnd<'_>) {
        let HookEnd {
            hook,
            pid,
            code,
            signal,
            error,
            killed,
            ran,
        } = *end;
        let (lease, token, ran_ms) = (lease.map(display), token.get(), ms(ran));
        if code == Some(0) && !killed {
            line!(
                info,
                self,
                lease,
                token,
                pid,
                hook,
                code,
                ran_ms,
                "hook ended"
            );
        } else {
            line!(
                warn,
                self,
                lease,
                token,
                pid,
                hook,
                code,
                signal,
                error,
                killed,
                ran_ms,
                "hook ended"
            );
        }
    }

    /// `token` is null for a place in the queue.
    pub(crate) fn resigned(&self, lease: LeaseId, token: Option<Token>, confirmed: bool) {
        let (token, by) = (token.map(Token::get), self.voice.word());
        line!(info, self, %lease, token, confirmed, by, "resigned");
    }

    pub(crate) fn job_can_not_be_killed(
        &self,
        lease: Option<LeaseId>,
        token: Option<Token>,
        survivors: &[Survivor],
        cgroup: Option<&str>,
    ) {
        let (lease, token) = (lease.map(display), token.map(Token::get));
        let pids = listed(survivors);
        line!(
            error,
            self,
            lease,
            token,
            pids,
            cgroup,
            "job can't be killed"
        );
    }

    /// The same of processes that belong to no term that is known.
    pub(crate) fn leftovers_can_not_be_killed(&self, pids: &str) {
        line!(error, self, pids, "job can't be killed");
    }
}
