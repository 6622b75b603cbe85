//! Decides, from what was recorded, whether the rules held. Pure: no clock, no store, no process.

use std::collections::{BTreeMap, BTreeSet};

use crate::common::History;
use crate::common::record::Life;
use crate::elections::Election;
use crate::prompt;

/// All that a run left to judge by. Moments are nanoseconds on `CLOCK_MONOTONIC`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evidence {
    /// The jobs' own record, and the times for which a Go candidate certainly led.
    pub(crate) lives: Vec<Life>,
    /// What the jobs say of their writes.
    pub(crate) writes: Vec<Write>,
    /// The history of the key they wrote.
    pub(crate) counts: Vec<Count>,
    /// What writers say that keep a job's variables beyond its term, and the history of their key.
    pub(crate) late_writes: Vec<Write>,
    pub(crate) late_counts: Vec<Count>,
    /// The candidate keys, in the order of their creation.
    pub(crate) candidates: Vec<Candidacy>,
    pub(crate) thrown: Vec<Thrown>,
    /// When the store was slow, whatever the reason.
    pub(crate) lulls: Vec<Thrown>,
    pub(crate) heals: Vec<Heal>,
    /// What was there still when all had been stopped.
    pub(crate) leftovers: Vec<String>,
    /// Daemons that ended in another way than by a fault or as they were told.
    pub(crate) odd_ends: Vec<(u64, String)>,
    /// Lines that tell of a panic.
    pub(crate) panics: Vec<(u64, String)>,
    /// Waits for what could not be killed, while it lived.
    pub(crate) waits: Vec<Wait>,
    /// When candidates, by their keys, said that they wait the last term out.
    pub(crate) delays: Vec<(String, u64)>,
    /// Each replica's way back into the queue after the last fault of a storm.
    pub(crate) returns: Vec<Return>,
    /// How many times longer than usual a hand-over may take.
    pub(crate) patience: u32,
}

impl Evidence {
    /// How many writes were refused of those who kept a job's variables beyond its term.
    pub(crate) fn refused_late(&self) -> usize {
        let refused = |write: &&Write| write.outcome == Outcome::Refused;
        self.late_writes.iter().filter(refused).count()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Accepted,
    Refused,
    /// Nobody told the job, or the job was killed before it could note it.
    Unknown,
}

/// Which write: the token it was guarded by, its process, and its number there.
pub(crate) type WriteId = (i64, i32, u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Write {
    pub(crate) id: WriteId,
    pub(crate) count: u64,
    pub(crate) outcome: Outcome,
}

/// One state of the counter, as the store has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) revision: i64,
    pub(crate) at: u64,
    pub(crate) id: WriteId,
    /// What it counted to.
    pub(crate) number: u64,
}

/// One candidate key, from its creation to its deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidacy {
    pub(crate) key: String,
    pub(crate) name: String,
    pub(crate) token: i64,
    pub(crate) deleted: Option<i64>,
    /// When the store told of its creation, and of its deletion.
    pub(crate) created_at: u64,
    pub(crate) deleted_at: Option<u64>,
    /// The marker was written with the deletion: the term's job was proven dead.
    pub(crate) proven: bool,
}

/// What follows from a fault for the candidates that it hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// Waiting or leading, it gives back what it has, at once.
    Leaves,
    /// A leader gives back, at once.
    EndsTerm,
    /// Nothing, for the election.
    GoesOn,
    /// Anything may take longer, for a while.
    Lingers,
}

/// Whose terms may end by a fault, of whom it hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    Nobody,
    Job(Election),
    All,
}

/// A fault as it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Thrown {
    pub(crate) name: String,
    pub(crate) excepted: bool,
    /// A lease may have ended early by it, behind its holder's back.
    pub(crate) ends_leases: bool,
    /// A record that stays can't be read since.
    pub(crate) spoils: bool,
    pub(crate) after: After,
    /// Whom it hit; `None` for the store.
    pub(crate) replica: Option<String>,
    /// Whose terms may end by it.
    pub(crate) reach: Reach,
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// The end of the last fault of a storm, and when somebody led after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heal {
    pub(crate) at: u64,
    pub(crate) led: Option<u64>,
    /// How long it may take.
    pub(crate) limit: u64,
}

