//! What the candidate makes of the words of its guardian and its Rust job.

use std::time::Duration;

use super::contest::Command;
use super::end::End;
use super::{Candidate, Checking, Held, Run};
use crate::backoff::jitter;
use crate::clock;
use crate::guardian::client::Event as GuardianEvent;
use crate::guardian::protocol::{Exit, Report, Request};
use crate::job::native::{self, Stage};
use crate::job::{command, restart};
use crate::keys::LeaseId;
use crate::metrics::RunResult;
use crate::proc::survivor::Survivor;
use crate::role::{Event, Role};
use crate::term::process::{ProcessError, SpawnRequest};
use crate::term::record::Unkillable;

/// How long the guardian's words take from its socket to the candidate.
const CATCH_UP: Duration = Duration::from_millis(5);

impl Candidate {
    /// After this process stood still: hears what the guardian did meanwhile before it acts on
    /// anything else, or it would take the guardian's work for undone.
    pub(super) async fn catch_up(&mut self) {
        // Long enough for what lies in the socket to be read.
        tokio::time::sleep(CATCH_UP).await;
        let events = self.guarding.waiting();
        for event in &events {
            if let GuardianEvent::Report(Report::Resigned { lease, .. }) = event {
                self.given_back_by_guardian(*lease);
            }
        }
        for event in events {
            self.guardian_said(event);
        }
        let said = self.checking.as_mut().map(Checking::waiting);
        for event in said.into_iter().flatten() {
            self.check_said(event);
        }
    }

    /// The guardian has said already what became of the term and its job.
    fn given_back_by_guardian(&mut self, lease: LeaseId) {
        if let Some(held) = &mut self.held
            && held.lease == lease
        {
            held.given_back_by_guardian();
            let token = held.token().unwrap_or_default();
            if let Some(run) = &mut self.run
                && std::mem::take(&mut run.said)
            {
                let (ran, end) = (run.ran(), End::default());
                self.run_over(token, ran, RunResult::Stopped, &end);
            }
        }
    }

    pub(super) fn guardian_said(&mut self, event: GuardianEvent) {
        let report = match event {
            GuardianEvent::Gone => return self.guardian_gone(),
            GuardianEvent::Report(report) => report,
        };
        self.guarding.note(&report);
        match report {
            Report::Started { run, pid } => self.started(run, pid),
            Report::Refused { run, reason } => {
                if let Some(started) = self.processes.refuse(run) {
                    drop(started.send(Err(ProcessError::Refused(reason.to_string()))));
                } else if let Some(held) = &self.held
                    && let Some(token) = held.token()
                {
                    if let Some(once) = &mut self.once {
                        once.refused();
                    }
                    let reason = reason.to_string();
                    self.lines.job_not_started(held.lease, token, &reason);
                    self.on(Event::NotStarted);
                }
            }
            Report::MainEnded { run, pid, exit } => self.main_ended(run, pid, &exit),
            Report::Empty {
                token,
                killed,
                run,
                unfinished,
            } => {
                // One that was sent before the last start arrived proves nothing.
                if self.held.as_ref().and_then(Held::token) == Some(token) && run >= self.asked {
                    self.empty(killed, unfinished);
                }
            }
            Report::AtEnd { token, killed } => {
                if let Some(held) = self.held.as_mut().filter(|it| it.token() == Some(token)) {
                    held.hook_since = Some(clock::now());
                    self.say_stopped(killed);
                }
            }
            Report::Stopping { .. } => self.on(Event::StopDue),
            // Said by the guardian already.
            Report::Stuck { survivors, .. } => self.survived(survivors),
            Report::Guarded { token, .. } => self.guarded(token),
            Report::Resigned { lease, .. } => self.given_back_by_guardian(lease),
            Report::Ready { .. }
            | Report::Remembered { .. }
            | Report::TimedOut { .. }
            | Report::Killing => {}
        }
    }

    /// Takes the guardian for dead or stopped.
    pub(super) fn guardian_gone(&mut self) {
        if !std::mem::replace(&mut self.guarding.gone, true) {
            self.lines.guardian_gone();
            self.on(Event::GuardianGone);
        }
    }

    /// The fence has long sent SIGKILL to these in vain.
    pub(super) fn can_not_be_killed(&mut self, survivors: Vec<Survivor>) {
        let held = self.held.as_ref();
        let (lease, token) = (held.map(|held| held.lease), held.and_then(Held::token));
        self.lines.job_can_not_be_killed(lease, token, &survivors);
        self.survived(survivors);
    }

    /// These were sent SIGKILL and live on; shows it to whoever looks, here or from elsewhere.
    fn survived(&mut self, survivors: Vec<Survivor>) {
        if *self.survivors == *survivors {
            return;
        }
        self.survivors = survivors.into();
        if let Some(held) = &self.held {
            let shown = Unkillable::first_of(self.survivors.iter());
            let show = Command::ShowUnkillable(held.lease, shown);
            self.contest.send(show);
        }
    }

    /// Tree and guardian were fenced; a Rust job may still have to end.
    pub(super) fn fenced(&mut self) {
        self.survived(Vec::new());
        if let Some(held) = &mut self.held
            && let Some(since) = held.hook_since.take()
        {
            // Its guardian would have said so.
            let ran = clock::now().since(since);
            self.lines.last_hook_killed(held.lease, held.token(), ran);
        }
        match &mut self.run {
            Some(run) if run.native.is_some() => run.fenced = true,
            _ => {
                self.say_stopped(true);
                self.run = None;
                self.on(Event::Fenced);
            }
        }
    }

