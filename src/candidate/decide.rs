//! What the candidate decides: a state machine without I/O, clock or thread.
//!
//! The [loop](super::Candidate::run) feeds it what happened and carries out what it answers, in
//! order. The invariants: a run is asked for only in a term, with an empty tree, while no stop has
//! begun (R4), and a term is given back only when its tree is proven empty (R5). By D−G−K and D−K
//! the job is asked to stop and killed, whatever the guardian does (R2).
//!
//! Every rule about time is met by [`Event::Tick`] alone, which comes after all that was said
//! before: a daemon that was stopped hears first what its guardian did meanwhile.

use std::sync::Arc;
use std::time::Duration;

use super::view::{JobView, Public};
use crate::backoff::Backoff;
use crate::clock::Instant;
use crate::config::Config;
use crate::config::timing::Timing;
use crate::guardian::protocol::{Report, Request};
use crate::job::restart::Restarts;
use crate::proc::survivor::Survivor;
use crate::schedule::planner::{Event as Told, Now, Setup};
use crate::term::record::Turn;
use crate::term::resignation::Resignation;
use crate::wall::Time;

mod candidacy;
mod checks;
mod deadline;
mod end;
mod health;
mod once;
mod orders;
mod place;
mod run;
mod runs;
mod silence;
mod slots;
mod tenure;
#[cfg(test)]
mod tests;
mod trouble;
mod wishes;
pub(super) mod words;

use checks::Checks;
pub(crate) use end::End;
use once::Once;
pub(crate) use once::OnceOutcome;
use place::{Job, Out, Place};
use silence::Silence;
use slots::Planning;
use trouble::Trouble;
use words::{Action, Command, Event, Line};
pub(crate) use words::{Order, Role};

/// First and largest pause before a candidate that lost its place stands again.
const REJOIN_PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// The state that decisions follow from.
#[derive(Debug)]
pub(super) struct Mind {
    config: Arc<Config>,
    /// The kinds of job that are written in Rust, and run in this process.
    native_kinds: Vec<String>,
    timing: Timing,
    place: Place,
    guardian: GuardianState,
    /// What tells whether it may stand, where something does.
    checks: Option<Checks>,
    /// The one run of a candidate that is to have no other.
    once: Option<Once>,
    /// What plans the runs of this candidacy, where the job has a schedule.
    planning: Option<Planning>,
    trouble: Trouble,
    restarts: Restarts,
    rejoin: Backoff,
    /// The number of the last run; never used twice.
    runs: u64,
    /// The number of the last wish to step down; never used twice.
    wishes: u64,
    /// Whose turn it was in the cold start, until it has joined.
    turn: Option<Turn>,
    /// What was sent SIGKILL and lives on.
    survivors: Arc<[Survivor]>,
    /// When, by the clock, the present event is decided on.
    now: Instant,
    /// The time of day then, for the schedule alone.
    wall: Time,
    /// The random number that came with it.
    random: u64,
    actions: Vec<Action>,
}

/// What is known of the guardian.
#[derive(Debug, Default)]
struct GuardianState {
    silence: Silence,
    /// It was given up on; the next one isn't there yet.
    gone: bool,
    /// The last run that it was asked to start.
    asked: u64,
}

impl Mind {
    /// A candidate that stands nowhere yet, with a guardian. It is to stand at once.
    pub(super) fn new(config: Arc<Config>, native_kinds: Vec<String>, now: Instant) -> Self {
        Self {
            timing: config.timing(),
            restarts: Restarts::new(&config.job),
            checks: config.check.is_some().then(|| Checks::new(now)),
            config,
            native_kinds,
            place: Place::Out(Out {
                rejoin_at: Some(now),
                cooldown: false,
            }),
            guardian: GuardianState::default(),
            once: None,
            planning: None,
            trouble: Trouble::default(),
            rejoin: Backoff::new(REJOIN_PAUSES.0, REJOIN_PAUSES.1),
            runs: 0,
            wishes: 0,
            turn: None,
            survivors: Arc::default(),
            now,
            wall: Time::EPOCH,
            random: 0,
            actions: Vec::new(),
        }
    }

    /// It first stands in this turn of a cold start.
    pub(super) const fn in_turn(&mut self, turn: Option<Turn>) {
        self.turn = turn;
    }

    /// As [`new`](Self::new), for a candidate that runs its command once and is done with its end.
    pub(super) fn for_one_run(config: Arc<Config>, now: Instant) -> Self {
        Self {
            once: Some(Once::default()),
            ..Self::new(config, Vec::new(), now)
        }
    }

