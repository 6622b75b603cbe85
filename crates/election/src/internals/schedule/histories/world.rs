//! One history: leaders, their clocks, a job, the store, and the judge over all of them.

#![expect(clippy::print_stdout, reason = "for whoever looks at a history")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::Mistake;
use crate::clock::Instant;
use crate::revision::{Revision, Token};
use crate::schedule::planner::{Action, Event, Now, Planner, Setup};
use crate::schedule::record::{Exit, HistoryEntry, Outcome, State};
use crate::schedule::timetable::mix;
use crate::schedule::{Occasion, Run, Slot, Stored, Write, Written};
use crate::wall::Time;

mod faults;
mod judge;
mod settings;
mod store;

const SECOND: u64 = 1000;
/// When all heals, in milliseconds; and the end.
const HEALED: u64 = 3600 * SECOND;
const END: u64 = HEALED + 1200 * SECOND;
/// 2027-06-01 00:00 UTC.
const BEGIN: u64 = 1_811_808_000_000;

/// What came of a history.
#[derive(Debug, Default)]
pub(super) struct Played {
    pub(super) runs: u64,
    pub(super) terms: u64,
    pub(super) violation: Option<String>,
}

#[derive(Clone, Debug)]
enum Happening {
    Elect,
    Wake {
        life: u64,
    },
    ReadAnswered {
        life: u64,
        number: u64,
    },
    Lands {
        write: Box<Write>,
        life: Option<u64>,
    },
    WriteAnswered {
        life: u64,
        number: u64,
        written: Written,
    },
    Fork {
        life: u64,
        run: Run,
    },
    /// The daemon is killed.
    Killed {
        life: u64,
    },
    /// Somebody else has written the state.
    StateChanged {
        life: u64,
    },
    JobEnds {
        nonce: String,
    },
    /// The run closes itself, though it goes on.
    Completes {
        nonce: String,
    },
    Fault,
}

#[derive(Debug)]
struct Job {
    run: Run,
    life: u64,
    began: u64,
    /// It has closed itself.
    closed: bool,
}

pub(super) struct World {
    chance: u64,
    mistake: Option<Mistake>,
    tell: bool,
    now: u64,
    agenda: BTreeMap<(u64, u64), Happening>,
    order: u64,
    setup: Setup,
    // The store.
    state: Option<State>,
    runs: BTreeMap<u64, HistoryEntry>,
    revision: Revision,
    leader: Option<Token>,
    paused: Option<u64>,
    // The leader.
    planner: Option<Planner>,
    life: u64,
    offset: u64,
    job: Option<Job>,
    /// The run that is being started, by its nonce.
    forking: Option<String>,
    // The judge.
    claimed: BTreeSet<Slot>,
    started: BTreeSet<(Slot, u32)>,
    truth: HashMap<(Occasion, u32), Outcome>,
    /// The ends of runs, as the state has told them.
    ends: HashMap<(Slot, u32), Outcome>,
    settled: BTreeSet<Slot>,
    /// Slots whose run closed itself.
    completed: BTreeSet<Slot>,
    /// When the last job ended.
    ended: u64,
    /// Slots that somebody wants to be run again.
    again: BTreeSet<Slot>,
    accounted: u64,
    since: Option<Slot>,
    played: Played,
}

impl World {
    pub(super) fn new(seed: u64, mistake: Option<Mistake>, tell: bool) -> Self {
        let mut world = Self {
            chance: mix(seed + 1),
            mistake,
            tell,
            now: 0,
            agenda: BTreeMap::new(),
            order: 0,
            setup: settings::plain(),
            state: None,
            runs: BTreeMap::new(),
            revision: Revision::default(),
            leader: None,
            paused: None,
            planner: None,
            life: 0,
            offset: 0,
            job: None,
            forking: None,
            claimed: BTreeSet::new(),
            started: BTreeSet::new(),
            truth: HashMap::new(),
            ends: HashMap::new(),
            settled: BTreeSet::new(),
            completed: BTreeSet::new(),
            ended: 0,
            again: BTreeSet::new(),
            accounted: 0,
            since: None,
            played: Played::default(),
        };
        world.setup = world.any_setup();
        world
    }

