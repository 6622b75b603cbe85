//! One member of the cluster and the connection to it.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use etcd_client::{Certificate, Channel, Client, ConnectOptions, Identity, TlsOptions};
use tonic::transport::Endpoint;

use super::address::{Address, Connector};
use super::{Error, Seen, Settings, Tls, secret};
use crate::worker::STORE;

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
    /// Where it is; `None` if the endpoint is no URL.
    address: Option<Arc<Address>>,
    client: Mutex<Option<Connected>>,
    /// Held while connecting: a login is dear to the store.
    connecting: tokio::sync::Mutex<()>,
    /// Set once it has shown that it is no proxy.
    pub(super) shown: OnceLock<()>,
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
        let address = endpoint.parse().ok();
        Self {
            endpoint,
            settings,
            address: address.map(|uri| Arc::new(Address::new(&uri))),
            client: Mutex::default(),
            shown: OnceLock::new(),
            connecting: tokio::sync::Mutex::default(),
        }
    }

    /// Sorts what the client crate says, and explains it in the words of the configuration.
    pub(super) fn classify(&self, cause: &etcd_client::Error) -> Error {
        self.explained(Error::classify(&self.endpoint, cause))
    }

    /// The error of a watch that was cancelled for this reason.
    pub(super) fn cancelled(&self, reason: &str) -> Error {
        self.explained(Error::from_cancellation(&self.endpoint, reason))
    }

    /// The client of this member; makes one if there is none. With a user that includes a round
    /// trip, without one nothing is sent yet. The caller bounds it.
    ///
    /// As etcd's own client does, it goes on without a user where authentication is off: so users
    /// can be configured before it is turned on.
    pub(super) async fn client(&self) -> Result<Client, Error> {
        if let Some(client) = self.connected() {
            return Ok(client);
        }
        let _connecting = self.connecting.lock().await;
        if let Some(client) = self.connected() {
            return Ok(client);
        }
        let user = self.user().await?;
        let client = match self.connect(user.as_ref()).await {
            Err(Error::Refused { reason, .. }) if reason.contains(AUTH_IS_OFF) => {
                self.connect(None).await?
            }
            // That a token or a password has been replaced is another matter: this one was read
            // from the file just now.
            Err(Error::Unauthenticated { endpoint, reason }) => {
                return Err(Error::LoginRefused { endpoint, reason });
            }
            connected => connected?,
        };
        *self.lock() = Some(Connected(client.clone()));
        Ok(client)
    }

    /// Asks it whether it leads, which it answers without the others; returns the answer's header
    /// if it does.
    ///
    /// Without logging in: that is dear to the store, and this is asked of anybody.
    pub(super) async fn leads(&self) -> Result<Option<Seen>, Error> {
        let client = match self.connected() {
            None if self.settings.username.is_some() => self.connect(None).await?,
            _ => self.client().await?,
        };
        let answer = client.maintenance_client().status().await;
        let answer = answer.map_err(|error| self.classify(&error))?;
        let header = answer.header();
        let own = header.filter(|header| header.member_id() == answer.leader());
        Ok(own.map(Seen::from))
    }

    fn connected(&self) -> Option<Client> {
        let connected = self.lock();
        connected.as_ref().map(|Connected(client)| client.clone())
    }

    /// Forgets the client, so that the next attempt connects anew. Open streams are not touched.
    pub(super) fn disconnect(&self) {
        *self.lock() = None;
        if let Some(address) = &self.address {
            address.go_on();
        }
    }

    /// The user and the password, read afresh each time: they may have been rotated on disk.
    async fn user(&self) -> Result<Option<(&str, String)>, Error> {
        let (Some(name), Some(file)) = (&self.settings.username, &self.settings.password_file)
        else {
            return Ok(None);
        };
        let password = read(file).await?;
        let password = password.trim_end_matches(['\r', '\n']);
        Ok(Some((name, password.to_owned())))
    }

    /// Connects with certificates that are read afresh each time, too.
    async fn connect(&self, user: Option<&(&str, String)>) -> Result<Client, Error> {
        let Settings {
            connect_timeout,
            tls,
            ..
        } = &self.settings;
        let mut options = ConnectOptions::new()
            .with_require_leader(true)
            .with_auto_token_refresh(true);
        if let Some((name, password)) = user {
            options = options.with_user(*name, password);
        }
        let mut endpoint = Endpoint::from_shared(self.endpoint.clone())
            .map_err(|error| self.classify(&error.into()))?
            .connect_timeout(*connect_timeout)
            .http2_keep_alive_interval(PING_AFTER)
            .keep_alive_timeout(PING_LIMIT)
            .keep_alive_while_idle(false);
        if self.endpoint.starts_with("https:") {
            endpoint = endpoint
                .tls_config(tls_options(tls).await?)
                .map_err(|error| self.classify(&error.into()))?;
        }
        let Some(address) = &self.address else {
            return Err(Error::Refused {
                endpoint: self.endpoint.clone(),
                reason: "not a URL".to_owned(),
            });
        };
        let channel = endpoint.connect_with_connector_lazy(Connector(Arc::clone(address)));
        let connected = Client::from_channel(Channel::Tonic(channel), Some(options)).await;
        connected.map_err(|error| self.classify(&error))
    }

    fn explained(&self, mut error: Error) -> Error {
        // Without a user there is nobody to log in as again.
        if let Error::Unauthenticated { endpoint, reason } = &error
            && self.settings.username.is_none()
            && reason.contains("user name is empty")
        {
            let (endpoint, reason) = (endpoint.clone(), reason.clone());
            error = Error::Refused { endpoint, reason };
        }
        if let Error::Unreachable { reason, .. }
        | Error::Unauthenticated { reason, .. }
        | Error::Refused { reason, .. } = &mut error
        {
            super::reason::explain(reason, &self.endpoint, &self.settings);
        }
        error
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

/// What etcd says to a login while authentication is off.
const AUTH_IS_OFF: &str = "authentication is not enabled";

/// Reads a file of credentials on a thread of its own: a disk that hangs must not hold up the
/// renewals of the session (R14).
async fn read(file: &std::path::Path) -> Result<String, Error> {
    let path = file.to_owned();
    let text = STORE.outcome(move || secret::read(&path)).await;
    text.flatten()
        .map_err(|error| Error::Credentials(format!("{}: {error}", file.display())))
}
