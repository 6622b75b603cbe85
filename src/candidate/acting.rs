//! What the candidate does for each action of the machine, and what it makes of the words of its
//! guardian and its Rust job.

use std::time::Duration;

use super::lines::End;
use super::{Candidate, Held, Run, Word, contest, guarding};
use crate::backoff::jitter;
use crate::clock;
use crate::guardian::client::Event as GuardianEvent;
use crate::guardian::protocol::{self, Exit, Report, Request};
use crate::job::native::{self, Native, Stage};
use crate::job::{Factory, command, restart};
use crate::role::{Action, Event, Limit, Patience, Pause};
use crate::runtime_dir::lease_file::LeaseFile;
use crate::session::{Loss, new_lease_id};
use crate::term::Term;
use crate::term::process::{ProcessError, SpawnRequest};
use crate::term::resignation::Resignation;

/// How long a guardian may take to acknowledge a lease before it is taken for stopped.
const REMEMBER_LIMIT: Duration = Duration::from_secs(5);

/// Pause before a candidate stands again that the store's memory or identity rules out.
const REFUSED_PAUSE: Duration = Duration::from_secs(15);

/// Pause before another try to start a guardian.
const GUARDIAN_PAUSE: Duration = Duration::from_secs(1);

impl Candidate {
    pub(super) fn act(&mut self, action: Action) {
        tracing::debug!(?action, "action");
        match action {
            Action::Contend => self.contend(),
            Action::StartRun => self.start_run(),
            Action::StopRun => self.stop_run(),
            Action::StopJob(patience) => self.stop_job(patience),
            Action::KillJob => self.kill_job(),
            Action::Fence => self.fence(),
            Action::SayLost(reason) => {
                if let Some(held) = &mut self.held {
                    // A key that is gone was deleted, or its lease revoked: the contest asks.
                    held.key_gone = reason.0 == Loss::Deleted.reason();
                    if !held.key_gone {
                        held.say_lost(&self.lines, reason.0);
                    }
                }
            }
            Action::GiveBack => self.give_back(),
            Action::Hurry(limit) => self.hurry(limit),
            Action::RestartAfter(pause) => {
                self.run = None;
                self.restart_at = Some(clock::now() + pause);
            }
            Action::RejoinAfter(pause) => self.rejoin_after(pause),
            Action::Exit => self.exiting = true,
        }
    }

    /// Chooses a lease; it is contended with once guardian and stop hook know it (R6).
    fn contend(&mut self) {
        self.rejoin_at = None;
        let lease = new_lease_id();
        let resignation = Resignation {
            store: self.config.etcd.clone(),
            prefix: self.config.election.prefix.clone(),
            candidate: self.config.candidate_name.clone(),
            lease,
            ttl: self.timing.ttl(),
            attempt_limit: self.timing.attempt_limit(),
            token: None,
            may_mark: false,
            step_down: None,
        };
        let guardian = self.guarding.guardian();
        let written = self.files.write(self.lease_file(resignation.clone()));
        let words = self.words.0.clone();
        let remembered = guardian.remember(resignation.clone());
        self.held = Some(Held::new(lease, resignation, self.timing));
        tokio::spawn(async move {
            match tokio::time::timeout(REMEMBER_LIMIT, remembered).await {
                Ok(Ok(())) => {
                    if let Ok(Err(error)) = written.await {
                        tracing::warn!(%lease, %error, "lease file not written");
                    }
                    drop(words.send(Word::Prepared(lease)));
                }
                // One that is gone is told of by its own event.
                Ok(Err(_)) => {}
                Err(_) => drop(words.send(Word::Silent(lease))),
            }
        });
    }

    fn lease_file(&self, resignation: Resignation) -> LeaseFile {
        LeaseFile::new(resignation, self.place.clone(), self.guarding.process())
    }

