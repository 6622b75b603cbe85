//! Whom etcd takes us for by our certificate.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::secret;

/// The common name in the first certificate of a file, which etcd takes for the user where nobody logs
/// in; `None` if the file can't be read or names nobody.
pub fn common_name(file: &Path) -> Option<String> {
    let text = secret::read(file).ok()?;
    of_subject(&first(&text)?)
}

/// The first certificate in a PEM file.
fn first(text: &str) -> Option<Vec<u8>> {
    let (_, begun) = text.split_once("-----BEGIN CERTIFICATE-----")?;
    let (body, _) = begun.split_once("-----END CERTIFICATE-----")?;
    let body: String = body.split_whitespace().collect();
    STANDARD.decode(body).ok()
}

/// A certificate is a sequence of what is signed and a signature; the subject stands in the first
/// after version, serial number, algorithm, issuer and validity.
fn of_subject(certificate: &[u8]) -> Option<String> {
    let (mut signed, _) =
        element(certificate, SEQUENCE).and_then(|(outer, _)| element(outer, SEQUENCE))?;
    if let Some((_, rest)) = element(signed, VERSION) {
        signed = rest;
    }
    for tag in [INTEGER, SEQUENCE, SEQUENCE, SEQUENCE] {
        (_, signed) = element(signed, tag)?;
    }
    let (mut subject, _) = element(signed, SEQUENCE)?;
    let mut name = None;
    while let Some((mut set, rest)) = element(subject, SET) {
        while let Some((attribute, more)) = element(set, SEQUENCE) {
            let (kind, value) = element(attribute, OBJECT_ID)?;
            if kind == COMMON_NAME {
                let (text, _) = content(value)?;
                // The last one counts.
                name = std::str::from_utf8(text).ok();
            }
            set = more;
        }
        subject = rest;
    }
    name.filter(|name| !name.is_empty()).map(str::to_owned)
}

const INTEGER: u8 = 0x02;
const OBJECT_ID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;

/// 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// What is in the first element of `der`, if it has this tag, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    content(der).filter(|_| der.first() == Some(&tag))
}

/// What is in the first element, and what follows it.
fn content(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&first, mut rest) = der.get(1..)?.split_first()?;
    let length = if first < 0x80 {
        usize::from(first)
    } else {
        let (digits, more) = rest.split_at_checked(usize::from(first & 0x7f))?;
        if digits.len() > 4 {
            return None;
        }
        rest = more;
        let digit = |length, digit: &u8| (length << 8) | usize::from(*digit);
        digits.iter().fold(0, digit)
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use rcgen::{CertificateParams, CertifiedIssuer, DnType, KeyPair};

    use super::*;

    fn certificate(names: &[&str]) -> String {
        let mut authority = CertificateParams::default();
        let subject = &mut authority.distinguished_name;
        subject.push(DnType::CommonName, "the authority");
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::self_signed(authority, key).unwrap();
        let mut params = CertificateParams::new(vec!["host.test".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, "x");
        for name in names {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        let key = KeyPair::generate().unwrap();
        params.signed_by(&key, &issuer).unwrap().pem()
    }

    fn name_in(text: &str) -> Option<String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        common_name(file.path())
    }

    #[test]
    fn the_name_is_the_subjects_and_not_the_authoritys() {
        let long = "n".repeat(300);
        for name in ["backup", "back up", long.as_str()] {
            assert_eq!(name_in(&certificate(&[name])).as_deref(), Some(name));
        }
        assert_eq!(name_in(&certificate(&[])), None);
    }

    #[test]
    fn what_is_no_certificate_names_nobody() {
        assert_eq!(name_in("not a certificate"), None);
        let whole = certificate(&["backup"]);
        let der = first(&whole).unwrap();
        for end in 0..der.len() {
            // No length leads out of what is there.
            _ = of_subject(&der[..end]);
        }
    }
}
