//! What the daemon and its guardian say to each other: one JSON object a line, over a Unix stream
//! socket that ends when either of them does.
//!
//! Spoken by [`client`](super::client) in the daemon and by the guardian's own
//! [`main`](super::main). Both run the same executable, so there is no version in it. A line that
//! can't be read is a fault of the sender, and is answered as its death would be.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::clock::Instant;
use crate::config::timing::Graces;
use crate::keys::{LeaseId, Prefix};
use crate::os_text::OsText;
use crate::proc::survivor::Survivor;
use crate::revision::{Token, or_zero};
use crate::term::record::Unkillable;
use crate::term::resignation::Resignation;

/// From the daemon to its guardian.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// The first message, and the only one of its kind.
    Hello {
        /// The process to hold for the daemon. The guardian kills no other: it must be its parent.
        daemon: u32,
        /// How the guardian logs.
        log: crate::log::LogSettings,
        /// The election, for the guardian's log lines.
        election: Prefix,
        /// The candidate's name, for the guardian's log lines.
        candidate: String,
        /// Whether it is to run checks, and guards no term.
        checks: bool,
        /// Whether the first descriptor beside it is the file where its runs are to stand.
        records: bool,
    },
    /// The guardian is to log so from now on.
    Log(crate::log::LogSettings),
    /// A lease to give back in the daemon's place; acknowledged by [`Report::Remembered`], and not
    /// granted before that (R6).
    ///
    /// It replaces what was known of the same lease, so it is sent again with the token once the
    /// claim is complete. Leases are kept side by side until they are forgotten: a lost one may
    /// still await its revocation while the next stands in the queue.
    Lease(Box<Resignation>),
    /// The lease is revoked, or was never granted: nothing is left to give back.
    Forget {
        /// The lease.
        lease: LeaseId,
    },
    /// A term begins. For the present term's token: its times and its stop signal change.
    /// Acknowledged by [`Report::Guarded`].
    Term(TermSpec),
    /// A renewal was proven. Acknowledged by [`Report::Guarded`]; a deadline never goes back.
    Deadline {
        /// The term.
        token: Token,
        /// Its deadline now (D).
        deadline: Instant,
    },
    /// Starts a run, answered by [`Report::Started`], [`Report::Refused`], or, where the command
    /// can't be executed, [`Report::MainEnded`].
    Start {
        /// The term it runs in.
        token: Token,
        /// The daemon's number for it, never used twice.
        run: u64,
        /// What to run.
        command: CommandSpec,
        /// Whether no other process of ours may be alive. Not so for the processes of a Rust job.
        sole: bool,
    },
    /// Stops the tree; the term accepts no start any more. [`Report::Empty`] follows, also if the
    /// tree is empty already.
    Stop {
        /// The term.
        token: Token,
        /// The number of the signal that asks for it.
        stop_signal: i32,
        /// From now until SIGKILL. D−K still rules.
        grace: Duration,
    },
    /// Stops the tree; the term goes on, and accepts starts once the tree is empty.
    /// [`Report::Empty`] follows, also if the tree is empty already.
    StopRun {
        /// The term.
        token: Token,
        /// The number of the signal that asks for it.
        stop_signal: i32,
        /// From now until SIGKILL. D−K still rules.
        grace: Duration,
    },
    /// Passes a signal on to the job: to the groups of its main processes, or where none is left,
    /// to everyone. The run goes on unless the job makes something of it.
    Signal {
        /// The term.
        token: Token,
        /// The number of the signal.
        signal: i32,
    },
    /// Kills the tree at once; the term accepts no start any more. [`Report::Empty`] follows, also
    /// if the tree is empty already.
    Kill {
        /// The term.
        token: Token,
    },
    /// What to run at the end of the term, in its tree, once the tree is proven empty of the job:
    /// for so long at most, and never beyond D−K. A term that is to be killed has no time for it.
    AtEnd {
        /// The term.
        token: Token,
        /// What to run.
        command: CommandSpec,
        /// From its start until SIGKILL.
        limit: Duration,
    },
    /// The Rust job has ended: what [`Request::AtEnd`] names may run. [`Report::Empty`] follows.
    JobOver {
        /// The term.
        token: Token,
    },
    /// Runs a check. Answered by [`Report::MainEnded`] or [`Report::TimedOut`], and in any case,
    /// once nothing of it lives, by [`Report::Empty`] without a term; by [`Report::Refused`]
    /// while an earlier one lives. Only for a guardian that was started for checks.
    Check {
        /// The daemon's number for it, never used twice.
        run: u64,
        /// What to run.
        command: CommandSpec,
        /// From now until SIGKILL.
        timeout: Duration,
    },
    /// The term is over, and nothing of it runs, in the daemon or in the tree; the daemon gives
    /// the lease back itself. What does live on in the tree is killed.
    EndTerm {
        /// The term.
        token: Token,
    },
}

