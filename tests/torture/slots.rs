//! The scheduled job: when and how it is to be run, which the seed decides, and what the store and its runs
//! tell of its slots.

use std::fmt;

use incumbent::schedule::Slot;
use incumbent::schedule::planner::{Guarantee, Missed, Overlap};
use incumbent::schedule::record::{HistoryEntry, State};

use crate::checker::Outcome;
use crate::common::Random;

/// How far a slot may be off its run, beside what the policy says: the clock is read anew meanwhile.
pub(crate) const LEEWAY_MS: u64 = 1_000;

/// What holds for all replicas for as long as the run takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SlotPolicy {
    /// Seconds from slot to slot; each slot is a multiple of it, since 1970.
    pub(crate) period: u64,
    /// Written as a pattern of cron, or as a span.
    pub(crate) as_cron: bool,
    pub(crate) guarantee: Guarantee,
    pub(crate) missed: Missed,
    pub(crate) missed_max: u64,
    pub(crate) overlap: Overlap,
    pub(crate) retries: u32,
    /// Seconds.
    pub(crate) start_within: Option<u64>,
    pub(crate) jitter_ms: u64,
    pub(crate) drain_ms: u64,
    /// Seconds.
    pub(crate) timeout: Option<u64>,
    pub(crate) history: u64,
}

impl Default for SlotPolicy {
    fn default() -> Self {
        Self {
            period: 3,
            as_cron: false,
            guarantee: Guarantee::AtMostOnce,
            missed: Missed::Last,
            missed_max: 10,
            overlap: Overlap::Skip,
            retries: 0,
            start_within: None,
            jitter_ms: 0,
            drain_ms: 0,
            timeout: None,
            history: 1_000,
        }
    }
}

impl SlotPolicy {
    /// What this seed throws faults at.
    pub(crate) fn of(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x0051_0751);
        let mut pick = |n: usize| random.below(n);
        Self {
            // Both divide a minute.
            period: [2, 3, 4][pick(3)],
            as_cron: pick(2) == 0,
            guarantee: [Guarantee::AtMostOnce, Guarantee::AtLeastOnce][pick(2)],
            missed: [Missed::Skip, Missed::Last, Missed::All][pick(3)],
            missed_max: [3, 10][pick(2)],
            overlap: [Overlap::Skip, Overlap::Queue, Overlap::Replace][pick(3)],
            retries: [0, 0, 1, 2][pick(4)],
            start_within: [None, None, Some(8)][pick(3)],
            jitter_ms: [0, 0, 700][pick(3)],
            drain_ms: [0, 400][pick(2)],
            timeout: [None, Some(2)][pick(2)],
            history: [20, 1_000][pick(2)],
        }
    }

    /// The same in a configuration, for the job with this table.
    pub(crate) fn toml(&self, table: &str) -> String {
        let off = |seconds: Option<u64>| seconds.map_or("off".to_owned(), |it| format!("{it}s"));
        let when = if self.as_cron {
            format!("cron = '*/{} * * * * *'", self.period)
        } else {
            format!("every = '{}s'", self.period)
        };
        let guarantee = match self.guarantee {
            Guarantee::AtMostOnce => "at-most-once",
            Guarantee::AtLeastOnce => "at-least-once",
        };
        let missed = match self.missed {
            Missed::Skip => "skip",
            Missed::Last => "last",
            Missed::All => "all",
        };
        let overlap = match self.overlap {
            Overlap::Skip => "skip",
            Overlap::Queue => "queue",
            Overlap::Replace => "replace",
        };
        format!(
            "{table}.timeout = '{}'\n{table}.schedule = {{ {when}, guarantee = '{guarantee}', \
             missed = '{missed}', missed_max = {}, overlap = '{overlap}', retries = {}, \
             retry_delay = '300ms', start_within = '{}', jitter = '{}ms', drain = '{}ms', \
             history = {} }}\n",
            off(self.timeout),
            self.missed_max,
            self.retries,
            off(self.start_within),
            self.jitter_ms,
            self.drain_ms,
            self.history,
        )
    }

    /// How many slots there are after one, up to another.
    pub(crate) fn between(&self, after: Slot, up_to: Slot) -> u64 {
        let number = |slot: Slot| slot.as_secs() / self.period;
        number(up_to).saturating_sub(number(after))
    }
}

impl fmt::Display for SlotPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.toml("job").replace('\n', " ").trim())
    }
}

