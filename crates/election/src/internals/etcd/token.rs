//! The token of a login, which opens the store to whoever has it.
//!
//! etcd works longer on a login than on all the rest of a hand-over, some 80 ms. So a process that
//! has logged in can hand its token on to one that must be quick.

use std::fmt;
use std::time::Duration;

use etcd_client::{Channel, GetOptions};
use hyper::Request;
use hyper::header::HeaderValue;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tonic::body::Body;
use tower::util::{BoxCloneSyncService, ServiceExt as _};

use super::Store;
use super::departure::Way;
use crate::clock;

/// The header of a request that holds it.
const HEADER: &str = "token";

/// etcd forgets a token that a member wasn't shown for five minutes.
const SHOWN_EVERY: Duration = Duration::from_mins(1);

/// A token, and the member that it was shown last.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthToken {
    pub(super) endpoint: String,
    text: String,
}

/// Shows nothing: a secret in a log is no secret.
impl fmt::Debug for AuthToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthToken")
    }
}

impl AuthToken {
    #[cfg(any(test, feature = "daemon"))]
    pub fn new(endpoint: &str, text: &str) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            text: text.to_owned(),
        }
    }

    /// As a header that nobody logs.
    fn header(&self) -> Option<HeaderValue> {
        let mut header = HeaderValue::from_str(&self.text).ok()?;
        header.set_sensitive(true);
        Some(header)
    }
}

/// The way to the member at `endpoint` that shows it the token `handed` on to us, or tells which one
/// the client shows it that has logged in.
pub(super) fn channel(
    inner: Way<tonic::transport::Channel>,
    endpoint: &str,
    handed: Option<&AuthToken>,
    told: &watch::Sender<Option<AuthToken>>,
) -> Channel {
    let handed = handed.and_then(AuthToken::header);
    let (endpoint, told) = (endpoint.to_owned(), told.clone());
    let service = tower::service_fn(move |mut request: Request<Body>| {
        let headers = request.headers_mut();
        if let Some(handed) = &handed {
            headers.insert(HEADER, handed.clone());
        } else if let Some(shown) = headers.get_mut(HEADER) {
            shown.set_sensitive(true);
            tell(&told, &endpoint, shown);
        }
        let answer = inner.clone().oneshot(request);
        async move { answer.await.map_err(Into::into) }
    });
    Channel::Custom(BoxCloneSyncService::new(service))
}

fn tell(told: &watch::Sender<Option<AuthToken>>, endpoint: &str, shown: &HeaderValue) {
    told.send_if_modified(|known| {
        let is_known = known.as_ref().is_some_and(|known| {
            known.endpoint == endpoint && known.text.as_bytes() == shown.as_bytes()
        });
        if let Ok(text) = shown.to_str()
            && !is_known
        {
            *known = Some(AuthToken {
                endpoint: endpoint.to_owned(),
                text: text.to_owned(),
            });
            return true;
        }
        false
    });
}

impl Store {
    /// The token that was shown last, and to whom, as it changes.
    pub fn token(&self) -> watch::Receiver<Option<AuthToken>> {
        self.shared.token.subscribe()
    }

    /// Begins with the member that another process has shown this token, and logs in only if it is
    /// refused.
    pub fn begin_with(&self, token: AuthToken) {
        let mut members = self.members();
        let mut all = members.all.iter();
        if let Some(place) = all.position(|member| member.endpoint == token.endpoint) {
            members.all[place].hand(token);
            members.current = place;
        }
    }

    /// Shows the token of a login often enough to keep it, for ever, and so logs in anew when it is
    /// of no use any more, by reading `key`: nobody who must be quick should have to.
    pub async fn stay_logged_in(&self, limit: Duration, key: &str) {
        loop {
            clock::sleep(SHOWN_EVERY).await;
            if self.settings().username.is_some() {
                let options = GetOptions::new().with_count_only();
                // Whatever goes wrong, the next attempt sees it too.
                drop(self.get(limit, key, Some(options)).await);
            }
        }
    }
}