/// A term, as far as the guardian needs to know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TermSpec {
    /// The fencing token. Only rises: a token that isn't above every ended one is ignored.
    pub token: Token,
    /// The instant by which nothing of the term may run (D).
    pub deadline: Instant,
    /// What its job gets when it is being lost (G and K).
    #[serde(flatten)]
    pub graces: Graces,
    /// The number of the signal by which the guardian asks the job to stop, on its own account.
    pub stop_signal: i32,
    /// Whether a Rust job runs in the daemon itself, which then is killed where a tree would be.
    pub in_daemon: bool,
}

impl TermSpec {
    /// When the polite stop begins, and starts end: D−G−K.
    pub fn stop_at(&self) -> Instant {
        self.graces.polite_stop(self.deadline)
    }

    /// When all that is left is killed: D−K.
    pub fn kill_at(&self) -> Instant {
        self.graces.kill(self.deadline)
    }
}

/// A command to run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandSpec {
    /// The program, sought in `PATH` where it has no slash, and its arguments.
    pub argv: Vec<String>,
    /// Where it runs; `None` for the daemon's own directory.
    #[serde(default, with = "crate::os_text::path")]
    pub working_dir: Option<PathBuf>,
    /// Names to leave out of the daemon's environment.
    pub remove: BTreeSet<String>,
    /// What to set in the environment, after the removals.
    pub set: BTreeMap<String, OsText>,
    /// Its standard input. Output and error are the daemon's.
    pub stdin: Stdin,
}

/// The standard input of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stdin {
    /// `/dev/null`.
    #[default]
    Null,
    /// The one that the daemon has handed over beside [`Request::Hello`], last. Without it the command
    /// is not executed.
    Inherit,
}

/// From the guardian to its daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// The guardian guards; the answer to [`Request::Hello`].
    Ready {
        /// Its process id.
        pid: u32,
    },
    /// The lease will be given back if the daemon goes.
    Remembered {
        /// The lease.
        lease: LeaseId,
    },
    /// The term is guarded by this deadline.
    Guarded {
        /// The term.
        token: Token,
        /// The deadline as the guardian holds it, which is the newest unless it stops already.
        deadline: Instant,
    },
    /// The run's main process was executed.
    Started {
        /// The run.
        run: u64,
        /// Its main process.
        pid: u32,
    },
    /// The run was not started, and won't be.
    Refused {
        /// The run.
        run: u64,
        /// Why.
        reason: Refusal,
    },
    /// The run's main process ended, or was not executed; others of its tree may live on.
    MainEnded {
        /// The run.
        run: u64,
        /// Its main process, if there was one.
        pid: Option<u32>,
        /// How.
        exit: Exit,
    },
    /// The tree is proven empty: after its last process was reaped, and in answer to a stop.
    Empty {
        /// The term; none of a check.
        #[serde(with = "or_zero")]
        token: Option<Token>,
        /// Whether SIGKILL was sent to it.
        killed: bool,
        /// The last run that a start was asked for by then, executed or not; 0 for none. It proves
        /// nothing about a start that is still on its way.
        run: u64,
        /// Whether what [`Request::AtEnd`] names has yet to run, so that the tree won't stay empty.
        unfinished: bool,
    },
    /// The tree is proven empty of the job, and what [`Request::AtEnd`] names runs in it now.
    AtEnd {
        /// The term.
        token: Token,
        /// Whether SIGKILL was sent to the job.
        killed: bool,
    },
    /// A check has not ended in its time, and is being killed.
    TimedOut {
        /// Its number.
        run: u64,
    },
    /// The guardian stops the term on its own account, since D−G−K has come.
    Stopping {
        /// The term.
        token: Token,
    },
    /// The guardian is killing what runs, whatever that comes to: it is at work. Said from the first
    /// round on, again and again.
    Killing,
    /// SIGKILL was sent and these processes live on. Repeated every few seconds.
    Stuck {
        /// The term.
        token: Token,
        /// The processes.
        survivors: Vec<Survivor>,
    },
    /// The guardian gave the lease back in the daemon's place, since the daemon was silent.
    Resigned {
        /// The lease.
        lease: LeaseId,
        /// Whether the store confirmed it.
        confirmed: bool,
    },
}

