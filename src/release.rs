//! The unit's stop hook: fences what a term left behind, then resigns.
//!
//! systemd runs `incumbent release` as `ExecStopPost=` once the daemon is gone, however it went.
//! That is no proof that the job is gone too (measured: after a watchdog's strike it never was), so
//! the hook first kills everything in the unit's control group but itself. Alone there, it gives
//! the lease back from the [lease file](LeaseFile), and the next candidate need not wait for the
//! TTL. While it isn't alone it revokes nothing: it goes on killing, and renews the lease (R5).
//!
//! Typed by hand it does nothing: `may_touch` says when it may.

mod privileges;

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use rustix::fs::{Gid, Uid};
use tokio::task::JoinSet;

use crate::cgroup;
use crate::clock::{self, Instant};
use crate::etcd::Store;
use crate::lines::{Speaker, Voice};
use crate::proc::survivor::{InVain, Survivor, learn_names};
use crate::proc::{Handle, Process, Stat};
use crate::reason::EndReason;
use crate::runtime_dir::lease_file::{self, LeaseFile, UnitPlace, Unpacked};
use crate::runtime_dir::{self, Dir};
use crate::term::record::Unkillable;
use crate::term::resignation::Resignation;

/// How long it goes on fencing. The unit's `TimeoutStopSec=` is longer, so that the hook says
/// itself that it gave up.
const FENCE_LIMIT: Duration = Duration::from_mins(1);

/// How long it tries to reach the store; the unit's restart waits for it. Longer than etcd takes
/// to elect a leader, and what it fails to give back the TTL ends.
const RESIGN_LIMIT: Duration = Duration::from_secs(5);

/// From one look at the control group to the next. SIGKILL takes a millisecond or so.
const PAUSE: Duration = Duration::from_millis(1);

/// After this long fencing is no matter of milliseconds any more: the lease is renewed from here on.
/// After a watchdog's strike it may have some 400 ms left when the hook starts, and a connection
/// has to be made first.
const STUCK_AFTER: Duration = Duration::from_millis(50);

/// What a kill may take before it is said that it is in vain, or a fifth of the TTL if that is less.
const KILL_BUDGET: Duration = Duration::from_secs(1);

/// So many processes are opened at once: a group may hold more than there are descriptors.
const AT_ONCE: usize = 64;

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReleaseOutcome {
    /// There is no lease file: the daemon gave its lease back itself, or never had one.
    NothingToDo,
    /// The lease is gone.
    Resigned,
    /// Not run by the hook of the unit that the lease file is about; nothing was touched.
    Refused(ReleaseRefusal),
    /// Everything is dead, but the store didn't answer: the lease is left to its TTL.
    Unconfirmed,
    /// Something in the control group could not be killed; nothing was revoked.
    NotAlone,
}

impl ReleaseOutcome {
    /// The command's exit code.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::NothingToDo | Self::Resigned => 0,
            Self::NotAlone => 1,
            Self::Refused(_) => 3,
            Self::Unconfirmed => 69,
        }
    }
}

/// Why nothing was touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReleaseRefusal {
    /// `SERVICE_RESULT` or `INVOCATION_ID` is not set.
    #[error("not run by a unit's ExecStopPost=")]
    NotAHook,
    /// The lease file is there and can't be understood.
    #[error("the lease file cannot be read")]
    BadLeaseFile,
    /// The lease file is of another boot.
    #[error("the lease file is of another boot")]
    OtherBoot,
    /// The lease file is of another run of the unit, or of another unit.
    #[error("the lease file is of another run of the unit")]
    OtherInvocation,
    /// The recorded control group is no service's.
    #[error("the lease file is of no service")]
    NoService,
    /// This process runs in another control group than the daemon did.
    #[error("not in the control group of the lease file's daemon")]
    OtherGroup,
    /// The daemon or its guardian lives, in another control group.
    #[error("the daemon or its guardian lives outside the unit")]
    LivesElsewhere,
}

