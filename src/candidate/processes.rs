//! The processes that a Rust job has started through the guardian.

use std::collections::BTreeMap;
use std::process::ExitStatus;

use tokio::sync::oneshot;

use super::decide::End;
use crate::guardian::protocol::{Refusal, Report};
use crate::job::process::{ProcessError, exit_status};

type Started = oneshot::Sender<Result<u32, ProcessError>>;

/// Who waits for what of which run.
#[derive(Debug, Default)]
pub(super) struct Processes {
    asked: BTreeMap<u64, (Started, oneshot::Sender<ExitStatus>)>,
    running: BTreeMap<u64, oneshot::Sender<ExitStatus>>,
}

impl Processes {
    /// Takes note of what the guardian reports; whether it was of one of these.
    pub(super) fn heard(&mut self, report: &Report) -> bool {
        match report {
            Report::Started { run, pid } => self.started(*run, *pid),
            Report::Refused { run, reason } => self.refused(*run, *reason),
            Report::MainEnded { run, pid, exit } => self.ended(*run, &End::of(*pid, exit)),
            _ => false,
        }
    }

    /// A start was asked for.
    pub(super) fn asked(&mut self, run: u64, started: Started, ended: oneshot::Sender<ExitStatus>) {
        self.asked.insert(run, (started, ended));
    }

    /// The start was refused; whether it was of one of these.
    fn refused(&mut self, run: u64, reason: Refusal) -> bool {
        let Some((started, _)) = self.asked.remove(&run) else {
            return false;
        };
        drop(started.send(Err(ProcessError::Refused(reason.to_string()))));
        true
    }

    /// The process runs; whether it is one of these.
    fn started(&mut self, run: u64, pid: u32) -> bool {
        let Some((started, ended)) = self.asked.remove(&run) else {
            return false;
        };
        drop(started.send(Ok(pid)));
        self.running.insert(run, ended);
        true
    }

    /// The process ended, or could not be executed; whether it was one of these.
    fn ended(&mut self, run: u64, end: &End) -> bool {
        if let Some((started, _)) = self.asked.remove(&run) {
            let killed = end.signal.unwrap_or_default();
            let killed = || format!("killed by signal {killed} before it was executed");
            let error = end.error.clone().unwrap_or_else(killed);
            drop(started.send(Err(ProcessError::NotExecuted(error))));
            return true;
        }
        let Some(ended) = self.running.remove(&run) else {
            return false;
        };
        // Whoever asked may not care.
        _ = ended.send(exit_status(end.code, end.signal));
        true
    }

    /// The guardian is gone: nobody will hear of them any more.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}
