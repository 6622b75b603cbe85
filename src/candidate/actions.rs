//! How the candidate carries out what it decides.

use std::sync::Arc;
use std::time::Duration;

use super::decide::words::{Action, Event, Line, Work};
use super::{Candidate, Word, guarding};
use crate::clock;
use crate::guardian::fence::{FenceSettings, Tell};
use crate::guardian::protocol::{CommandSpec, Request};
use crate::job::command;
use crate::job::native::{self, NativeJob, Stage};
use crate::job::process::ProcessError;
use crate::metrics::SlotOutcome;
use crate::revision::Token;
use crate::runtime_dir::lease_file::LeaseFile;
use crate::schedule::planner::Line as Planned;
use crate::schedule::record::Outcome;
use crate::schedule::{Run as SlotRun, Schedule, jitter};
use crate::term::Term;
use crate::term::resignation::Resignation;
use crate::wall;
use crate::worker::STORE;

/// How long a guardian may take to acknowledge a lease before it is taken for stopped.
pub(super) const REMEMBER_LIMIT: Duration = Duration::from_secs(5);

/// How long to wait for the lease file: the disk that it needs may hang.
const WRITE_LIMIT: Duration = Duration::from_secs(2);

/// How long the process may take to say why it kills itself.
const LAST_WORDS: Duration = Duration::from_millis(20);

impl Candidate {
    pub(super) fn carry_out(&mut self, action: Action) {
        match action {
            Action::Say(line) => {
                self.count(&line);
                self.lines.say(&line);
            }
            Action::SlotRunOver { result, took } => self.metrics.slot_run_ended(result, took),
            Action::Tell(request) => self.guarding.send(request),
            Action::Prepare(resignation) => self.prepare(resignation),
            Action::WriteLeaseFile { resignation, soon } => {
                let file = self.lease_file(resignation);
                if soon {
                    self.files.write_soon(file);
                } else {
                    drop(self.files.write(file));
                }
            }
            Action::RemoveLeaseFile(lease) => drop(self.files.remove(lease)),
            Action::Contest(command) => self.contest.send(command),
            Action::Start { token, run, what } => self.start_run(token, run, what),
            Action::GuardEnd { token } => self.guard_end(token),
            Action::StartNative { run, slot } => self.start_native(run, slot),
            Action::RefreshSchedule(schedule) => self.refresh(schedule),
            Action::StopNative => {
                if let Some(native) = &self.native {
                    native.stop();
                }
            }
            Action::RefuseProcess => {
                if let Some(wanted) = self.wanted.take() {
                    let refused = ProcessError::Refused("the term has ended".to_owned());
                    drop(wanted.started.send(Err(refused)));
                }
            }
            Action::Fence { kill_budget } => self.fence(kill_budget),
            Action::KillDaemon => self.kill_daemon(),
            Action::Check { run, timeout } => self.check(run, timeout),
            Action::ReloadChecks => {
                if let Some(checking) = &self.checking {
                    checking.send(Request::Log(self.config.log.clone()));
                }
            }
            Action::RestoreChecks { main } => self.restore_checks(main),
            Action::RunBegins => self.job.runs += 1,
            Action::RunOver(over) => {
                self.metrics.run_ended(over.result);
                self.job.over(over, clock::wall_time());
            }
            Action::TermOver(reason) => self.metrics.term_ended(reason),
            Action::Exit => self.exiting = true,
        }
    }

    /// Counts what a line says of slots.
    fn count(&self, line: &Line) {
        let Line::Slots { line, .. } = line else {
            return;
        };
        match line {
            Planned::Claimed { slot, .. } => {
                self.metrics.slots(SlotOutcome::Claimed, 1);
                if let (Some(slot), Some(scheduling)) = (slot.slot(), &self.config.scheduling) {
                    let election = self.config.election.prefix.as_str();
                    let due = slot.time() + jitter(election, slot, scheduling.policy.jitter);
                    self.metrics.slot_late(wall::now().since(due));
                }
            }
            Planned::Missed { count, .. } => self.metrics.slots(SlotOutcome::Missed, *count),
            Planned::Skipped { count, .. } => self.metrics.slots(SlotOutcome::Skipped, *count),
            Planned::Lost { .. } => self.metrics.slot_run_ended(Outcome::Lost, None),
            _ => {}
        }
    }

    fn lease_file(&self, resignation: Resignation) -> LeaseFile {
        LeaseFile::new(resignation, self.place.clone(), self.guarding.process())
            .with_token(self.token.clone())
    }

