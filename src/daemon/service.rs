//! What the service manager is told: readiness, status, and signs of life.

use std::time::Duration;

use tokio::sync::watch;

use crate::candidate::Role;
use crate::candidate::{Public, Pulse, View};
use crate::clock;
use crate::notify::{Message, Notifier, watchdog_span};

/// Without a term there is no deadline that a hung daemon could miss; the watchdog only sees to it
/// that it is replaced some day.
const IDLE_WATCHDOG: Duration = Duration::from_mins(1);

/// For a watchdog whose time has come already.
const SOON: Duration = Duration::from_millis(1);

/// How much longer a planned stop may take, each time it is said: only while it gets on.
const STOP_EXTENSION: Duration = Duration::from_secs(30);

/// How long main loop and contest have to answer that they live; both take less than a millisecond.
const PULSE_LIMIT: Duration = Duration::from_secs(2);

/// Tells the service manager how the candidate is doing.
pub(super) struct Service {
    notifier: Notifier,
    public: watch::Receiver<Public>,
    /// Of the loops without which nothing gets on.
    pulses: Vec<Pulse>,
    watchdog: bool,
}

impl Service {
    pub(super) fn new(view: &View) -> Self {
        Self {
            notifier: Notifier::from_env(),
            public: view.public.clone(),
            pulses: view.pulses.iter().map(|(_, pulse)| pulse.clone()).collect(),
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
            let alive = self.is_alive().await;
            self.tell(&public, alive);
            tokio::select! {
                changed = self.public.changed() => if changed.is_err() {
                    return std::future::pending().await;
                },
                () = clock::sleep(IDLE_WATCHDOG / 4) => {}
            }
        }
    }

    /// Whether every loop has come round since this was called.
    async fn is_alive(&self) -> bool {
        for pulse in &self.pulses {
            if !pulse.beats(PULSE_LIMIT).await {
                return false;
            }
        }
        true
    }

    /// Tells how it stands; that it lives only where it is `alive` (R15).
    fn tell(&self, public: &Public, alive: bool) {
        let status = describe(public);
        let mut messages = vec![Message::Status(&status)];
        if alive && public.role == Role::Stopping {
            messages.push(Message::ExtendTimeout(STOP_EXTENSION));
        }
        if alive && self.watchdog {
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

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;
    use crate::clock::Tick;
    use crate::config::timing::Timing;

    /// What a service manager hears of a candidate in this role.
    async fn told(role: Role, pulses: Vec<Pulse>) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let second = Duration::from_secs(1);
        let mut public = Public::new(Timing::new(15 * second, second, second));
        public.role = role;
        let (_publish, seen) = watch::channel(public.clone());
        let service = Service {
            notifier: Notifier::to(path.as_os_str().as_encoded_bytes()),
            public: seen,
            pulses,
            watchdog: true,
        };
        let alive = service.is_alive().await;
        service.tell(&public, alive);
        let mut buffer = [0; 4096];
        let length = manager.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_loop_that_hangs_feeds_no_watchdog_and_lengthens_no_stop() {
        let (beating, hanging) = (Pulse::new(Tick::new()), Pulse::new(Tick::new()));
        tokio::spawn(beating.clone().beat());
        let alive = told(Role::Stopping, vec![beating.clone()]).await;
        assert!(alive.contains("WATCHDOG_USEC=60000000"), "{alive}");
        assert!(alive.contains("EXTEND_TIMEOUT_USEC=30000000"), "{alive}");
        let dead = told(Role::Stopping, vec![beating, hanging]).await;
        assert_eq!(dead, "STATUS=stopping\n");
    }
}
