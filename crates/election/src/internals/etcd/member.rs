//! One member of the cluster and the connection to it.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use etcd_client::{Certificate, Channel, Client, ConnectOptions, Identity, TlsOptions};
use tokio::sync::watch;
use tonic::transport::Endpoint;
use tower::ServiceExt as _;
use tower::util::BoxCloneSyncService;

use super::address::{Address, Connector};
use super::departure::{Outflow, Way};
use super::secret::{self, Pair, PairFiles, Password};
use super::{AuthToken, Error, Seen, Settings, Tls, token};
use crate::clock::{self, Instant};
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
    /// The certificate and key that the configuration named before.
    before: Option<PairFiles>,
    client: Mutex<Option<Connected>>,
    /// Held while connecting: a login is dear to the store.
    connecting: tokio::sync::Mutex<()>,
    /// Whether the last client was made without a login though a user is configured.
    without_login: AtomicBool,
    /// What another process has logged in with, until it is tried.
    handed: Mutex<Option<AuthToken>>,
    /// Told what we have logged in with.
    token: watch::Sender<Option<AuthToken>>,
    /// Set once it has shown that it is no proxy.
    pub(super) shown: OnceLock<()>,
    /// How often its client was forgotten.
    disconnected: AtomicU64,
    /// When it answered last.
    heard: Mutex<Heard>,
}

/// When a member answered last, and over which of the connections to it.
#[derive(Clone, Copy, Debug, Default)]
struct Heard {
    connection: u64,
    at: Instant,
}

/// A client without the crate's missing `Debug`.
#[derive(Clone)]
struct Connected(Client);

impl std::fmt::Debug for Connected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connected")
    }
}

