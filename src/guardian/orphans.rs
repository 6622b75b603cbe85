//! Processes that fall to the daemon and that nobody else waits for: as PID 1 of a container it gets
//! every orphan there, as a subreaper what loses its parent below it.

use std::io;

use rustix::process::{Pid, WaitOptions, waitpid};
use signal_hook::consts::SIGCHLD;
use signal_hook_tokio::Signals;
use tokio_stream::StreamExt;

use crate::proc::look::own_children;
use crate::proc::{Process, Stat};
use crate::shortage::until_had;

/// Reaps them as they end, for ever. `spares_own`: code of others in this process may wait for what it
/// has started itself, so what is in this process's session is left to it.
///
/// It may reap a guardian, too: who waits for that asks its pidfd.
///
/// # Errors
/// When the signal can't be listened to at all.
///
/// # Cancel safety
/// Safe.
pub(crate) async fn reap(spares_own: bool) -> io::Result<()> {
    let mut ends = until_had("what hears that children end", || Signals::new([SIGCHLD])).await?;
    loop {
        reap_ended(spares_own);
        if ends.next().await.is_none() {
            return Ok(());
        }
    }
}

fn reap_ended(spares_own: bool) {
    let this = Process::this().pid;
    let session = Stat::of(this).map(|stat| stat.session);
    for pid in own_children().unwrap_or_default() {
        let Some(stat) = Stat::of(pid) else { continue };
        let spared = spares_own && Some(stat.session) == session;
        if stat.has_ended() && !spared {
            waitpid(Pid::from_raw(pid), WaitOptions::NOHANG).ok();
        }
    }
}
