//! Whose fault an error is.

use std::io;

use rustix::io::Errno;

/// Whether the user has to mend it before another try can do better: exit 78. What the machine can't
/// give at the moment, such as room on a disk or a descriptor, is none of the configuration's faults.
pub(crate) fn is_the_users(error: &io::Error) -> bool {
    let Some(number) = error.raw_os_error() else {
        return true;
    };
    matches!(
        Errno::from_raw_os_error(number),
        Errno::NOENT
            | Errno::NOTDIR
            | Errno::ISDIR
            | Errno::EXIST
            | Errno::ACCESS
            | Errno::PERM
            | Errno::ROFS
            | Errno::LOOP
            | Errno::NAMETOOLONG
            | Errno::INVAL
            | Errno::OPNOTSUPP
    )
}

/// Whether the machine can't give something at the moment, and may a moment later.
pub(crate) fn may_pass(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|number| {
        matches!(
            Errno::from_raw_os_error(number),
            Errno::AGAIN
                | Errno::NOMEM
                | Errno::MFILE
                | Errno::NFILE
                | Errno::NOSPC
                | Errno::DQUOT
                | Errno::NOBUFS
                | Errno::INTR
                | Errno::IO
                | Errno::TIMEDOUT
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_machine_lacks_for_a_moment_is_not_the_users_fault() {
        use Errno as E;
        for number in [
            E::MFILE,
            E::NFILE,
            E::NOSPC,
            E::DQUOT,
            E::IO,
            E::INTR,
            E::NOMEM,
            E::AGAIN,
        ] {
            assert!(!is_the_users(&number.into()), "{number}");
            assert!(may_pass(&number.into()), "{number}");
        }
        assert!(is_the_users(&E::NOENT.into()));
        for number in [E::NOENT, E::NOSYS, E::ADDRINUSE] {
            assert!(!may_pass(&number.into()), "{number}");
        }
        assert!(is_the_users(&io::Error::other("two words")));
    }
}
