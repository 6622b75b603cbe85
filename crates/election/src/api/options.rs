//! How to reach etcd.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::OptionsError;
use crate::etcd::secret;
use crate::etcd::wording::Wording;
use crate::etcd::{self, Settings};

/// How to reach etcd: the members, who we are, and how long to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientOptions {
    /// URLs of the members themselves, not of a `grpc-proxy` before them.
    pub endpoints: Vec<String>,
    /// The user, where etcd asks for one.
    pub user: Option<User>,
    /// TLS, where the endpoints are `https`.
    pub tls: Tls,
    /// Limit of connecting to one member; 2 s.
    pub connect_timeout: Duration,
    /// How long [`Client::get`](super::Client::get) and its like go on asking, member after member; 10 s.
    pub request_timeout: Duration,
}

impl Default for ClientOptions {
    /// One member on this machine: `http://127.0.0.1:2379`.
    fn default() -> Self {
        Self::new(["http://127.0.0.1:2379"])
    }
}

impl ClientOptions {
    /// Members that are reached without TLS and ask for no user.
    pub fn new(endpoints: impl IntoIterator<Item: Into<String>>) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            user: None,
            tls: Tls::default(),
            connect_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(10),
        }
    }

    /// The same, as this user.
    #[must_use]
    pub fn user(mut self, name: impl Into<String>, password: Password) -> Self {
        self.user = Some(User {
            name: name.into(),
            password,
        });
        self
    }

    /// The same, with these files for TLS.
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = tls;
        self
    }

    /// What the rooms behind take, checked.
    pub(super) fn settings(&self) -> Result<Settings, OptionsError> {
        if self.endpoints.is_empty() {
            return Err(OptionsError::NoEndpoint);
        }
        for endpoint in &self.endpoints {
            let has_scheme = ["http://", "https://"].iter().any(|it| {
                let host = endpoint.strip_prefix(it);
                host.is_some_and(|host| !host.is_empty() && !host.contains(char::is_whitespace))
            });
            if !has_scheme {
                return Err(OptionsError::Endpoint(endpoint.clone()));
            }
        }
        let Tls {
            ca_file,
            cert_file,
            key_file,
            server_name,
        } = self.tls.clone();
        match (&cert_file, &key_file) {
            (Some(_), None) => {
                return Err(OptionsError::TlsPair {
                    missing: "key_file",
                });
            }
            (None, Some(_)) => {
                return Err(OptionsError::TlsPair {
                    missing: "cert_file",
                });
            }
            _ => {}
        }
        for (name, limit) in [
            ("connect_timeout", self.connect_timeout),
            ("request_timeout", self.request_timeout),
        ] {
            if limit.is_zero() {
                return Err(OptionsError::Zero(name));
            }
        }
        let mut settings = Settings::new(self.endpoints.iter());
        settings.connect_timeout = self.connect_timeout;
        settings.wording = Wording::Options;
        settings.tls = etcd::Tls {
            ca_file,
            cert_file,
            key_file,
            server_name,
        };
        if let Some(user) = &self.user {
            settings.username = Some(user.name.clone());
            match &user.password {
                Password::File(file) => settings.password_file = Some(file.clone()),
                Password::Text(text) => settings.password = Some(secret::Password::new(text)),
            }
        }
        Ok(settings)
    }
}

/// A user of etcd's own. There is none without a password.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct User {
    /// The name.
    pub name: String,
    /// The password.
    pub password: Password,
}

/// Where a password comes from. Its `Debug` output doesn't show one, and neither does any error or log
/// line.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Password {
    /// A file, read at each login: it may be replaced. Line breaks at its end are no part of the
    /// password. From the first reading on this process writes no core dump, and others of its user
    /// can't look into its memory.
    File(PathBuf),
    /// The password itself. Another one takes another [`Client`](super::Client).
    Text(String),
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => f.debug_tuple("File").field(file).finish(),
            Self::Text(_) => f.write_str("Text(..)"),
        }
    }
}

/// Files for TLS and mutual TLS, read at each connection: they may be replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tls {
    /// Certificates of the authorities to trust.
    pub ca_file: Option<PathBuf>,
    /// Our certificate, for mutual TLS; goes with [`key_file`](Self::key_file).
    pub cert_file: Option<PathBuf>,
    /// The key of our certificate.
    pub key_file: Option<PathBuf>,
    /// The name to expect in the members' certificates instead of the endpoint's host.
    pub server_name: Option<String>,
}

impl Tls {
    /// Trusts the authorities in this file.
    pub fn trusting(ca_file: impl Into<PathBuf>) -> Self {
        Self {
            ca_file: Some(ca_file.into()),
            ..Self::default()
        }
    }

    /// The same, with a certificate of our own.
    #[must_use]
    pub fn identity(mut self, cert_file: impl Into<PathBuf>, key_file: impl Into<PathBuf>) -> Self {
        self.cert_file = Some(cert_file.into());
        self.key_file = Some(key_file.into());
        self
    }
}