/// What one transaction wrote of the schedule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StateWrite {
    pub(crate) revision: i64,
    /// When the store told of it, on `CLOCK_MONOTONIC`.
    pub(crate) at: u64,
    pub(crate) state: Option<State>,
    /// The records of runs beside it, by their numbers.
    pub(crate) entries: Vec<(u64, HistoryEntry)>,
    /// The effect of a run beside it: for which slot, and of which run.
    pub(crate) done: Option<(String, String)>,
}

impl StateWrite {
    /// Takes in what was put under the election's records; what is none of a schedule's is left out.
    pub(crate) fn note(&mut self, name: &str, value: &str) {
        if name == "schedule" {
            self.state = Some(State::read(value.as_bytes()).unwrap());
        } else if let Some(seq) = name.strip_prefix("runs/") {
            let entry = HistoryEntry::read(value.as_bytes()).unwrap();
            self.entries.push((seq.parse().unwrap(), entry));
        }
    }

    /// Whether it is of a schedule at all.
    pub(crate) fn is_of_state(&self) -> bool {
        self.state.is_some() || !self.entries.is_empty() || self.done.is_some()
    }
}

/// What a run says of itself when it starts: its variables, as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Started {
    pub(crate) nonce: String,
    pub(crate) pid: i32,
    pub(crate) token: i64,
    pub(crate) slot: String,
    pub(crate) attempt: u32,
    pub(crate) missed: u64,
}

/// With which code a run says that it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) nonce: String,
    pub(crate) code: i32,
}

/// What a run was told of its completion of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Completed {
    pub(crate) nonce: String,
    pub(crate) outcome: Outcome,
}

/// All that is known of the scheduled job beside its lives.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slots {
    pub(crate) policy: SlotPolicy,
    pub(crate) starts: Vec<Started>,
    pub(crate) ends: Vec<Ended>,
    pub(crate) completions: Vec<Completed>,
    /// In the order of revisions.
    pub(crate) writes: Vec<StateWrite>,
    /// The time of day, in milliseconds, when all was told to stop, long after the last fault.
    pub(crate) stopped_at: u64,
}

impl Slots {
    /// Reads what runs said; see `examples/recorder/slot.rs`.
    pub(crate) fn read(&mut self, text: &str) {
        for line in text.lines() {
            let words: Vec<_> = line.split_whitespace().collect();
            match words[..] {
                ["start", nonce, pid, token, slot, attempt, missed] => self.starts.push(Started {
                    nonce: nonce.to_owned(),
                    pid: pid.parse().unwrap(),
                    token: token.parse().unwrap(),
                    slot: slot.to_owned(),
                    attempt: attempt.parse().unwrap(),
                    missed: missed.parse().unwrap(),
                }),
                ["end", nonce, code] => self.ends.push(Ended {
                    nonce: nonce.to_owned(),
                    code: code.parse().unwrap(),
                }),
                [outcome, nonce] => self.completions.push(Completed {
                    nonce: nonce.to_owned(),
                    outcome: match outcome {
                        "accepted" => Outcome::Accepted,
                        "refused" => Outcome::Refused,
                        _ => Outcome::Unknown,
                    },
                }),
                _ => panic!("{line:?} in the record of slots"),
            }
        }
    }

    /// How many slots came while somebody led.
    pub(crate) fn came(&self) -> u64 {
        let mut states = self.writes.iter().filter_map(|write| write.state.as_ref());
        let first = states.next();
        let last = states.next_back().or(first);
        let marks = first.zip(last);
        marks.map_or(0, |(first, last)| {
            self.policy.between(first.mark(), last.mark())
        })
    }

    /// How often each result stands in the records.
    pub(crate) fn results(&self) -> std::collections::BTreeMap<&'static str, usize> {
        let mut counted = std::collections::BTreeMap::new();
        for (_, entry) in self.writes.iter().flat_map(|write| &write.entries) {
            *counted.entry(entry.result.word()).or_default() += 1;
        }
        counted
    }

    /// How many runs completed themselves.
    pub(crate) fn completed(&self) -> usize {
        let done = self.writes.iter().filter(|write| write.done.is_some());
        done.count()
    }

    /// The writes in words, a line each: seconds since `begun` on `CLOCK_MONOTONIC`, revision, what was put.
    pub(crate) fn chain(&self, begun: u64) -> String {
        let line = |write: &StateWrite| {
            let at = std::time::Duration::from_nanos(write.at.saturating_sub(begun));
            let state = write.state.as_ref().map(State::to_json).unwrap_or_default();
            let entries = write.entries.iter();
            let entries = entries.map(|(seq, it)| format!("    {seq} {}\n", it.to_json()));
            format!(
                "{:10.4} {} {state}\n{}",
                at.as_secs_f64(),
                write.revision,
                entries.collect::<String>()
            )
        };
        self.writes.iter().map(line).collect()
    }
}
