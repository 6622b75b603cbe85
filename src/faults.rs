//! Whose fault an error is.

use std::io::{self, ErrorKind};

use rustix::io::Errno;

/// Whether the user has to mend it before another try can do better: exit 78. What the machine can't
/// give at the moment, such as room on a disk or a descriptor, is none of the configuration's faults.
pub fn is_the_users(error: &io::Error) -> bool {
    let Some(number) = error.raw_os_error() else {
        // Another process was too slow, or ended: it may have found none of these things either.
        return !matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::UnexpectedEof);
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
        }
        assert!(is_the_users(&E::NOENT.into()));
        assert!(is_the_users(&io::Error::other("two words")));
        assert!(!is_the_users(&ErrorKind::TimedOut.into()));
    }
}
