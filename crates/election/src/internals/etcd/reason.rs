//! What lies behind an error of TLS, a login or a permission, in words for whoever made the settings.

use super::Settings;
use super::wording::Wording;

const CA_FILE: &str = "etcd.tls.ca_file";
const CERT_FILE: &str = "etcd.tls.cert_file";
const KEY_FILE: &str = "etcd.tls.key_file";

/// What rustls and etcd say, and how to put it; the first that fits counts. `{…}` is filled in.
const MEMBERS_CERTIFICATE: [(&str, &str); 6] = [
    (
        "UnknownIssuer",
        "the member's certificate is of no authority in {ca_file}, {ca}",
    ),
    // One of the same name has signed it.
    (
        "BadSignature",
        "the member's certificate is of no authority in {ca_file}, {ca}",
    ),
    (
        "certificate expired",
        "the member's certificate has expired",
    ),
    (
        "certificate not valid yet",
        "the member's certificate is not valid yet",
    ),
    (
        "certificate not valid for name",
        "the member's certificate is not for the name that is expected, {name}",
    ),
    (
        "invalid peer certificate",
        "the member's certificate is not good",
    ),
];

/// What a member says that was not content with our certificate, or missed it.
const OUR_CERTIFICATE: [(&str, &str); 4] = [
    ("CertificateRequired", "the member asks for a certificate"),
    (
        "CertificateExpired",
        // A member in Go says the same of one that is not good yet.
        "by the member's clock our certificate has expired, or is not valid yet",
    ),
    (
        "UnknownCA",
        "the member does not know the authority of our certificate",
    ),
    ("BadCertificate", "the member does not take our certificate"),
];

/// What is left of that where the connection was closed before its reason was read.
const CLOSED: [&str; 5] = [
    "broken pipe",
    "connection reset",
    "connection closed",
    "unexpected end of file",
    "peer closed connection",
];

/// What rustls says of a certificate and another one's key.
pub(super) const MISMATCH: &str = "KeyMismatch";

/// Puts an explanation before `reason`, where there is one; `logged_in` if what was asked was asked as
/// the configured user.
pub(super) fn explain(reason: &mut String, endpoint: &str, settings: &Settings, logged_in: bool) {
    let explanation = if let Some(explanation) = of_login(reason, settings, logged_in) {
        explanation
    } else if let Some(explanation) = of_tls(reason, endpoint, settings) {
        explanation
    } else {
        return;
    };
    *reason = format!("{explanation} ({reason})");
}

fn of_login(reason: &str, settings: &Settings, logged_in: bool) -> Option<String> {
    let user = settings.username.as_deref();
    let said = |words: &str| reason.contains(words);
    if said("authentication failed") {
        let user = user?;
        Some(match &settings.password_file {
            Some(file) => format!("no user {user:?} with the password in {}", file.display()),
            None if settings.password.is_some() => format!("no user {user:?} with this password"),
            None => return None,
        })
    } else if said("user name is empty") {
        Some(match user {
            Some(user) => format!("not logged in as {user:?} yet"),
            None => match settings.wording {
                Wording::Configuration => {
                    "the store asks for a user: etcd.username, etcd.password_file".to_owned()
                }
                Wording::Options => "etcd asks for a user, and the options name none".to_owned(),
            },
        })
    } else if said("permission denied") {
        let whose = match (user, &settings.tls.cert_file) {
            (Some(user), _) if logged_in => format!("user {user:?} lacks a permission"),
            // The store has looked at the certificate instead.
            (Some(user), _) => return Some(format!("not logged in as {user:?} yet")),
            (None, Some(file)) => format!(
                "the user of the common name in {}, {}, lacks a permission",
                settings.wording.of(CERT_FILE),
                file.display()
            ),
            (None, None) => "our user lacks a permission".to_owned(),
        };
        Some(match settings.wording {
            Wording::Configuration => {
                format!("{whose}; \"incumbent check --print-role\" prints what an election needs")
            }
            Wording::Options => whose,
        })
    } else {
        None
    }
}

