//! What the service manager is told: readiness, status, and signs of life.

use std::time::Duration;

use tokio::sync::watch;

use crate::candidate::Public;
use crate::clock;
use crate::notify::{Message, Notifier, watchdog_span};
use crate::role::Role;

/// Without a term there is no deadline that a hung daemon could miss; the watchdog only sees to it
/// that it is replaced some day.
const IDLE_WATCHDOG: Duration = Duration::from_mins(1);

/// For a watchdog whose time has come already.
const SOON: Duration = Duration::from_millis(1);

/// How much longer a planned stop may take, each time it is said.
const STOP_EXTENSION: Duration = Duration::from_secs(30);

/// Tells the service manager how the candidate is doing.
pub(super) struct Service {
    notifier: Notifier,
    public: watch::Receiver<Public>,
    watchdog: bool,
}

impl Service {
    pub(super) fn new(public: watch::Receiver<Public>) -> Self {
        Self {
            notifier: Notifier::from_env(),
            public,
            watchdog: std::env::var_os("WATCHDOG_USEC").is_some(),
        }
    }

    /// Tells until the daemon ends; waits for ever where nobody listens.
    pub(super) async fn run(mut self) {
        if !self.notifier.is_heard() {
            return std::future::pending().await;
        }
        let mut ready = false;
        loop {
            let public = self.public.borrow_and_update().clone();
            if !ready {
                ready = self.notifier.send(&[Message::Ready]);
            }
            self.tell(&public);
            tokio::select! {
                changed = self.public.changed() => if changed.is_err() {
                    return std::future::pending().await;
                },
                () = clock::sleep(IDLE_WATCHDOG / 4) => {}
            }
        }
    }

    fn tell(&self, public: &Public) {
        let status = describe(public);
        let mut messages = vec![Message::Status(&status)];
        if public.role == Role::Stopping {
            messages.push(Message::ExtendTimeout(STOP_EXTENSION));
        }
        if self.watchdog {
            match public.deadline {
                // Only a deadline that has moved is a sign of life while leading.
                Some(deadline) => {
                    let sent = deadline - public.timing.lifetime();
                    let span = watchdog_span(&public.timing);
                    // Zero would switch the watchdog off.
                    let strikes = span.map(|span| (sent + span).remaining().max(SOON));
                    messages.push(Message::WatchdogInterval(strikes.unwrap_or(IDLE_WATCHDOG)));
                }
                None => messages.push(Message::WatchdogInterval(IDLE_WATCHDOG)),
            }
        }
        // What isn't heard now is overtaken by the next message.
        self.notifier.send(&messages);
    }
}

/// One line for `systemctl status`.
fn describe(public: &Public) -> String {
    let stands = standing(public);
    match &public.trouble {
        Some(why) => format!("{stands}; {why}"),
        None => stands,
    }
}

fn standing(public: &Public) -> String {
    match (public.role, public.token, public.position) {
        (Role::Leading, Some(token), _) => format!("leading, token {token}"),
        (Role::Campaigning, _, Some(position)) => format!("campaigning, joined at {position}"),
        (Role::Unhealthy, ..) => {
            let last = public.health.as_ref().and_then(|it| it.last.as_deref());
            format!("unhealthy: {}", last.unwrap_or("the check fails"))
        }
        (role, _, _) => role.word().to_owned(),
    }
}
