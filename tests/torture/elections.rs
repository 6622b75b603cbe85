//! The elections of a run, on one cluster: two with replicas of their own, and one for each job of the
//! daemons that run several. Each has a record and a lock of its own.

use std::sync::LazyLock;

use crate::common::{Record, Sandbox};

/// Whose job runs all the time, or at slots, or which of several it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Election {
    Steady,
    Scheduled,
    Of(Job),
}

/// One of several jobs in a daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Job {
    /// It counts in the store.
    Counts,
    /// It has a schedule.
    Slots,
    /// Its children leave it.
    Leaks,
    /// It hears no SIGTERM, and has a check.
    Stubborn,
}

/// All of them.
pub(crate) const ELECTIONS: [Election; 6] = [
    Election::Steady,
    Election::Scheduled,
    SEVERAL[0],
    SEVERAL[1],
    SEVERAL[2],
    SEVERAL[3],
];

/// Those of the daemons with several jobs.
pub(crate) const SEVERAL: [Election; 4] = [
    Election::Of(Job::Counts),
    Election::Of(Job::Slots),
    Election::Of(Job::Leaks),
    Election::Of(Job::Stubborn),
];

/// Below which the jobs of one daemon have their elections. Of this run alone, as all others are: whoever
/// starts fences what others left in the same one.
pub(crate) fn root() -> &'static str {
    static ROOT: LazyLock<String> = LazyLock::new(|| format!("/several-{}", std::process::id()));
    &ROOT
}

impl Job {
    /// As its table is called.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Counts => "counts",
            Self::Slots => "slots",
            Self::Leaks => "leaks",
            Self::Stubborn => "stubborn",
        }
    }
}

impl Election {
    /// Of this run alone.
    pub(crate) fn prefix(self) -> &'static str {
        static STEADY: LazyLock<String> =
            LazyLock::new(|| format!("/tortured-{}", std::process::id()));
        static SCHEDULED: LazyLock<String> =
            LazyLock::new(|| format!("/scheduled-{}", std::process::id()));
        static OF: LazyLock<[String; 4]> = LazyLock::new(|| {
            SEVERAL.map(|it| format!("{}/{}", root(), it.job().map_or("", Job::name)))
        });
        match self {
            Self::Steady => &STEADY,
            Self::Scheduled => &SCHEDULED,
            Self::Of(job) => &OF[job as usize],
        }
    }

    /// What stands in the queue under this key, if it is one of its candidates.
    pub(crate) fn has(self, key: &str) -> bool {
        let rest = key.strip_prefix(self.prefix());
        rest.is_some_and(|rest| rest.starts_with('/'))
    }

    /// Which of several jobs it is about.
    pub(crate) fn job(self) -> Option<Job> {
        match self {
            Self::Of(job) => Some(job),
            Self::Steady | Self::Scheduled => None,
        }
    }

    /// Whether its job has a schedule.
    pub(crate) fn is_scheduled(self) -> bool {
        matches!(self, Self::Scheduled | Self::Of(Job::Slots))
    }

    /// How its replicas are called; a number follows.
    pub(crate) fn letter(self) -> char {
        match self {
            Self::Steady => 'r',
            Self::Scheduled => 's',
            Self::Of(_) => 'm',
        }
    }

    /// What no other has in its files' names.
    pub(crate) fn word(self) -> String {
        let letter = self.letter();
        self.job()
            .map_or(letter.into(), |job| format!("{letter}-{}", job.name()))
    }

    /// What its jobs and hooks record.
    pub(crate) fn record(self, sandbox: &Sandbox) -> Record {
        Record::new(sandbox, &self.word())
    }

    /// The file that all of them lock, in the sandbox.
    pub(crate) fn lock(self) -> String {
        format!("{}.lock", self.word())
    }

    /// Where its runs say what they are for, or what they count, in the sandbox.
    pub(crate) fn notes(self) -> String {
        format!("{}.notes", self.word())
    }

    /// The key that its jobs count in.
    pub(crate) fn counter(self) -> String {
        format!("/torture/count-{}", self.word())
    }

    /// How the keys begin that its runs put when they complete themselves; the slot follows.
    pub(crate) fn done(self) -> String {
        format!("/torture/done-{}/", self.word())
    }
}

/// The prefix of the one whose job runs all the time.
pub(crate) fn prefix() -> &'static str {
    Election::Steady.prefix()
}