    pub(super) fn started(&mut self, id: u64, pid: u32) {
        if self.processes.started(id, pid) {
            return;
        }
        if let (Some(run), Some(held)) = (&mut self.run, &self.held)
            && run.id == id
            && run.hook.is_none()
            && let Some(token) = held.token()
        {
            run.pid = Some(pid);
            run.said = true;
            self.lines.job_started(held.lease, token, Some(pid));
            self.run_begins();
        }
    }

    pub(super) fn main_ended(&mut self, id: u64, pid: Option<u32>, exit: &Exit) {
        let (code, signal, error) = exit.parts();
        let end = End {
            pid,
            code,
            signal,
            error: error.map(ToOwned::to_owned),
        };
        if self.processes.ended(id, &end) {
            return;
        }
        if self.hook_ended(id, &end) {
            return;
        }
        if let Some(once) = &mut self.once {
            once.ended(&end);
        }
        self.run_ended(id, &end);
    }

    pub(super) fn native_came(&mut self, progress: native::Progress) {
        let Some(run) = &mut self.run else { return };
        if run.id != progress.run {
            return;
        }
        match progress.stage {
            // As a command's children, what it left behind has so long to end.
            Stage::Returned => run.end_by(clock::now() + self.config.job.stop_grace),
            Stage::Ended(result) => self.native_ended(progress.run, result),
        }
    }

    fn native_ended(&mut self, id: u64, result: Result<(), String>) {
        let end = match result {
            Ok(()) => End {
                code: Some(0),
                ..End::default()
            },
            Err(error) => End {
                code: Some(1),
                error: Some(error),
                ..End::default()
            },
        };
        let Some(run) = &mut self.run else { return };
        run.native = None;
        let (fenced, tree_empty) = (run.fenced, run.tree_empty);
        self.run_ended(id, &end);
        // The proof that the rest is dead was waiting for it.
        if fenced {
            self.fenced();
        } else if let Some((killed, unfinished)) = tree_empty {
            self.empty(killed, unfinished);
        }
    }

    /// The run's main process, or its `run()`, ended: by itself, or since it was stopped.
    pub(super) fn run_ended(&mut self, id: u64, end: &End) {
        let (Some(run), Some(held)) = (&mut self.run, &self.held) else {
            return;
        };
        let Some(token) = held.token() else { return };
        if run.id != id || run.stopping_since.is_some() {
            return;
        }
        let ran = run.ran();
        run.pid = None;
        run.said = false;
        if self.once.is_some() {
            // Whoever typed the command gets its exit code.
            self.lines.job_ended_once(held.lease, token, end, ran);
        } else {
            self.lines.job_ended(held.lease, token, end, ran);
        }
        let result = if end.failed() {
            RunResult::Failure
        } else {
            RunResult::Success
        };
        self.run_over(token, ran, result, end);
        let verdict: restart::Verdict = self.restarts.decide(end.failed(), ran, jitter());
        self.on(Event::MainEnded(verdict));
    }

    /// The guardian knows of the term: a Rust job that waits for that may start.
    pub(super) fn guarded(&mut self, token: i64) {
        if self.held.as_ref().and_then(Held::token) != Some(token) {
            return;
        }
        let waits = |run: &mut Run| run.awaits_guardian && run.stopping_since.is_none();
        if let Some(mut run) = self.run.take_if(waits) {
            run.awaits_guardian = false;
            self.launch(run);
        }
    }

    /// The tree is empty. `unfinished`: the guardian has yet to run a hook in it at the term's end.
    pub(super) fn empty(&mut self, killed: bool, unfinished: bool) {
        self.survived(Vec::new());
        if let Some(held) = &mut self.held {
            // Whoever ran it has said how it ended.
            held.hook_since = None;
        }
        if let Some(run) = &mut self.run
            && run.native.is_some()
        {
            // Before a stop it proves nothing: the job may start another process.
            run.tree_empty = run.stopping_since.map(|_| (killed, unfinished));
            return;
        }
        // The end of the term has come here, if not yet to the guardian.
        if unfinished && self.machine.role() == Role::Stopping {
            return self.empty_of_job(killed);
        }
        self.say_stopped(killed);
        self.on(Event::Empty);
    }

    pub(super) fn say_stopped(&mut self, killed: bool) {
        if let (Some(run), Some(held)) = (&self.run, &self.held)
            && let (Some(since), Some(token)) = (run.stopping_since, held.token())
        {
            let took = clock::now().since(since);
            if run.said {
                self.lines
                    .job_stopped(held.lease, token, run.pid, killed, took);
                let result = if killed {
                    RunResult::Killed
                } else {
                    RunResult::Stopped
                };
                self.run_over(token, run.ran(), result, &End::default());
            }
            self.run = None;
        }
    }

    /// A Rust job wants a process.
    pub(super) fn spawn(&mut self, request: SpawnRequest) {
        let term = self.held.as_ref().and_then(|held| held.term.clone());
        // Once a stop was sent no start may follow it, so that the answer to it proves all.
        let running = self
            .run
            .as_ref()
            .is_some_and(|run| run.native.is_some() && run.stopping_since.is_none());
        let Some(term) = term.filter(|_| running && !self.guarding.gone) else {
            let refused = ProcessError::Refused("the term has ended".to_owned());
            return drop(request.started.send(Err(refused)));
        };
        if let Some(run) = &mut self.run {
            // An earlier proof knows nothing of the new process.
            run.tree_empty = None;
        }
        self.runs += 1;
        self.asked = self.runs;
        let mut spec = command::spec(&self.config, &term);
        spec.argv = request.argv;
        spec.working_dir = request.working_dir.or(spec.working_dir);
        let own = request.env.into_iter();
        spec.set
            .extend(own.map(|(name, value)| (name, value.into())));
        self.guarding.send(Request::Start {
            token: term.token(),
            run: self.runs,
            command: spec,
            sole: false,
        });
        self.processes
            .asked(self.runs, request.started, request.ended);
    }
}
