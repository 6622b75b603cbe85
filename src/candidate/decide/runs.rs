//! What becomes of runs: by the guardian's word, by the Rust job's, and by the fence's.

use std::time::Duration;

use super::Mind;
use super::end::End;
use super::place::{After, Job, Pause, Place};
use super::run::{Cut, Native, Proof, What};
use super::tenure::Stop;
use super::words::{Action, Command, Line, Over, Work};
use crate::guardian::protocol::{Exit, Request};
use crate::job::restart::RestartVerdict;
use crate::keys::LeaseId;
use crate::metrics::RunResult;
use crate::proc::survivor::Survivor;
use crate::reason::EndReason;
use crate::revision::Token;
use crate::term::record::Unkillable;

impl Mind {
    // === a run begins ===

    /// The run's main process was executed.
    pub(super) fn started(&mut self, id: u64, pid: u32) {
        let (now, hook) = (self.now, self.config.hooks.on_elected.as_ref());
        let Some(run) = self.place.run_mut().filter(|run| run.id == id) else {
            return;
        };
        if let What::Hook { until, timed_out } = &mut run.what {
            if let (Some(hook), false) = (hook, *timed_out) {
                *until = now + hook.limit;
            }
            return;
        }
        run.pid = Some(pid);
        self.run_begins(Some(pid));
    }

    fn run_begins(&mut self, pid: Option<u32>) {
        let Some((lease, token)) = self.term() else {
            return;
        };
        if let Some(run) = self.place.run_mut() {
            run.said = true;
            self.say(Line::JobStarted { lease, token, pid });
            self.act(Action::RunBegins);
        }
    }

    pub(super) fn start_refused(&mut self, reason: &str) {
        if let Some((lease, token)) = self.term() {
            if let Some(once) = &mut self.once {
                once.refused();
            }
            let reason = reason.to_owned();
            self.say(Line::JobNotStarted {
                lease,
                token,
                reason,
            });
            // Before the term ends: it was certainly not started.
            self.slot_refused();
            self.not_started();
        }
    }

    /// Starts the Rust job, once the guardian has acknowledged the term.
    pub(super) fn launch_native(&mut self) {
        let (id, now) = (self.runs, self.now);
        let Place::Leading(tenure, job) = &mut self.place else {
            return;
        };
        let guarded = self.guardian.silence.acked(tenure.token);
        let over = tenure.is_over(now);
        let what = if guarded && !over {
            What::Native(Native::default())
        } else {
            What::NativeToBe
        };
        job.runs(id, what, now);
        if guarded && over {
            self.slot_refused();
            self.not_started();
        } else if guarded {
            let slot = self.slot_run();
            self.act(Action::StartNative { run: id, slot });
        }
    }

    /// The guardian knows of the term: a Rust job that waits for that may start.
    pub(super) fn guarded(&mut self, token: Token) {
        if let Place::Leading(tenure, Job::Up(run)) = &self.place
            && tenure.token == token
            && matches!(run.what, What::NativeToBe)
        {
            self.launch();
        }
    }

    pub(super) fn native_started(&mut self, id: u64) {
        let run = self.place.run();
        if run.is_some_and(|run| run.id == id && run.native().is_some()) {
            self.run_begins(None);
        }
    }

    /// A Rust job wants a process.
    pub(super) fn process_wanted(&mut self) {
        let token = self.place.tenure().map(|tenure| tenure.token);
        // Once a stop was sent no start may follow it, so that the answer to it proves all.
        let run = self.place.run_mut();
        let run = run.filter(|run| run.stopping_since.is_none());
        let native = run.and_then(super::run::Run::native_mut);
        let (Some(token), Some(native), false) = (token, native, self.guardian.gone) else {
            return self.act(Action::RefuseProcess);
        };
        // An earlier proof knows nothing of the new process.
        native.proof = None;
        self.runs += 1;
        self.guardian.asked = self.runs;
        let slot = self.slot_run();
        self.act(Action::Start {
            token,
            run: self.runs,
            what: Work::Process(slot),
        });
    }