/// A replica waits for a process that nobody can kill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    /// When it had to begin to kill it, at the latest.
    pub(crate) at: u64,
    pub(crate) replica: String,
    pub(crate) pid: i32,
    /// What its replica suffered.
    pub(crate) blow: String,
    /// When somebody named it first, if it was while it lived.
    pub(crate) named: Option<u64>,
    /// How long that may take.
    pub(crate) limit: u64,
}

/// A replica after the end of the last fault of a storm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Return {
    pub(crate) replica: String,
    pub(crate) healed: u64,
    /// When it was first seen in the queue, with the lease of its daemon's last candidacy; one that has
    /// ended must have come back.
    pub(crate) stood: Option<u64>,
    /// How long that may take.
    pub(crate) limit: u64,
}

/// A rule, and how it was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Breach {
    pub(crate) rule: &'static str,
    pub(crate) at: u64,
    pub(crate) what: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) breaches: Vec<Breach>,
    /// Two jobs at once where DESIGN §1 promises nothing.
    pub(crate) excepted: Vec<Breach>,
    /// How long candidate keys outlived daemons that left and terms that were ended, and how long
    /// after a proven end the next job came: of those that nothing else delayed.
    pub(crate) given_back: Vec<u64>,
    pub(crate) followed: Vec<u64>,
}

impl Verdict {
    /// Adds what was found in another election.
    pub(crate) fn add(&mut self, other: Self) {
        self.breaches.extend(other.breaches);
        self.excepted.extend(other.excepted);
        self.given_back.extend(other.given_back);
        self.followed.extend(other.followed);
    }
}

pub(crate) const OVERLAP: &str = "two jobs at once";
pub(crate) const FALLEN: &str = "a token fell";
pub(crate) const STALE: &str = "a write of a term that was over, or had not begun, was accepted";
pub(crate) const LOST: &str = "an accepted write is lost";
pub(crate) const REFUSED: &str = "a refused write was accepted";
pub(crate) const UNHEARD: &str = "a write that no job made";
pub(crate) const LEADERLESS: &str = "nobody led in time after the last fault";
pub(crate) const KEPT: &str = "a candidate key was kept, where nobody needed to wait for its TTL";
pub(crate) const SLOW: &str = "the next job was late, though the last one was proven dead";
pub(crate) const LEFT: &str = "something is left over";
pub(crate) const ENDED: &str = "a daemon ended by itself";
pub(crate) const PANIC: &str = "a panic";
pub(crate) const SILENT: &str = "nobody named in time what can't be killed";
pub(crate) const ABSENT: &str = "a replica stays out, though all faults are over";

/// How long after the end of an excepted fault what it left may live on: until the daemon that was
/// started again has fenced it.
const FENCED: u64 = 3_000_000_000;

/// The shortest take-over delay of the replicas.
const DELAY: u64 = 900_000_000;

/// Whether its jobs excluded each other, and nothing else.
pub(crate) fn check_exclusion(evidence: &Evidence, verdict: &mut Verdict) {
    overlaps(evidence, verdict);
    tokens(evidence, verdict);
}

