//! What a replica runs beside its job: the check that lets it stand, and the hooks of its terms.

use std::path::{Path, PathBuf};

use crate::common::{Random, Record};

/// How a check can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ill {
    Fails,
    /// It takes longer than it may, and leaves a process in a session of its own.
    Hangs,
}

/// The hooks' ways, elected and lost, as flags of the recorder; no flags, no hook. They are in the
/// record, each as a run of its own, so that one beside a job is two jobs at once.
const HOOKS: [[&[&str]; 2]; 6] = [
    [&[], &[]],
    [&[], &[]],
    [&["--exit-after", "30ms"], &["--exit-after", "30ms"]],
    [&[], &["--ignore-term"]],
    [
        &["--exit-after", "20ms", "--child-own-session"],
        &["--exit-after", "200ms", "--daemonised-child"],
    ],
    // Refuses every term.
    [
        &["--exit-after", "10ms", "--code", "1"],
        &["--exit-after", "10ms"],
    ],
];

/// A replica's check looks for this file, which says how it is ill.
pub(crate) fn illness(folder: &Path, replica: &str) -> PathBuf {
    folder.join(format!("{replica}.ill"))
}

impl Ill {
    /// What stands in the file.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Fails => "fails",
            Self::Hangs => "hangs",
        }
    }
}

/// The settings of a replica's check and, drawn anew for each start, its hooks. Only a replica that
/// `may_refuse` ever refuses a term, lest all of them do.
pub(crate) fn settings(
    folder: &Path,
    replica: &str,
    record: &Record,
    lock: &str,
    random: &mut Random,
    may_refuse: bool,
) -> String {
    let ill = illness(folder, replica);
    let script = format!(
        "read word < {}; case $word in fails) exit 1;; hangs) setsid sleep 60 & wait;; esac",
        ill.display()
    );
    let check = format!(
        "candidate.check = {{ command = ['sh', '-c', '[ ! -e {} ] || {{ {script}; }}'], \
         interval = '300ms', timeout = '500ms', rise = 1, fall = 2 }}\n",
        ill.display()
    );
    let ways = HOOKS.len() - usize::from(!may_refuse);
    check + &commands("hooks", HOOKS[random.below(ways)], "400ms", record, lock)
}

/// The hooks of one of several jobs, none of which ever refuses a term.
pub(crate) fn hooks_of_one(job: &str, record: &Record, lock: &str, random: &mut Random) -> String {
    let ways = HOOKS[random.below(HOOKS.len() - 1)];
    // One that is late refuses as well, and a busy host would be why.
    commands(&format!("jobs.{job}.hooks"), ways, "3s", record, lock)
}

fn commands(
    table: &str,
    ways: [&[&str]; 2],
    elected_within: &str,
    record: &Record,
    lock: &str,
) -> String {
    let names = [("on_elected", elected_within), ("on_lost", "400ms")];
    let hooks = names.into_iter().zip(ways);
    let hooks = hooks.filter(|(_, flags)| !flags.is_empty());
    let hooks = hooks.map(|((name, within), flags)| {
        let command = record.command(&[&["--every", "10ms", "--lock", lock], flags].concat());
        format!("{table}.{name} = {command:?}\n{table}.{name}_timeout = '{within}'\n")
    });
    hooks.collect()
}
