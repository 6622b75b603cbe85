//! A guardian with a daemon that only holds it: the test speaks in the daemon's place.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::common::patience;
use incumbent::clock::{self, Instant};
use incumbent::config::timing::Graces;
use incumbent::guardian::protocol::{
    CommandSpec, Exit, Inbox, Refusal, Report, Request, TermSpec, encode,
};
use incumbent::keys::Prefix;
use incumbent::log::{Format, LogSettings};
use incumbent::revision::Token;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::time::Timespec;

/// Longer than any test takes.
pub(crate) const LONG: Duration = Duration::from_mins(1);

/// A grace that is worth waiting for.
pub(crate) const SHORT: Duration = Duration::from_millis(150);

/// How long anything may take that is to happen by itself.
const PATIENCE: Duration = Duration::from_secs(20);

/// A guardian, and the test in its daemon's place.
pub(crate) struct Stand {
    /// A shell that waits for the guardian: its parent, and so the daemon that it kills.
    daemon: Child,
    socket: Option<UnixStream>,
    inbox: Inbox,
    output: BufReader<ChildStdout>,
    pub guardian_pid: u32,
    pub guardian: OwnedFd,
}

impl Stand {
    /// Starts a guardian and greets it.
    pub(crate) fn new() -> Self {
        Self::started_by("")
    }

    /// Starts a guardian through a command that executes it, and greets it.
    pub(crate) fn started_by(launcher: &str) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(patience(PATIENCE))).unwrap();
        ours.set_write_timeout(Some(patience(PATIENCE))).unwrap();
        let mut daemon = Command::new("sh")
            .args(["-c", &format!("{launcher} \"$0\" guardian; :")])
            .arg(env!("CARGO_BIN_EXE_incumbent"))
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(daemon.stdout.take().unwrap());
        let hello = Request::Hello {
            daemon: daemon.id(),
            log: LogSettings {
                filter: "info".into(),
                format: Format::Text,
            },
            election: Prefix::new("/a"),
            candidate: "node1".into(),
            checks: false,
            records: false,
        };
        (&ours).write_all(&encode(&hello).unwrap()).unwrap();
        let mut inbox = Inbox::default();
        let Report::Ready { pid } = read(&ours, &mut inbox) else {
            panic!("not ready");
        };
        Self {
            daemon,
            socket: Some(ours),
            inbox,
            output,
            guardian_pid: pid,
            guardian: pidfd(pid),
        }
    }

    pub(crate) fn send(&mut self, request: &Request) {
        self.write(&encode(request).unwrap());
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        let Err(error) = self.socket.as_ref().unwrap().write_all(bytes) else {
            return;
        };
        // A guardian that is gone is noticed by what it reports.
        let is_slow = error.kind() == std::io::ErrorKind::WouldBlock;
        assert!(!is_slow, "the guardian doesn't read");
    }

    /// The next report, but for how often it says that it is killing.
    pub(crate) fn report(&mut self) -> Report {
        loop {
            match read(self.socket.as_ref().unwrap(), &mut self.inbox) {
                Report::Killing => {}
                report => return report,
            }
        }
    }

    /// Begins a term that ends after `left`.
    pub(crate) fn term(&mut self, token: i64, left: Duration) {
        let term = times(token, left);
        self.send(&Request::Term(term));
        self.guarded(token);
    }

    pub(crate) fn start(&mut self, token: i64, run: u64, command: CommandSpec) {
        self.send(&Request::Start {
            token: of(token),
            run,
            command,
            sole: true,
        });
    }

    pub(crate) fn stop(&mut self, token: i64, grace: Duration) {
        self.send(&Request::Stop {
            token: of(token),
            stop_signal: 15,
            grace,
        });
    }

    #[track_caller]
    pub(crate) fn guarded(&mut self, expected: i64) {
        match self.report() {
            Report::Guarded { token, .. } => assert_eq!(token, of(expected)),
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn started(&mut self, expected: u64) -> u32 {
        match self.report() {
            Report::Started { run, pid } if run == expected => pid,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn refused(&mut self, run: u64, reason: Refusal) {
        assert_eq!(self.report(), Report::Refused { run, reason });
    }

    #[track_caller]
    pub(crate) fn ended(&mut self, run: u64, pid: u32, exit: Exit) {
        let pid = Some(pid);
        assert_eq!(self.report(), Report::MainEnded { run, pid, exit });
    }

    #[track_caller]
    pub(crate) fn empty(&mut self, token: i64, killed: bool) {
        match self.report() {
            Report::Empty {
                token: emptied,
                killed: by_force,
                ..
            } => assert_eq!((emptied, by_force), (Some(of(token)), killed)),
            other => panic!("expected the tree to be empty, heard {other:?}"),
        }
    }

    /// The next line that a job writes.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        if self.output.buffer().is_empty() {
            wait_for(self.output.get_ref(), "a line is written");
        }
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub(crate) fn hang_up(&mut self) {
        self.socket = None;
    }

    pub(crate) fn kill_daemon(&mut self) {
        self.daemon.kill().unwrap();
    }

    /// Waits for the daemon's end; the signal that ended it.
    #[track_caller]
    pub(crate) fn daemon_ended(&mut self) -> Option<i32> {
        wait_for_end(&pidfd(self.daemon.id()));
        self.daemon.wait().unwrap().signal()
    }

    /// Every child of the guardian, reaped or not.
    pub(crate) fn children(&self) -> Vec<u32> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let fields: Vec<&str> = stat
                .rsplit_once(") ")
                .map(|(_, fields)| fields.split(' ').collect())
                .unwrap_or_default();
            if fields.get(1) == Some(&self.guardian_pid.to_string().as_str()) {
                found.push(entry.file_name().to_str().unwrap().parse().unwrap());
            }
        }
        found
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        // Its socket closed and its parent dead, the guardian ends by itself.
        self.socket = None;
        self.daemon.kill().ok();
        self.daemon.wait().ok();
    }
}

