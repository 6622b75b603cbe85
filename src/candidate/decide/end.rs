//! How a run of the job ended.

use crate::guardian::protocol::Exit;

/// How a run ended; nothing is known of one that was stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct End {
    /// The job's process; none for a Rust job.
    pub pid: Option<u32>,
    /// Its exit code, if it ended by itself: 127 or 126 if it could not be executed.
    pub code: Option<i32>,
    /// The signal that ended it, if one did before it was stopped.
    pub signal: Option<i32>,
    /// Why it failed, where more is known than a code.
    pub error: Option<String>,
}

impl End {
    /// That of a main process.
    pub(in crate::candidate) fn of(pid: Option<u32>, exit: &Exit) -> Self {
        let (code, signal, error) = exit.parts();
        Self {
            pid,
            code,
            signal,
            error: error.map(ToOwned::to_owned),
        }
    }

    pub(in crate::candidate) fn failed(&self) -> bool {
        self.code != Some(0)
    }

    /// As a shell has it: the exit code, or 128 and the signal.
    pub(crate) fn exit_code(&self) -> Option<i32> {
        self.code.or(self.signal.map(|signal| 128 + signal))
    }
}
