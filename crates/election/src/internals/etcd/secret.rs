//! Reading credentials, by a process that shows them to nobody afterwards, and remembering those that
//! worked last.
//!
//! Files of credentials are replaced one by one, and the store learns of a new password before or after
//! they are. Until all fit together again, what worked last may go on to: a term is not to end for
//! that.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// Reads a file of credentials.
///
/// From then on the process writes no core dump, and other processes of its user, the job's among
/// them, can't look into its memory. A process that is executed later begins anew, so the job may
/// be dumped and traced as ever.
///
/// # Errors
/// As [`std::fs::read_to_string`].
pub fn read(path: &Path) -> io::Result<String> {
    static HIDE: Once = Once::new();
    HIDE.call_once(|| {
        if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
            tracing::warn!(%error, "core dumps stay possible");
        }
    });
    std::fs::read_to_string(path)
}

/// A certificate and its key, as text.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

/// Where a pair comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PairFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// A password as text.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// This one.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// For a login, and for nothing else.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

/// Shows nothing: a secret in a log is no secret.
impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

/// What worked last, by the files that it came from.
struct Last {
    passwords: BTreeMap<(String, PathBuf), String>,
    pairs: BTreeMap<PairFiles, Pair>,
}

static LAST: Mutex<Last> = Mutex::new(Last {
    passwords: BTreeMap::new(),
    pairs: BTreeMap::new(),
});

fn last() -> MutexGuard<'static, Last> {
    LAST.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The password with which this user logged in last.
pub fn last_password(user: &str, file: &Path) -> Option<String> {
    let of = (user.to_owned(), file.to_owned());
    last().passwords.get(&of).cloned()
}

/// Remembers a password that the store took.
pub fn keep_password(user: &str, file: &Path, password: &str) {
    let of = (user.to_owned(), file.to_owned());
    last().passwords.insert(of, password.to_owned());
}

/// The certificate and key from these files that went together last.
pub fn last_pair(files: &PairFiles) -> Option<Pair> {
    last().pairs.get(files).cloned()
}

/// Remembers a certificate and a key that go together.
pub fn keep_pair(files: PairFiles, pair: Pair) {
    last().pairs.insert(files, pair);
}
