//! A term: what the guardian knows of it, its runs' beginning, and its end.

use std::time::Duration;

use super::deadline::Due;
use super::place::{After, Ending, Guard, Job, Pause, Place};
use super::run::What;
use super::words::{Action, Line, Work};
use super::{GuardianState, Mind};
use crate::guardian::protocol::{self, Request, Stdin};
use crate::reason::EndReason;

/// How the job of a term that ends is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// With `stop_grace`.
    Planned,
    /// With `lost_grace`.
    Lost,
    /// At once.
    Kill,
}

/// How long a hook may take to be executed: its start may be held back for a second, so that the term is
/// recorded and the service manager knows of it.
const HOOK_STARTS: Duration = Duration::from_secs(2);

impl Mind {
    /// Starts the next run of a term without one: first of all the hook before the job.
    pub(super) fn start_run(&mut self) {
        let Place::Leading(tenure, Job::Due(_)) = &mut self.place else {
            return;
        };
        let first = !std::mem::replace(&mut tenure.has_run, true);
        if tenure.guard != Guard::Current {
            self.have_term_guarded();
        }
        self.runs += 1;
        match self.config.hooks.on_elected.as_ref().filter(|_| first) {
            Some(hook) => {
                // From its start on it has that limit, and to come to it so long.
                let until = self.now + HOOK_STARTS + hook.limit;
                let timed_out = false;
                self.start(What::Hook { until, timed_out }, Work::Hook);
            }
            None if self.planning.is_some() => self.lead_between_runs(),
            None => self.launch(),
        }
    }

    /// Starts what the configuration has for a job, as the run with the last number.
    pub(super) fn launch(&mut self) {
        if self.is_native() {
            return self.launch_native();
        }
        let stdin = match &mut self.once {
            Some(once) => {
                once.asked();
                Stdin::Inherit
            }
            None => Stdin::Null,
        };
        let slot = self.slot_run();
        self.start(What::Command, Work::Job(stdin, slot));
    }

    /// Asks the guardian for the run with the last number, which is to be alone in its tree.
    fn start(&mut self, what: What, work: Work) {
        let id = self.runs;
        if let Place::Leading(tenure, job) = &mut self.place {
            let token = tenure.token;
            job.runs(id, what, self.now);
            self.guardian.asked = id;
            self.act(Action::Start {
                token,
                run: id,
                what: work,
            });
        }
    }

    /// Tells the guardian of the term, and the stop hook of its token.
    pub(super) fn have_term_guarded(&mut self) {
        // A Rust job that runs yet counts, whatever the configuration has become.
        let runs_here = self.place.run().is_some_and(|run| run.native().is_some());
        let in_daemon = runs_here || self.is_native();
        let timing = self.timing;
        let Some(tenure) = self.place.tenure_mut() else {
            return;
        };
        let first = std::mem::replace(&mut tenure.guard, Guard::Current) == Guard::None;
        // The graces are the job's, from its next run on; the TTL is the lease's.
        let timing = timing.with_ttl(tenure.timing().ttl());
        tenure.candidacy.timing = timing;
        tenure.in_daemon |= in_daemon;
        let resignation = tenure.candidacy.resignation.clone();
        let token = tenure.token;
        let term = protocol::TermSpec {
            token,
            deadline: tenure.deadline(),
            graces: timing.graces(),
            stop_signal: self.config.job.stop_signal,
            in_daemon,
        };
        self.tell_of_lease(resignation);
        self.tell(Request::Term(term));
        // The hooks of a term are those that it began with.
        if first && self.config.hooks.on_lost.is_some() {
            self.act(Action::GuardEnd { token });
        }
        // The guardian knows; the hook will in a moment.
        self.write_lease_file(true);
    }

    /// The deadline asks for this, by our clock or by the guardian's.
    pub(super) fn deadline_asks(&mut self, due: Due) {
        match (due, &self.place) {
            (Due::Stop, Place::Leading(..)) => self.lose_term(EndReason::Deadline, Stop::Lost),
            (Due::Stop, Place::Ending(_, ending)) if !ending.fencing => self.stop_job(Stop::Lost),
            (Due::Kill, Place::Leading(..)) => self.lose_term(EndReason::Deadline, Stop::Kill),
            (Due::Kill, Place::Ending(..)) => self.kill_job(),
            _ => {}
        }
    }

    /// The guardian would not start a run, since the term is ending.
    pub(super) fn not_started(&mut self) {
        if matches!(self.place, Place::Leading(..)) {
            return self.lose_term(EndReason::Deadline, Stop::Lost);
        }
        // The run that the end waited for doesn't come, and the guardian waits for a word.
        self.stop_draining();
    }

    /// The term is lost for this reason.
    pub(super) fn lose_term(&mut self, reason: EndReason, stop: Stop) {
        self.say_lost(reason);
        self.end(After::Rejoin(Pause::Backoff(reason)), stop);
        self.term_is_lost();
    }

    /// Whatever runs in a term that ends ends for the loss of it.
    pub(super) fn term_is_lost(&mut self) {
        if let Place::Ending(_, ending) = &mut self.place {
            ending.lost = true;
        }
    }

    fn say_lost(&mut self, reason: EndReason) {
        if let Some(once) = &mut self.once {
            once.lost(reason);
        }
        if let Some(tenure) = self.place.tenure_mut() {
            let line = tenure.lost(reason);
            self.actions.extend(line.map(Action::Say));
        }
    }

    /// Ends the term: nothing starts in it any more, and what runs is stopped.
    pub(super) fn end(&mut self, after: After, stop: Stop) {
        let drains = stop == Stop::Planned && self.may_drain();
        self.begin_to_end(after, false);
        if let Place::Ending(_, ending) = &mut self.place {
            ending.draining = drains;
        }
        if !drains {
            self.stop_job(stop);
        }
        self.plan_end();
    }

