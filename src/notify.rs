//! Messages to the service manager.
//!
//! One datagram each to the socket that systemd names in `NOTIFY_SOCKET`; without one, nothing. No
//! send ever blocks (R14), which is why they are made here and not by a crate.

use std::fmt::Write as _;
use std::io::ErrorKind::{ConnectionRefused, NotFound, PermissionDenied};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::config::timing::Timing;
use crate::log::is_printable;

/// What systemd tells a service through the environment and means for its main process alone. A job
/// doesn't inherit these; `job.env` may still set them.
///
/// What `systemd.exec(5)` lists beyond these stays, because jobs use it: the account (`USER`,
/// `HOME`, `SHELL`, …), and the unit's folders (`STATE_DIRECTORY`, `CACHE_DIRECTORY`,
/// `LOGS_DIRECTORY`, `CONFIGURATION_DIRECTORY`). `RUNTIME_DIRECTORY` stays too: our own commands
/// find the daemon's control socket by it when a job calls them.
pub(crate) const MANAGER_VARIABLES: &[&str] = &[
    // Whoever has it may speak for the daemon.
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    // Sockets and descriptors passed to the daemon.
    "FDSTORE",
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    // What opens the store is the daemon's; a job's own secrets are the job's business.
    "CREDENTIALS_DIRECTORY",
    // They name the unit's run, or the daemon's place in it, not the job's.
    "INVOCATION_ID",
    "DEBUG_INVOCATION",
    "JOURNAL_STREAM",
    "LOG_NAMESPACE",
    "MAINPID",
    "MAINPIDFDID",
    "MANAGERPID",
    "MANAGERPIDFDID",
    "PIDFILE",
    "SYSTEMD_EXEC_PID",
    "SYSTEMD_ACTIVATION_SCOPE",
    "SYSTEMD_ACTIVATION_UNIT",
    "MEMORY_PRESSURE_WATCH",
    "MEMORY_PRESSURE_WRITE",
    // What hooks are told about the end of a run.
    "SERVICE_RESULT",
    "EXIT_CODE",
    "EXIT_STATUS",
    "MONITOR_SERVICE_RESULT",
    "MONITOR_EXIT_CODE",
    "MONITOR_EXIT_STATUS",
    "MONITOR_INVOCATION_ID",
    "MONITOR_UNIT",
    // What started the unit.
    "TRIGGER_UNIT",
    "TRIGGER_PATH",
    "TRIGGER_TIMER_REALTIME_USEC",
    "TRIGGER_TIMER_MONOTONIC_USEC",
];

/// A status longer than this is cut; systemd refuses a datagram above 4 KiB as a whole.
const LONGEST_STATUS: usize = 512;

/// How late after its time systemd's watchdog may strike (measured).
const WATCHDOG_JITTER: Duration = Duration::from_millis(250);

/// What the unit's stop hook needs until the job is dead: 40 ms to start and 4 ms to fence were
/// measured on an idle machine, so a busy one has room.
const HOOK_TIME: Duration = Duration::from_millis(150);

/// Something to tell the service manager.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Message<'a> {
    /// The daemon contends, or has taken over its new configuration.
    Ready,
    /// One line for `systemctl status`.
    Status(&'a str),
    /// The watchdog strikes when this long has passed without a sign of life. Counts as one.
    WatchdogInterval(Duration),
    /// What is going on may take this much longer from now.
    ExtendTimeout(Duration),
}

/// What has become of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// The service manager has it.
    Taken,
    /// It can't take it now, which is worth another try.
    Full,
    /// There is none, or none that listens: nothing waits for one.
    Nobody,
}

impl Delivery {
    /// Whether there is nothing to be gained by another try at once.
    pub(crate) fn is_over(self) -> bool {
        self != Self::Full
    }
}

/// The way to the service manager, if there is one.
#[derive(Debug)]
pub(crate) struct Notifier(Option<(UnixDatagram, SocketAddr)>);

impl Notifier {
    /// The one that `NOTIFY_SOCKET` names. A name that can't be used counts as none.
    pub(crate) fn from_env() -> Self {
        let name = std::env::var_os("NOTIFY_SOCKET");
        name.map_or(Self(None), |name| Self::to(name.as_bytes()))
    }

    /// Speaks to the socket of this path, or of this abstract name if it begins with an `@`.
    pub(crate) fn to(name: &[u8]) -> Self {
        let address = match name {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
            [b'/', ..] => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name)),
            // Nothing, or a kind of socket that systemd uses only across machines.
            _ => return Self(None),
        };
        let socket = UnixDatagram::unbound().and_then(|socket| {
            socket.set_nonblocking(true)?;
            Ok(socket)
        });
        Self(socket.and_then(|socket| Ok((socket, address?))).ok())
    }

    /// Whether there is a service manager that listens.
    pub(crate) const fn is_heard(&self) -> bool {
        self.0.is_some()
    }

    /// Sends all of `messages` at once. Never blocks.
    pub(crate) fn send(&self, messages: &[Message<'_>]) -> Delivery {
        let Some((socket, address)) = &self.0 else {
            return Delivery::Nobody;
        };
        let datagram = datagram(messages);
        match socket.send_to_addr(datagram.as_bytes(), address) {
            Ok(_) => Delivery::Taken,
            Err(error) => match error.kind() {
                NotFound | ConnectionRefused | PermissionDenied => Delivery::Nobody,
                _ => Delivery::Full,
            },
        }
    }
}

