//! `lease.json`: all that the unit's stop hook needs to give a lease back once the daemon is dead.
//!
//! Written before the lease is granted and removed after it was revoked, on a thread of its own:
//! nobody who decides waits for a file (R14). The hook can't read the daemon's credentials, so the
//! file holds what is in them, not where they are.

use std::fmt;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::{Dir, RunFiles, RuntimeDir};
use crate::etcd::{AuthToken, Settings, Tls, secret};
use crate::keys::{LeaseId, Prefix};
use crate::proc::{self, Process};
use crate::revision::{Revision, Token};
use crate::term::resignation::Resignation;
use crate::term::slots::Close;
use crate::vital;

/// The file's name in the runtime directory.
pub(super) const NAME: &str = "lease.json";

/// Its name until it is whole.
pub(super) const UNFINISHED: &str = "lease.json.new";

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LeaseFile {
    /// How to give the lease back. Read back, its store has no files of credentials: see
    /// [`resignation_with_credentials`](Self::resignation_with_credentials).
    pub resignation: Resignation,
    /// Where the daemon runs.
    pub place: UnitPlace,
    /// The daemon.
    pub daemon: Process,
    /// Its guardian.
    pub guardian: Option<Process>,
    /// What was in the files of credentials, filled in when the file is written; and a token.
    credentials: Credentials,
}

/// Which run of which unit on which boot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UnitPlace {
    /// The id of the machine's boot.
    pub boot_id: Option<String>,
    /// systemd's id of this run of the unit.
    pub invocation_id: Option<String>,
    /// The control group's path in the unified hierarchy.
    pub cgroup: Option<String>,
}

impl UnitPlace {
    /// Whether a unit's stop hook may come to read the file: nobody else needs what is secret.
    fn has_a_hook(&self) -> bool {
        let in_service = |cgroup: &String| {
            let unit = cgroup.strip_suffix("/.control").unwrap_or(cgroup);
            unit.ends_with(".service")
        };
        self.invocation_id.is_some() && self.cgroup.as_ref().is_some_and(in_service)
    }

    /// Where this process runs.
    pub(crate) fn here() -> Self {
        Self {
            boot_id: proc::boot_id(),
            invocation_id: std::env::var("INVOCATION_ID").ok(),
            cgroup: crate::cgroup::of(Process::this().pid),
        }
    }
}

/// The contents of the files that reach the store.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Credentials {
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<String>,
    /// The one that the store took last, if it is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_password: Option<String>,
    /// Of the daemon's login: a login of its own would take the hook longer than all the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<AuthToken>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cert: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

/// Shows nothing: a secret in a log is no secret.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

/// How long a job has for its start before the file tells of its term.
const JOBS_TURN: Duration = Duration::from_millis(10);

/// The file as it is written: one flat object, apart from what only we read.
#[derive(Serialize, Deserialize)]
struct Stored {
    lease: LeaseId,
    #[serde(default)]
    cluster: u64,
    key: String,
    token: Option<Token>,
    may_mark: bool,
    #[serde(default)]
    step_down: Option<Revision>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    close: Option<Box<Close>>,
    election: Prefix,
    candidate: String,
    ttl_ms: u64,
    attempt_limit_ms: u64,
    endpoints: Vec<String>,
    connect_timeout_ms: u64,
    username: Option<String>,
    server_name: Option<String>,
    credentials: Credentials,
    #[serde(flatten)]
    place: UnitPlace,
    daemon: Process,
    guardian: Option<Process>,
}

impl LeaseFile {
    /// The file of a lease of this process and its guardian.
    pub(crate) fn new(
        resignation: Resignation,
        place: UnitPlace,
        guardian: Option<Process>,
    ) -> Self {
        Self {
            resignation,
            place,
            daemon: Process::this(),
            guardian,
            credentials: Credentials::default(),
        }
    }

    /// The same with the token of the daemon's login.
    #[must_use]
    pub(crate) fn with_token(mut self, token: Option<AuthToken>) -> Self {
        self.credentials.token = token;
        self
    }

    /// The token of the daemon's login.
    pub(crate) const fn token(&self) -> Option<&AuthToken> {
        self.credentials.token.as_ref()
    }

    /// Reads the file in the runtime directory `dir`; `None` if there is none.
    ///
    /// # Errors
    /// Fails if it is there and can't be read or understood.
    pub(crate) fn read(dir: &Dir) -> io::Result<Option<Self>> {
        let Some(text) = dir.read(NAME)? else {
            return Ok(None);
        };
        let stored: Stored = serde_json::from_slice(&text)?;
        Ok(Some(stored.into()))
    }

