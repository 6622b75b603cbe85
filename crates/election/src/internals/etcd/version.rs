//! Versions of the store, and what is wrong with leases in old ones.

use semver::Version;

/// The version of etcd that `text` is; `None` if it is none. What a distribution appends after a plus
/// says nothing of the code's age.
pub fn read(text: &str) -> Option<Version> {
    Version::parse(text.split('+').next()?).ok()
}

/// Something wrong with leases, and the releases that mended it: one for each line of them that
/// was still cared for. Lines after the last were never wrong.
#[derive(Debug)]
struct Bug {
    what: &'static str,
    fixed: &'static [Version],
}

/// Renewals of a lease that was revoked just before are acknowledged.
const LATE_RENEWALS: Bug = Bug {
    what: "may acknowledge the renewal of a lease that was just revoked",
    fixed: &[
        Version::new(3, 4, 38),
        Version::new(3, 5, 23),
        Version::new(3, 6, 5),
    ],
};

/// A leader that was stuck revokes leases which have been renewed since with its successor.
const STUCK_LEADER: Bug = Bug {
    what: "revokes live leases when a leader of etcd that was stuck or frozen goes on",
    fixed: &[Version::new(3, 4, 31), Version::new(3, 5, 13)],
};

/// The first releases of the lines in which a short cut goes past the mending of
/// [`STUCK_LEADER`]: measured on 3.5.16 and 3.5.30, and in 3.6 since its beginning.
const SHORT_CUT: &[Version] = &[
    Version::new(3, 4, 34),
    Version::new(3, 5, 16),
    Version::new(3, 6, 0),
];

/// Whoever reaches the store can renew any lease, without having logged in.
const OPEN_RENEWALS: Bug = Bug {
    what: "renews leases for clients that have not logged in",
    fixed: &[
        Version::new(3, 4, 42),
        Version::new(3, 5, 28),
        Version::new(3, 6, 9),
    ],
};

/// What a transaction within a transaction does needs no permission: whoever may log in may write the
/// keys of every election.
const OPEN_TRANSACTIONS: Bug = Bug {
    what: "asks for no permission within nested transactions (GHSA-rfx7-8w68-q57q): whoever may log \
           in, to read or for another election, can write here and step the leader down",
    fixed: &[
        Version::new(3, 4, 42),
        Version::new(3, 5, 28),
        Version::new(3, 6, 9),
    ],
};

impl Bug {
    /// The release that mends it for who runs `version`; `None` if it is mended there.
    fn mended_in(&self, version: &Version) -> Option<&'static Version> {
        let line = |fixed: &Version| (fixed.major, fixed.minor);
        let theirs = line(version);
        match self.fixed.iter().find(|fixed| line(fixed) >= theirs) {
            Some(fixed) if version < fixed => Some(fixed),
            _ => None,
        }
    }
}

/// What is wrong with leases in `version`, and which release mends it: a sentence without its
/// subject for each.
pub fn lease_bugs(version: &Version) -> Vec<String> {
    let bugs = [&LATE_RENEWALS, &STUCK_LEADER, &OPEN_RENEWALS];
    bugs.into_iter()
        .filter_map(|bug| Some((bug.what, bug.mended_in(version)?)))
        .map(|(what, fixed)| format!("{what}; fixed in {fixed}"))
        .collect()
}

/// What is wrong with permissions in `version`, as [`lease_bugs`] puts it: it matters where users of
/// the store are not to be trusted with all of it.
pub fn permission_bug(version: &Version) -> Option<String> {
    let fixed = OPEN_TRANSACTIONS.mended_in(version)?;
    Some(format!("{}; fixed in {fixed}", OPEN_TRANSACTIONS.what))
}