/// Opens the runtime directory at `path` for [`run`], and takes on its owner where this is root.
///
/// To be called before there is a second thread.
///
/// # Errors
/// Fails if it isn't there, is another user's, or root may not become that user.
pub(crate) fn open(path: &Path) -> io::Result<Dir> {
    let dir = Dir::open_trusted(path)?;
    let owner = dir.stat()?;
    let (user, group) = (Uid::from_raw(owner.st_uid), Gid::from_raw(owner.st_gid));
    privileges::become_user(user, group).map_err(|error| {
        let text = format!(
            "cannot become the user who owns {}: {error}",
            path.display()
        );
        io::Error::new(error.kind(), text)
    })?;
    Ok(dir)
}

/// Runs the hook on the runtime directory `dir`, as [opened](open).
pub(crate) async fn run(dir: io::Result<Dir>) -> ReleaseOutcome {
    let outcome = attempt(dir).await;
    match outcome {
        ReleaseOutcome::Refused(reason) => tracing::error!(%reason, "release refused"),
        ReleaseOutcome::NotAlone => {
            tracing::error!("release gave up with processes left; not resigned");
        }
        ReleaseOutcome::NothingToDo | ReleaseOutcome::Resigned | ReleaseOutcome::Unconfirmed => {}
    }
    outcome
}

async fn attempt(dir: io::Result<Dir>) -> ReleaseOutcome {
    if std::env::var_os("SERVICE_RESULT").is_none() || std::env::var_os("INVOCATION_ID").is_none() {
        return ReleaseOutcome::Refused(ReleaseRefusal::NotAHook);
    }
    // While it fences it waits for no disk.
    learn_names();
    let (found, mut refusal) = read_all(dir);
    let here = UnitPlace::here();
    let mut held = Vec::new();
    let mut groups = Vec::new();
    for (dir, file) in found {
        match may_touch(&file, &here, whereabouts) {
            Ok(group) => {
                groups.push(group.to_owned());
                held.push(HeldLease::new(dir, &file));
            }
            Err(reason) => refusal = refusal.or(Some(reason)),
        }
    }
    // Each is that of the unit which runs us.
    let Some(group) = groups.first() else {
        return refusal.map_or(ReleaseOutcome::NothingToDo, ReleaseOutcome::Refused);
    };
    if !fence(group, &held, clock::now() + FENCE_LIMIT).await {
        return ReleaseOutcome::NotAlone;
    }
    let mut resigning = JoinSet::new();
    for lease in held {
        resigning.spawn(lease.resign());
    }
    let confirmed = resigning.join_all().await;
    match refusal {
        Some(reason) => ReleaseOutcome::Refused(reason),
        None if confirmed.contains(&false) => ReleaseOutcome::Unconfirmed,
        None => ReleaseOutcome::Resigned,
    }
}

/// The lease files in the runtime directory `dir` and in those of jobs in it; and a refusal
/// where one of them can't be read.
fn read_all(dir: io::Result<Dir>) -> (Vec<(Arc<Dir>, LeaseFile)>, Option<ReleaseRefusal>) {
    let dirs = match dir {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Ok(dir) => runtime_dir::with_jobs(&Arc::new(dir)),
        Err(error) => vec![Err(error)],
    };
    let (mut found, mut refusal) = (Vec::new(), None);
    for dir in dirs {
        let read = dir.and_then(|dir| Ok(LeaseFile::read(&dir)?.map(|file| (dir, file))));
        match read {
            Ok(file) => found.extend(file),
            Err(error) => {
                tracing::error!(%error, "lease file not read");
                refusal = Some(ReleaseRefusal::BadLeaseFile);
            }
        }
    }
    (found, refusal)
}

/// A lease that the daemon held, and how to give it back.
struct HeldLease {
    dir: Arc<Dir>,
    resignation: Resignation,
    store: Store,
    /// The credentials, for as long as they are needed.
    _unpacked: Option<Unpacked>,
}

