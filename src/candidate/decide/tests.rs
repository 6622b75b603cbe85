//! The decisions as claims. Times are milliseconds after boot; a lease is good for 10 s from when it was
//! granted or renewed, so with G = 2 s and K = 1 s the job is asked to stop after 7 s and killed after 9.

mod rules;
mod slots;

use super::words::{Elected, Joined, Left, Work};
use super::*;
use crate::candidate::histories::settings::config;
use crate::config::{Check, Restart};
use crate::etcd::keep_alive::Ack;
use crate::guardian::protocol::Exit;
use crate::keys::LeaseId;
use crate::revision::{Revision, Token};
use crate::session::{Loss, Status};

const TOKEN: Token = Token::at(Revision::new(7));

const TIMING: Timing = Timing::new(
    Duration::from_secs(15),
    Duration::from_secs(2),
    Duration::from_secs(1),
);

/// A mind, and what it has done, as short text.
struct Play(Mind);

fn at(ms: u64) -> Instant {
    Instant::from_nanos(ms * 1_000_000)
}

/// That time by both clocks.
fn now(ms: u64) -> Now {
    Now {
        wall: Time::from_millis(ms),
        clock: at(ms),
    }
}

/// What is known of a lease that is good for 10 s from then on.
fn status(ms: u64) -> Status {
    let (sent, ttl, raft_term) = (at(ms), 1, 1);
    let ack = Ack {
        sent,
        ttl,
        raft_term,
    };
    Status {
        deadline: at(ms + 10_000),
        ..Status::granted(ack, TIMING)
    }
}

fn config_with(change: impl FnOnce(&mut Config)) -> Arc<Config> {
    let mut config = config(TIMING);
    change(&mut config);
    Arc::new(config)
}

fn elected() -> Event {
    Event::Elected(Elected {
        token: TOKEN,
        cluster: 7,
        status: status(0),
        at: "".into(),
    })
}

fn empty(run: u64) -> Event {
    Event::Guardian(Report::Empty {
        token: Some(TOKEN),
        killed: false,
        run,
        unfinished: false,
    })
}

fn started(run: u64) -> Event {
    Event::Guardian(Report::Started { run, pid: 1 })
}

fn ended(run: u64, code: i32) -> Event {
    let (pid, exit) = (Some(1), Exit::Code(code));
    Event::Guardian(Report::MainEnded { run, pid, exit })
}

/// The deadline's, as the guardian tells of it.
fn stopping() -> Event {
    Event::Guardian(Report::Stopping { token: TOKEN })
}

fn check(run: u64, code: i32) -> [Event; 2] {
    let (pid, exit) = (None, Exit::Code(code));
    let (token, killed, unfinished) = (None, false, false);
    [
        Event::Checks(Report::MainEnded { run, pid, exit }),
        Event::Checks(Report::Empty {
            token,
            killed,
            run,
            unfinished,
        }),
    ]
}

impl Play {
    fn with(config: Arc<Config>) -> Self {
        Self(Mind::new(config, vec!["rust".to_owned()], at(0)))
    }

    fn new() -> Self {
        Self::with(config_with(|_| {}))
    }

    /// In the queue.
    fn standing() -> Self {
        Self::new().and_stands()
    }

    fn and_stands(mut self) -> Self {
        self.at(0, Event::Tick, &["prepare"]);
        let lease = self.lease();
        self.at(0, Event::Prepared(lease), &["contend"]);
        self.at(0, Event::Granted(TIMING, status(0)), &[]);
        let (position, revision) = (1, TOKEN);
        let joined = Joined {
            position,
            revision,
            at: "".into(),
        };
        self.at(0, Event::Joined(joined), &[]);
        self
    }

    /// Its job runs.
    fn leading() -> Self {
        Self::standing().and_leads()
    }

    fn and_leads(mut self) -> Self {
        self.at(0, elected(), &["lease", "term", "start job"]);
        self.at(0, started(1), &[]);
        self
    }

    fn lease(&self) -> LeaseId {
        self.0.place.candidacy().expect("a candidacy").lease
    }