    fn start_run(&mut self) {
        self.restart_at = None;
        let Some(held) = &mut self.held else { return };
        let Some(term) = held.term.clone() else {
            return;
        };
        self.runs += 1;
        let id = self.runs;
        let mut run = Run::new(id);
        let factory = self.jobs.get(&self.config.job.kind);
        if !std::mem::replace(&mut held.guarded, true) {
            let resignation = held.resignation.clone();
            self.guarding.send(Request::Lease(Box::new(resignation)));
            self.guarding.send(Request::Term(protocol::Term {
                token: term.token(),
                deadline: term.deadline(),
                lost_grace: held.timing.lost_grace(),
                kill_budget: held.timing.kill_budget(),
                stop_signal: self.config.job.stop_signal,
                in_daemon: factory.is_some(),
            }));
            let file = held.resignation.clone();
            let file = self.lease_file(file);
            // The guardian knows; the hook will in a moment.
            drop(self.files.write(file));
        }
        let Some(factory) = factory else {
            self.asked = id;
            self.guarding.send(Request::Start {
                token: term.token(),
                run: id,
                command: command::spec(&self.config, &term),
                sole: true,
            });
            self.run = Some(run);
            return;
        };
        if self.guarding.acked(term.token()) {
            self.start_native(factory, &term, run);
        } else {
            // A daemon that is stopped just now, and wakes after its term, must find itself killed.
            run.awaits_guardian = true;
            self.run = Some(run);
        }
    }

    /// The guardian knows of the term: a Rust job that waits for that may start.
    fn guarded(&mut self, token: i64) {
        let term = self.held.as_ref().and_then(|held| held.term.clone());
        let Some(term) = term.filter(|term| term.token() == token) else {
            return;
        };
        let waits = |run: &mut Run| run.awaits_guardian && run.stopping_since.is_none();
        if let (Some(mut run), Some(factory)) = (
            self.run.take_if(waits),
            self.jobs.get(&self.config.job.kind),
        ) {
            run.awaits_guardian = false;
            self.start_native(factory, &term, run);
        }
    }

    fn start_native(&mut self, factory: Factory, term: &Term, mut run: Run) {
        if term.remaining().is_zero() {
            self.run = Some(run);
            return self.on(Event::NotStarted);
        }
        let id = run.id;
        let start = native::Start {
            factory,
            settings: self.config.job.settings.clone(),
            store: self.config.etcd.clone(),
            spawner: self.spawns.0.clone(),
            term: term.clone(),
            run: id,
        };
        match Native::start(start, self.natives.0.clone()) {
            Ok(native) => {
                self.lines.job_started(term.lease(), term.token(), None);
                run.said = true;
                run.native = Some(native);
                self.run = Some(run);
            }
            Err(error) => {
                self.run = Some(run);
                // As any run that fails at once.
                let stage = Stage::Ended(Err(error.to_string()));
                drop(self.natives.0.send(native::Progress { run: id, stage }));
            }
        }
    }

    fn stop_run(&mut self) {
        let Some(token) = self.held.as_ref().and_then(Held::token) else {
            return;
        };
        let (stop_signal, grace) = (self.config.job.stop_signal, self.config.job.stop_grace);
        self.guarding.send(Request::StopRun {
            token,
            stop_signal,
            grace,
        });
    }

    fn stop_job(&mut self, patience: Patience) {
        self.restart_at = None;
        let Some(held) = &self.held else { return };
        let (Some(token), Some(deadline)) = (held.token(), held.deadline()) else {
            return;
        };
        let kill_at = held.timing.kill(deadline);
        let (grace, native_until) = match patience {
            // The lease is renewed meanwhile; should that fail, its own times come first (R11).
            Patience::Planned => {
                let grace = self.config.job.stop_grace;
                (grace, clock::now() + grace)
            }
            Patience::Lost => (held.timing.lost_grace(), kill_at),
        };
        self.guarding.send(Request::Stop {
            token,
            stop_signal: self.config.job.stop_signal,
            grace,
        });
        if let Some(run) = &mut self.run {
            run.stop(native_until);
        }
    }