impl HeldLease {
    fn new(dir: Arc<Dir>, file: &LeaseFile) -> Self {
        // Fencing needs no credentials: without them the lease still ends by its TTL.
        let (resignation, unpacked) = match file.resignation_with_credentials() {
            Ok((resignation, unpacked)) => (resignation, Some(unpacked)),
            Err(error) => {
                tracing::error!(%error, "credentials not written");
                (file.resignation.clone(), None)
            }
        };
        let store = resignation.open_store();
        if let Some(token) = file.token() {
            store.begin_with(token.clone());
        }
        Self {
            dir,
            resignation,
            store,
            _unpacked: unpacked,
        }
    }

    /// Gives it back; whether the store has confirmed that.
    async fn resign(self) -> bool {
        let (resignation, store) = (&self.resignation, &self.store);
        let ended = clock::wall_time();
        let patience = RESIGN_LIMIT.min(resignation.ttl);
        let confirmed = resignation.carry_out(store, clock::now() + patience).await;
        speaker(resignation).resigned(resignation.lease, resignation.token, confirmed);
        if !confirmed {
            return false;
        }
        if let Err(error) = lease_file::remove(&self.dir, resignation.lease) {
            tracing::warn!(%error, "lease file not removed");
        }
        // Last: nobody needs it to go on.
        resignation
            .explain(store, ended, EndReason::UnitFailed)
            .await;
        true
    }

    /// Renews it for ever, and has those who wait see what is `stuck`.
    async fn keep_renewing(&self, stuck: &RefCell<Vec<Unkillable>>) -> Infallible {
        loop {
            let renewed = self.resignation.renew(&self.store).await;
            tracing::debug!(lease = %self.resignation.lease, renewed, "renewed for a tree not empty");
            let shown = stuck.borrow().clone();
            self.resignation.show_unkillable(&self.store, shown).await;
            clock::sleep(self.resignation.ttl / 5).await;
        }
    }
}

fn speaker(resignation: &Resignation) -> Speaker<'_> {
    Speaker {
        voice: Voice::Release,
        election: &resignation.prefix,
        candidate: &resignation.candidate,
    }
}

/// Where a recorded process is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whereabouts {
    /// It has ended.
    Dead,
    /// It is in the control group to fence.
    Inside,
    /// It lives in another one, or that can't be told.
    Elsewhere,
}

/// Where `process` is. A sandbox may hide it from `/proc`, and then a living one must not pass for
/// dead; the control group and a pidfd tell the truth all the same.
fn whereabouts(process: Process, group: &str) -> Whereabouts {
    let members = cgroup::members(&cgroup::folder(group));
    if matches!(Handle::open(process.pid), Ok(None)) {
        Whereabouts::Dead
    } else if members.is_ok_and(|pids| pids.contains(&process.pid)) {
        Whereabouts::Inside
    } else if Stat::of(process.pid)
        .is_some_and(|stat| !process.is_told_by(&stat) || stat.has_ended())
    {
        // Another process has its number now, or it waits to be reaped.
        Whereabouts::Dead
    } else {
        Whereabouts::Elsewhere
    }
}

/// Whether a process at `here` is the stop hook of the very run that `file` was written in; if so,
/// the control group to fence.
///
/// Nothing may be killed on a guess. A lease file can be left over from another boot or another
/// run, an operator can type the command in the middle of the daemon's life, and where there is no
/// unit the "own control group" is a whole login session.
fn may_touch<'a>(
    file: &'a LeaseFile,
    here: &UnitPlace,
    whereabouts: impl Fn(Process, &str) -> Whereabouts,
) -> Result<&'a str, ReleaseRefusal> {
    let there = &file.place;
    let same = |here: &Option<String>, there: &Option<String>| here.is_some() && here == there;
    if !same(&here.boot_id, &there.boot_id) {
        return Err(ReleaseRefusal::OtherBoot);
    }
    if !same(&here.invocation_id, &there.invocation_id) {
        return Err(ReleaseRefusal::OtherInvocation);
    }
    let is_service = |group: &&str| group.ends_with(".service") && group.starts_with('/');
    let group = there.cgroup.as_deref().filter(is_service);
    let group = group.ok_or(ReleaseRefusal::NoService)?;
    // With Delegate=yes systemd puts its hooks into a group of their own below the unit's.
    let own = here.cgroup.as_deref();
    if own != Some(group) && own != Some(&format!("{group}/.control")) {
        return Err(ReleaseRefusal::OtherGroup);
    }
    for process in [Some(file.daemon), file.guardian].into_iter().flatten() {
        if whereabouts(process, group) == Whereabouts::Elsewhere {
            return Err(ReleaseRefusal::LivesElsewhere);
        }
    }
    Ok(group)
}