    fn does(&mut self, ms: u64, event: Event) -> Vec<String> {
        let actions = self.0.handle(event, now(ms), u64::MAX);
        actions.iter().filter_map(text).collect()
    }

    /// Feeds one event and checks what follows from it.
    #[track_caller]
    fn at(&mut self, ms: u64, event: Event, expected: &[&str]) -> &mut Self {
        let what = format!("{event:?}");
        assert_eq!(self.does(ms, event), expected, "at {ms} ms: {what}");
        self
    }

    /// Checks when the next tick is due.
    #[track_caller]
    fn timer(&mut self, ms: impl Into<Option<u64>>) -> &mut Self {
        assert_eq!(self.0.next_timer(), ms.into().map(at), "the next timer");
        self
    }

    /// The term of its Rust job is revoked.
    #[track_caller]
    fn lose(&mut self) {
        let killed = ["lost: revoked", "kill", "stop native"];
        self.at(3, Event::Lost(Loss::Revoked), &killed);
    }

    #[track_caller]
    fn is(&mut self, role: Role) -> &mut Self {
        assert_eq!(self.0.role(), role);
        self
    }
}

/// What matters of an action.
fn text(action: &Action) -> Option<String> {
    Some(match action {
        Action::Prepare(_) => "prepare".into(),
        Action::Contest(Command::Contend { .. }) => "contend".into(),
        Action::Contest(Command::GiveBack(_, reason)) => format!("give back: {reason}"),
        Action::Contest(Command::Hurry(until)) => {
            format!("hurry until {}", until.as_nanos() / 1_000_000)
        }
        Action::Contest(Command::LookForSuccessor(_)) => "look for a successor".into(),
        Action::Tell(Request::Lease(_)) => "lease".into(),
        Action::Tell(Request::Term(_)) => "term".into(),
        Action::Tell(Request::Kill { .. }) => "kill".into(),
        Action::Tell(Request::Stop { grace, .. }) => format!("stop in {grace:?}"),
        Action::Tell(Request::StopRun { .. }) => "stop run".into(),
        Action::Start { what, .. } => match what {
            Work::Job(..) => "start job".into(),
            Work::Hook => "start hook".into(),
            Work::Process(_) => "start process".into(),
        },
        Action::StartNative { .. } => "start native".into(),
        Action::StopNative => "stop native".into(),
        Action::RefuseProcess => "refuse process".into(),
        Action::Fence { .. } => "fence".into(),
        Action::KillDaemon => "kill daemon".into(),
        Action::Check { .. } => "check".into(),
        Action::TermOver(reason) => format!("over: {reason}"),
        Action::Exit => "exit".into(),
        Action::Say(Line::TermLost { reason, .. }) => format!("lost: {reason}"),
        Action::Say(Line::Rejoining { reason, .. }) => format!("rejoin: {reason}"),
        Action::Say(Line::CoolingDown { .. }) => "cool down".into(),
        Action::Say(Line::GuardianGone) => "guardian lost".into(),
        _ => return None,
    })
}

#[test]
fn a_claim_starts_the_job() {
    Play::leading().is(Role::Leading).timer(7000);
}

#[test]
fn a_lease_is_contended_with_only_once_the_guardian_knows_it() {
    let mut play = Play::new();
    play.at(0, Event::Tick, &["prepare"]);
    let other = LeaseId::random(2);
    play.at(0, Event::Prepared(other), &[]);
    let lease = play.lease();
    play.at(0, Event::Prepared(lease), &["contend"]);
}

#[test]
fn nothing_is_given_back_before_the_tree_is_empty() {
    for (event, role) in [
        (Event::Order(Order::Shutdown), Role::Stopping),
        (Event::Order(Order::ShutdownNow), Role::Stopping),
        (Event::MakeWay, Role::Stopping),
        (Event::Lost(Loss::Revoked), Role::Waiting),
        (stopping(), Role::Waiting),
    ] {
        let mut play = Play::leading();
        let gives_back = |did: Vec<String>| did.iter().any(|it| it.starts_with("give back"));
        assert!(!gives_back(play.does(1, event.clone())), "{event:?}");
        // Before the last start arrived it proves nothing.
        assert!(!gives_back(play.does(2, empty(0))), "{event:?}");
        play.is(Role::Stopping);
        assert!(gives_back(play.does(3, empty(1))), "{event:?}");
        play.is(role);
    }
}