    /// Has guardian and stop hook know a lease, off the main loop (R6).
    fn prepare(&self, resignation: Resignation) {
        let lease = resignation.lease;
        let written = self.files.write(self.lease_file(resignation.clone()));
        let remembered = self.guarding.guardian().remember(resignation);
        let words = self.words.0.clone();
        let tell = move |event| drop(words.send(Word::Event(event)));
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
                    tell(Event::Prepared(lease));
                }
                // One that is gone is told of by its own event.
                Ok(Err(_)) => {}
                Err(_) => tell(Event::Silent(lease)),
            }
        });
    }

    /// The term with this token, which was claimed before anything was decided on for it.
    fn term_of(&self, token: Token) -> Option<&Term> {
        self.term.as_ref().filter(|term| term.token() == token)
    }

    fn start_run(&mut self, token: Token, run: u64, what: Work) {
        let wanted = self.wanted.take();
        let Some(term) = self.term_of(token) else {
            return;
        };
        let config = &self.config;
        let (command, sole) = match what {
            Work::Job(stdin, slot) => {
                let job = command::spec_of_run(config, term, slot.as_deref());
                (CommandSpec { stdin, ..job }, true)
            }
            Work::Hook => {
                let hook = config.hooks.on_elected.as_ref();
                let argv = hook.map_or(&[][..], |hook| &hook.command);
                (command::spec_of(config, term, argv), true)
            }
            Work::Process(slot) => {
                let Some(wanted) = wanted else { return };
                let mut spec = command::spec_of_run(config, term, slot.as_deref());
                spec.argv = wanted.argv;
                spec.working_dir = wanted.working_dir.or(spec.working_dir);
                let own = wanted.env.into_iter();
                spec.set
                    .extend(own.map(|(name, value)| (name, value.into())));
                self.processes.asked(run, wanted.started, wanted.ended);
                (spec, false)
            }
        };
        self.guarding.send(Request::Start {
            token,
            run,
            command,
            sole,
        });
    }

    /// Tells the guardian what to run at the end of the term.
    fn guard_end(&self, token: Token) {
        if let (Some(term), Some(hook)) = (self.term_of(token), &self.config.hooks.on_lost) {
            self.guarding.send(Request::AtEnd {
                token,
                command: command::spec_of(&self.config, term, &hook.command),
                limit: hook.limit,
            });
        }
    }

    fn start_native(&mut self, run: u64, slot: Option<Arc<SlotRun>>) {
        let factory = self.jobs.get(&self.config.job.kind);
        let (Some(factory), Some(term)) = (factory, &self.term) else {
            return;
        };
        let start = native::Start {
            factory,
            settings: self.config.job.settings.clone(),
            store: self.config.etcd.clone(),
            spawner: self.spawns.0.clone(),
            term: term.clone(),
            slot,
            layers: self.jobs.layers.clone(),
            run,
        };
        match NativeJob::start(start, self.natives.0.clone()) {
            Ok(native) => {
                self.native = Some(native);
                self.decide(Event::NativeStarted(run));
            }
            // As any run that fails at once.
            Err(error) => {
                let stage = Stage::Ended(Err(error.to_string()));
                drop(self.natives.0.send(native::NativeProgress { run, stage }));
            }
        }
    }

    /// Reads the schedule's zone anew, off the main loop: that is a file.
    fn refresh(&self, schedule: Arc<Schedule>) {
        let words = self.words.0.clone();
        let read = move || {
            let refreshed = Arc::new(schedule.refreshed());
            drop(words.send(Word::Event(Event::Refreshed(refreshed))));
        };
        // Where no thread is to be had the old rules do for another hour.
        drop(STORE.run(read));
    }

    /// Kills guardian and tree off the main loop, and starts the next guardian after it.
    fn fence(&mut self, kill_budget: Duration) {
        self.processes.forget();
        self.guarding.give_up();
        let guardian = self.guarding.guardian();
        let config = Arc::clone(&self.config);
        let (lines, files) = (self.lines.clone(), self.files.clone());
        let words = self.words.0.clone();
        let with_input = self.tell.is_some();
        let in_vain = words.clone();
        let tell = move |survivors| drop(in_vain.send(Word::Event(Event::InVain(survivors))));
        let tell: Tell = Arc::new(tell);
        let own_run = self.native.as_ref().map(NativeJob::mark);
        tokio::spawn(async move {
            let fenced = FenceSettings {
                until: None,
                kill_budget,
                tell,
                own_run: own_run.unwrap_or_default(),
            };
            while !guardian.fence(fenced.clone()).await {}
            drop(guardian);
            drop(words.send(Word::Event(Event::Fenced)));
            let start = || guarding::start(&config, &files, with_input);
            let started = guarding::until_started(&lines, start).await;
            drop(words.send(Word::Guardian(started)));
        });
    }

    fn kill_daemon(&self) {
        // Nobody may be reading, and the job must die now.
        self.logs.flush_within(LAST_WORDS);
        let this = rustix::process::getpid();
        _ = rustix::process::kill_process(this, rustix::process::Signal::KILL);
    }
}