/// Kills everything in the control group but this process, until it is alone there; renews the
/// leases meanwhile if that takes long. False if it isn't alone by `until`.
async fn fence(group: &str, held: &[HeldLease], until: Instant) -> bool {
    let stuck = RefCell::default();
    let renewing = async {
        clock::sleep(STUCK_AFTER).await;
        let mut renewals: Vec<_> = held
            .iter()
            .map(|lease| Box::pin(lease.keep_renewing(&stuck)))
            .collect();
        poll_fn(|context| {
            for renewal in &mut renewals {
                if let Poll::Ready(never) = renewal.as_mut().poll(context) {
                    match never {}
                }
            }
            Poll::<Infallible>::Pending
        })
        .await
    };
    tokio::select! {
        alone = until_alone(group, held, &stuck, until) => alone,
        never = renewing => match never {},
    }
}

async fn until_alone(
    group: &str,
    held: &[HeldLease],
    stuck: &RefCell<Vec<Unkillable>>,
    until: Instant,
) -> bool {
    let shortest = held.iter().map(|lease| lease.resignation.ttl).min();
    let kill_budget = KILL_BUDGET.min(shortest.unwrap_or_default() / 5);
    let mut in_vain = InVain::from(clock::now(), kill_budget);
    loop {
        let left = kill_others(group);
        if left.as_ref().is_ok_and(Vec::is_empty) {
            return true;
        }
        if in_vain.is_due(clock::now()) {
            stuck.replace(say_stuck(left, group, held));
        }
        if until.has_passed() {
            return false;
        }
        clock::sleep(PAUSE).await;
    }
}

/// Says who lives on, and returns it for the records.
fn say_stuck(left: io::Result<Vec<i32>>, group: &str, held: &[HeldLease]) -> Vec<Unkillable> {
    match left {
        Ok(pids) => {
            let survivors: Vec<_> = pids.into_iter().map(Survivor::of).collect();
            // Whose job it is can't be told.
            for HeldLease { resignation, .. } in held {
                let (lease, token) = (Some(resignation.lease), resignation.token);
                speaker(resignation).job_can_not_be_killed(lease, token, &survivors, Some(group));
            }
            Unkillable::first_of(&survivors)
        }
        Err(error) => {
            tracing::error!(%error, cgroup = group, "control group not read");
            Vec::new()
        }
    }
}

/// Sends SIGKILL to everything in the control group but this process. Returns who was there.
///
/// A number may pass to a stranger once it is read. One that is still listed after it was opened
/// was the group's when it was opened.
fn kill_others(group: &str) -> io::Result<Vec<i32>> {
    let folder = cgroup::folder(group);
    let this = Process::this().pid;
    let mut others = cgroup::members(&folder)?;
    others.retain(|pid| *pid != this);
    for some in others.chunks(AT_ONCE) {
        let opened: Vec<_> = some.iter().map(|pid| (*pid, Handle::open(*pid))).collect();
        let still = cgroup::members(&folder)?;
        for (pid, handle) in opened {
            let killed = match handle {
                Ok(Some(handle)) if still.contains(&pid) => handle.kill(),
                Ok(_) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = killed {
                tracing::debug!(pid, %error, "process not killed");
            }
        }
    }
    Ok(others)
}

#[cfg(test)]
mod tests;