    /// Takes in one event, with a random number of its own, and returns what is to be done, in
    /// order.
    pub(super) fn handle(&mut self, event: Event, now: Now, random: u64) -> Vec<Action> {
        (self.now, self.wall, self.random) = (now.clock, now.wall, random);
        match event {
            Event::Tick => self.tick(),
            Event::Order(order) => self.ordered(order),
            Event::Guardian(report) => self.guardian_said(report),
            Event::GuardianGone => self.guardian_gone(),
            Event::Prepared(lease) => self.prepared(lease),
            Event::Silent(lease) => {
                if self.place.candidacy().is_some_and(|it| it.lease == lease) {
                    self.guardian_gone();
                }
            }
            Event::Fenced => self.fenced(),
            Event::InVain(survivors) => self.can_not_be_killed(survivors),
            Event::Guarded => self.guarded_anew(),
            Event::Granted(timing, status) => {
                self.store_answers();
                if let Some(candidacy) = self.place.candidacy_mut() {
                    candidacy.granted(timing, status);
                }
            }
            Event::Lease(status) => self.lease_is_known(status),
            Event::Joined(joined) => self.joined(joined),
            Event::Progress(progress) => self.progress(progress),
            Event::Elected(elected) => self.elected(elected),
            Event::Lost(loss) => self.lost(&loss),
            Event::Refused(why) => self.refused(&why),
            Event::Unreachable(error) => self.unreachable(&error),
            Event::LoggedIn => self.write_lease_file(true),
            Event::Notice(notice) => self.noticed(notice),
            Event::Successor(wish, found) => self.successor(wish, found),
            Event::MakeWay => self.make_way(),
            Event::Left(left) => self.left(left),
            Event::NativeStarted(run) => self.native_started(run),
            Event::NativeReturned(run) => self.native_returned(run),
            Event::NativeEnded(run, result) => self.native_ended(run, result),
            Event::ProcessWanted => self.process_wanted(),
            Event::Checks(report) => self.check_said(report),
            Event::ChecksGone => self.checks_gone(),
            Event::ChecksGuarded => self.checks_guarded(),
            Event::SlotsRead(lease, number, stored) => self.slots_read(lease, number, stored),
            Event::SlotsWrote(lease, number, written) => self.slots_wrote(lease, number, written),
            Event::Refreshed(schedule) => self.schedule_refreshed(schedule),
        }
        std::mem::take(&mut self.actions)
    }

    /// When the next [`Event::Tick`] is due.
    pub(super) fn next_timer(&self) -> Option<Instant> {
        let place = match &self.place {
            Place::Out(out) => out.rejoin_at,
            Place::Leading(_, Job::Due(at)) => Some(*at),
            _ => None,
        };
        let tenure = self.place.tenure();
        let silent = tenure.and_then(|tenure| self.silent_at(tenure));
        let run = self.place.run();
        [
            place,
            tenure.and_then(place::Tenure::next_due),
            silent,
            run.and_then(run::Run::kills_daemon_at),
            run.and_then(run::Run::hook_due),
            self.checks.as_ref().map(Checks::due),
            self.timeout_at(),
            self.planning.as_ref().and_then(|it| it.wake().clock),
        ]
        .into_iter()
        .flatten()
        .reduce(Instant::min)
    }

    /// Does what is due by now.
    fn tick(&mut self) {
        let now = self.now;
        let passed = |at: Option<Instant>| at.is_some_and(|at| now >= at);
        match &self.place {
            Place::Out(out) if passed(out.rejoin_at) => self.rejoin_due(),
            Place::Leading(_, Job::Due(at)) if now >= *at => self.start_run(),
            _ => {}
        }
        if passed(self.place.run().and_then(run::Run::kills_daemon_at)) {
            self.kill_daemon();
        }
        if passed(self.place.run().and_then(run::Run::hook_due)) {
            self.hook_due();
        }
        if passed(self.checks.as_ref().map(Checks::due)) {
            self.check_due();
        }
        self.tick_of_term();
        if passed(self.timeout_at()) {
            self.run_timed_out();
        }
        // Last: nothing starts in a term that the deadline has ended.
        self.plan(Told::Tick);
    }

    /// Does what is due by now in a term.
    fn tick_of_term(&mut self) {
        let now = self.now;
        let passed = |at: Option<Instant>| at.is_some_and(|at| now >= at);
        let Some(tenure) = self.place.tenure_mut() else {
            return;
        };
        let due = tenure.take_due(now);
        let tenure = self.place.tenure();
        if passed(tenure.and_then(|tenure| self.silent_at(tenure))) {
            self.guardian_gone();
        }
        for due in due {
            self.deadline_asks(due);
        }
    }

