//! Reading credentials, by a process that shows them to nobody afterwards.

use std::io;
use std::path::Path;
use std::sync::Once;

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// Reads a file of credentials.
///
/// From then on the process writes no core dump, and other processes of its user, the job's among
/// them, can't look into its memory. A process that is executed later begins anew, so the job may
/// be dumped and traced as ever.
///
/// # Errors
/// As [`std::fs::read_to_string`].
pub(crate) fn read(path: &Path) -> io::Result<String> {
    static HIDE: Once = Once::new();
    HIDE.call_once(|| {
        if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
            tracing::warn!(%error, "core dumps stay possible");
        }
    });
    std::fs::read_to_string(path)
}
