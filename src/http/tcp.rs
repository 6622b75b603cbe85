//! The address of `http.listen`, for as long as there is one.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use crate::clock::{self, Instant};

/// Pause before another try to listen where something else does.
const RETRY: Duration = Duration::from_secs(5);

/// Listens, or tries to.
pub(super) struct Tcp {
    address: Option<SocketAddr>,
    listener: Option<TcpListener>,
    retry_at: Instant,
    /// Whether it was said that the address can't be had.
    said: bool,
}

/// Listens on `address`; never waits.
pub(super) fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

impl Tcp {
    pub(super) fn new(address: Option<SocketAddr>) -> Self {
        Self {
            address,
            listener: None,
            retry_at: Instant::BOOT,
            said: false,
        }
    }

    /// Listens elsewhere: on `listener` if it is bound already.
    pub(super) fn change(
        &mut self,
        address: Option<SocketAddr>,
        listener: Option<std::net::TcpListener>,
    ) {
        if address == self.address {
            return;
        }
        *self = Self::new(address);
        self.listener = listener.and_then(|listener| TcpListener::from_std(listener).ok());
        if let (Some(address), Some(_)) = (address, &self.listener) {
            tracing::info!(%address, "listening");
        }
    }

    /// The next connection; waits for ever where there is no address.
    ///
    /// # Cancel safety
    /// Safe.
    pub(super) async fn accept(&mut self) -> io::Result<TcpStream> {
        let Some(address) = self.address else {
            return pending().await;
        };
        while self.listener.is_none() {
            clock::sleep_until(self.retry_at).await;
            match bind(address).and_then(TcpListener::from_std) {
                Ok(listener) => {
                    tracing::info!(%address, "listening");
                    self.listener = Some(listener);
                }
                Err(error) => {
                    if !std::mem::replace(&mut self.said, true) {
                        tracing::error!(%address, %error, "http.listen can't be had: trying again");
                    }
                    self.retry_at = clock::now() + RETRY;
                }
            }
        }
        match &self.listener {
            Some(listener) => listener.accept().await.map(|(stream, _)| stream),
            None => pending().await,
        }
    }
}