    fn next(&mut self) -> u64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.chance)
    }

    fn up_to(&mut self, most: u64) -> u64 {
        self.next() % (most + 1)
    }

    fn one_in(&mut self, times: u64) -> bool {
        self.next().is_multiple_of(times)
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        let last = u64::try_from(of.len() - 1).expect("a number");
        of[usize::try_from(self.up_to(last)).expect("an index")]
    }

    fn makes(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }

    fn say(&self, what: &str) {
        if self.tell {
            println!(
                "{:9.3} {what}",
                Duration::from_millis(self.now).as_secs_f64()
            );
        }
    }

    fn violated(&mut self, what: String) {
        self.say(&what);
        self.played.violation.get_or_insert(what);
    }

    fn after(&mut self, delay: u64, happening: Happening) {
        self.order += 1;
        self.agenda
            .insert((self.now + delay, self.order), happening);
    }

    fn faulty(&self) -> bool {
        self.now < HEALED
    }

    fn present(&self) -> Now {
        Now {
            // The clock may be three minutes slow.
            wall: Time::from_millis(BEGIN + self.now + self.offset) - Duration::from_mins(3),
            clock: Instant::from_nanos((self.now + 1) * 1_000_000),
        }
    }

    pub(super) fn play(mut self) -> Played {
        self.offset = 180 * SECOND;
        self.after(0, Happening::Elect);
        self.after(20 * SECOND, Happening::Fault);
        while let Some(((at, _), happening)) = self.agenda.pop_first() {
            if at > END || self.played.violation.is_some() {
                break;
            }
            self.now = at;
            if !matches!(happening, Happening::Wake { .. }) {
                self.say(&format!("{happening:?}"));
            }
            self.happen(happening);
        }
        if self.played.violation.is_none() {
            self.judge_end();
        }
        self.played
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Elect => self.elect(),
            Happening::Wake { life } => self.hear(life, Event::Tick),
            Happening::ReadAnswered { life, number } => {
                let stored = self.stored();
                self.hear(life, Event::Read { number, stored });
            }
            Happening::Lands { write, life } => {
                let written = self.land(&write);
                if let Some(life) = life {
                    let (delay, number) = (1 + self.up_to(3), write.number);
                    self.after(
                        delay,
                        Happening::WriteAnswered {
                            life,
                            number,
                            written,
                        },
                    );
                }
            }
            Happening::WriteAnswered {
                life,
                number,
                written,
            } => {
                let written = match written {
                    Written::Unknown if self.makes(Mistake::UnknownIsDone) => Written::Done {
                        revision: self.revision,
                    },
                    Written::Refused if self.makes(Mistake::RefusedIsDone) => Written::Done {
                        revision: self.revision,
                    },
                    written => written,
                };
                self.hear(life, Event::Wrote { number, written });
            }
            Happening::Fork { life, run } => {
                self.fork(life, run);
                self.forking = None;
            }
            Happening::Killed { life } if life == self.life => self.leave(),
            Happening::Killed { .. } => {}
            Happening::StateChanged { life } => self.hear(life, Event::StateChanged),
            Happening::JobEnds { nonce } => self.job_ends(&nonce),
            Happening::Completes { nonce } => self.completes(&nonce),
            Happening::Fault => self.fault(),
        }
    }

    fn hear(&mut self, life: u64, event: Event) {
        if life != self.life {
            return;
        }
        let now = self.present();
        let Some(planner) = &mut self.planner else {
            return;
        };
        let actions = planner.handle(event, now);
        let wake = planner.next_timer();
        for action in actions {
            self.carry_out(action);
        }
        if life != self.life || self.planner.is_none() {
            return;
        }
        let has_come = wake.wall.is_some_and(|at| at <= now.wall);
        if has_come || wake.clock.is_some_and(|at| at <= now.clock) {
            self.violated(format!("{wake:?} has come, and is waited for"));
        }
        let by_wall = wake
            .wall
            .map(|at| at.as_millis().saturating_sub(now.wall.as_millis()));
        let by_clock = wake.clock.map(|at| at.after(now.clock).as_millis());
        let by_clock = by_clock.and_then(|delay| u64::try_from(delay).ok());
        if let Some(delay) = [by_wall, by_clock].into_iter().flatten().min() {
            self.after(delay.max(1), Happening::Wake { life });
        }
    }

    fn carry_out(&mut self, action: Action) {
        let life = self.life;
        match action {
            Action::Read { number } => {
                let delay = 1 + self.up_to(3);
                self.after(delay, Happening::ReadAnswered { life, number });
            }
            Action::Write(write) => self.send(write),
            Action::Start(run) => {
                let delay = 1 + self.up_to(2);
                self.forking = Some(run.nonce.clone());
                self.after(delay, Happening::Fork { life, run });
            }
            Action::Stop(_) if self.makes(Mistake::StopIsForgotten) => {}
            Action::Stop(_) => {
                // One that is on its way is stopped once it is there.
                let job = self.job.as_ref().map(|job| &job.run.nonce);
                if let Some(nonce) = job.or(self.forking.as_ref()).cloned() {
                    let delay = 4 + self.up_to(SECOND);
                    self.after(delay, Happening::JobEnds { nonce });
                }
            }
            Action::Drained => self.leave(),
            Action::Refresh => {
                let setup = self.told_setup();
                self.hear(life, Event::Setup(setup));
            }
            action => {
                self.say(&format!("  {action:?}"));
                self.judge_action(&action);
            }
        }
    }

    fn send(&mut self, mut write: Box<Write>) {
        let life = self.life;
        if self.makes(Mistake::TrimIsForgotten) {
            write.trimmed.clear();
        }
        if self.makes(Mistake::TrimsWhatItPuts) {
            let puts = write.runs.iter().map(|(seq, _)| *seq);
            write.trimmed.extend(puts);
        }
        if self.faulty() && self.one_in(3) {
            self.resolve();
        }
        let (number, unknown) = (write.number, Written::Unknown);
        if let Some(open) = &write.state.open
            && self.makes(Mistake::StartsUnacknowledged)
            && open.token == self.leader
            && let Some(token) = open.token
        {
            let run = Run {
                slot: open.slot,
                attempt: open.attempt,
                missed: 0,
                last_success: None,
                token,
                nonce: open.nonce.clone(),
            };
            self.after(0, Happening::Fork { life, run });
        }
        if write.state.open.is_none()
            && write.state.last.as_ref().is_some_and(|it| it.attempt > 0)
            && self.makes(Mistake::CloseIsForgotten)
        {
            let revision = self.revision;
            let written = Written::Done { revision };
            self.after(
                2,
                Happening::WriteAnswered {
                    life,
                    number,
                    written,
                },
            );
            return;
        }
        let delay = 1 + self.up_to(4);
        if !self.faulty() || !self.one_in(6) {
            // The daemon may be gone before it hears that its close was done.
            let closes = write.state.open.is_none();
            let killed = closes && self.faulty() && self.one_in(10);
            self.after(
                delay,
                Happening::Lands {
                    write,
                    life: Some(life),
                },
            );
            if killed {
                self.after(delay, Happening::Killed { life });
            }
            return;
        }
        self.after(
            1500,
            Happening::WriteAnswered {
                life,
                number,
                written: unknown,
            },
        );
        match self.up_to(2) {
            0 => {}
            1 => self.after(delay, Happening::Lands { write, life: None }),
            _ => {
                let late = 1400 + self.up_to(8 * SECOND);
                self.after(late, Happening::Lands { write, life: None });
            }
        }
    }

    fn elect(&mut self) {
        self.life += 1;
        self.played.terms += 1;
        if self.one_in(2) && self.state.is_none() {
            self.revision = self.revision.next();
        }
        let created = 1000 + i64::try_from(self.life).expect("a number");
        let token = Token::at(Revision::new(created));
        self.leader = Some(token);
        self.offset = 180 * SECOND;
        if self.faulty() && self.state.is_some() && self.one_in(4) {
            self.offset = self.up_to(300 * SECOND);
        }
        self.planner = Some(Planner::new(self.told_setup()));
        self.forking = None;
        if self.state.is_none() {
            self.revision = Revision::default();
        }
        let (life, seed) = (self.life, self.next());
        if self.paused.is_some() && !self.makes(Mistake::PauseIsUntold) {
            self.hear(life, Event::Paused(true));
        }
        self.hear(life, Event::Elected { token, seed });
    }

    /// The term is over, and another begins some time later.
    fn leave(&mut self) {
        // A close of which nothing was heard goes with the resignation.
        let planner = self.planner.as_ref();
        let pending = planner.and_then(Planner::pending_close).cloned();
        let in_place = pending.or_else(|| planner.and_then(Planner::standing_close));
        if !self.makes(Mistake::RunOutlivesTerm) {
            self.job = None;
        }
        if let Some(mut write) = in_place.filter(|_| self.one_in(2)) {
            if self.makes(Mistake::StandInIsUnguarded) {
                write.seen = self.revision;
            }
            self.land(&write);
        }
        self.planner = None;
        self.leader = None;
        self.life += 1;
        let delay = match self.up_to(2) {
            0 => 3,
            1 => self.up_to(20 * SECOND),
            _ => self.up_to(200 * SECOND),
        };
        let delay = if self.faulty() { delay } else { 3 };
        self.after(delay, Happening::Elect);
    }

    fn fork(&mut self, life: u64, run: Run) {
        if life != self.life {
            return;
        }
        if self.faulty() && self.one_in(25) {
            if !self.makes(Mistake::RefusalIsForgotten) {
                self.hear(life, Event::NotStarted);
            }
            return;
        }
        self.judge_start(life, &run);
        self.played.runs += 1;
        let longest = self.pick(&[2 * SECOND, 20 * SECOND, 100 * SECOND]);
        let delay = 1 + self.up_to(longest);
        let nonce = run.nonce.clone();
        if self.one_in(4) {
            let (delay, nonce) = (self.up_to(delay), nonce.clone());
            self.after(delay, Happening::Completes { nonce });
        }
        self.after(
            delay,
            Happening::JobEnds {
                nonce: nonce.clone(),
            },
        );
        self.job = Some(Job {
            run,
            life,
            began: self.now,
            closed: false,
        });
    }

    fn job_ends(&mut self, nonce: &str) {
        let Some(job) = self.job.take_if(|job| job.run.nonce == nonce) else {
            return;
        };
        self.ended = self.now;
        if nonce == "late" {
            return;
        }
        self.judge_span(&job);
        let failed = self.one_in(5);
        let run = (job.run.slot, job.run.attempt);
        let truth = if failed {
            Outcome::Failure
        } else {
            Outcome::Success
        };
        if !job.closed {
            self.truth.insert(run, truth);
        }
        let told = failed && !self.makes(Mistake::FailureIsSuccess);
        let life = job.life;
        if self.makes(Mistake::EndIsEarly) {
            // It goes on for five seconds, under a name that nobody ends.
            let nonce = "late".to_owned();
            let mut job = job;
            job.run.nonce.clone_from(&nonce);
            self.job = Some(job);
            self.after(5 * SECOND, Happening::JobEnds { nonce });
        }
        self.hear(
            life,
            Event::Ended {
                exit: Some(Exit::Code(i32::from(told))),
                killed: false,
                took: Duration::from_secs(1),
            },
        );
    }
}