/// How a main process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Never executed.
    NotExecuted {
        /// 127 if the program is missing, else 126, as a shell has it.
        code: i32,
        /// What the system said.
        error: String,
    },
}

impl Exit {
    /// The exit code, the signal and what the system said, each where there is one.
    pub fn parts(&self) -> (Option<i32>, Option<i32>, Option<&str>) {
        match self {
            Self::Code(code) => (Some(*code), None, None),
            Self::Signal(signal) => (None, Some(*signal), None),
            Self::NotExecuted { code, error } => (Some(*code), None, Some(error)),
        }
    }
}

/// Why a run was not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The guardian knows no such term.
    #[error("no such term")]
    NoTerm,
    /// The term has ended.
    #[error("the term has ended")]
    Ended,
    /// D−G−K has passed.
    #[error("the deadline is too near")]
    Deadline,
    /// A stop has begun.
    #[error("a stop has begun")]
    Stopping,
    /// A process of an earlier run is alive.
    #[error("an earlier run is alive")]
    NotEmpty,
}

/// A message as it stands on the wire, with its line end.
///
/// # Errors
/// Never for a message of this protocol.
pub fn encode<M: Serialize>(message: &M) -> serde_json::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

/// Bytes that have arrived, given out as messages.
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: Vec<u8>,
    /// How many of `bytes` were given out.
    taken: usize,
}

impl Inbox {
    /// Adds what has arrived.
    pub fn push(&mut self, arrived: &[u8]) {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        self.bytes.extend_from_slice(arrived);
    }

    /// The next whole message; `None` until more has arrived.
    ///
    /// # Errors
    /// Fails on a line that is no such message; the next call goes on with the line after it.
    pub fn take<M: DeserializeOwned>(&mut self) -> serde_json::Result<Option<M>> {
        let rest = self.bytes.get(self.taken..).unwrap_or_default();
        let Some(length) = rest.iter().position(|byte| *byte == b'\n') else {
            return Ok(None);
        };
        self.taken += length + 1;
        serde_json::from_slice(&rest[..length]).map(Some)
    }
}

impl From<&Survivor> for Unkillable {
    fn from(survivor: &Survivor) -> Self {
        Self {
            pid: survivor.pid,
            user: survivor.user.clone(),
            command: survivor.command.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revision::Revision;

    #[test]
    fn messages_arrive_whole_however_the_bytes_are_cut() {
        let sent = Report::Stuck {
            token: Token::at(Revision::new(7)),
            survivors: vec![Survivor::of(1), Survivor::of(2)],
        };
        let wire = [encode(&sent).unwrap(), encode(&sent).unwrap()].concat();
        for cut in 0..wire.len() {
            let mut inbox = Inbox::default();
            let mut got = Vec::new();
            for part in [&wire[..cut], &wire[cut..]] {
                inbox.push(part);
                while let Some(report) = inbox.take::<Report>().unwrap() {
                    got.push(report);
                }
            }
            assert_eq!(got, [sent.clone(), sent.clone()], "cut at {cut}");
        }
    }

    #[test]
    fn a_line_that_is_no_message_costs_only_itself() {
        let mut inbox = Inbox::default();
        inbox.push(b"{\"ready\":{}}\n{\"ready\":{\"pid\":4}}\n");
        assert!(inbox.take::<Report>().is_err());
        assert_eq!(
            inbox.take::<Report>().unwrap(),
            Some(Report::Ready { pid: 4 })
        );
    }
}