/// The text of `messages`, one assignment a line.
fn datagram(messages: &[Message<'_>]) -> String {
    let mut text = String::new();
    for message in messages {
        // Writing to a String cannot fail.
        _ = match message {
            Message::Ready => writeln!(text, "READY=1"),
            Message::Status(status) => writeln!(text, "STATUS={}", one_line(status)),
            Message::WatchdogInterval(span) => writeln!(text, "WATCHDOG_USEC={}", span.as_micros()),
            Message::ExtendTimeout(span) => {
                writeln!(text, "EXTEND_TIMEOUT_USEC={}", span.as_micros())
            }
        };
    }
    text
}

/// The text without line ends and other control characters: a newline would begin another message.
fn one_line(text: &str) -> String {
    let clean = |c: char| if is_printable(c) { c } else { ' ' };
    text.chars().map(clean).take(LONGEST_STATUS).collect()
}

/// How long after the sending of the last proven renewal the service manager's watchdog is to
/// strike a daemon that leads; the daemon asks for what is left of it at each sign of life.
///
/// Later than `D−K`, so that the guardian comes first; and so early that the stop hook has fenced
/// everything before the lease ends. The middle of that, or `None` where nothing lies between.
pub(crate) fn watchdog_span(timing: &Timing) -> Option<Duration> {
    let earliest = timing.lifetime().saturating_sub(timing.kill_budget());
    let latest = timing.ttl().checked_sub(WATCHDOG_JITTER + HOOK_TIME)?;
    (earliest < latest).then(|| (earliest + latest) / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn messages_travel_in_one_datagram() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::to(path.as_os_str().as_bytes());
        assert!(notifier.is_heard());
        let delivery = notifier.send(&[Message::Ready, Message::Status("leading")]);
        assert_eq!(delivery, Delivery::Taken);
        assert_eq!(received(&manager), "READY=1\nSTATUS=leading\n");
    }

    #[test]
    fn an_abstract_socket_is_reached() {
        let name = format!("incumbent-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        let notifier = Notifier::to(format!("@{name}").as_bytes());
        assert_eq!(notifier.send(&[Message::Ready]), Delivery::Taken);
        assert_eq!(received(&manager), "READY=1\n");
    }

    #[test]
    fn without_a_socket_nothing_happens() {
        for name in ["", "relative", "vsock:2:1234"] {
            let notifier = Notifier::to(name.as_bytes());
            assert!(!notifier.is_heard());
            assert_eq!(notifier.send(&[Message::Ready]), Delivery::Nobody);
        }
        let absent = Notifier::to(b"/nonexistent/notify");
        assert_eq!(absent.send(&[Message::Ready]), Delivery::Nobody);
    }

    #[test]
    fn a_manager_that_does_not_read_never_blocks_us() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::to(path.as_os_str().as_bytes());
        let refused = (0..10_000).any(|_| notifier.send(&[Message::Ready]) == Delivery::Full);
        assert!(refused);
        drop(manager);
    }

    #[test]
    fn a_status_cannot_smuggle_in_another_message() {
        let text = datagram(&[Message::Status("waiting for a\nMAINPID=1\r\u{1b}")]);
        assert_eq!(text, "STATUS=waiting for a MAINPID=1  \n");
        let long = "x".repeat(10_000);
        assert!(datagram(&[Message::Status(&long)]).len() < 1000);
    }

    #[test]
    fn spans_are_told_in_microseconds() {
        let text = datagram(&[
            Message::WatchdogInterval(Duration::from_millis(1500)),
            Message::ExtendTimeout(Duration::from_hours(3)),
        ]);
        let expected = "WATCHDOG_USEC=1500000\nEXTEND_TIMEOUT_USEC=10800000000\n";
        assert_eq!(text, expected);
    }

    fn timing(ttl_ms: u64, kill_budget_ms: u64) -> Timing {
        let millis = Duration::from_millis;
        Timing::new(millis(ttl_ms), Duration::ZERO, millis(kill_budget_ms))
    }

    #[test]
    fn the_watchdog_strikes_after_the_guardian_and_before_the_lease_ends() {
        for ttl in [3_000, 5_000, 15_000, 60_000] {
            let timing = timing(ttl, 600);
            let span = watchdog_span(&timing).unwrap();
            assert!(span + timing.kill_budget() > timing.lifetime(), "{ttl}");
            assert!(span + WATCHDOG_JITTER + HOOK_TIME < timing.ttl(), "{ttl}");
        }
    }

    #[test]
    fn a_kill_budget_too_small_leaves_no_time_for_the_watchdog() {
        assert_eq!(watchdog_span(&timing(2_000, 100)), None);
        assert_eq!(watchdog_span(&timing(300, 100)), None);
    }
}
