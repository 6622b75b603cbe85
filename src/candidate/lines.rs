//! The log lines of a candidate: constant messages, with the fields that scripts rely on.

use std::time::Duration;

use tracing::field::display;

use super::end::End;
use crate::keys::{LeaseId, Prefix};
use crate::proc::survivor::{Survivor, listed};

/// Who speaks.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    pub(super) election: Prefix,
    pub(super) candidate: String,
}

fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Writes one line of the given level with the fields that all lines have.
macro_rules! line {
    ($level:ident, $self:ident, $($rest:tt)*) => {
        tracing::$level!(
            election = %$self.election,
            candidate = $self.candidate.as_str(),
            $($rest)*
        )
    };
}

impl Lines {
    pub(super) fn campaigning(&self, lease: LeaseId, position: i64) {
        line!(info, self, %lease, position, "campaigning");
    }

    pub(super) fn blocked(&self, lease: LeaseId, key: &str) {
        line!(error, self, %lease, key, "queue blocked by a key that is no candidate");
    }

    pub(super) fn off_lease(&self, lease: LeaseId, key: &str) {
        line!(warn, self, %lease, key, "the key in front is off its lease");
    }

    pub(super) fn unreadable(&self, lease: LeaseId, key: &str) {
        line!(error, self, %lease, key, "record can't be read");
    }

    pub(super) fn differs(&self, lease: LeaseId, from: &str) {
        line!(warn, self, %lease, from, "settings differ: the same election.*, job.* and hooks.* are wanted everywhere");
    }

    pub(super) fn paused(&self, lease: LeaseId) {
        line!(info, self, %lease, "election paused");
    }

    pub(super) fn delayed(&self, lease: LeaseId, delay: Duration) {
        line!(info, self, %lease, delay_ms = ms(delay), "waiting out the last term");
    }

    pub(super) fn elected(&self, lease: LeaseId, token: i64, waited: Duration) {
        line!(info, self, %lease, token, waited_ms = ms(waited), "elected");
    }

    pub(super) fn refused(&self, lease: LeaseId, reason: &str) {
        line!(error, self, %lease, reason, "refusing to lead");
    }

    pub(super) fn job_started(&self, lease: LeaseId, token: i64, pid: Option<u32>) {
        line!(info, self, %lease, token, pid, "job started");
    }

    pub(super) fn job_not_started(&self, lease: LeaseId, token: i64, reason: &str) {
        line!(warn, self, %lease, token, reason, "job not started");
    }

    pub(super) fn job_ended(&self, lease: LeaseId, token: i64, end: &End, ran: Duration) {
        let End {
            pid,
            code,
            signal,
            error,
        } = end;
        let (signal, error, ran_ms) = (*signal, error.as_deref(), ms(ran));
        if *code == Some(0) {
            line!(info, self, %lease, token, pid, code, ran_ms, "job ended");
        } else {
            line!(warn, self, %lease, token, pid, code, signal, error, ran_ms, "job ended");
        }
    }

    pub(super) fn job_ended_once(&self, lease: LeaseId, token: i64, end: &End, ran: Duration) {
        let (pid, code, signal, ran_ms) = (end.pid, end.code, end.signal, ms(ran));
        line!(info, self, %lease, token, pid, code, signal, ran_ms, "job ended");
    }

    pub(super) fn job_stopped(
        &self,
        lease: LeaseId,
        token: i64,
        pid: Option<u32>,
        killed: bool,
        took: Duration,
    ) {
        line!(info, self, %lease, token, pid, killed, took_ms = ms(took), "job stopped");
    }

    pub(super) fn job_can_not_be_killed(
        &self,
        lease: Option<LeaseId>,
        token: Option<i64>,
        survivors: &[Survivor],
    ) {
        let (lease, pids) = (lease.map(display), listed(survivors));
        line!(error, self, lease, token, pids, "job can't be killed");
    }

    pub(super) fn last_hook_killed(&self, lease: LeaseId, token: Option<i64>, ran: Duration) {
        let (hook, killed, ran_ms) = ("on_lost", true, ms(ran));
        line!(warn, self, %lease, token, hook, killed, ran_ms, "hook ended");
    }

    pub(super) fn hook_ended(
        &self,
        lease: LeaseId,
        token: i64,
        end: &End,
        killed: bool,
        ran: Duration,
    ) {
        let hook = "on_elected";
        let (pid, code, signal, ran_ms) = (end.pid, end.code, end.signal, ms(ran));
        let error = end.error.as_deref();
        if end.failed() || killed {
            line!(warn, self, %lease, token, pid, hook, code, signal, error, killed, ran_ms, "hook ended");
        } else {
            line!(info, self, %lease, token, pid, hook, code, ran_ms, "hook ended");
        }
    }

    pub(super) fn healthy(&self) {
        line!(info, self, "healthy");
    }

    pub(super) fn unhealthy(&self, reason: &str) {
        line!(warn, self, reason, "unhealthy");
    }

    pub(super) fn check_failed(&self, reason: &str) {
        line!(warn, self, reason, "check failed");
    }

    pub(super) fn checks_lost(&self) {
        line!(error, self, "guardian of checks lost");
    }

    pub(super) fn resigned(&self, lease: LeaseId, token: Option<i64>, confirmed: bool) {
        line!(info, self, %lease, token, confirmed, by = "daemon", "resigned");
    }

    pub(super) fn term_lost(&self, lease: LeaseId, token: i64, reason: &str) {
        line!(error, self, %lease, token, reason, "term lost");
    }

    pub(super) fn store_unreachable(&self, since: Duration, error: &str) {
        line!(warn, self, since_ms = ms(since), error, "store unreachable");
    }

    pub(super) fn store_reachable(&self, away: Duration) {
        line!(info, self, away_ms = ms(away), "store reachable again");
    }

    pub(super) fn rejoining(&self, after: Duration, reason: &str) {
        line!(info, self, after_ms = ms(after), reason, "rejoining");
    }

    pub(super) fn cooling_down(&self, after: Duration) {
        line!(info, self, after_ms = ms(after), "staying out of the queue");
    }

    pub(super) fn not_stepping_down(&self, lease: LeaseId, token: i64, reason: &str) {
        line!(warn, self, %lease, token, reason, "not stepping down");
    }

    pub(super) fn making_way(&self, lease: LeaseId) {
        line!(info, self, %lease, "making way");
    }

    pub(super) fn daemon_killed(&self, lease: LeaseId, token: i64) {
        line!(error, self, %lease, token, "killing this daemon: its Rust job does not end");
    }

    pub(super) fn step_down_without_term(&self) {
        line!(warn, self, reason = "not the leader", "not stepping down");
    }

    pub(super) fn stepping_down(&self, lease: LeaseId, token: i64, by: &str) {
        line!(info, self, %lease, token, by, "stepping down");
    }

    pub(super) fn guardian_gone(&self) {
        line!(error, self, "guardian lost");
    }

    pub(super) fn guardian_not_started(&self, error: &std::io::Error) {
        line!(error, self, %error, "guardian not started");
    }
}