    // === a run ends ===

    /// Its main process ended, or could not be executed.
    pub(super) fn main_ended(&mut self, id: u64, pid: Option<u32>, exit: &Exit) {
        let end = End::of(pid, exit);
        let run = self.place.run().filter(|run| run.id == id);
        if run.is_some_and(|run| matches!(run.what, What::Hook { .. })) {
            return self.hook_ended(end);
        }
        if let Some(once) = &mut self.once {
            once.ended(&end);
        }
        self.run_ended(id, end);
    }

    /// `run()` has returned; threads and processes of it may be left.
    pub(super) fn native_returned(&mut self, id: u64) {
        // As a command's children, what it left behind has so long to end.
        let until = self.now + self.config.job.stop_grace;
        if let Some(run) = self.place.run_mut().filter(|run| run.id == id) {
            run.end_by(until);
        }
    }

    /// Nothing of the Rust job is left in this process.
    pub(super) fn native_ended(&mut self, id: u64, result: Result<(), String>) {
        let Some(run) = self.place.run_mut().filter(|run| run.id == id) else {
            return;
        };
        let proof = run.native().and_then(|native| native.proof);
        run.what = What::NativeOver;
        let (code, error) = match result {
            Ok(()) => (0, None),
            Err(error) => (1, Some(error)),
        };
        let code = Some(code);
        self.run_ended(
            id,
            End {
                code,
                error,
                ..End::default()
            },
        );
        // The proof that the rest is dead was waiting for it.
        match proof {
            Some(Proof::Fenced) => self.fenced(),
            Some(Proof::Empty { killed, unfinished }) => self.empty(killed, unfinished),
            None => {}
        }
    }

    /// The run's main process, or its `run()`, ended: by itself, or since it was stopped.
    fn run_ended(&mut self, id: u64, end: End) {
        if self.place.run().is_some_and(|run| run.id == id) {
            self.slot_ended(&end);
        }
        let Some((lease, token)) = self.term() else {
            return;
        };
        let run = self.place.run_mut();
        let run = run.filter(|run| run.id == id && run.stopping_since.is_none());
        let Some(run) = run else { return };
        let ran = run.ran(self.now);
        run.pid = None;
        run.said = false;
        let cut = run.cut;
        let failed = end.failed() || cut.is_some();
        self.say(Line::JobEnded {
            lease,
            token,
            end: end.clone(),
            ran,
            once: self.once.is_some(),
        });
        let result = match (cut, failed) {
            (Some(Cut::Replaced), _) => RunResult::Stopped,
            (_, true) => RunResult::Failure,
            (_, false) => RunResult::Success,
        };
        self.act(Action::RunOver(Over {
            token,
            ran,
            result,
            end,
        }));
        let verdict = match self.planning {
            // What follows is the planner's to say.
            Some(_) => RestartVerdict::Again(Duration::ZERO),
            None => self.restarts.decide(failed, ran, self.jitter()),
        };
        if !self.stop_draining() {
            self.follow_with(verdict);
        }
    }

    /// What is to follow, once nothing of the run is left.
    fn follow_with(&mut self, verdict: RestartVerdict) {
        self.place = match std::mem::take(&mut self.place) {
            Place::Leading(tenure, Job::Up(run)) => {
                Place::Leading(tenure, Job::Emptying(run, verdict))
            }
            place => {
                self.place = place;
                return;
            }
        };
        self.stop_rest_of_run();
    }

    // === the tree is empty ===

