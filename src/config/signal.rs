//! Signals by name, for `job.stop_signal`.

/// The signals that may ask a job to end. The missing ones stop or continue a process, or are how
/// a fault in it shows.
const SIGNALS: &[(&str, i32)] = &[
    ("SIGTERM", libc::SIGTERM),
    ("SIGINT", libc::SIGINT),
    ("SIGQUIT", libc::SIGQUIT),
    ("SIGHUP", libc::SIGHUP),
    ("SIGUSR1", libc::SIGUSR1),
    ("SIGUSR2", libc::SIGUSR2),
    ("SIGWINCH", libc::SIGWINCH),
    ("SIGALRM", libc::SIGALRM),
    ("SIGABRT", libc::SIGABRT),
    ("SIGKILL", libc::SIGKILL),
];

/// The number of the signal, by its name with or without `SIG`.
pub(super) fn number(name: &str) -> Option<i32> {
    let is_named =
        |known: &&(&str, i32)| known.0 == name || known.0.strip_prefix("SIG") == Some(name);
    SIGNALS.iter().find(is_named).map(|(_, number)| *number)
}

/// The name of a signal that has a number here.
pub(super) fn name(number: i32) -> &'static str {
    let known = SIGNALS.iter().find(|(_, known)| *known == number);
    known.map_or("", |(name, _)| name)
}

/// All names, for errors.
pub(super) fn names() -> String {
    let names: Vec<&str> = SIGNALS.iter().map(|(name, _)| *name).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_go_by_both_their_names_and_by_nothing_else() {
        assert_eq!(number("SIGTERM"), Some(15));
        assert_eq!(number("TERM"), Some(15));
        assert_eq!(name(15), "SIGTERM");
        for name in ["", "SIG", "sigterm", "15", "SIGSTOP", "SIGSIGTERM", " TERM"] {
            assert_eq!(number(name), None, "{name}");
        }
    }
}