    /// The resignation for a process that can't read the daemon's credentials: they are in files that have
    /// no name but this process's own for them, and go when the second value is dropped.
    ///
    /// # Errors
    /// Fails if they can't be written.
    pub(crate) fn resignation_with_credentials(&self) -> io::Result<(Resignation, Unpacked)> {
        let mut unpacked = Unpacked(Vec::new());
        let mut resignation = self.resignation.clone();
        let mut unpack = |text: &Option<String>, name| -> io::Result<Option<PathBuf>> {
            let Some(text) = text else { return Ok(None) };
            let mut file = File::from(memfd_create(name, MemfdFlags::CLOEXEC)?);
            file.write_all(text.as_bytes())?;
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            unpacked.0.push(file);
            Ok(Some(path.into()))
        };
        let credentials = &self.credentials;
        let store = &mut resignation.store;
        store.password_file = unpack(&credentials.password, "hook-password")?;
        if let (Some(user), Some(file), Some(last)) = (
            &store.username,
            &store.password_file,
            &credentials.last_password,
        ) {
            secret::keep_password(user, file, last);
        }
        store.tls.ca_file = unpack(&credentials.ca, "hook-ca.pem")?;
        store.tls.cert_file = unpack(&credentials.cert, "hook-cert.pem")?;
        store.tls.key_file = unpack(&credentials.key, "hook-key.pem")?;
        Ok((resignation, unpacked))
    }

    /// Writes the file so that a reader sees it whole or not at all.
    fn write(mut self, dir: &Dir) -> io::Result<()> {
        self.credentials = if self.place.has_a_hook() {
            let token = self.credentials.token.take();
            Credentials::read(&self.resignation.store, token)
        } else {
            Credentials::default()
        };
        let text = serde_json::to_vec(&Stored::from(self))?;
        dir.write(UNFINISHED, &text)?;
        dir.rename(UNFINISHED, NAME)
    }
}

/// Files with credentials, in memory and for this process alone, that go when this is dropped.
#[derive(Debug)]
pub(crate) struct Unpacked(Vec<File>);

impl Credentials {
    /// Reads what the settings name. What can't be read is left out: the hook can fence without.
    fn read(settings: &Settings, token: Option<AuthToken>) -> Self {
        let read = |path: &Option<PathBuf>| {
            let path = path.as_ref()?;
            let text = secret::read(path);
            text.inspect_err(|error| {
                let path = path.display();
                tracing::warn!(%path, %error, "credentials missing from the lease file");
            })
            .ok()
        };
        let password = read(&settings.password_file);
        let last_password = match (&settings.username, &settings.password_file) {
            (Some(user), Some(file)) => secret::last_password(user, file),
            _ => None,
        };
        let in_file = password
            .as_ref()
            .map(|text| text.trim_end_matches(['\r', '\n']));
        let tls = &settings.tls;
        // A pair that went together: one of the files may have been replaced since.
        let pair = tls.pair().and_then(|files| secret::last_pair(&files));
        let (cert, key) = match pair {
            Some(pair) => (Some(pair.certificate), Some(pair.key)),
            None => (read(&tls.cert_file), read(&tls.key_file)),
        };
        Self {
            last_password: last_password.filter(|last| in_file != Some(last.as_str())),
            password,
            token,
            ca: read(&tls.ca_file),
            cert,
            key,
        }
    }
}

impl From<LeaseFile> for Stored {
    fn from(file: LeaseFile) -> Self {
        let resignation = file.resignation;
        Self {
            key: resignation.prefix.candidate(resignation.lease),
            lease: resignation.lease,
            cluster: resignation.cluster,
            token: resignation.token,
            may_mark: resignation.may_mark,
            step_down: resignation.step_down,
            close: resignation.close,
            election: resignation.prefix,
            candidate: resignation.candidate,
            ttl_ms: millis(resignation.ttl),
            attempt_limit_ms: millis(resignation.attempt_limit),
            endpoints: resignation.store.endpoints,
            connect_timeout_ms: millis(resignation.store.connect_timeout),
            username: resignation.store.username,
            server_name: resignation.store.tls.server_name,
            credentials: file.credentials,
            place: file.place,
            daemon: file.daemon,
            guardian: file.guardian,
        }
    }
}