pub(crate) fn check(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    check_exclusion(evidence, &mut verdict);
    prompt::check(evidence, &mut verdict);
    let breaches = &mut verdict.breaches;
    writes(evidence, breaches);
    late_writes(evidence, breaches);
    for heal in &evidence.heals {
        let took = heal.led.map(|led| led.saturating_sub(heal.at));
        if took.is_none_or(|took| took > heal.limit) {
            let what = format!("it took {took:?} ns of at most {}", heal.limit);
            breaches.push(breach(LEADERLESS, heal.at, what));
        }
    }
    let left = evidence.leftovers.iter();
    breaches.extend(left.map(|what| breach(LEFT, u64::MAX, what.clone())));
    let ended = evidence.odd_ends.iter();
    breaches.extend(ended.map(|(at, what)| breach(ENDED, *at, what.clone())));
    let panics = evidence.panics.iter();
    breaches.extend(panics.map(|(at, what)| breach(PANIC, *at, what.clone())));
    let late = |from: u64, done: Option<u64>, limit: u64| {
        done.is_none_or(|done| done.saturating_sub(from) > limit)
    };
    for wait in &evidence.waits {
        if late(wait.at, wait.named, wait.limit) {
            breaches.push(breach(SILENT, wait.at, format!("{wait:?}")));
        }
    }
    for back in &evidence.returns {
        if late(back.healed, back.stood, back.limit) {
            breaches.push(breach(ABSENT, back.healed, format!("{back:?}")));
        }
    }
    verdict
}

/// Whether a line of a log tells of a panic, in whatever format.
pub(crate) fn tells_of_a_panic(line: &str) -> bool {
    line.contains("panicked")
}

pub(crate) fn breach(rule: &'static str, at: u64, what: String) -> Breach {
    Breach { rule, at, what }
}

/// The runs: all lives of one, from the first start to the last sign.
pub(crate) fn runs(lives: &[Life]) -> Vec<Life> {
    let mut runs: BTreeMap<(i64, i32), Life> = BTreeMap::new();
    for life in lives {
        let run = runs
            .entry((life.token, life.run))
            .or_insert_with(|| life.clone());
        run.start = run.start.min(life.start);
        run.last = run.last.max(life.last);
        run.clashed |= life.clashed;
        run.pid = run.run;
    }
    let mut runs: Vec<_> = runs.into_values().collect();
    runs.sort_by_key(|run| run.start);
    runs
}

fn overlaps(evidence: &Evidence, verdict: &mut Verdict) {
    let mut longest: Option<Life> = None;
    for run in runs(&evidence.lives) {
        if let Some(earlier) = &longest
            && (run.start <= earlier.last || run.clashed)
        {
            let how = if run.start <= earlier.last {
                "lived on"
            } else {
                "held the lock, though it made no sign any more"
            };
            let what = format!("{run}\n    while an earlier one {how}:\n    {earlier}");
            let found = breach(OVERLAP, run.start, what);
            if is_excepted(evidence, earlier, &run) {
                verdict.excepted.push(found);
            } else {
                verdict.breaches.push(found);
            }
        }
        if longest
            .as_ref()
            .is_none_or(|longest| longest.last < run.last)
        {
            longest = Some(run);
        }
    }
}

/// Whether the run that should have been dead, which may be the one that started last, had suffered
/// what DESIGN §1 excepts, or is followed by a Go candidate for which a lease's early end is the other's end: it waits for nothing, and the job
/// has as long as the take-over delay gives it before one of ours.
fn is_excepted(evidence: &Evidence, earlier: &Life, later: &Life) -> bool {
    let at = later.start;
    let dead = earlier.token.min(later.token);
    let named = |c: &&Candidacy| c.token == dead;
    let replica = evidence.candidates.iter().find(named).map(|c| &c.name);
    evidence.thrown.iter().any(|fault| {
        let recent = |after: u64| fault.from <= at && at <= fault.to.saturating_add(after);
        let excepted = fault.excepted && fault.replica.as_ref() == replica && recent(FENCED);
        let impatient = later.run < 0 && earlier.last.saturating_sub(at) <= DELAY;
        excepted || (impatient && fault.ends_leases && recent(DELAY))
    })
}