fn of_tls(reason: &str, endpoint: &str, settings: &Settings) -> Option<String> {
    let rest = endpoint.strip_prefix("https://")?;
    let tls = &settings.tls;
    if let Some((_, words)) = MEMBERS_CERTIFICATE
        .iter()
        .find(|(said, _)| reason.contains(said))
    {
        let ca = tls.ca_file.as_ref().map(|file| file.display().to_string());
        let name = tls.server_name.as_deref().unwrap_or(rest);
        return Some(
            words
                .replace("{ca_file}", settings.wording.of(CA_FILE))
                .replace("{ca}", &ca.unwrap_or_default())
                .replace("{name}", name),
        );
    }
    let [cert_file, key_file] = [CERT_FILE, KEY_FILE].map(|key| settings.wording.of(key));
    let ours = match (&tls.cert_file, &tls.key_file) {
        (Some(certificate), _) => format!("{cert_file} is {}", certificate.display()),
        _ => format!("{cert_file}, {key_file} are not set"),
    };
    if let Some((_, words)) = OUR_CERTIFICATE
        .iter()
        .find(|(said, _)| reason.contains(said))
    {
        return Some(format!("{words}; {ours}"));
    }
    if reason.contains(MISMATCH) {
        let shown = |file: &Option<std::path::PathBuf>| {
            file.as_ref().map(|file| file.display().to_string())
        };
        return Some(format!(
            "{cert_file}, {}, and {key_file}, {}, do not belong together",
            shown(&tls.cert_file)?,
            shown(&tls.key_file)?
        ));
    }
    if reason.contains("InvalidContentType") {
        return Some("the member speaks no TLS: http instead of https?".to_owned());
    }
    let closed = CLOSED.iter().any(|said| reason.contains(said));
    let or = match tls.cert_file {
        Some(_) => ", or is its clock wrong",
        None => "",
    };
    closed.then(|| format!("closed by the member; does it ask for another certificate{or}? {ours}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(reason: &str, change: impl Fn(&mut Settings)) -> String {
        let mut settings = Settings::new(["https://a:1"]);
        settings.tls.ca_file = Some("/ca.pem".into());
        change(&mut settings);
        let mut reason = reason.to_owned();
        explain(&mut reason, "https://a:1", &settings, true);
        reason
    }

    #[test]
    fn a_permission_is_that_of_whom_the_store_took_us_for() {
        let denied = "etcdserver: permission denied";
        let by_certificate = explained(denied, |settings| {
            settings.tls.cert_file = Some("/client.pem".into());
        });
        assert!(by_certificate.contains("common name in etcd.tls.cert_file, /client.pem, lacks"));
        let with_user = |settings: &mut Settings| {
            settings.tls.cert_file = Some("/client.pem".into());
            settings.username = Some("backup".to_owned());
        };
        assert!(explained(denied, with_user).contains("user \"backup\" lacks a permission"));
        let mut settings = Settings::new(["https://a:1"]);
        with_user(&mut settings);
        let mut reason = denied.to_owned();
        explain(&mut reason, "https://a:1", &settings, false);
        assert!(
            reason.starts_with("not logged in as \"backup\" yet ("),
            "{reason}"
        );
    }

    #[test]
    fn the_reason_stays_behind_its_explanation() {
        let unknown = explained("tls: invalid peer certificate: UnknownIssuer", |_| {});
        let expected = "the member's certificate is of no authority in etcd.tls.ca_file, /ca.pem \
                        (tls: invalid peer certificate: UnknownIssuer)";
        assert_eq!(unknown, expected);
    }

    #[test]
    fn the_name_is_the_configured_one_or_the_hosts() {
        let reason = "invalid peer certificate: certificate not valid for name \"x\"";
        assert!(explained(reason, |_| {}).contains("expected, a:1 ("));
        let named = explained(reason, |settings| {
            settings.tls.server_name = Some("etcd".into());
        });
        assert!(named.contains("expected, etcd ("));
    }

    #[test]
    fn a_member_that_closes_without_a_word_may_miss_a_certificate() {
        // Of TLS 1.3: the member looks at our certificate when we are connected already.
        let closed = "peer closed connection without sending TLS close_notify";
        assert!(
            explained(closed, |_| {}).contains(
                "another certificate? etcd.tls.cert_file, etcd.tls.key_file are not set ("
            )
        );
        // Or find ours expired.
        let with_ours = explained(closed, |settings| {
            settings.tls.cert_file = Some("/client.pem".into());
        });
        assert!(with_ours.contains("or is its clock wrong? etcd.tls.cert_file is /client.pem ("));
    }

    #[test]
    fn who_has_no_configuration_is_told_in_words_of_the_options() {
        let said = [
            "invalid peer certificate: UnknownIssuer",
            "CertificateRequired",
            "broken pipe",
            "KeyMismatch",
            "etcdserver: user name is empty",
            "etcdserver: permission denied",
        ];
        for reason in said {
            for has_pair in [false, true] {
                let told = explained(reason, |settings| {
                    settings.wording = Wording::Options;
                    if has_pair {
                        settings.tls.cert_file = Some("/etcd.crt".into());
                        settings.tls.key_file = Some("/etcd.key".into());
                    }
                });
                let told = told.replace("/etcd.crt", "").replace("/etcd.key", "");
                for foreign in ["etcd.", "incumbent check"] {
                    assert!(!told.contains(foreign), "{told}");
                }
            }
        }
        let named = explained("broken pipe", |settings| {
            settings.wording = Wording::Options;
            settings.tls.cert_file = Some("/etcd.crt".into());
        });
        assert!(named.contains("tls.cert_file is /etcd.crt ("), "{named}");
    }

    #[test]
    fn what_needs_no_explanation_stays_as_it_is() {
        assert_eq!(
            explained("connection refused", |_| {}),
            "connection refused"
        );
    }
}