/// Whether a leader of `version` that was frozen for longer than a lease's TTL can revoke it when
/// it wakes, though it lives. No release is known to be free of it since the short cut came.
pub fn revokes_after_a_freeze(version: &Version) -> bool {
    let of_line = |first: &&Version| (first.major, first.minor) <= (version.major, version.minor);
    let short_cut = SHORT_CUT.iter().rfind(of_line);
    short_cut.is_some_and(|first| version >= first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        read(text).unwrap()
    }

    /// Which of the bugs a version has: late renewals, stuck leader, open renewals, short cut.
    fn has(text: &str) -> [bool; 4] {
        let bugs = lease_bugs(&version(text));
        let named = |what: &str| bugs.iter().any(|bug| bug.starts_with(what));
        let found = [
            named(LATE_RENEWALS.what),
            named(STUCK_LEADER.what),
            named(OPEN_RENEWALS.what),
            revokes_after_a_freeze(&version(text)),
        ];
        let named = found[..3].iter().filter(|it| **it).count();
        assert_eq!(named, bugs.len(), "{text}");
        found
    }

    #[test]
    fn every_release_has_the_bugs_that_it_was_made_with() {
        for (text, bugs) in [
            ("3.3.27", [true, true, true, false]),
            ("3.4.23", [true, true, true, false]),
            ("3.4.30", [true, true, true, false]),
            ("3.4.31", [true, false, true, false]),
            ("3.4.33", [true, false, true, false]),
            ("3.4.34", [true, false, true, true]),
            ("3.4.37", [true, false, true, true]),
            ("3.4.38", [false, false, true, true]),
            ("3.4.42", [false, false, false, true]),
            ("3.5.0", [true, true, true, false]),
            ("3.5.12", [true, true, true, false]),
            ("3.5.13", [true, false, true, false]),
            ("3.5.15", [true, false, true, false]),
            ("3.5.16", [true, false, true, true]),
            ("3.5.22", [true, false, true, true]),
            ("3.5.23", [false, false, true, true]),
            ("3.5.27", [false, false, true, true]),
            ("3.5.28", [false, false, false, true]),
            ("3.6.0", [true, false, true, true]),
            ("3.6.4", [true, false, true, true]),
            ("3.6.5", [false, false, true, true]),
            ("3.6.8", [false, false, true, true]),
            ("3.6.9", [false, false, false, true]),
            ("3.7.0", [false, false, false, true]),
            ("4.0.0", [false, false, false, true]),
        ] {
            assert_eq!(has(text), bugs, "{text}");
        }
    }

    #[test]
    fn nested_transactions_are_checked_since_the_releases_of_march_2026() {
        for text in ["3.3.27", "3.4.23", "3.4.41", "3.5.27", "3.6.8"] {
            let bug = permission_bug(&version(text)).unwrap();
            assert!(bug.contains("GHSA-rfx7-8w68-q57q"), "{text}: {bug}");
        }
        for text in ["3.4.42", "3.5.28", "3.6.9", "3.7.0"] {
            assert_eq!(permission_bug(&version(text)), None, "{text}");
        }
    }

    #[test]
    fn the_remedy_is_a_release_of_the_same_line() {
        for (text, fixed) in [
            ("3.4.23", "3.4.38"),
            ("3.5.16", "3.5.23"),
            ("3.6.1", "3.6.5"),
        ] {
            let bugs = lease_bugs(&version(text));
            assert!(bugs[0].ends_with(&format!("fixed in {fixed}")), "{bugs:?}");
        }
        // That line got no mending: the next one did.
        let bugs = lease_bugs(&version("3.3.27"));
        assert!(bugs[0].ends_with("fixed in 3.4.38"), "{bugs:?}");
    }

    #[test]
    fn versions_are_read_as_etcd_and_distributions_write_them() {
        assert_eq!(version("3.5.16+dfsg"), version("3.5.16"));
        assert!(version("3.6.5-rc.1") < version("3.6.5"));
        assert!(version("3.6.5-rc.1") > version("3.6.4"));
        assert!(version("3.4.9") < version("3.4.10"));
        for text in ["", "3", "3.5", "3.5.x", "3.5.1.2", "v3.5.1"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