#[test]
fn without_a_guardian_only_the_fence_proves_the_tree_empty() {
    let mut play = Play::leading();
    play.at(
        1,
        Event::GuardianGone,
        &["guardian lost", "lost: guardian", "fence"],
    );
    play.at(2, empty(1), &[]);
    play.at(3, Event::Fenced, &["give back: guardian"]);
}

#[test]
fn nobody_contends_without_a_guardian() {
    let mut play = Play::new();
    play.at(0, Event::GuardianGone, &["guardian lost", "fence"]);
    play.at(0, Event::Tick, &[]).timer(None);
    play.at(1, Event::Fenced, &[]);
    play.at(2, Event::Guarded, &["prepare"]);
}

#[test]
fn a_loss_kills_at_once_and_a_near_deadline_asks_first() {
    Play::leading().at(1, Event::Lost(Loss::Revoked), &["lost: revoked", "kill"]);
    let mut play = Play::leading();
    play.at(6999, Event::Tick, &[]);
    let gone = ["guardian lost", "lost: guardian", "fence", "kill"];
    // Nobody has acknowledged the term by then.
    play.at(7000, Event::Tick, &gone[..3]).timer(9000);
    play.at(9000, Event::Tick, &gone[3..]);
}

#[test]
fn a_guardian_that_answers_is_left_to_stop_and_kill() {
    let mut play = Play::leading();
    let (token, deadline) = (TOKEN, at(10_000));
    play.at(1, Event::Guardian(Report::Guarded { token, deadline }), &[]);
    play.at(7000, Event::Tick, &["lost: deadline", "stop in 2s"]);
    play.at(7001, stopping(), &["stop in 2s"]).timer(9000);
    play.at(9000, Event::Tick, &["kill"]).timer(9100);
    play.at(9100, Event::Tick, &["guardian lost", "fence"]);
}

#[test]
fn a_renewal_moves_all_that_the_deadline_asks_for() {
    let mut play = Play::leading();
    play.at(3000, Event::Lease(status(3000)), &[]);
    let (token, deadline) = (TOKEN, at(13_000));
    play.at(
        3001,
        Event::Guardian(Report::Guarded { token, deadline }),
        &[],
    );
    play.at(
        3002,
        Event::Guardian(Report::Guarded { token, deadline }),
        &[],
    );
    play.at(9999, Event::Tick, &[]).timer(10_000);
}

#[test]
fn a_run_that_ended_starts_again_only_with_an_empty_tree() {
    let mut play = Play::leading();
    play.at(1000, ended(1, 0), &["stop run"]);
    play.at(5000, Event::Tick, &[]);
    play.at(5000, empty(1), &[]).timer(6000);
    play.at(6000, Event::Tick, &["start job"]);
}

#[test]
fn a_run_that_is_not_repeated_gives_the_term_back_and_cools_down() {
    let once = config_with(|config| config.job.restart = Restart::Never);
    let mut play = Play::with(once).and_stands().and_leads();
    play.at(1000, ended(1, 0), &["stop run"]);
    play.at(1001, empty(1), &["stop in 10s"]);
    play.at(1002, empty(1), &["give back: resigned"])
        .is(Role::Cooldown);
    play.at(
        1003,
        Event::Left(Left::Revoked),
        &["over: resigned", "cool down"],
    );
    play.is(Role::Cooldown).timer(5003);
}

#[test]
fn no_run_starts_once_a_stop_has_begun() {
    let mut play = Play::leading();
    play.at(1000, ended(1, 0), &["stop run"]);
    play.at(1001, empty(1), &[]);
    play.at(1002, Event::Order(Order::Shutdown), &["stop in 10s"]);
    play.at(5000, Event::Tick, &[]);
    play.at(
        5001,
        empty(1),
        &["give back: resigned", "hurry until 10000"],
    );
}