    /// The tree is empty. `unfinished`: the guardian has yet to run a hook in it at the term's end.
    pub(super) fn empty(&mut self, killed: bool, unfinished: bool) {
        self.survived(Vec::new());
        if let Some(tenure) = self.place.tenure_mut() {
            // Whoever ran it has said how it ended.
            tenure.hook_since = None;
        }
        if let Some(run) = self.place.run_mut() {
            let stops = run.stopping_since.is_some();
            if let Some(native) = run.native_mut() {
                if native.proof != Some(Proof::Fenced) {
                    // Before a stop it proves nothing: the job may start another process.
                    let proof = Proof::Empty { killed, unfinished };
                    native.proof = stops.then_some(proof);
                }
                return;
            }
        }
        // The end of the term has come here, if not yet to the guardian.
        if unfinished && matches!(self.place, Place::Ending(..)) {
            return self.empty_of_job(killed);
        }
        self.say_stopped(killed);
        match &mut self.place {
            Place::Leading(_, job @ Job::Emptying(..)) => {
                let Job::Emptying(run, verdict) = job else {
                    return;
                };
                let verdict = *verdict;
                if self.planning.is_some() && !matches!(run.what, What::Hook { .. }) {
                    *job = Job::Idle;
                    return self.slot_over(false);
                }
                self.run_over(verdict);
            }
            Place::Ending(_, ending) if !ending.fencing => {
                ending.empty = true;
                let lost = ending.lost;
                self.slot_over(lost);
                self.give_back_if_done();
            }
            _ => {}
        }
    }

    /// Gives back a term whose tree is empty, unless what is to be recorded of its last run is still to
    /// be heard of; once the term is lost, or may be by now, nothing is waited for.
    pub(super) fn give_back_if_done(&mut self) {
        if let Place::Ending(_, ending) = &self.place
            && ending.empty
            && !ending.fencing
            && (ending.lost || ending.killing || self.is_settled())
        {
            let after = ending.after;
            self.give_back(after);
        }
    }

    fn run_over(&mut self, verdict: RestartVerdict) {
        match verdict {
            RestartVerdict::Again(pause) => {
                if let Place::Leading(_, job) = &mut self.place {
                    *job = Job::Due(self.now + pause);
                }
            }
            // The tree is empty already, but the term must refuse any further start first.
            RestartVerdict::GiveBack(pause) => {
                self.end(After::Rejoin(Pause::Cooldown(pause)), Stop::Planned);
            }
        }
    }

    /// The tree is empty, but a hook has yet to run in it: it runs by itself, unless the guardian
    /// can't know that a Rust job is over.
    fn empty_of_job(&mut self, killed: bool) {
        let Some(tenure) = self.place.tenure_mut() else {
            return;
        };
        let token = tenure.token;
        if std::mem::take(&mut tenure.in_daemon) {
            self.say_stopped(killed);
            self.tell(Request::JobOver { token });
        }
    }

    /// Says that a run is over which was stopped for good.
    fn say_stopped(&mut self, killed: bool) {
        let Some((lease, token)) = self.term() else {
            return;
        };
        let Place::Ending(_, ending) = &mut self.place else {
            return;
        };
        let Some((run, since)) = ending
            .run
            .take_if(|run| run.stopping_since.is_some())
            .and_then(|run| run.stopping_since.map(|since| (run, since)))
        else {
            return;
        };
        if run.said {
            self.say(Line::JobStopped {
                lease,
                token,
                pid: run.pid,
                killed,
                took: self.now.since(since),
            });
            let result = if killed {
                RunResult::Killed
            } else {
                RunResult::Stopped
            };
            self.stopped(token, run.ran(self.now), result);
        }
    }

    fn stopped(&mut self, token: Token, ran: Duration, result: RunResult) {
        self.act(Action::RunOver(Over {
            token,
            ran,
            result,
            end: End::default(),
        }));
    }

    /// The fence has long sent SIGKILL to these in vain.
    pub(super) fn can_not_be_killed(&mut self, survivors: Vec<Survivor>) {
        let lease = self.place.candidacy().map(|candidacy| candidacy.lease);
        let token = self.place.tenure().map(|tenure| tenure.token);
        self.say(Line::JobCanNotBeKilled {
            lease,
            token,
            survivors: survivors.clone(),
        });
        self.survived(survivors);
    }