    fn kill_job(&mut self) {
        self.restart_at = None;
        let Some(held) = &self.held else { return };
        let (Some(token), Some(deadline)) = (held.token(), held.deadline()) else {
            return;
        };
        self.guarding.send(Request::Kill { token });
        let within = clock::now() + held.timing.kill_budget();
        if let Some(run) = &mut self.run {
            run.stop(within.min(held.timing.kill(deadline)));
        }
    }

    /// A Rust job doesn't end in time: only the end of this process is its end for certain. The
    /// guardian, or the unit's stop hook, gives the term back.
    pub(super) fn kill_daemon(&mut self) {
        if let Some(held) = &mut self.held {
            held.say_lost(&self.lines, "job_stuck");
        }
        self.logs.flush();
        let this = rustix::process::getpid();
        _ = rustix::process::kill_process(this, rustix::process::Signal::KILL);
    }

    /// Takes the guardian for dead or stopped.
    pub(super) fn guardian_gone(&mut self) {
        if !std::mem::replace(&mut self.guarding.gone, true) {
            self.lines.guardian_gone();
            self.on(Event::GuardianGone);
        }
    }

    /// Kills guardian and tree off the main loop, and starts the next guardian after it.
    fn fence(&mut self) {
        self.restart_at = None;
        self.processes.forget();
        let kill_at = self.held.as_ref().and_then(|held| {
            let deadline = held.deadline()?;
            Some(held.timing.kill(deadline))
        });
        if let (Some(run), Some(kill_at)) = (&mut self.run, kill_at) {
            run.stop(kill_at);
        }
        let guardian = self.guarding.guardian();
        let config = self.config.clone();
        let lines = self.lines.clone();
        let words = self.words.0.clone();
        tokio::spawn(async move {
            while !guardian.fence(None).await {}
            drop(guardian);
            loop {
                match guarding::start(&config).await {
                    Ok(started) => break drop(words.send(Word::Refenced(started))),
                    Err(error) => {
                        lines.guardian_not_started(&error);
                        clock::sleep(GUARDIAN_PAUSE).await;
                    }
                }
            }
        });
    }

    /// Tree and guardian were fenced; a Rust job may still have to end.
    pub(super) fn fenced(&mut self) {
        match &mut self.run {
            Some(run) if run.native.is_some() => run.fenced = true,
            _ => {
                self.say_stopped(true);
                self.run = None;
                self.on(Event::Fenced);
            }
        }
    }

    fn give_back(&mut self) {
        self.run = None;
        self.restart_at = None;
        self.guarding.term_over();
        let Some(held) = &mut self.held else { return };
        held.leaving = true;
        if let Some(token) = held.token()
            && held.guarded
        {
            self.guarding.send(Request::EndTerm { token });
        }
        let resignation = held.resignation.clone();
        self.contest
            .send(contest::Command::GiveBack(resignation, None));
    }

    fn hurry(&mut self, limit: Limit) {
        let Some(held) = &mut self.held else { return };
        let once = clock::now() + held.timing.attempt_limit();
        let until = match limit {
            Limit::OneAttempt => once,
            Limit::Deadline => held
                .current()
                .map_or(once, |status| status.deadline.max(once)),
        };
        self.contest.send(contest::Command::Hurry(until));
    }

    /// Everything is given back, or can't be.
    pub(super) fn left(&mut self, confirmed: bool) {
        if let Some(mut held) = self.held.take() {
            held.say_deleted(&self.lines);
            self.lines.resigned(held.lease, held.token(), confirmed);
            self.guarding.send(Request::Forget { lease: held.lease });
            drop(self.files.remove(held.lease));
            let survived = clock::now().since(held.since);
            if held.term.is_some() || survived > self.timing.ttl() {
                self.rejoin.reset();
            }
        }
        self.on(Event::Left);
    }