/// Where a user's password is.
#[derive(Clone, Copy)]
enum PasswordPlace<'a> {
    /// In a file, which may be replaced.
    File(&'a Path),
    /// Here.
    Here(&'a Password),
}

/// As whom to connect.
#[derive(Clone, Copy)]
enum Login<'a> {
    /// As nobody.
    None,
    /// As the user with this name and password.
    Password(&'a str, &'a str),
    /// As who has this token.
    Token(&'a AuthToken),
}

impl Member {
    pub(super) fn new(
        endpoint: String,
        settings: Settings,
        before: Option<PairFiles>,
        token: &watch::Sender<Option<AuthToken>>,
    ) -> Self {
        let address = endpoint.parse().ok();
        Self {
            endpoint,
            settings,
            address: address.map(|uri| Arc::new(Address::new(&uri))),
            before,
            client: Mutex::default(),
            without_login: AtomicBool::new(false),
            handed: Mutex::default(),
            token: token.clone(),
            shown: OnceLock::new(),
            disconnected: AtomicU64::new(0),
            heard: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
        }
    }

    /// The number of the connection that is used now.
    pub(super) fn connection(&self) -> u64 {
        self.disconnected.load(Ordering::Relaxed)
    }

    /// Takes note of an answer, of whatever kind.
    pub(super) fn hear(&self) {
        *self.lock_heard() = Heard {
            connection: self.connection(),
            at: clock::now(),
        };
    }

    /// When it answered last over this connection, if ever.
    pub(super) fn heard(&self, connection: u64) -> Option<Instant> {
        let heard = *self.lock_heard();
        (heard.connection == connection).then_some(heard.at)
    }

    fn lock_heard(&self) -> std::sync::MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
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
        // Seldom, and deep.
        Box::pin(self.new_client()).await
    }

    async fn new_client(&self) -> Result<Client, Error> {
        let _connecting = self.connecting.lock().await;
        if let Some(client) = self.connected() {
            return Ok(client);
        }
        self.without_login.store(false, Ordering::Relaxed);
        // Tried once: refused, it costs an attempt, and the next one logs in.
        let handed = self.handed().take();
        let client = match (handed, self.user()) {
            (Some(token), _) => self.connect(Login::Token(&token)).await?,
            (None, Some((name, place))) => self.log_in(name, place).await?,
            (None, None) => self.connect(Login::None).await?,
        };
        *self.lock() = Some(Connected(client.clone()));
        Ok(client)
    }

    /// Asks it whether it leads, which it answers without the others; returns the answer's header
    /// if it does.
    pub(super) async fn leads(&self) -> Result<Option<Seen>, Error> {
        let status = async |client: Client| client.maintenance_client().status().await;
        let answer = self.ask_of_itself(status).await?;
        let header = answer.header();
        let own = header.filter(|header| header.member_id() == answer.leader());
        Ok(own.map(Seen::from))
    }

    /// Asks what a member tells of itself: without logging in, where that will do, as a login is dear
    /// to the store. Later releases of etcd ask for one, with authentication on.
    pub(super) async fn ask_of_itself<T>(
        &self,
        ask: impl AsyncFn(Client) -> Result<T, etcd_client::Error>,
    ) -> Result<T, Error> {
        let connected = self.connected();
        let has_user = self.settings.username.is_some();
        let is_known = connected.is_some();
        let client = match connected {
            Some(client) => client,
            None if has_user => self.connect(Login::None).await?,
            None => self.client().await?,
        };
        let answer = ask(client).await.map_err(|error| self.classify(&error));
        match answer {
            Err(Error::Unauthenticated { .. }) if has_user => {
                // It was a login that the store has forgotten.
                if is_known {
                    self.disconnect();
                }
                let answer = ask(self.client().await?).await;
                answer.map_err(|error| self.classify(&error))
            }
            answer => answer,
        }
    }

    /// Spares the next client its login.
    pub(super) fn hand(&self, token: AuthToken) {
        *self.handed() = Some(token);
    }

    fn handed(&self) -> std::sync::MutexGuard<'_, Option<AuthToken>> {
        self.handed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connected(&self) -> Option<Client> {
        let connected = self.lock();
        connected.as_ref().map(|Connected(client)| client.clone())
    }

    /// Forgets the client, so that the next attempt connects anew. Open streams are not touched.
    pub(super) fn disconnect(&self) {
        self.disconnected.fetch_add(1, Ordering::Relaxed);
        *self.lock() = None;
        if let Some(address) = &self.address {
            address.go_on();
        }
    }

    /// The user, and where the password is.
    fn user(&self) -> Option<(&str, PasswordPlace<'_>)> {
        let Settings {
            username,
            password_file,
            password,
            ..
        } = &self.settings;
        let place = match (password, password_file) {
            (Some(password), _) => PasswordPlace::Here(password),
            (None, Some(file)) => PasswordPlace::File(file),
            (None, None) => return None,
        };
        Some((username.as_deref()?, place))
    }

    /// Connects as the user.
    async fn log_in(&self, name: &str, place: PasswordPlace<'_>) -> Result<Client, Error> {
        match place {
            PasswordPlace::File(file) => self.log_in_by_file(name, file).await,
            PasswordPlace::Here(password) => self.log_in_with(name, password.reveal()).await,
        }
    }

    /// Connects as the user with this password; without a login where authentication is off.
    async fn log_in_with(&self, name: &str, password: &str) -> Result<Client, Error> {
        match self.connect(Login::Password(name, password)).await {
            Err(Error::Unauthenticated { reason, .. }) if reason.contains(AUTH_IS_OFF) => {
                self.without_login.store(true, Ordering::Relaxed);
                self.connect(Login::None).await
            }
            // That a token or a password has been replaced is another matter: this one is new.
            Err(Error::Unauthenticated { endpoint, reason }) => {
                Err(Error::LoginRefused { endpoint, reason })
            }
            outcome => outcome,
        }
    }

    /// Connects as the user, with the password in the file, which may have been replaced; or with the
    /// one that worked last, as long as the store knows no other yet.
    async fn log_in_by_file(&self, name: &str, file: &Path) -> Result<Client, Error> {
        let last = secret::last_password(name, file);
        let (password, error) = match read(file).await {
            Ok(text) => {
                let password = text.trim_end_matches(['\r', '\n']).to_owned();
                match self.log_in_with(name, &password).await {
                    Ok(client) => {
                        if !self.without_login.load(Ordering::Relaxed) {
                            secret::keep_password(name, file, &password);
                        }
                        return Ok(client);
                    }
                    Err(error @ Error::LoginRefused { .. }) => (Some(password), error),
                    Err(error) => return Err(error),
                }
            }
            Err(error) => (None, error),
        };
        let Some(last) = last.filter(|last| Some(last) != password.as_ref()) else {
            return Err(error);
        };
        match self.connect(Login::Password(name, &last)).await {
            Ok(client) => {
                tracing::warn!(user = name, %error, "logged in with the last password");
                Ok(client)
            }
            Err(_) => Err(error),
        }
    }

    /// Connects with certificates that are read afresh each time, too; or with those that went
    /// together last, where one of them has been replaced and the other hasn't.
    async fn connect(&self, login: Login<'_>) -> Result<Client, Error> {
        let tls = &self.settings.tls;
        let Some(files) = tls.pair().filter(|_| self.endpoint.starts_with("https:")) else {
            return self.connect_with(login, None).await;
        };
        let error = match read_pair(&files).await {
            Ok(pair) => match self.connect_with(login, Some(&pair)).await {
                Err(error) if is_mismatch(&error) => error,
                Ok(client) => {
                    secret::keep_pair(files, pair);
                    return Ok(client);
                }
                Err(error) => return Err(error),
            },
            Err(error) => error,
        };
        let last = secret::last_pair(&files);
        let last = last.or_else(|| secret::last_pair(self.before.as_ref()?));
        let Some(last) = last else {
            return Err(error);
        };
        tracing::warn!(
            cert_file = %files.certificate.display(),
            key_file = %files.key.display(),
            %error,
            "going on with the last certificate and key"
        );
        self.connect_with(login, Some(&last)).await
    }

    async fn connect_with(&self, login: Login<'_>, pair: Option<&Pair>) -> Result<Client, Error> {
        let Settings {
            connect_timeout,
            tls,
            ..
        } = &self.settings;
        let mut options = ConnectOptions::new()
            .with_require_leader(true)
            .with_auto_token_refresh(true);
        if let Login::Password(name, password) = login {
            options = options.with_user(name, password);
        }
        let mut endpoint = Endpoint::from_shared(self.endpoint.clone())
            .map_err(|error| self.classify(&error.into()))?
            .connect_timeout(*connect_timeout)
            .http2_keep_alive_interval(PING_AFTER)
            .keep_alive_timeout(PING_LIMIT)
            .keep_alive_while_idle(false);
        if self.endpoint.starts_with("https:") {
            endpoint = endpoint
                .tls_config(tls_options(tls, pair).await?)
                .map_err(|error| self.classify(&error.into()))?;
        }
        let Some(address) = &self.address else {
            return Err(Error::Refused {
                endpoint: self.endpoint.clone(),
                reason: "not a URL".to_owned(),
            });
        };
        let outflow = Outflow::default();
        let connector = Connector {
            address: Arc::clone(address),
            outflow: outflow.clone(),
        };
        let way = Way::new(endpoint.connect_with_connector_lazy(connector), outflow);
        let channel = match login {
            Login::None => Channel::Custom(BoxCloneSyncService::new(way.map_err(Into::into))),
            Login::Password(..) => token::channel(way, &self.endpoint, None, &self.token),
            Login::Token(handed) => token::channel(way, &self.endpoint, Some(handed), &self.token),
        };
        let connected = Client::from_channel(channel, Some(options)).await;
        connected.map_err(|error| self.classify(&error))
    }

    fn explained(&self, mut error: Error) -> Error {
        let has_user = self.settings.username.is_some();
        let without_login = self.without_login.load(Ordering::Relaxed);
        error = match error {
            // Without a user there is nobody to log in as again.
            Error::Unauthenticated { endpoint, reason }
                if !has_user && reason.contains("user name is empty") =>
            {
                Error::Refused { endpoint, reason }
            }
            // Authentication was turned off since we logged in, or on since we didn't, in which case
            // the name in our certificate is taken for the user: connecting anew finds out.
            Error::Refused { endpoint, reason }
                if has_user
                    && (reason.contains(AUTH_IS_OFF)
                        || without_login && reason.contains("permission denied")) =>
            {
                Error::Unauthenticated { endpoint, reason }
            }
            error => error,
        };
        if let Error::Unreachable { reason, .. }
        | Error::Unauthenticated { reason, .. }
        | Error::Refused { reason, .. } = &mut error
        {
            super::reason::explain(reason, &self.endpoint, &self.settings, !without_login);
        }
        error
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Connected>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn tls_options(tls: &Tls, pair: Option<&Pair>) -> Result<TlsOptions, Error> {
    let mut options = TlsOptions::new();
    if let Some(file) = &tls.ca_file {
        options = options.ca_certificate(Certificate::from_pem(read(file).await?));
    }
    if let Some(pair) = pair {
        options = options.identity(Identity::from_pem(&pair.certificate, &pair.key));
    }
    if let Some(name) = &tls.server_name {
        options = options.domain_name(name);
    }
    Ok(options)
}

async fn read_pair(files: &PairFiles) -> Result<Pair, Error> {
    Ok(Pair {
        certificate: read(&files.certificate).await?,
        key: read(&files.key).await?,
    })
}

/// Whether certificate and key don't go together, which is found before anything is sent.
fn is_mismatch(error: &Error) -> bool {
    matches!(error, Error::Unreachable { reason, .. } if reason.contains(super::reason::MISMATCH))
}

/// What etcd says to a login while authentication is off.
const AUTH_IS_OFF: &str = "authentication is not enabled";

/// Reads a file of credentials on a thread of its own: a disk that hangs must not hold up the
/// renewals of the session (R14).
async fn read(file: &Path) -> Result<String, Error> {
    let path = file.to_owned();
    let text = STORE.outcome(move || secret::read(&path)).await;
    text.flatten()
        .map_err(|error| Error::Credentials(format!("{}: {error}", file.display())))
}