    /// When the guardian of `tenure` is to be taken for dead or stopped, unless it is heard before.
    fn silent_at(&self, tenure: &place::Tenure) -> Option<Instant> {
        if self.guardian.gone {
            return None;
        }
        self.guardian.silence.silent_at(tenure.timing())
    }

    /// What everybody may know of it; `job` is what its runs came to.
    pub(super) fn public(&self, job: &JobView) -> Public {
        let candidacy = self.place.candidacy();
        // A term that is being given back is nobody's business any more, nor the watchdog's.
        let tenure = match &self.place {
            Place::Leading(tenure, _) | Place::Ending(tenure, _) => Some(tenure),
            _ => None,
        };
        let joined = candidacy.and_then(|candidacy| candidacy.joined.as_ref());
        let run = self.place.run();
        Public {
            role: self.role(),
            lease: candidacy.map(|candidacy| candidacy.lease),
            revision: joined.map(|joined| joined.revision),
            token: tenure.map(|tenure| tenure.token),
            deadline: tenure.map(|tenure| tenure.deadline()),
            held_until: self.place.status().map(|status| status.deadline),
            timing: candidacy.map_or(self.timing, |candidacy| candidacy.timing),
            pid: run.and_then(|run| run.pid),
            position: joined.map(|joined| joined.position),
            joined: joined.map(|joined| Arc::clone(&joined.at)),
            turn: candidacy.and_then(|candidacy| candidacy.turn),
            since: tenure.map(|tenure| Arc::clone(&tenure.began)),
            job: JobView {
                up: run.is_some_and(|run| run.said),
                ..job.clone()
            },
            slots: self.planning.as_ref().and_then(Planning::view),
            health: self.checks.as_ref().map(Checks::view),
            is_killing: matches!(&self.place, Place::Ending(_, it) if it.killing || it.fencing),
            survivors: Arc::clone(&self.survivors),
            trouble: self.trouble.why(),
        }
    }

    /// What became of the one run, where there is to be one.
    pub(super) fn outcome(&self) -> Option<OnceOutcome> {
        let once = self.once.as_ref()?;
        Some(once.outcome(self.trouble.away()))
    }

    fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    fn say(&mut self, line: Line) {
        self.act(Action::Say(line));
    }

    fn ask(&mut self, command: Command) {
        self.act(Action::Contest(command));
    }

    /// Tells the guardian; to one that is gone it is lost.
    fn tell(&mut self, request: Request) {
        self.guardian.silence.asked(&request, self.now);
        self.act(Action::Tell(request));
    }

    /// Tells the guardian how to give back what is held.
    fn tell_of_lease(&mut self, resignation: Resignation) {
        self.tell(Request::Lease(Box::new(resignation)));
    }

    /// Has the stop hook know how to give back what is held; where a job is being started, a moment
    /// later.
    fn write_lease_file(&mut self, soon: bool) {
        if let Some(candidacy) = self.place.candidacy() {
            let resignation = candidacy.resignation.clone();
            self.act(Action::WriteLeaseFile { resignation, soon });
        }
    }

    /// The event's random number, for a pause.
    const fn jitter(&self) -> u32 {
        (self.random >> 32) as u32
    }

    /// What a planner of the configured job plans by, if that has a schedule.
    fn setup(&self) -> Option<Setup> {
        self.config.planner_setup()
    }

    /// Whether the configured job is one in Rust.
    fn is_native(&self) -> bool {
        self.native_kinds.contains(&self.config.job.kind)
    }

    fn guardian_said(&mut self, report: Report) {
        if self.guardian.gone {
            return;
        }
        self.guardian.silence.heard(&report, self.now);
        match report {
            Report::Started { run, pid } => self.started(run, pid),
            Report::Refused { run: _, reason } => self.start_refused(&reason.to_string()),
            Report::MainEnded { run, pid, exit } => self.main_ended(run, pid, &exit),
            Report::Empty {
                token,
                killed,
                run,
                unfinished,
            } => {
                // One that was sent before the last start arrived proves nothing.
                let present = self
                    .place
                    .tenure()
                    .is_some_and(|it| Some(it.token) == token);
                if present && run >= self.guardian.asked {
                    self.empty(killed, unfinished);
                }
            }
            Report::AtEnd { token, killed } => self.hook_at_end_began(token, killed),
            Report::Stopping { .. } => self.deadline_asks(deadline::Due::Stop),
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
}