    fn begin_to_end(&mut self, after: After, fencing: bool) {
        self.place = match std::mem::take(&mut self.place) {
            Place::Leading(tenure, job) => {
                let run = match job {
                    Job::Up(run) | Job::Emptying(run, _) => Some(run),
                    Job::Due(_) | Job::Idle => None,
                };
                let ending = Ending {
                    run,
                    after,
                    fencing,
                    killing: false,
                    draining: false,
                    lost: fencing,
                    empty: false,
                };
                Place::Ending(tenure, ending)
            }
            place => place,
        };
    }

    /// Ends a term that has only waited for its run, as planned; whether it is one.
    pub(super) fn stop_draining(&mut self) -> bool {
        let drains = matches!(&self.place, Place::Ending(_, ending) if ending.draining);
        if drains {
            self.stop_job(Stop::Planned);
        }
        drains
    }

    pub(super) fn stop_job(&mut self, stop: Stop) {
        if let Place::Ending(_, ending) = &mut self.place {
            ending.draining = false;
            ending.lost |= stop == Stop::Lost;
        }
        let Some(tenure) = self.place.tenure() else {
            return;
        };
        let (token, kill_at) = (tenure.token, tenure.kill_at());
        let (grace, native_until) = match stop {
            Stop::Kill => return self.kill_job(),
            // The lease is renewed meanwhile; should that fail, its own times come first (R11).
            Stop::Planned => {
                let grace = self.stop_grace();
                (grace, self.now + grace)
            }
            Stop::Lost => (tenure.timing().lost_grace(), kill_at),
        };
        self.tell(Request::Stop {
            token,
            stop_signal: self.config.job.stop_signal,
            grace,
        });
        self.stop_run_by(native_until);
    }

    pub(super) fn kill_job(&mut self) {
        let Some(tenure) = self.place.tenure() else {
            return;
        };
        let token = tenure.token;
        let within = self.now + tenure.timing().kill_budget();
        let at = within.min(tenure.kill_at());
        if let Place::Ending(_, ending) = &mut self.place {
            ending.killing = true;
            ending.draining = false;
        }
        self.tell(Request::Kill { token });
        self.stop_run_by(at);
    }

    /// Begins to stop what runs for good; a Rust job has until `at`.
    fn stop_run_by(&mut self, at: crate::clock::Instant) {
        let now = self.now;
        if let Some(run) = self.place.run_mut() {
            run.stop(at, now);
            if run.native().is_some() {
                self.act(Action::StopNative);
            }
        }
    }

    /// Stops what a run has left behind; the term goes on.
    pub(super) fn stop_rest_of_run(&mut self) {
        if let Some(token) = self.place.tenure().map(|tenure| tenure.token) {
            let (stop_signal, grace) = (self.config.job.stop_signal, self.stop_grace());
            self.tell(Request::StopRun {
                token,
                stop_signal,
                grace,
            });
        }
    }

    fn stop_grace(&self) -> Duration {
        let grace = self.config.job.stop_grace;
        let run = self.place.run();
        run.map_or(grace, |run| run.grace(grace, self.now))
    }

    /// A Rust job doesn't end in time: only the end of this process is its end for certain. The
    /// guardian, or the unit's stop hook, gives the term back.
    pub(super) fn kill_daemon(&mut self) {
        if let Some(tenure) = self.place.tenure_mut() {
            let (lease, token) = (tenure.lease(), tenure.token);
            let line = tenure.say_lost(EndReason::JobStuck);
            self.actions.extend(line.map(Action::Say));
            self.say(Line::DaemonKilled { lease, token });
        }
        self.act(Action::KillDaemon);
    }

    /// Takes the guardian for dead or stopped.
    pub(super) fn guardian_gone(&mut self) {
        if std::mem::replace(&mut self.guardian.gone, true) {
            return;
        }
        self.say(Line::GuardianGone);
        let after = After::Rejoin(Pause::Backoff(EndReason::Guardian));
        match &mut self.place {
            Place::Over => {}
            Place::Leading(..) => {
                self.say_lost(EndReason::Guardian);
                self.begin_to_end(after, true);
                self.fence();
                self.plan_end();
            }
            Place::Ending(_, ending) => {
                ending.fencing = true;
                self.fence();
            }
            // No job runs, but nobody would give the place back if this daemon were killed.
            Place::Standing(_) => {
                self.fence();
                self.give_back(after);
            }
            Place::Out(_) | Place::GivingBack(..) => self.fence(),
        }
    }

    fn fence(&mut self) {
        if let Some(kill_at) = self.place.tenure().map(super::place::Tenure::kill_at) {
            self.stop_run_by(kill_at);
        }
        let candidacy = self.place.candidacy();
        let timing = candidacy.map_or(self.timing, |candidacy| candidacy.timing);
        let kill_budget = timing.kill_budget();
        self.act(Action::Fence { kill_budget });
    }

    /// There is a new guardian: it has to know what the last one knew and still matters.
    pub(super) fn guarded_anew(&mut self) {
        self.guardian = GuardianState::default();
        // The configuration may have changed while it was being started.
        self.tell(Request::Log(self.config.log.clone()));
        if let Some(tenure) = self.place.tenure_mut() {
            tenure.guard = Guard::None;
        }
        if let Some(candidacy) = self.place.candidacy() {
            let resignation = candidacy.resignation.clone();
            self.tell_of_lease(resignation);
        }
        if self.place.run().is_some_and(|run| run.native().is_some()) {
            self.have_term_guarded();
            let killing = matches!(&self.place, Place::Ending(_, ending) if ending.killing);
            self.stop_job(if killing { Stop::Kill } else { Stop::Lost });
        }
        self.make_up();
    }
}