    /// These were sent SIGKILL and live on; shows it to whoever looks, here or from elsewhere.
    pub(super) fn survived(&mut self, survivors: Vec<Survivor>) {
        if *self.survivors == *survivors {
            return;
        }
        self.survivors = survivors.into();
        if let Some(candidacy) = self.place.candidacy() {
            let shown = Unkillable::first_of(self.survivors.iter());
            self.ask(Command::ShowUnkillable(candidacy.lease, shown));
        }
    }

    /// Tree and guardian were fenced; a Rust job may still have to end.
    pub(super) fn fenced(&mut self) {
        self.survived(Vec::new());
        let now = self.now;
        if let Some(tenure) = self.place.tenure_mut()
            && let Some(since) = tenure.hook_since.take()
        {
            // Its guardian would have said so.
            let (lease, token) = (tenure.lease(), tenure.token);
            let ran = now.since(since);
            self.say(Line::LastHookKilled { lease, token, ran });
        }
        if let Some(native) = self.place.run_mut().and_then(super::run::Run::native_mut) {
            native.proof = Some(Proof::Fenced);
            return;
        }
        self.say_stopped(true);
        if let Place::Ending(_, ending) = &self.place {
            let after = ending.after;
            self.slot_over(true);
            self.give_back(after);
        }
    }

    /// The guardian has said already what became of the term and its job.
    pub(super) fn given_back_by_guardian(&mut self, lease: LeaseId) {
        let Some(tenure) = self.place.tenure_mut().filter(|it| it.lease() == lease) else {
            return;
        };
        tenure.given_back_by_guardian();
        let token = tenure.token;
        let now = self.now;
        if let Some(run) = self.place.run_mut()
            && std::mem::take(&mut run.said)
        {
            let ran = run.ran(now);
            self.stopped(token, ran, RunResult::Stopped);
        }
    }

    // === the hooks ===

    /// The hook before the job ended: the job follows, or the term is given back.
    fn hook_ended(&mut self, end: End) {
        let Some((lease, token)) = self.term() else {
            return;
        };
        let now = self.now;
        let Some(run) = self.place.run_mut() else {
            return;
        };
        let ran = run.ran(now);
        let What::Hook { until, timed_out } = &mut run.what else {
            return;
        };
        // A term that ends already needs no answer.
        if run.stopping_since.is_some() {
            return;
        }
        // What it has left behind has no time.
        *until = now;
        let killed = std::mem::replace(timed_out, true);
        let refused = end.failed() || killed;
        let verdict = if refused {
            if let Some(tenure) = self.place.tenure_mut() {
                tenure.reason = EndReason::HookRefused;
            }
            RestartVerdict::GiveBack(self.config.job.yield_cooldown)
        } else {
            RestartVerdict::Again(Duration::ZERO)
        };
        self.say(Line::HookEnded {
            lease,
            token,
            end,
            killed,
            ran,
        });
        self.follow_with(verdict);
    }

    /// Kills a hook whose time is over.
    pub(super) fn hook_due(&mut self) {
        let token = self.place.tenure().map(|tenure| tenure.token);
        if let (Some(token), Some(run)) = (token, self.place.run_mut())
            && let What::Hook { timed_out, .. } = &mut run.what
        {
            *timed_out = true;
            self.tell(Request::StopRun {
                token,
                stop_signal: self.config.job.stop_signal,
                grace: Duration::ZERO,
            });
        }
    }

    /// The job's tree is empty, and the hook at the end of the term runs in it.
    pub(super) fn hook_at_end_began(&mut self, token: Token, killed: bool) {
        let now = self.now;
        if let Some(tenure) = self.place.tenure_mut().filter(|it| it.token == token) {
            tenure.hook_since = Some(now);
            self.say_stopped(killed);
        }
    }

    /// The lease and the token of the term, if there is one.
    pub(super) fn term(&self) -> Option<(LeaseId, Token)> {
        let tenure = self.place.tenure()?;
        Some((tenure.lease(), tenure.token))
    }
}