fn tokens(evidence: &Evidence, verdict: &mut Verdict) {
    let runs = runs(&evidence.lives);
    for pair in runs.windows(2) {
        if pair[1].token < pair[0].token {
            let what = format!("{}\n    after {}", pair[1], pair[0]);
            let found = breach(FALLEN, pair[1].start, what);
            if is_excepted(evidence, &pair[0], &pair[1]) {
                verdict.excepted.push(found);
            } else {
                verdict.breaches.push(found);
            }
        }
    }
}

fn writes(evidence: &Evidence, breaches: &mut Vec<Breach>) {
    let made: BTreeMap<_, _> = evidence.writes.iter().map(|w| (w.id, w)).collect();
    let mut found = BTreeSet::new();
    let mut before: Option<(&Count, Outcome)> = None;
    for count in &evidence.counts {
        let shown = format!("{count:?}");
        let mut broken = |rule| breaches.push(breach(rule, count.at, shown.clone()));
        if !leads_at(&evidence.candidates, count.id.0, count.revision) {
            broken(STALE);
        }
        let outcome = match made.get(&count.id) {
            Some(write) if write.count == count.number => write.outcome,
            _ => {
                broken(UNHEARD);
                Outcome::Unknown
            }
        };
        if outcome == Outcome::Refused {
            broken(REFUSED);
        }
        if !found.insert(count.id) {
            broken(UNHEARD);
        }
        // Within a term, a write that nobody heard the outcome of may come late and undo another;
        // not so beyond its end, where the guard refuses it.
        let (last, known, term) = before.map_or((0, true, 0), |(before, outcome)| {
            (before.number, outcome == Outcome::Accepted, before.id.0)
        });
        let certain = term != count.id.0 || (known && outcome == Outcome::Accepted);
        if certain && count.number != last + 1 {
            broken(LOST);
        }
        before = Some((count, outcome));
    }
    let accepted = |w: &&Write| w.outcome == Outcome::Accepted && !found.contains(&w.id);
    for write in evidence.writes.iter().filter(accepted) {
        breaches.push(breach(LOST, u64::MAX, format!("{write:?}")));
    }
}

/// Theirs are guarded like all others; what they count is nobody's.
fn late_writes(evidence: &Evidence, breaches: &mut Vec<Breach>) {
    let mut found = BTreeSet::new();
    for count in &evidence.late_counts {
        found.insert(count.id);
        if !leads_at(&evidence.candidates, count.id.0, count.revision) {
            breaches.push(breach(STALE, count.at, format!("{count:?}")));
        }
    }
    for write in &evidence.late_writes {
        let rule = match write.outcome {
            Outcome::Accepted if !found.contains(&write.id) => LOST,
            Outcome::Refused if found.contains(&write.id) => REFUSED,
            _ => continue,
        };
        breaches.push(breach(rule, u64::MAX, format!("{write:?}")));
    }
}

/// Whether of these the candidate with this token stood first at this revision.
pub(crate) fn leads_at(candidates: &[Candidacy], token: i64, revision: i64) -> bool {
    let mut standing = candidates.iter().filter(|candidate| {
        candidate.token <= revision && candidate.deleted.is_none_or(|gone| revision < gone)
    });
    standing.next().is_some_and(|first| first.token == token)
}

/// Reads what the jobs wrote about their writes; see `examples/recorder/count.rs`.
pub(crate) fn parse_writes(text: &str) -> Vec<Write> {
    let mut writes: BTreeMap<WriteId, Write> = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        let number = |i: usize| words[i].parse::<i64>().unwrap();
        let id = (
            number(1),
            i32::try_from(number(2)).unwrap(),
            number(3).unsigned_abs(),
        );
        let outcome = match words[0] {
            "accepted" => Outcome::Accepted,
            "refused" => Outcome::Refused,
            _ => Outcome::Unknown,
        };
        let count = number(4).unsigned_abs();
        writes.insert(id, Write { id, count, outcome });
    }
    writes.into_values().collect()
}

/// The runs of a record.
pub(crate) fn lives(text: &str) -> Vec<Life> {
    History::parse(text).lives
}