#[test]
fn a_shutdown_ends_whatever_is_going_on() {
    let mut play = Play::leading();
    play.at(1, Event::MakeWay, &["stop in 10s"]);
    play.at(2, Event::Order(Order::Shutdown), &[]);
    play.at(3, empty(1), &["give back: resigned", "hurry until 10000"]);
    play.at(4, Event::Left(Left::Revoked), &["over: resigned", "exit"]);
    let mut play = Play::standing();
    let shutdown = || Event::Order(Order::Shutdown);
    play.at(1, shutdown(), &["give back: resigned", "hurry until 10000"]);
    play.at(2, Event::Left(Left::Gone), &["exit"]);
    Play::new().at(0, shutdown(), &["exit"]);
}

#[test]
fn a_second_shutdown_kills_and_hurries() {
    let shutdown = || Event::Order(Order::Shutdown);
    let now = || Event::Order(Order::ShutdownNow);
    let mut play = Play::leading();
    play.at(1, shutdown(), &["stop in 10s"]);
    play.at(2, now(), &["kill"]);
    play.at(3, empty(1), &["give back: resigned", "hurry until 1503"]);
    // The one attempt goes on.
    play.at(4, shutdown(), &[]).at(4, now(), &[]);
    let mut play = Play::leading();
    play.at(1, shutdown(), &["stop in 10s"]);
    play.at(2, empty(1), &["give back: resigned", "hurry until 10000"]);
    play.at(3, now(), &["hurry until 1503"]);
}

#[test]
fn a_lost_candidacy_is_revoked_and_stands_again() {
    let mut play = Play::standing();
    play.at(1, Event::Lost(Loss::Revoked), &["give back: resigned"]);
    play.at(2, Event::Left(Left::Gone), &["rejoin: revoked"]);
    play.is(Role::Waiting)
        .timer(102)
        .at(102, Event::Tick, &["prepare"]);
}

fn checked() -> Play {
    Play::with(config_with(|config| {
        config.check = Some(Check {
            command: vec!["check".to_owned()],
            interval: Duration::from_secs(4),
            timeout: Duration::from_secs(1),
            rise: 1,
            fall: 1,
        });
    }))
}

#[test]
fn nobody_stands_before_the_first_check_or_while_it_fails() {
    let mut play = checked();
    play.at(0, Event::Tick, &["check"]).is(Role::Waiting);
    let [ended, empty] = check(1, 1);
    play.at(1, ended, &[]).is(Role::Unhealthy).at(1, empty, &[]);
    play.at(4000, Event::Tick, &["check"]);
    let [ended, _] = check(2, 0);
    play.at(4001, ended, &["prepare"]).is(Role::Campaigning);
}

#[test]
fn an_unhealthy_leader_stops_its_job_in_an_orderly_way_before_it_gives_back() {
    let mut play = checked();
    play.at(0, Event::Tick, &["check"]);
    let [well, over] = check(1, 0);
    play.at(0, well, &["prepare"]).at(0, over, &[]);
    let lease = play.lease();
    play.at(0, Event::Prepared(lease), &["contend"]);
    let mut play = play.and_leads();
    play.at(4000, Event::Tick, &["check"]);
    let [ill, over] = check(2, 1);
    play.at(4001, ill, &["stop in 10s"]).is(Role::Stopping);
    play.at(4001, over, &[]);
    // Lost meanwhile, it has no more time.
    play.at(4002, Event::Lost(Loss::Expired), &["kill"]);
    play.at(4003, empty(1), &["give back: unhealthy"]);
    play.at(4004, Event::Left(Left::Revoked), &["over: unhealthy"]);
    play.is(Role::Unhealthy).at(4005, Event::Tick, &[]);
    play.at(8000, Event::Tick, &["check"]);
    let [well, _] = check(3, 0);
    play.at(8001, well, &["prepare"]);
}

