//! The job of a history: its processes, and those that it runs in.

use super::daemon::Word;
use super::world::{What, World};

/// The job's processes.
#[derive(Debug, Default)]
pub(super) struct Job {
    pub(super) alive: bool,
    pub(super) ends_at: Option<u64>,
    /// Whether it is the hook at the term's end, which is as bad as the job when it lives too long.
    pub(super) is_hook: bool,
    /// The run that hangs on its way to its exec.
    starting: Option<u64>,
    /// Whether SIGKILL was sent.
    killed: bool,
}

impl World {
    pub(super) fn job_starts(&mut self, is_hook: bool) {
        self.outcome.ran = true;
        self.job = Job {
            alive: true,
            is_hook,
            ..Job::default()
        };
    }

    /// The exec of a run hangs for so long, unless the child is killed before.
    pub(super) fn job_hangs(&mut self, run: u64, is_hook: bool) {
        self.job = Job {
            is_hook,
            starting: Some(run),
            ..Job::default()
        };
        let span = self.chance.span(self.truth.ttl() * 2);
        self.after(span, What::Executed(run));
    }

    /// A hung exec goes on. A child whose guardian is dead was killed with it.
    pub(super) fn job_executed(&mut self, run: u64) {
        if self.job.starting.take_if(|it| *it == run).is_some() && !self.guardian.process.dead {
            self.job_starts(self.job.is_hook);
            self.guardian_sees_executed(run);
        }
    }

    /// Whether what runs, or ran last, is a Rust job.
    pub(super) fn runs_in_daemon(&self) -> bool {
        self.in_daemon && !self.job.is_hook
    }

    /// The job is asked to stop.
    pub(super) fn job_asked(&mut self) {
        if self.job.starting.is_some() {
            return self.job_killed();
        }
        if self.obedient {
            let span = self.chance.span(self.truth.lost_grace() * 2);
            self.job_ends_by(self.now + span);
        }
    }

    /// The job's processes get SIGKILL.
    pub(super) fn job_killed(&mut self) {
        if let Some(run) = self.job.starting.take() {
            return self.guardian_sees_killed_early(run);
        }
        if !std::mem::replace(&mut self.job.killed, true) {
            self.job_ends_by(self.now + self.death);
        }
    }

    pub(super) fn job_ends_by(&mut self, at: u64) {
        if self.job.alive && self.job.ends_at.is_none_or(|earlier| at < earlier) {
            self.job.ends_at = Some(at);
            self.at(at, What::JobEnds);
        }
    }

    pub(super) fn job_ended(&mut self) {
        self.job.alive = false;
        if self.runs_in_daemon() {
            self.tell_daemon(Word::NativeEnded);
        } else if self.guardian.process.dead {
            if self.daemon.fencing {
                self.tell_daemon(Word::Fenced);
            }
        } else {
            self.guardian_reaps();
        }
    }

    /// The daemon gets SIGKILL.
    pub(super) fn daemon_killed(&mut self) {
        if !self.daemon.process.dead {
            self.daemon.process.dead = true;
            let span = if self.in_daemon { self.death } else { 0 };
            self.after(span, What::DaemonEnds);
        }
    }

    pub(super) fn daemon_ended(&mut self) {
        if self.runs_in_daemon() {
            self.job.alive = false;
        }
        self.guardian_sees_daemon_dead();
    }
}
