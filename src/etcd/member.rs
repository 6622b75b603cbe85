//! One member of the cluster and the connection to it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};

use super::{Error, Settings, Tls};

/// A connection is pinged after this long without a frame from the member. etcd takes pings more
/// often than every 5 s for an attack and hangs up (measured; `grpc-keepalive-min-time`).
const PING_AFTER: Duration = Duration::from_secs(6);

/// How long the member has to answer a ping. Only a backstop: attempts have limits of their own.
const PING_LIMIT: Duration = Duration::from_secs(3);

/// A member, connected to when first asked.
#[derive(Debug)]
pub struct Member {
    /// Its URL, as configured.
    pub endpoint: String,
    settings: Settings,
    client: Mutex<Option<Connected>>,
}

/// A client without the crate's missing `Debug`.
#[derive(Clone)]
struct Connected(Client);

impl std::fmt::Debug for Connected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connected")
    }
}

impl Member {
    pub(super) fn new(endpoint: String, settings: Settings) -> Self {
        Self {
            endpoint,
            settings,
            client: Mutex::default(),
        }
    }

    /// The client of this member; makes one if there is none. With a user that includes a round
    /// trip, without one nothing is sent yet. The caller bounds it.
    pub(super) async fn client(&self) -> Result<Client, Error> {
        if let Some(Connected(client)) = &*self.lock() {
            return Ok(client.clone());
        }
        let options = self.options().await?;
        let client = Client::connect([&self.endpoint], Some(options))
            .await
            .map_err(|error| Error::classify(&self.endpoint, &error))?;
        *self.lock() = Some(Connected(client.clone()));
        Ok(client)
    }

    /// Forgets the client, so that the next attempt connects anew. Open streams are not touched.
    pub(super) fn disconnect(&self) {
        *self.lock() = None;
    }

    /// Reads the credentials afresh each time: they may have been rotated on disk.
    async fn options(&self) -> Result<ConnectOptions, Error> {
        let Settings {
            connect_timeout,
            username,
            password_file,
            tls,
            ..
        } = &self.settings;
        let mut options = ConnectOptions::new()
            .with_connect_timeout(*connect_timeout)
            .with_require_leader(true)
            .with_keep_alive(PING_AFTER, PING_LIMIT)
            .with_keep_alive_while_idle(false)
            .with_auto_token_refresh(true);
        if let (Some(name), Some(file)) = (username, password_file) {
            let password = read(file).await?;
            options = options.with_user(name, password.trim_end_matches(['\r', '\n']));
        }
        if self.endpoint.starts_with("https:") {
            options = options.with_tls(tls_options(tls).await?);
        }
        Ok(options)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Connected>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn tls_options(tls: &Tls) -> Result<TlsOptions, Error> {
    let mut options = TlsOptions::new();
    if let Some(file) = &tls.ca_file {
        options = options.ca_certificate(Certificate::from_pem(read(file).await?));
    }
    if let (Some(certificate), Some(key)) = (&tls.cert_file, &tls.key_file) {
        let identity = Identity::from_pem(read(certificate).await?, read(key).await?);
        options = options.identity(identity);
    }
    if let Some(name) = &tls.server_name {
        options = options.domain_name(name);
    }
    Ok(options)
}

/// Reads a file of credentials on a thread of its own: a disk that hangs must not hold up the
/// renewals of the session (R14).
async fn read(file: &std::path::Path) -> Result<String, Error> {
    let path = file.to_owned();
    let text = tokio::task::spawn_blocking(move || std::fs::read_to_string(path))
        .await
        .map_err(|error| Error::Credentials(error.to_string()))?;
    text.map_err(|error| Error::Credentials(format!("{}: {error}", file.display())))
}
