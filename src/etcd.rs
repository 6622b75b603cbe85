//! The store: one client per member, rotation, limits, errors.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How to reach the store.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// URLs of the members.
    pub endpoints: Vec<String>,
    /// Limit of connecting to one member.
    pub connect_timeout: Duration,
    /// User name, where the store asks for one.
    pub username: Option<String>,
    /// File with the user's password.
    pub password_file: Option<PathBuf>,
    /// TLS, where the endpoints are `https`.
    #[serde(default)]
    pub tls: Tls,
}

/// Files for TLS and mutual TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tls {
    /// Certificates of the authorities to trust.
    pub ca_file: Option<PathBuf>,
    /// Our certificate, for mutual TLS.
    pub cert_file: Option<PathBuf>,
    /// The key of our certificate.
    pub key_file: Option<PathBuf>,
    /// The name to expect in the members' certificates instead of the endpoint's host.
    pub server_name: Option<String>,
}
