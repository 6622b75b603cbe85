//! The user that the hook works as.
//!
//! A unit may run its hook as root and outside of its sandbox (`ExecStopPost=+…`): to set up a sandbox
//! takes the service manager longer than all that the hook does. What the hook then does it does as the unit's
//! user, whose processes and files it works on.

use std::io;

use rustix::fs::{Gid, Uid};
use rustix::process::{DumpableBehavior, geteuid, set_dumpable_behavior};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_no_new_privs,
    set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

/// Makes root `user`, for good: no group, capability or way back is left. Where that user is root, all that is
/// left is the capability to kill. The user's other processes can't trace this one, nor look at what it has
/// open: it is in no sandbox, and they may be. Whoever isn't root stays who they are.
///
/// To be called before there is a second thread: the kernel counts all of these by thread.
///
/// # Errors
/// Fails where root may not become another, such as in a user namespace without that user.
pub(super) fn become_user(user: Uid, group: Gid) -> io::Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    if user.is_root() {
        let held = capabilities(None)?;
        let kill = CapabilitySet::KILL;
        let left = CapabilitySets {
            effective: held.effective & kill,
            permitted: held.permitted & kill,
            inheritable: CapabilitySet::empty(),
        };
        set_capabilities(None, left)?;
    } else {
        set_thread_groups(&[])?;
        set_thread_res_gid(group, group, group)?;
        // The kernel takes all capabilities away with this.
        set_thread_res_uid(user, user, user)?;
    }
    // What the kernel makes of it when a process changes its user is the host's to set.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(set_no_new_privs(true)?)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::fd::AsRawFd as _;

    use rustix::fs::{MemfdFlags, memfd_create};
    use rustix::process::{dumpable_behavior, getegid, getgroups};
    use rustix::thread::no_new_privs;

    use super::*;
    use crate::proc::look::tests::is_alone;

    /// Does `work` on a thread of root's, in a process of its own for the test of this name.
    fn as_root(name: &str, work: impl FnOnce() + Send + 'static) {
        if !is_alone(&format!("release::privileges::tests::{name}")) {
            return;
        }
        if !geteuid().is_root() {
            writeln!(io::stderr(), "SKIPPED: {name}: only for root").ok();
            return;
        }
        std::thread::spawn(work).join().unwrap();
    }

    #[test]
    fn root_becomes_another_for_good() {
        let (user, group) = (Uid::from_raw(65_534), Gid::from_raw(65_534));
        as_root("root_becomes_another_for_good", move || {
            become_user(user, group).unwrap();
            assert_eq!((geteuid(), getegid()), (user, group));
            assert_eq!(getgroups().unwrap(), []);
            let held = capabilities(None).unwrap();
            assert!(held.effective.is_empty() && held.permitted.is_empty());
            assert!(no_new_privs().unwrap());
            assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
            set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).unwrap_err();
            become_user(Uid::from_raw(1), group).unwrap();
            assert_eq!(geteuid(), user, "who isn't root stays who they are");
            // It can still read what it has open by its name in `/proc`.
            let open = memfd_create("secret", MemfdFlags::CLOEXEC).unwrap();
            std::fs::read(format!("/proc/self/fd/{}", open.as_raw_fd())).unwrap();
        });
    }

    #[test]
    fn root_that_stays_root_may_only_kill() {
        as_root("root_that_stays_root_may_only_kill", || {
            become_user(Uid::ROOT, Gid::ROOT).unwrap();
            assert!(geteuid().is_root());
            let held = capabilities(None).unwrap();
            assert_eq!(held.effective, held.permitted);
            assert!(CapabilitySet::KILL.contains(held.permitted), "{held:?}");
            assert!(no_new_privs().unwrap());
            assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
            set_thread_res_uid(Uid::from_raw(1), Uid::from_raw(1), Uid::from_raw(1)).unwrap_err();
        });
    }
}
