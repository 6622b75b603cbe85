//! The daemon's side of the guardian, with a real one below this process.
//!
//! The client starts `/proc/self/exe guardian`, which here is this test again: libtest takes the
//! argument for the name of a test, and the one of that name becomes a guardian. A fence takes in
//! every child of the process, so one test runs at a time, and none of another kind beside it.

#![allow(clippy::unwrap_used, reason = "a helper of tests is part of them")]
#![allow(
    clippy::await_holding_lock,
    reason = "each test has a runtime and a thread of its own, and is to wait for the others"
)]

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use incumbent::clock;
use incumbent::config::timing::Graces;
use incumbent::etcd;
use incumbent::guardian::client::{ClientEvent, Gone, Guardian};
use incumbent::guardian::fence::{FenceSettings, Tell};
use incumbent::guardian::protocol::{CommandSpec, Report, Request, TermSpec};
use incumbent::keys::{LeaseId, Prefix};
use incumbent::log::{Format, LogSettings};
use incumbent::revision::{Revision, Token};
use incumbent::term::resignation::Resignation;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;

/// The usual term.
const TOKEN: Token = Token::at(Revision::new(7));

/// Longer than any kill takes here.
const LONG: Duration = Duration::from_mins(1);

/// Who is told of nothing.
fn nobody() -> Tell {
    Arc::new(|_| {})
}

/// How long anything may take that is to happen by itself, on however busy a machine.
const PATIENCE: Duration = Duration::from_mins(2);

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The one that the client starts; does nothing where a person runs the tests.
#[test]
fn guardian() {
    if std::env::args().nth(1).as_deref() == Some("guardian") && is_socket(std::io::stdin()) {
        incumbent::guardian::main::main();
    }
}

fn is_socket(stdin: impl AsFd) -> bool {
    rustix::net::getsockname(stdin).is_ok()
}

/// A guardian, what it says, and the right to have one.
struct Stand {
    guardian: Guardian,
    events: UnboundedReceiver<ClientEvent>,
    _alone: MutexGuard<'static, ()>,
}

impl Stand {
    async fn new() -> Self {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let log = LogSettings {
            filter: "info".into(),
            format: Format::Text,
        };
        let election = Prefix::new("/a");
        let (guardian, events) = Guardian::start(&log, &election, "node1").await.unwrap();
        Self {
            guardian,
            events,
            _alone: alone,
        }
    }

    async fn event(&mut self) -> ClientEvent {
        let event = tokio::time::timeout(PATIENCE, self.events.recv()).await;
        event.unwrap().unwrap()
    }

    async fn begin(&mut self, token: Token) -> TermSpec {
        let term = term(token);
        self.guardian.send(Request::Term(term.clone()));
        let deadline = term.deadline;
        let guarded = ClientEvent::Report(Report::Guarded { token, deadline });
        assert_eq!(self.event().await, guarded);
        term
    }

    async fn start(&mut self, token: Token, script: &str) -> OwnedFd {
        self.guardian.send(start(token, script));
        match self.event().await {
            ClientEvent::Report(Report::Started { pid, .. }) => pidfd(pid),
            other => panic!("{other:?}"),
        }
    }

    fn signal(&self, signal: Signal) {
        pidfd_send_signal(pidfd(self.guardian.pid()), signal).unwrap();
    }
}

fn term(token: Token) -> TermSpec {
    TermSpec {
        token,
        deadline: clock::now() + Duration::from_mins(1),
        graces: Graces {
            lost_grace: Duration::from_secs(1),
            kill_budget: Duration::from_secs(1),
        },
        stop_signal: 15,
        in_daemon: false,
    }
}

fn start(token: Token, script: &str) -> Request {
    Request::Start {
        token,
        run: 1,
        command: CommandSpec {
            argv: ["sh", "-c", script].map(str::to_owned).into(),
            ..CommandSpec::default()
        },
        sole: true,
    }
}

fn pidfd(pid: u32) -> OwnedFd {
    let pid = Pid::from_raw(pid.try_into().unwrap()).unwrap();
    pidfd_open(pid, PidfdFlags::empty()).unwrap()
}

fn is_reaped(pidfd: &OwnedFd) -> bool {
    pidfd_send_signal(pidfd, Signal::CONT).is_err()
}

fn resignation(lease: LeaseId) -> Resignation {
    Resignation {
        store: etcd::Settings {
            connect_timeout: Duration::from_secs(1),
            ..etcd::Settings::new(["http://127.0.0.1:1"])
        },
        cluster: 7,
        prefix: Prefix::new("/a"),
        candidate: "node1".into(),
        lease,
        ttl: Duration::from_secs(5),
        attempt_limit: Duration::from_secs(1),
        token: None,
        may_mark: false,
        step_down: None,
        close: None,
    }
}