    fn rejoin_after(&mut self, pause: Pause) {
        let pause = match pause {
            Pause::None => Duration::ZERO,
            Pause::Cooldown(pause) => {
                self.lines.cooling_down(pause);
                pause
            }
            Pause::Backoff(reason) => {
                let pause = match reason.0 {
                    // Only an operator can mend it.
                    "refused" | "cluster_changed" => REFUSED_PAUSE,
                    _ => self.rejoin.next(jitter()),
                };
                self.lines.rejoining(pause, reason.0);
                pause
            }
        };
        self.rejoin_at = Some(clock::now() + pause);
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
                    let reason = reason.to_string();
                    self.lines.job_not_started(held.lease, token, &reason);
                    self.on(Event::NotStarted);
                }
            }
            Report::MainEnded { run, pid, exit } => self.main_ended(run, pid, exit),
            Report::Empty { token, killed, run } => {
                // One that was sent before the last start arrived proves nothing.
                if self.held.as_ref().and_then(Held::token) == Some(token) && run >= self.asked {
                    self.empty(killed);
                }
            }
            Report::Stopping { .. } => self.on(Event::StopDue),
            Report::Stuck { token, pids } => {
                if let Some(held) = &self.held {
                    self.lines.job_can_not_be_killed(held.lease, token, &pids);
                }
            }
            Report::Guarded { token, .. } => self.guarded(token),
            Report::Ready { .. } | Report::Remembered { .. } | Report::Resigned { .. } => {}
        }
    }

    fn started(&mut self, id: u64, pid: u32) {
        if self.processes.started(id, pid) {
            return;
        }
        if let (Some(run), Some(held)) = (&mut self.run, &self.held)
            && run.id == id
            && let Some(token) = held.token()
        {
            run.pid = Some(pid);
            run.said = true;
            self.lines.job_started(held.lease, token, Some(pid));
        }
    }

    fn main_ended(&mut self, id: u64, pid: Option<u32>, exit: Exit) {
        let mut end = End {
            pid,
            ..End::default()
        };
        match exit {
            Exit::Code(code) => end.code = Some(code),
            Exit::Signal(signal) => end.signal = Some(signal),
            Exit::NotExecuted { code, error } => {
                end.code = Some(code);
                end.error = Some(error);
            }
        }
        if self.processes.ended(id, &end) {
            return;
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
        } else if let Some(killed) = tree_empty {
            self.empty(killed);
        }
    }

    /// The run's main process, or its `run()`, ended: by itself, or since it was stopped.
    fn run_ended(&mut self, id: u64, end: &End) {
        let (Some(run), Some(held)) = (&mut self.run, &self.held) else {
            return;
        };
        let Some(token) = held.token() else { return };
        if run.id != id || run.stopping_since.is_some() {
            return;
        }
        let ran = run.ran();
        run.pid = None;
        self.lines.job_ended(held.lease, token, end, ran);
        let verdict: restart::Verdict = self.restarts.decide(end.failed(), ran, jitter());
        self.on(Event::MainEnded(verdict));
    }

    fn empty(&mut self, killed: bool) {
        if let Some(run) = &mut self.run
            && run.native.is_some()
        {
            run.tree_empty = Some(killed);
            return;
        }
        self.say_stopped(killed);
        self.on(Event::Empty);
    }

    fn say_stopped(&mut self, killed: bool) {
        if let (Some(run), Some(held)) = (&self.run, &self.held)
            && let (Some(since), Some(token)) = (run.stopping_since, held.token())
        {
            let took = clock::now().since(since);
            if run.said {
                self.lines
                    .job_stopped(held.lease, token, run.pid, killed, took);
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
            run.tree_empty = None;
        }
        self.runs += 1;
        self.asked = self.runs;
        let mut spec = command::spec(&self.config, &term);
        spec.argv = request.argv;
        spec.working_dir = request.working_dir.or(spec.working_dir);
        spec.set.extend(request.env);
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