fn read(mut socket: &UnixStream, inbox: &mut Inbox) -> Report {
    loop {
        if let Some(report) = inbox.take().unwrap() {
            return report;
        }
        let mut chunk = [0; 4096];
        let length = socket.read(&mut chunk).expect("a report in time");
        assert!(length > 0, "the guardian hung up");
        inbox.push(&chunk[..length]);
    }
}

/// The token with this number.
pub(crate) fn of(token: i64) -> Token {
    Token::new(token).expect("a token")
}

/// A term that ends after `left`, with graces that fit in.
pub(crate) fn times(token: i64, left: Duration) -> TermSpec {
    TermSpec {
        token: of(token),
        deadline: clock::now() + left,
        graces: Graces {
            lost_grace: LONG / 4,
            kill_budget: LONG / 4,
        },
        stop_signal: 15,
        in_daemon: false,
    }
}

/// A command in the shell.
pub(crate) fn sh(script: &str) -> CommandSpec {
    command(&["sh", "-c", script])
}

pub(crate) fn command(argv: &[&str]) -> CommandSpec {
    CommandSpec {
        argv: argv.iter().map(|word| (*word).to_owned()).collect(),
        ..CommandSpec::default()
    }
}

pub(crate) fn kill(pid: u32, signal: &str) {
    let sent = Command::new("kill")
        .args(["-s", signal, &pid.to_string()])
        .status();
    assert!(sent.unwrap().success());
}

pub(crate) fn pidfd(pid: u32) -> OwnedFd {
    let pid = Pid::from_raw(pid.try_into().unwrap()).unwrap();
    pidfd_open(pid, PidfdFlags::empty()).unwrap()
}

/// Waits until the process has ended.
#[track_caller]
pub(crate) fn wait_for_end(pidfd: &OwnedFd) {
    wait_for(pidfd, "it ends");
}

/// Waits until there is something to read.
#[track_caller]
fn wait_for(fd: &impl AsFd, what: &str) {
    let limit = Timespec {
        tv_sec: patience(PATIENCE).as_secs().try_into().unwrap(),
        tv_nsec: 0,
    };
    let ready = poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&limit));
    assert_eq!(ready, Ok(1), "not in time: {what}");
}

/// Waits until an instant has come.
pub(crate) fn wait_until(at: Instant) {
    let timer = clock::Timer::new().unwrap();
    timer.arm(Some(at)).unwrap();
    poll(&mut [PollFd::new(&timer, PollFlags::IN)], None).unwrap();
}