#[tokio::test]
async fn it_acknowledges_what_it_was_told() {
    let mut stand = Stand::new().await;
    let lease = LeaseId::new(0x1f).unwrap();
    assert_eq!(stand.guardian.remember(resignation(lease)).await, Ok(()));
    let remembered = ClientEvent::Report(Report::Remembered { lease });
    assert_eq!(stand.event().await, remembered);
    assert_eq!(stand.guardian.acked_deadline(), None);
    let term = stand.begin(TOKEN).await;
    assert_eq!(
        stand.guardian.acked_deadline(),
        Some((TOKEN, term.deadline))
    );

    // Stopped, it acknowledges nothing; continued, it does.
    stand.signal(Signal::STOP);
    let deadline = term.deadline + Duration::from_secs(1);
    stand.guardian.send(Request::Deadline {
        token: TOKEN,
        deadline,
    });
    assert_eq!(
        stand.guardian.acked_deadline(),
        Some((TOKEN, term.deadline))
    );
    stand.signal(Signal::CONT);
    let guarded = ClientEvent::Report(Report::Guarded {
        token: TOKEN,
        deadline,
    });
    assert_eq!(stand.event().await, guarded);
    assert_eq!(stand.guardian.acked_deadline(), Some((TOKEN, deadline)));

    stand.guardian.send(Request::EndTerm { token: TOKEN });
    stand.guardian.send(Request::Forget { lease });
    let process = pidfd(stand.guardian.pid());
    assert!(stand.guardian.dismiss(PATIENCE).await);
    assert!(is_reaped(&process));
}

#[tokio::test]
async fn a_kill_does_not_wait_for_what_holds_a_start_back() {
    let mut stand = Stand::new().await;
    let (_never, done) = oneshot::channel();
    stand.guardian.hold(done);
    stand.guardian.send(Request::Term(term(TOKEN)));
    stand.guardian.send(Request::AtEnd {
        token: TOKEN,
        command: CommandSpec::default(),
        limit: PATIENCE,
    });
    stand.guardian.send(start(TOKEN, "sleep 1000000"));
    let held = tokio::time::timeout(Duration::from_millis(100), stand.events.recv()).await;
    assert!(held.is_err(), "{held:?}");
    stand.guardian.send(Request::Kill { token: TOKEN });
    // In the order of sending: the kill knows of the start, and nothing runs after it.
    let run = loop {
        if let ClientEvent::Report(Report::Empty {
            token: Some(TOKEN),
            run,
            ..
        }) = stand.event().await
        {
            break run;
        }
    };
    assert_eq!(run, 1);
    stand.guardian.send(Request::EndTerm { token: TOKEN });
    assert!(stand.guardian.dismiss(PATIENCE).await);
}

#[tokio::test]
async fn what_is_held_back_goes_out_once_it_may() {
    let mut stand = Stand::new().await;
    let (wait, done) = oneshot::channel();
    stand.guardian.hold(done);
    stand.guardian.send(Request::Term(term(TOKEN)));
    let held = tokio::time::timeout(Duration::from_millis(100), stand.events.recv()).await;
    assert!(held.is_err(), "{held:?}");
    drop(wait);
    let guarded = stand.event().await;
    assert!(
        matches!(
            guarded,
            ClientEvent::Report(Report::Guarded { token: TOKEN, .. })
        ),
        "{guarded:?}"
    );
    stand.guardian.send(Request::EndTerm { token: TOKEN });
    assert!(stand.guardian.dismiss(PATIENCE).await);
}

#[tokio::test]
async fn it_is_fenced_with_all_that_it_started() {
    let mut stand = Stand::new().await;
    stand.begin(TOKEN).await;
    let script = "trap '' TERM; (setsid sh -c \"trap '' TERM; sleep 1000\" &); sleep 1000";
    let job = stand.start(TOKEN, script).await;
    stand.signal(Signal::KILL);
    assert_eq!(stand.event().await, ClientEvent::Gone);
    let until = clock::now() + PATIENCE;
    assert!(
        stand
            .guardian
            .fence(FenceSettings::new(Some(until), LONG, nobody()))
            .await
    );
    assert!(is_reaped(&job));
    // Reaped by the fence, which is as good.
    assert!(stand.guardian.dismiss(PATIENCE).await, "it is gone");
}

#[tokio::test]
async fn a_stopped_one_is_fenced_too() {
    let mut stand = Stand::new().await;
    stand.begin(TOKEN).await;
    let job = stand.start(TOKEN, "trap '' TERM; sleep 1000").await;
    stand.signal(Signal::STOP);
    assert!(
        stand
            .guardian
            .fence(FenceSettings::new(None, LONG, nobody()))
            .await
    );
    assert_eq!(stand.event().await, ClientEvent::Gone);
    assert!(is_reaped(&job));
}

#[tokio::test]
async fn one_that_is_gone_remembers_nothing() {
    let mut stand = Stand::new().await;
    let lease = LeaseId::new(0x1f).unwrap();
    stand.signal(Signal::STOP);
    let asked = stand.guardian.remember(resignation(lease));
    stand.signal(Signal::KILL);
    assert_eq!(asked.await, Err(Gone));
    assert_eq!(stand.event().await, ClientEvent::Gone);
    assert_eq!(stand.guardian.remember(resignation(lease)).await, Err(Gone));
    assert!(
        stand
            .guardian
            .fence(FenceSettings::new(None, LONG, nobody()))
            .await
    );
}
