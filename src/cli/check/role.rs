//! `--print-role`: the least that a candidate must be allowed, as lines of `etcdctl`.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::config::Config;
use crate::etcd::certificate::common_name;

/// The user's name where neither the configuration nor the certificate has one.
const USER: &str = "incumbent";

/// Lines that make a role for this election and a user who has it.
///
/// Two ranges, each with the slash at its end: the prefix alone would let the user into the elections
/// beside this one whose names begin alike.
pub(super) fn lines(config: &Config) -> String {
    let prefix = config.election.prefix.as_str();
    let role = quoted(&format!("election:{prefix}"));
    let (queue, records) = (format!("{prefix}/"), format!("{prefix}.meta/"));
    let (queue, records) = (quoted(&queue), quoted(&records));
    let etcd = &config.etcd;
    let by_certificate = || common_name(etcd.tls.cert_file.as_ref()?);
    let user = etcd.username.clone().or_else(by_certificate);
    let user = quoted(user.as_deref().unwrap_or(USER));
    let add_user = match (&etcd.password_file, &etcd.tls.cert_file) {
        // Not on the command line, where everybody on this host could read it.
        (Some(file), _) => {
            let file = quoted_path(file);
            format!("etcdctl user add {user} --interactive=false < {file}")
        }
        (None, Some(file)) => {
            let said = match common_name(file) {
                Some(_) => "",
                None => ", which names nobody or can't be read: put the name",
            };
            format!(
                "# Without etcd.username the user is the common name in etcd.tls.cert_file{said}: \
                 {user} here.\n\
                 etcdctl user add {user} --no-password"
            )
        }
        (None, None) => format!(
            "# Asks for the password, which belongs into the file that etcd.password_file names.\n\
             etcdctl user add {user}"
        ),
    };
    format!(
        "# May touch the keys of election {prefix}, and no others.\n\
         etcdctl role add {role}\n\
         etcdctl role grant-permission {role} readwrite --prefix=true {queue}\n\
         etcdctl role grant-permission {role} readwrite --prefix=true {records}\n\
         {add_user}\n\
         etcdctl user grant-role {user} {role}\n"
    )
}

/// As a shell takes it for one word.
fn quoted(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-:".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The same of a path, which may be no text.
fn quoted_path(path: &Path) -> String {
    if let Some(text) = path.to_str() {
        return quoted(text);
    }
    let mut word = String::new();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'\'' | b'\\' => word.extend(['\\', char::from(*byte)]),
            b' '..=b'~' => word.push(char::from(*byte)),
            other => word.extend(format!(r"\x{other:02x}").chars()),
        }
    }
    format!("$'{word}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shell_would_take_apart_is_quoted() {
        let bytes = std::ffi::OsStr::from_bytes(b"/it's\xff a\n");
        assert_eq!(quoted_path(Path::new(bytes)), r"$'/it\'s\xff a\x0a'");
        assert_eq!(quoted("/a/b.c-d:1_2"), "/a/b.c-d:1_2");
        assert_eq!(quoted("it's here"), r"'it'\''s here'");
        assert_eq!(quoted("$(reboot)"), "'$(reboot)'");
    }
}
