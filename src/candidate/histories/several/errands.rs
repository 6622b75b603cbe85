//! What is to happen to daemons, beside what happens to their jobs.

use std::collections::BTreeMap;

/// What happens.
#[derive(Clone, Copy, Debug)]
pub(super) enum Errand {
    /// A daemon is started.
    Starts(usize),
    /// It has looked for other hosts. As all that follows, of the process with this number.
    Sighted(usize, u64),
    /// It is the turn of this job to join.
    Joins(usize, u64, usize),
    /// One that could not be started is started again.
    Again(usize, u64, usize),
    /// Of what nothing was left should have begun.
    Begun(usize, u64),
    /// It looks who should lead in its place.
    Places(usize, u64),
    /// Somebody takes jobs away from a daemon, or gives them back.
    Reload,
    /// The jobs that were taken away are there again.
    Restores(usize, u64),
}

impl Errand {
    /// On which machine.
    pub(super) const fn host(self) -> Option<usize> {
        match self {
            Self::Starts(at)
            | Self::Sighted(at, _)
            | Self::Joins(at, ..)
            | Self::Again(at, ..)
            | Self::Begun(at, _)
            | Self::Places(at, _)
            | Self::Restores(at, _) => Some(at),
            Self::Reload => None,
        }
    }

    /// By which process, if by one.
    pub(super) const fn process(self) -> Option<u64> {
        match self {
            Self::Sighted(_, of)
            | Self::Joins(_, of, _)
            | Self::Again(_, of, _)
            | Self::Begun(_, of)
            | Self::Places(_, of)
            | Self::Restores(_, of) => Some(of),
            Self::Starts(_) | Self::Reload => None,
        }
    }
}

/// All of it, by when; at the same instant, in the order of planning.
#[derive(Debug, Default)]
pub(super) struct Errands {
    all: BTreeMap<(u64, u64), Errand>,
    order: u64,
}

impl Errands {
    pub(super) fn add(&mut self, at: u64, errand: Errand) {
        self.order += 1;
        self.all.insert((at, self.order), errand);
    }

    pub(super) fn next_at(&self) -> Option<u64> {
        self.all.keys().next().map(|(at, _)| *at)
    }

    pub(super) fn next(&mut self) -> Option<Errand> {
        self.all.pop_first().map(|(_, errand)| errand)
    }
}