#[test]
fn a_key_that_is_gone_was_deleted_unless_its_lease_is_gone_too() {
    for (left, reason) in [(Left::Revoked, "deleted"), (Left::Gone, "revoked")] {
        let mut play = Play::leading();
        play.at(1, Event::Lost(Loss::Deleted), &["kill"]);
        play.at(2, empty(1), &["give back: deleted"]);
        let (lost, over) = (format!("lost: {reason}"), format!("over: {reason}"));
        play.at(3, Event::Left(left), &[&lost, &over, "rejoin: deleted"]);
    }
}

#[test]
fn a_term_that_the_guardian_gave_back_is_given_back_in_silence() {
    let mut play = Play::leading();
    let (lease, confirmed) = (play.lease(), true);
    play.at(
        7000,
        Event::Guardian(Report::Resigned { lease, confirmed }),
        &[],
    );
    play.at(7001, Event::Lost(Loss::Expired), &["kill"]);
    play.at(7002, empty(1), &["give back: expired"]);
    let mind = &mut play.0;
    let said = mind.handle(Event::Left(Left::Gone), now(7003), 0);
    let resigned = |action: &Action| matches!(action, Action::Say(Line::Resigned { .. }));
    assert!(!said.iter().any(resigned), "{said:?}");
}

/// A Rust job that runs, since the guardian has acknowledged its term.
#[track_caller]
fn native_running() -> Play {
    let config = config_with(|config| config.job.kind = "rust".to_owned());
    let mut play = Play::with(config).and_stands();
    play.at(0, elected(), &["lease", "term"]);
    let (token, deadline) = (TOKEN, at(10_000));
    play.at(
        1,
        Event::Guardian(Report::Guarded { token, deadline }),
        &["start native"],
    );
    play.at(1, Event::NativeStarted(1), &[]);
    play
}

#[test]
fn a_rust_job_starts_once_the_guardian_has_acknowledged_its_term() {
    let mut play = native_running();
    // Processes are its own to have, until it is to stop.
    play.at(2, Event::ProcessWanted, &["start process"]);
    play.lose();
    play.at(4, Event::ProcessWanted, &["refuse process"]);
    // The tree is empty; the job itself isn't over, and neither is its guardian lost.
    play.at(5, empty(2), &[]).timer(1003);
    play.at(500, Event::Tick, &[]);
    play.at(900, Event::NativeEnded(1, Ok(())), &["give back: revoked"]);
}

#[test]
fn a_rust_job_that_does_not_end_takes_the_daemon_with_it() {
    let mut play = native_running();
    play.lose();
    play.at(4, empty(0), &[]);
    play.at(1003, Event::Tick, &["kill daemon"]);
}

#[test]
fn a_guardian_that_comes_after_a_loss_is_told_to_kill_too() {
    let mut play = native_running();
    play.lose();
    play.at(
        4,
        Event::GuardianGone,
        &["guardian lost", "stop native", "fence"],
    );
    play.at(5, Event::Fenced, &[]);
    let anew = ["lease", "lease", "term", "kill", "stop native"];
    play.at(6, Event::Guarded, &anew).timer(106);
    play.at(7, empty(0), &[]).timer(1003);
}

#[test]
fn a_hook_that_fails_gives_the_term_back_and_no_job_starts() {
    let hooked = config_with(|config| {
        config.hooks.on_elected = Some(crate::config::Hook {
            command: vec!["hook".to_owned()],
            limit: Duration::from_secs(3),
        });
    });
    let mut play = Play::with(hooked).and_stands();
    play.at(0, elected(), &["lease", "term", "start hook"])
        .timer(5000);
    // Its time counts from its start, which may have been held back.
    play.at(1000, started(1), &[]).timer(4000);
    play.at(4000, Event::Tick, &["stop run"]);
    play.at(4001, ended(1, 0), &["stop run"]);
    play.at(4002, empty(1), &["stop in 0ns"]);
    play.at(4003, empty(1), &["give back: hook_refused"]);
}
