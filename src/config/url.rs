//! URLs of the store's members, and how to show a wrong one without a password in it.

use super::address;
use super::place::quoted;

/// The URL of a member, without a slash at its end.
///
/// # Errors
/// What was expected and what was found, without user names, passwords or parameters.
pub(super) fn endpoint(text: &str) -> Result<String, String> {
    if text.contains('@') {
        return Err(format!(
            "expected a URL without a user name and password, which belong into etcd.username and \
             etcd.password_file, found {}",
            quoted(&without_secrets(text))
        ));
    }
    let url = text.strip_suffix('/').unwrap_or(text);
    if is_endpoint(url) {
        Ok(url.to_owned())
    } else {
        Err(expected(&quoted(&without_secrets(text))))
    }
}

/// The words for something that is no URL of a member.
pub(super) fn expected(found: &str) -> String {
    format!(r#"expected a URL such as "http://host:2379", found {found}"#)
}

/// Whether the text is `http://host:port` or `https://host:port`.
fn is_endpoint(url: &str) -> bool {
    let rest = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"));
    let Some((host, port)) = rest.and_then(|rest| rest.rsplit_once(':')) else {
        return false;
    };
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    digits && port.parse::<u16>().is_ok_and(|port| port != 0) && is_host(host)
}

/// Whether the text is a host name, an IPv4 address, or an IPv6 address in brackets.
pub(super) fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[') {
        let address = address.strip_suffix(']').unwrap_or_default();
        let (address, zone) = address.split_once('%').unwrap_or((address, "lo"));
        return address.parse::<std::net::Ipv6Addr>().is_ok() && address::is_zone(zone);
    }
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !host.is_empty() && host.bytes().all(letters)
}

/// The text with `…` for everything that may be a secret: what stands before an `@`, a port that
/// is no number, and what follows a `?` or `#`.
pub(super) fn without_secrets(text: &str) -> String {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('@') => (format!("{scheme}://"), rest),
        _ => (String::new(), text),
    };
    let (user, rest) = match rest.rsplit_once('@') {
        Some((_, rest)) => ("…@", rest),
        None => ("", rest),
    };
    let (rest, parameters) = match rest.find(['?', '#']) {
        Some(at) => (&rest[..at], "…"),
        None => (rest, ""),
    };
    let rest = match rest.rsplit_once(':') {
        Some((host, port)) if !looks_like_a_port(port) => format!("{host}:…"),
        _ => rest.to_owned(),
    };
    format!("{scheme}{user}{rest}{parameters}")
}

/// Whether the text after a colon is a port, a path after it included, or the end of an address.
fn looks_like_a_port(text: &str) -> bool {
    let port = text.split('/').next().unwrap_or_default();
    let digits = port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit());
    digits || port.ends_with(']')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_named_by_scheme_host_and_port() {
        for url in [
            "http://127.0.0.1:2379",
            "https://etcd-1.example.com:2379",
            "http://[::1]:2379",
            "http://[fe80::1%eth0]:2379",
            "http://etcd_1:1",
        ] {
            assert_eq!(endpoint(url), Ok(url.to_owned()));
        }
        assert_eq!(endpoint("http://a:2379/"), Ok("http://a:2379".to_owned()));
    }

    #[test]
    fn anything_else_is_shown_as_found() {
        for (url, found) in [
            ("10.0.0.7", r#""10.0.0.7""#),
            ("", r#""""#),
            ("http://", r#""http://""#),
            ("http://a", r#""http://a""#),
            ("http://a:0", r#""http://a:0""#),
            ("http://a:65536", r#""http://a:65536""#),
            ("http://a:+1", r#""http://a:…""#),
            ("http://a:2379/v3", r#""http://a:2379/v3""#),
            ("http://::1:2379", r#""http://::1:2379""#),
            ("http://[::1:2379", r#""http://[::1:2379""#),
            ("http://[::1]", r#""http://[::1]""#),
            ("ftp://a:1", r#""ftp://a:1""#),
            ("http://a b:1", r#""http://a b:1""#),
            (" http://a:1", r#"" http://a:1""#),
            ("http://a\n:1", r#""http://a\n:1""#),
        ] {
            let expected = format!(r#"expected a URL such as "http://host:2379", found {found}"#);
            assert_eq!(endpoint(url), Err(expected), "{url}");
        }
    }

    #[test]
    fn no_error_shows_a_password() {
        for url in [
            "http://user:hunter2@host:2379",
            "user:hunter2@host:2379",
            "http://user:a/hunter2@host:2379",
            "http://user:a@hunter2@host:2379",
            "http://user:a://hunter2@host:2379",
            "user:a://hunter2@host:2379",
            "http://user:hunter2",
            "http://host:2379?password=hunter2",
            "http://host:2379/#hunter2",
            "hunter2@",
        ] {
            let error = endpoint(url).expect_err("refused");
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert_eq!(
            without_secrets("http://user:hunter2@host:2379"),
            "http://…@host:2379"
        );
    }
}
