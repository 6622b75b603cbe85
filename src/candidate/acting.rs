//! What the candidate does for each action of the machine.

use std::sync::Arc;
use std::time::Duration;

use super::held::Guard;
use super::{Candidate, Held, Once, Run, Word, contest, guarding};
use crate::backoff::jitter;
use crate::clock;
use crate::etcd::Token;
use crate::guardian::fence::Tell;
use crate::guardian::protocol::{self, Request};
use crate::job::native::{self, Native, Stage};
use crate::job::{Factory, command};
use crate::role::{Action, Event, Limit, Patience, Pause};
use crate::runtime_dir::lease_file::LeaseFile;
use crate::session::new_lease_id;
use crate::term::Term;
use crate::term::resignation::Resignation;

/// How long a guardian may take to acknowledge a lease before it is taken for stopped.
const REMEMBER_LIMIT: Duration = Duration::from_secs(5);

/// How long to wait for the lease file: the disk that it needs may hang.
const WRITE_LIMIT: Duration = Duration::from_secs(2);

/// Pause before a candidate stands again that the store's memory or identity rules out.
const REFUSED_PAUSE: Duration = Duration::from_secs(15);

/// How long the process may take to say why it kills itself.
const LAST_WORDS: Duration = Duration::from_millis(20);

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
                if let Some(once) = &mut self.once {
                    once.lost(reason.0);
                }
                if let Some(held) = &mut self.held {
                    held.reason = reason.0;
                    held.lost(&self.lines, reason.0);
                }
            }
            Action::GiveBack => self.give_back(),
            Action::Hurry(limit) => self.hurry(limit),
            Action::RestartAfter(pause) => {
                self.run = None;
                self.restart_at = Some(clock::now() + pause);
            }
            // The one run was had, or is wanted no more.
            Action::RejoinAfter(_) if self.once.as_ref().is_some_and(Once::is_over) => {
                self.on(Event::Shutdown);
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
            cluster: 0,
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
                    // Without the file the stop hook can do nothing; without a candidate, nobody.
                    match tokio::time::timeout(WRITE_LIMIT, written).await {
                        Ok(Ok(Err(error))) => {
                            tracing::warn!(%lease, %error, "lease file not written");
                        }
                        Err(_) => tracing::warn!(%lease, "lease file not written in time"),
                        Ok(_) => {}
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
            .with_token(self.token.clone())
    }

    /// The stop hook is to have the token that counts.
    pub(super) fn logged_in(&mut self, token: Token) {
        self.token = Some(token);
        if let Some(held) = &self.held {
            let file = self.lease_file(held.resignation.clone());
            self.files.write_soon(file);
        }
    }

    fn start_run(&mut self) {
        self.restart_at = None;
        let Some(held) = &mut self.held else { return };
        let first = !std::mem::replace(&mut held.has_run, true);
        if held.guard != Guard::Current {
            self.have_term_guarded();
        }
        self.runs += 1;
        let run = Run::new(self.runs);
        match self.config.hooks.on_elected.clone() {
            Some(hook) if first => self.start_hook(&hook, run),
            _ => self.launch(run),
        }
    }

    /// Tells the guardian of the term, and the stop hook of its token.
    pub(super) fn have_term_guarded(&mut self) {
        // A Rust job that runs yet counts, whatever the configuration has become.
        let runs_here = self.run.as_ref().is_some_and(|run| run.native.is_some());
        let in_daemon = runs_here || self.jobs.get(&self.config.job.kind).is_some();
        let Some(held) = &mut self.held else { return };
        let Some(term) = &held.term else { return };
        let first = std::mem::replace(&mut held.guard, Guard::Current) == Guard::None;
        // The graces are the job's, from its next run on; the TTL is the lease's.
        held.timing = self.timing.with_ttl(held.timing.ttl());
        held.in_daemon |= in_daemon;
        let resignation = held.resignation.clone();
        let term = protocol::Term {
            token: term.token(),
            deadline: term.deadline(),
            lost_grace: held.timing.lost_grace(),
            kill_budget: held.timing.kill_budget(),
            stop_signal: self.config.job.stop_signal,
            in_daemon,
        };
        self.guarding
            .send(Request::Lease(Box::new(resignation.clone())));
        self.guarding.send(Request::Term(term));
        // The hooks of a term are those that it began with.
        if first {
            self.have_end_guarded();
        }
        // The guardian knows; the hook will in a moment.
        self.files.write_soon(self.lease_file(resignation));
    }

    /// Starts what the configuration has for a job, as `run`.
    pub(super) fn launch(&mut self, mut run: Run) {
        let Some(term) = self.held.as_ref().and_then(|held| held.term.clone()) else {
            return;
        };
        let Some(factory) = self.jobs.get(&self.config.job.kind) else {
            let mut command = command::spec(&self.config, &term);
            if let Some(once) = &mut self.once {
                once.asked();
                command.stdin = protocol::Stdin::Inherit;
            }
            return self.ask_for(&term, run, command);
        };
        if self.guarding.acked(term.token()) {
            self.start_native(factory, &term, run);
        } else {
            // A daemon that is stopped just now, and wakes after its term, must find itself killed.
            run.awaits_guardian = true;
            self.run = Some(run);
        }
    }

    /// Asks the guardian for `run`, which is to be alone in its tree.
    pub(super) fn ask_for(&mut self, term: &Term, run: Run, command: protocol::CommandSpec) {
        self.asked = run.id;
        self.guarding.send(Request::Start {
            token: term.token(),
            run: run.id,
            command,
            sole: true,
        });
        self.run = Some(run);
    }

    /// There is a new guardian: it has to know what the last one knew and still matters.
    pub(super) fn guarded_anew(&mut self, started: guarding::Started) {
        self.guarding.replace(started);
        // The configuration may have changed while it was being started.
        self.guarding.send(Request::Log(self.config.log.clone()));
        // It was not asked for any run yet.
        self.asked = 0;
        if let Some(held) = &mut self.held {
            held.guard = Guard::None;
            let resignation = held.resignation.clone();
            self.guarding.send(Request::Lease(Box::new(resignation)));
        }
        if self.run.as_ref().is_some_and(|run| run.native.is_some()) {
            self.have_term_guarded();
            self.stop_job(Patience::Lost);
        }
        self.on(Event::Guarded);
    }

    /// Guardian and stop hook must reach the store as we do now; the next run brings the rest.
    pub(super) fn tell_of_reload(&mut self) {
        self.guarding.send(Request::Log(self.config.log.clone()));
        if let Some(checking) = &mut self.checking {
            checking.reload(&self.config);
        }
        let Some(held) = &mut self.held else { return };
        held.resignation.store = self.config.etcd.clone();
        if held.guard == Guard::Current {
            held.guard = Guard::Outdated;
        }
        let resignation = held.resignation.clone();
        self.guarding
            .send(Request::Lease(Box::new(resignation.clone())));
        drop(self.files.write(self.lease_file(resignation)));
    }

    pub(super) fn start_native(&mut self, factory: Factory, term: &Term, mut run: Run) {
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
                self.run_begins();
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
        let stop_signal = self.config.job.stop_signal;
        let grace = self.stop_grace(self.config.job.stop_grace);
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
                let grace = self.stop_grace(self.config.job.stop_grace);
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
        if let Some(held) = &mut self.held
            && let Some(token) = held.token()
        {
            held.say_lost(&self.lines, "job_stuck");
            self.lines.daemon_killed(held.lease, token);
        }
        // Nobody may be reading, and the job must die now.
        self.logs.flush_within(LAST_WORDS);
        let this = rustix::process::getpid();
        _ = rustix::process::kill_process(this, rustix::process::Signal::KILL);
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
        let files = self.files.clone();
        let with_input = self.once.is_some();
        let kill_budget = self
            .held
            .as_ref()
            .map_or(self.timing, |held| held.timing)
            .kill_budget();
        let in_vain = words.clone();
        let tell = move |survivors| drop(in_vain.send(Word::InVain(survivors)));
        let tell: Tell = Arc::new(tell);
        tokio::spawn(async move {
            while !guardian.fence(None, kill_budget, Arc::clone(&tell)).await {}
            drop(guardian);
            drop(words.send(Word::Fenced));
            let start = || guarding::start(&config, &files, with_input);
            let started = guarding::until_started(&lines, start).await;
            drop(words.send(Word::Guardian(started)));
        });
    }

    fn give_back(&mut self) {
        self.run = None;
        self.restart_at = None;
        self.guarding.term_over();
        let Some(held) = &mut self.held else { return };
        held.leaving = true;
        if let Some(token) = held.token()
            && held.guard != Guard::None
        {
            self.guarding.send(Request::EndTerm { token });
        }
        let (resignation, reason) = (held.resignation.clone(), held.reason);
        self.contest
            .send(contest::Command::GiveBack(resignation, reason));
    }

    fn hurry(&mut self, limit: Limit) {
        let Some(held) = &mut self.held else { return };
        if held.status.is_none() && self.trouble.away().is_some() {
            // Not even a lease was granted, and to give back is not answered any sooner.
            self.contest.send(contest::Command::Hurry(clock::now()));
            return;
        }
        let once = clock::now() + held.timing.attempt_limit();
        let until = match limit {
            Limit::OneAttempt => once,
            Limit::Deadline => held
                .current()
                .map_or(once, |status| status.deadline.max(once)),
        };
        self.contest.send(contest::Command::Hurry(until));
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
}