impl From<Stored> for LeaseFile {
    fn from(stored: Stored) -> Self {
        Self {
            resignation: Resignation {
                store: Settings {
                    connect_timeout: Duration::from_millis(stored.connect_timeout_ms),
                    username: stored.username,
                    tls: Tls {
                        server_name: stored.server_name,
                        ..Tls::default()
                    },
                    ..Settings::new(stored.endpoints)
                },
                cluster: stored.cluster,
                prefix: stored.election,
                candidate: stored.candidate,
                lease: stored.lease,
                ttl: Duration::from_millis(stored.ttl_ms),
                attempt_limit: Duration::from_millis(stored.attempt_limit_ms),
                token: stored.token,
                may_mark: stored.may_mark,
                step_down: stored.step_down,
                close: stored.close,
            },
            place: stored.place,
            daemon: stored.daemon,
            guardian: stored.guardian,
            credentials: stored.credentials,
        }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// The thread that keeps the file; and the files that others write themselves.
#[derive(Clone, Debug)]
pub(crate) struct Keeper {
    orders: mpsc::Sender<FileOrder>,
    runs: Arc<RunFiles>,
}

#[derive(Debug)]
enum FileOrder {
    Write(Box<LeaseFile>, Duration, oneshot::Sender<io::Result<()>>),
    Remove(LeaseId, oneshot::Sender<io::Result<()>>),
    /// Says when all before it is done.
    Settle(oneshot::Sender<()>),
}

impl Keeper {
    /// Starts the thread for the runtime directory `held`. It ends with the last clone, when all
    /// orders are carried out.
    ///
    /// # Errors
    /// Fails if no thread can be started.
    pub(crate) fn start(held: &RuntimeDir) -> io::Result<Self> {
        let (sender, orders) = mpsc::channel::<FileOrder>();
        let dir = Arc::clone(held.dir());
        let body = move || {
            for order in orders {
                // Whoever doesn't wait for the outcome has dropped the other end.
                match order {
                    FileOrder::Write(file, pause, done) => {
                        std::thread::sleep(pause);
                        drop(done.send(file.write(&dir)));
                    }
                    FileOrder::Remove(lease, done) => drop(done.send(remove(&dir, lease))),
                    FileOrder::Settle(done) => drop(done.send(())),
                }
            }
            Ok(())
        };
        vital::spawn("lease-file", body)?;
        Ok(Self {
            orders: sender,
            runs: Arc::clone(held.left().files()),
        })
    }

    /// Where the runs of the job's guardian are to stand.
    pub(crate) fn runs(&self) -> BorrowedFd<'_> {
        self.runs.of_job()
    }

    /// Where those of the guardian of checks are to stand.
    pub(crate) fn runs_of_checks(&self) -> BorrowedFd<'_> {
        self.runs.of_checks()
    }

    /// Writes the file in place of the one before. Returns at once; await what it returns where
    /// the file has to be there, drop it elsewhere.
    pub(crate) fn write(&self, file: LeaseFile) -> oneshot::Receiver<io::Result<()>> {
        let (done, outcome) = oneshot::channel();
        self.order(FileOrder::Write(Box::new(file), Duration::ZERO, done));
        outcome
    }

    /// As [`write`](Self::write), a moment later: a job is being started, and comes first.
    pub(crate) fn write_soon(&self, file: LeaseFile) {
        let (done, _) = oneshot::channel();
        self.order(FileOrder::Write(Box::new(file), JOBS_TURN, done));
    }

    /// Removes the file if it is still that of `lease`: the next lease's may have replaced it.
    pub(crate) fn remove(&self, lease: LeaseId) -> oneshot::Receiver<io::Result<()>> {
        let (done, outcome) = oneshot::channel();
        self.order(FileOrder::Remove(lease, done));
        outcome
    }

    /// Waits until all orders so far are carried out: the process must not end before, for its thread
    /// ends with it.
    pub(crate) async fn settled(&self) {
        let (done, settled) = oneshot::channel();
        self.order(FileOrder::Settle(done));
        // A thread that is gone has nothing left to do.
        drop(settled.await);
    }

    /// To a thread that is gone the order is lost, which whoever awaits its outcome sees.
    fn order(&self, order: FileOrder) {
        drop(self.orders.send(order));
    }
}

/// Removes the file in `dir` if it is that of `lease`.
///
/// # Errors
/// Fails if it is there and can't be read or removed.
pub(crate) fn remove(dir: &Dir, lease: LeaseId) -> io::Result<()> {
    match LeaseFile::read(dir)? {
        Some(file) if file.resignation.lease == lease => dir.remove(NAME),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
