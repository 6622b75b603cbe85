//! The hooks of a term: one before the job, which can refuse the term, and one at its end.
//!
//! The one before the job is the first run of the term to the role machine: what it comes to is what
//! a run comes to, another run at once (the job's first) or the term given back. The one at the end
//! is the guardian's: it runs what it was told to once the job's tree is empty, even without us.

use std::time::Duration;

use super::end::End;
use super::{Candidate, Run};
use crate::clock::{self, Instant};
use crate::config::Hook;
use crate::guardian::protocol::Request;
use crate::job::command;
use crate::job::restart::Verdict;
use crate::role::Event;

/// The hook before the job, as a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct BeforeJob {
    /// When it is killed.
    until: Instant,
    timed_out: bool,
}

impl BeforeJob {
    /// When it is to be killed, unless it is being killed already.
    pub(super) fn due(&self) -> Option<Instant> {
        (!self.timed_out).then_some(self.until)
    }
}

impl Candidate {
    /// Starts the hook that comes before the job, as `run`.
    pub(super) fn start_hook(&mut self, hook: &Hook, mut run: Run) {
        let Some(term) = self.held.as_ref().and_then(|held| held.term.clone()) else {
            return;
        };
        run.hook = Some(BeforeJob {
            until: clock::now() + hook.limit,
            timed_out: false,
        });
        let command = command::spec_of(&self.config, &term, &hook.command);
        self.ask_for(&term, run, command);
    }

    /// Kills a hook whose time is over.
    pub(super) fn hook_due(&mut self) {
        let token = self.held.as_ref().and_then(super::Held::token);
        let run = self.run.as_mut().filter(|run| run.stopping_since.is_none());
        if let (Some(token), Some(hook)) = (token, run.and_then(|run| run.hook.as_mut())) {
            hook.timed_out = true;
            self.guarding.send(Request::StopRun {
                token,
                stop_signal: self.config.job.stop_signal,
                grace: Duration::ZERO,
            });
        }
    }

    /// How long what runs may take to stop, where the job may take `grace`: a hook has no more than
    /// the rest of its own time, and what it has left behind has none.
    pub(super) fn stop_grace(&self, grace: Duration) -> Duration {
        let hook = self.run.as_ref().and_then(|run| run.hook.as_ref());
        hook.map_or(grace, |hook| grace.min(hook.until.remaining()))
    }

    /// Whether the run that ended is the hook before the job; then the job follows, or the term is
    /// given back.
    pub(super) fn hook_ended(&mut self, id: u64, end: &End) -> bool {
        let Some(run) = self.run.as_mut().filter(|run| run.id == id) else {
            return false;
        };
        let ran = run.ran();
        let Some(hook) = &mut run.hook else {
            return false;
        };
        // A term that ends already needs no answer.
        if run.stopping_since.is_some() {
            return true;
        }
        let Some(held) = &mut self.held else {
            return true;
        };
        let (lease, token) = (held.lease, held.token().unwrap_or_default());
        // What it has left behind has no time.
        hook.until = clock::now();
        let timed_out = std::mem::replace(&mut hook.timed_out, true);
        let refused = end.failed() || timed_out;
        let verdict = if refused {
            held.reason = "hook_refused";
            Verdict::GiveBack(self.config.job.yield_cooldown)
        } else {
            Verdict::Again(Duration::ZERO)
        };
        self.lines.hook_ended(lease, token, end, timed_out, ran);
        self.on(Event::MainEnded(verdict));
        true
    }

    /// Tells the guardian what to run at the end of the term.
    pub(super) fn have_end_guarded(&mut self) {
        let term = self.held.as_ref().and_then(|held| held.term.clone());
        if let (Some(term), Some(hook)) = (term, &self.config.hooks.on_lost) {
            let request = Request::AtEnd {
                token: term.token(),
                command: command::spec_of(&self.config, &term, &hook.command),
                limit: hook.limit,
            };
            self.guarding.send(request);
        }
    }

    /// The tree is empty, but a hook has yet to run in it: it runs by itself, unless the guardian
    /// can't know that a Rust job is over.
    pub(super) fn empty_of_job(&mut self, killed: bool) {
        let Some(held) = &mut self.held else { return };
        if let Some(token) = held.token()
            && std::mem::take(&mut held.in_daemon)
        {
            self.say_stopped(killed);
            self.guarding.send(Request::JobOver { token });
        }
    }
}
