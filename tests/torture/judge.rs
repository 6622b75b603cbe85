//! Reads what was recorded of each election, and has it judged by itself.

use crate::checker::{self, Evidence, Reach, Thrown, Verdict, check, check_exclusion};
use crate::common::Cluster;
use crate::elections::{ELECTIONS, Election, Job};
use crate::replicas::Replicas;
use crate::slots::Slots;
use crate::store::Chronicle;
use crate::{collateral, slot_checker};

/// Where it is recorded.
pub(crate) struct Histories<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) chronicle: &'a Chronicle,
    pub(crate) begun: u64,
}

/// What was found.
pub(crate) struct Judged {
    /// Of the scheduled job, and of the one among several.
    pub(crate) slots: [Slots; 2],
    /// What all elections but the first were judged by.
    pub(crate) others: Vec<Evidence>,
    /// How many stands another job's fault was thrown beside, and nothing else.
    pub(crate) beside: usize,
    pub(crate) verdict: Verdict,
}

impl Histories<'_> {
    /// Adds what the store's history and the runs say of one election.
    pub(crate) fn add_to(&self, evidence: &mut Evidence, of: Election) {
        let record = of.record(self.cluster.sandbox());
        evidence.lives = checker::lives(&std::fs::read_to_string(record.file()).unwrap());
        evidence.candidates = self.chronicle.candidates(of);
        if !of.is_scheduled() {
            evidence.writes = checker::parse_writes(&self.notes(&of.notes()));
            evidence.counts = self.chronicle.counts(&of.counter());
        }
    }

    /// What somebody wrote into this file.
    pub(crate) fn notes(&self, name: &str) -> String {
        std::fs::read_to_string(self.cluster.sandbox().join(name)).unwrap()
    }

    /// What is known of a scheduled job.
    fn slots(&self, of: Election) -> Slots {
        let mut slots = Slots::default();
        slots.read(&self.notes(&of.notes()));
        slots.writes = self.chronicle.slots(of);
        // For whoever looks into a breach.
        let chain = format!("{}.chain", of.word());
        let chain = self.cluster.sandbox().join(&chain);
        std::fs::write(chain, slots.chain(self.begun)).unwrap();
        slots
    }

    /// What another election is judged by than the first, which `first` is of.
    fn of_another(&self, of: Election, first: &Evidence) -> Evidence {
        let mut own = Evidence {
            thrown: seen_in(of, &first.thrown),
            delays: first.delays.clone(),
            patience: first.patience,
            ..Evidence::default()
        };
        self.add_to(&mut own, of);
        own
    }

    /// Judges all elections; `first` is of the first, and of what all have in common.
    pub(crate) fn judge(
        &self,
        first: &Evidence,
        replicas: &Replicas<'_>,
        stopped_at: u64,
    ) -> Judged {
        let slots = [Election::Scheduled, Election::Of(Job::Slots)].map(|of| Slots {
            policy: replicas.policy(of).clone(),
            stopped_at,
            ..self.slots(of)
        });
        let mut verdict = check(&Evidence {
            thrown: seen_in(Election::Steady, &first.thrown),
            ..first.clone()
        });
        let (mut others, mut several) = (Vec::new(), Vec::new());
        for of in &ELECTIONS[1..] {
            let own = self.of_another(*of, first);
            if of.is_scheduled() {
                check_exclusion(&own, &mut verdict);
                let slots = &slots[usize::from(*of != Election::Scheduled)];
                slot_checker::check(slots, &own.candidates, &mut verdict.breaches);
            } else {
                verdict.add(check(&own));
            }
            if of.job().is_some() {
                several.push((*of, own.candidates.clone()));
            }
            others.push(own);
        }
        let thrown = [&first.thrown[..], &first.lulls].concat();
        let beside = collateral::check(&several, &thrown, &mut verdict.breaches);
        Judged {
            slots,
            others,
            beside,
            verdict,
        }
    }
}

/// The faults that one election can know of; one of another job than its own excuses nothing there.
fn seen_in(of: Election, thrown: &[Thrown]) -> Vec<Thrown> {
    let mut seen = thrown.to_vec();
    seen.retain(|fault| !matches!(fault.reach, Reach::Job(other) if other != of));
    seen
}
