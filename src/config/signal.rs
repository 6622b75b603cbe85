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

/// The number of the signal, by its name with or without `SIG`. The real-time ones have names such
/// as `SIGRTMIN`, `SIGRTMIN+1` and `SIGRTMAX-1`.
pub(super) fn number(name: &str) -> Option<i32> {
    let is_named =
        |known: &&(&str, i32)| known.0 == name || known.0.strip_prefix("SIG") == Some(name);
    let known = SIGNALS.iter().find(is_named).map(|(_, number)| *number);
    known.or_else(|| real_time(name))
}

fn real_time(name: &str) -> Option<i32> {
    let name = name.strip_prefix("SIG").unwrap_or(name);
    let offset = |text: &str, sign: char| match text.strip_prefix(sign) {
        None if text.is_empty() => Some(0),
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok(),
        _ => None,
    };
    let number: i32 = if let Some(above) = name.strip_prefix("RTMIN") {
        libc::SIGRTMIN().checked_add(offset(above, '+')?)?
    } else {
        libc::SIGRTMAX().checked_sub(offset(name.strip_prefix("RTMAX")?, '-')?)?
    };
    (libc::SIGRTMIN()..=libc::SIGRTMAX())
        .contains(&number)
        .then_some(number)
}

/// The name of a signal that has a number here.
pub(super) fn name(number: i32) -> String {
    let known = SIGNALS.iter().find(|(_, known)| *known == number);
    match (known, number - libc::SIGRTMIN()) {
        (Some((name, _)), _) => (*name).to_owned(),
        (None, 0) => "SIGRTMIN".to_owned(),
        (None, above @ 1..) => format!("SIGRTMIN+{above}"),
        (None, _) => String::new(),
    }
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
        let first = libc::SIGRTMIN();
        for (text, expected) in [
            ("SIGRTMIN", first),
            ("RTMIN+1", first + 1),
            ("SIGRTMIN+1", first + 1),
            ("SIGRTMAX-1", libc::SIGRTMAX() - 1),
        ] {
            assert_eq!(number(text), Some(expected), "{text}");
            assert_eq!(number(&name(expected)), Some(expected), "{text}");
        }
        for name in [
            "SIGRTMIN-1",
            "SIGRTMIN+",
            "SIGRTMIN+99",
            "SIGRTMAX+1",
            "SIGRTMIN++1",
            "SIGRTMIN+1 ",
            "SIGRTMAX-99",
            "",
            "SIG",
            "sigterm",
            "15",
            "SIGSTOP",
            "SIGSIGTERM",
            " TERM",
        ] {
            assert_eq!(number(name), None, "{name}");
        }
    }
}
