//! The jobs that a daemon stands for: which candidates there are, and what a reload or the end of one
//! asks of them.

use std::collections::BTreeMap;

use crate::keys::JobName;

/// A job's name; a job that can be the only one has none.
pub(crate) type Name = Option<JobName>;

/// Those that have a candidate, each with a configuration `C`.
#[derive(Clone, Debug)]
pub(crate) struct Roster<C>(BTreeMap<Name, RosterEntry<C>>);

#[derive(Clone, Debug)]
struct RosterEntry<C> {
    config: C,
    /// The candidate is to end.
    over: bool,
    /// The configuration has its job no more.
    removed: bool,
    /// The configuration has the job again, before that one has ended: who comes after it.
    successor: Option<C>,
}

/// What a reload asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum JobChange<C> {
    /// A candidate is to start with this configuration.
    Start(C),
    /// That of this job is to go over to it.
    Reload(Name, C),
    /// That of this job is to stop as planned.
    Remove(Name),
}

/// What follows the end of a candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AfterEnd<C> {
    /// The job is there again: one with this configuration starts.
    Successor(C),
    /// It wasn't asked to end: one with the same configuration starts, after a pause.
    Again(C),
    /// Nothing, and nobody looks at the job any more.
    Nothing {
        config: C,
        /// Whether the configuration has it no more.
        removed: bool,
    },
}

impl<C> Default for Roster<C> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<C: Clone> Roster<C> {
    /// A candidate starts.
    pub(crate) fn started(&mut self, name: Name, config: C) {
        let entry = RosterEntry {
            config,
            over: false,
            removed: false,
            successor: None,
        };
        self.0.insert(name, entry);
    }

    /// All are told to end: nobody comes after them.
    pub(crate) fn all_end(&mut self) {
        for entry in self.0.values_mut() {
            entry.over = true;
            // The configuration has the job all the same.
            entry.removed &= entry.successor.take().is_none();
        }
    }

    /// The configuration that the candidate of this job was given last.
    pub(crate) fn config(&self, name: &Name) -> Option<&C> {
        self.0.get(name).map(|entry| &entry.config)
    }

    /// Goes over to these jobs: those that are there no more stop as planned, and new ones start.
    pub(crate) fn reload<'a>(
        &mut self,
        jobs: impl Iterator<Item = (&'a Name, &'a C)> + Clone,
    ) -> Vec<JobChange<C>>
    where
        C: 'a,
    {
        let mut changes = Vec::new();
        for (name, entry) in &mut self.0 {
            entry.successor = None;
            if !jobs.clone().any(|(other, _)| other == name) {
                (entry.over, entry.removed) = (true, true);
                changes.push(JobChange::Remove(name.clone()));
            }
        }
        for (name, config) in jobs {
            match self.0.get_mut(name) {
                // It stops for good; what it stood for goes on as a new job does.
                Some(entry) if entry.removed => entry.successor = Some(config.clone()),
                Some(entry) => {
                    entry.config = config.clone();
                    changes.push(JobChange::Reload(name.clone(), config.clone()));
                }
                None => changes.push(JobChange::Start(config.clone())),
            }
        }
        changes
    }

    /// The candidate of this job has ended; none if there was none.
    pub(crate) fn ended(&mut self, name: &Name) -> Option<AfterEnd<C>> {
        let entry = self.0.remove(name)?;
        let config = entry.config;
        Some(match entry.successor {
            Some(successor) => AfterEnd::Successor(successor),
            None if entry.over => AfterEnd::Nothing {
                config,
                removed: entry.removed,
            },
            // The others of this process go on meanwhile.
            None => AfterEnd::Again(config),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        JobName::new(text)
    }

    fn reload(roster: &mut Roster<u32>, jobs: &[(&str, u32)]) -> Vec<JobChange<u32>> {
        let jobs: Vec<_> = jobs.iter().map(|(text, it)| (name(text), *it)).collect();
        roster.reload(jobs.iter().map(|(name, config)| (name, config)))
    }

    #[test]
    fn a_reload_starts_changes_and_removes() {
        let mut roster = Roster::default();
        roster.started(name("a"), 1);
        roster.started(name("b"), 1);
        let changes = reload(&mut roster, &[("b", 2), ("c", 2)]);
        assert_eq!(
            changes,
            [
                JobChange::Remove(name("a")),
                JobChange::Reload(name("b"), 2),
                JobChange::Start(2)
            ]
        );
        assert_eq!(roster.config(&name("b")), Some(&2));
        let gone = AfterEnd::Nothing {
            config: 1,
            removed: true,
        };
        assert_eq!(roster.ended(&name("a")), Some(gone));
        assert_eq!(roster.ended(&name("a")), None);
        assert_eq!(roster.ended(&name("b")), Some(AfterEnd::Again(2)));
    }

    #[test]
    fn a_job_that_is_there_again_before_it_has_ended_has_a_successor() {
        let mut roster = Roster::default();
        roster.started(name("a"), 1);
        assert_eq!(reload(&mut roster, &[]), [JobChange::Remove(name("a"))]);
        assert_eq!(reload(&mut roster, &[("a", 2)]), []);
        assert_eq!(
            roster.clone().ended(&name("a")),
            Some(AfterEnd::Successor(2))
        );
        // And not if it has gone once more.
        assert_eq!(reload(&mut roster, &[]), [JobChange::Remove(name("a"))]);
        assert!(matches!(
            roster.ended(&name("a")),
            Some(AfterEnd::Nothing { removed: true, .. })
        ));
    }

    #[test]
    fn nobody_comes_after_who_ends_with_all() {
        let mut roster = Roster::default();
        roster.started(name("a"), 1);
        reload(&mut roster, &[]);
        reload(&mut roster, &[("a", 2)]);
        // Told to stop while the job that was taken away and is there again still ends.
        roster.all_end();
        assert!(matches!(
            roster.ended(&name("a")),
            Some(AfterEnd::Nothing { .. })
        ));
    }
}
