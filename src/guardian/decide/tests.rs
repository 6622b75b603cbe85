//! The decisions as claims. Times are milliseconds after boot. The usual term has token 7 and its
//! deadline at 10 s; with G = 2 s and K = 1 s it stops at 7 s and kills at 9 s.

use super::*;
use crate::config::timing::Graces;
use crate::keys::Prefix;
use crate::revision::Revision;

/// A guard, and what it did, as short text.
#[derive(Default)]
pub(super) struct Play(TermGuard);

impl Play {
    /// Feeds one event and checks what follows from it.
    #[track_caller]
    pub(super) fn at(
        &mut self,
        ms: u64,
        event: impl Into<GuardEvent>,
        expected: &[&str],
    ) -> &mut Self {
        let event = event.into();
        let what = format!("{event:?}");
        let did = self.0.handle(event, at(ms));
        let did: Vec<String> = did.iter().filter(|it| !is_look(it)).map(text).collect();
        assert_eq!(did, expected, "at {ms} ms: {what}");
        self
    }

    /// The daemon's end of the socket is closed, while a job runs.
    #[track_caller]
    pub(super) fn closes(&mut self, ms: u64) -> &mut Self {
        let expected = ["kill daemon", "stop tree by 15"];
        self.at(ms, GuardEvent::DaemonClosed, &expected)
    }

    /// Feeds a tick and checks what is looked for.
    #[track_caller]
    pub(super) fn looks(&mut self, ms: u64, expected: &[&str]) -> &mut Self {
        let did = self.0.handle(GuardEvent::Tick, at(ms));
        let looks: Vec<String> = did.iter().filter(|it| is_look(it)).map(text).collect();
        assert_eq!(looks, expected, "at {ms} ms");
        self
    }

    /// Checks when the next tick is due, but for looks.
    #[track_caller]
    fn timer(&mut self, ms: impl Into<Option<u64>>) -> &mut Self {
        assert_eq!(self.0.next_deadline(), ms.into().map(at), "the next timer");
        self
    }
}

impl From<Request> for GuardEvent {
    fn from(request: Request) -> Self {
        Self::Request(request)
    }
}

fn at(ms: u64) -> Instant {
    Instant::from_nanos(ms * 1_000_000)
}

fn ms(at: Instant) -> u64 {
    at.as_nanos() / 1_000_000
}

fn is_look(action: &GuardAction) -> bool {
    matches!(action, GuardAction::LookForKey(_))
}

fn text(action: &GuardAction) -> String {
    match action {
        GuardAction::Report(Report::Remembered { lease }) => format!("remembered {lease}"),
        GuardAction::Report(Report::Guarded { token, deadline }) => {
            format!("guarded {token} until {}", ms(*deadline))
        }
        GuardAction::Report(Report::Started { run, .. }) => format!("started {run}"),
        GuardAction::Report(Report::Refused { run, reason }) => format!("refused {run}: {reason}"),
        GuardAction::Report(Report::MainEnded { run, .. }) => format!("main {run} ended"),
        GuardAction::Report(Report::Empty {
            token,
            killed,
            unfinished,
            ..
        }) => {
            let token = token.expect("of a term");
            let killed = if *killed { ", killed" } else { "" };
            let unfinished = if *unfinished { ", unfinished" } else { "" };
            format!("empty {token}{killed}{unfinished}")
        }
        GuardAction::Report(Report::AtEnd { token, .. }) => format!("at end of {token}"),
        GuardAction::Report(Report::Stopping { token }) => format!("stopping {token}"),
        GuardAction::Report(Report::Resigned { lease, .. }) => format!("report resigned {lease}"),
        GuardAction::Spawn { run, before, .. } => format!("spawn {run} before {}", ms(*before)),
        GuardAction::StopTree { signal } => format!("stop tree by {signal}"),
        GuardAction::SignalTree { signal } => format!("signal tree by {signal}"),
        GuardAction::KillTree => "kill tree".into(),
        GuardAction::KillDaemon => "kill daemon".into(),
        GuardAction::SayStuck { .. } => "say stuck".into(),
        GuardAction::Connect(_) => "connect".into(),
        GuardAction::LookForKey(resignation) => resignation.lease.to_string(),
        GuardAction::Renew(resignation) => format!("renew {}", resignation.lease),
        GuardAction::GiveBack { resignation, until } => {
            format!("give back {} until {}", resignation.lease, ms(*until))
        }
        GuardAction::Say(GuardLine::TermLost {
            lease,
            token,
            reason,
        }) => {
            let lease = lease.expect("the lease of its token");
            format!("say term lost {token} of {lease}: {reason}")
        }
        GuardAction::Say(GuardLine::JobStopped {
            lease,
            killed,
            took,
            ..
        }) => {
            let lease = lease.expect("the lease of its token");
            let how = if *killed { "killed" } else { "stopped" };
            format!("say job of {lease} {how} after {}", took.as_millis())
        }
        GuardAction::Say(GuardLine::HookEnded {
            lease, killed, ran, ..
        }) => {
            let lease = lease.expect("the lease of its token");
            let how = if *killed { "killed" } else { "ended" };
            format!("say hook of {lease} {how} after {}", ran.as_millis())
        }
        GuardAction::Say(GuardLine::Resigned { lease, .. }) => format!("say resigned {lease}"),
        GuardAction::Exit => "exit".into(),
        other => format!("{other:?}"),
    }
}

fn of(token: i64) -> Token {
    Token::at(Revision::new(token))
}

fn lease(id: i64, token: Option<i64>) -> Request {
    let resignation = Resignation {
        store: crate::etcd::Settings {
            connect_timeout: Duration::from_secs(1),
            ..crate::etcd::Settings::new([""; 0])
        },
        cluster: 7,
        prefix: Prefix::new("/a"),
        candidate: "node1".into(),
        lease: LeaseId::new(id).unwrap(),
        ttl: Duration::from_secs(15),
        attempt_limit: Duration::from_secs(1),
        token: token.map(of),
        may_mark: true,
        step_down: None,
        close: None,
    };
    Request::Lease(Box::new(resignation))
}

fn graces(lost_grace: u64) -> Graces {
    Graces {
        lost_grace: Duration::from_secs(lost_grace),
        kill_budget: Duration::from_secs(1),
    }
}

fn usual(token: i64) -> TermSpec {
    TermSpec {
        token: of(token),
        deadline: at(10_000),
        graces: graces(2),
        stop_signal: 15,
        in_daemon: false,
    }
}

pub(super) fn in_daemon() -> Request {
    Request::Term(TermSpec {
        in_daemon: true,
        ..usual(7)
    })
}

fn deadline(token: i64, ms: u64) -> Request {
    let deadline = at(ms);
    Request::Deadline {
        token: of(token),
        deadline,
    }
}

fn start(token: i64, run: u64, sole: bool) -> Request {
    let command = CommandSpec::default();
    Request::Start {
        token: of(token),
        run,
        command,
        sole,
    }
}

fn stop(token: i64, grace_ms: u64) -> Request {
    Request::Stop {
        token: of(token),
        stop_signal: 2,
        grace: Duration::from_millis(grace_ms),
    }
}

fn stop_run(token: i64, grace_ms: u64) -> Request {
    Request::StopRun {
        token: of(token),
        stop_signal: 2,
        grace: Duration::from_millis(grace_ms),
    }
}

fn ended(run: u64) -> GuardEvent {
    let exit = Exit::Code(0);
    GuardEvent::MainEnded {
        run,
        pid: 100,
        exit,
    }
}

fn executed(run: u64) -> GuardEvent {
    GuardEvent::Executed { run, pid: 100 }
}

/// A guard at the beginning of the usual term; its lease is 1f.
fn beginning() -> Play {
    let mut play = Play::default();
    play.at(0, lease(0x1f, Some(7)), &["remembered 1f"]).at(
        0,
        Request::Term(usual(7)),
        &["guarded 7 until 10000"],
    );
    play
}

/// A guard of the usual term that is connected already.
pub(super) fn guarding() -> Play {
    let mut play = beginning();
    play.timer(500).at(500, GuardEvent::Tick, &["connect"]);
    play
}

/// The usual term with run 1 alive.
pub(super) fn running() -> Play {
    let mut play = guarding();
    play.at(500, start(7, 1, true), &["spawn 1 before 7000"])
        .at(500, executed(1), &["started 1"])
        .timer(7_000);
    play
}

// === the deadline ===

#[test]
fn a_term_stops_politely_and_is_killed_in_time() {
    running()
        .at(6_999, GuardEvent::Tick, &[])
        .at(7_000, GuardEvent::Tick, &["stopping 7", "stop tree by 15"])
        .timer(9_000)
        .at(8_999, GuardEvent::Tick, &[])
        .at(9_000, GuardEvent::Tick, &["kill tree"])
        .timer(9_010)
        .at(9_003, GuardEvent::Reaped, &["kill tree"])
        .timer(9_013)
        .at(9_013, GuardEvent::Tick, &["kill tree"])
        .at(9_014, ended(1), &["main 1 ended"])
        .at(9_014, GuardEvent::TreeEmpty, &["empty 7, killed"]);
}

#[test]
fn a_deadline_moves_on_and_never_back() {
    running()
        .at(1, deadline(7, 12_000), &["guarded 7 until 12000"])
        .at(2, deadline(7, 11_000), &["guarded 7 until 12000"])
        .at(3, deadline(6, 90_000), &[])
        .at(4, deadline(8, 90_000), &[])
        .timer(9_000);
}

#[test]
fn a_deadline_that_waits_in_the_socket_counts_before_the_timer() {
    running()
        .at(60_000, deadline(7, 70_000), &["guarded 7 until 70000"])
        .at(60_000, GuardEvent::Tick, &[])
        .timer(67_000);
}

#[test]
fn a_deadline_that_comes_after_the_stop_began_saves_nothing() {
    running()
        .at(7_000, GuardEvent::Tick, &["stopping 7", "stop tree by 15"])
        .at(7_001, deadline(7, 90_000), &["guarded 7 until 10000"])
        .at(
            7_002,
            start(7, 2, false),
            &["refused 2: the deadline is too near"],
        )
        .timer(9_000);
}

#[test]
fn a_planned_stop_lasts_while_the_deadline_moves() {
    running()
        .at(1_000, stop(7, 30_000), &["stop tree by 2"])
        .timer(7_000)
        .at(2_000, deadline(7, 50_000), &["guarded 7 until 50000"])
        .timer(31_000)
        .at(31_000, GuardEvent::Tick, &["kill tree"]);
}

#[test]
fn a_planned_stop_is_no_longer_than_the_lease() {
    running()
        .at(1_000, stop(7, 30_000), &["stop tree by 2"])
        .at(7_000, GuardEvent::Tick, &["stopping 7"])
        .timer(9_000)
        .at(9_000, GuardEvent::Tick, &["kill tree"]);
}

#[test]
fn the_times_of_a_term_can_change() {
    let shorter = TermSpec {
        graces: graces(1),
        deadline: at(9_999),
        ..usual(7)
    };
    running()
        .at(1, Request::Term(shorter), &["guarded 7 until 10000"])
        .timer(8_000);
}

// === starts ===

#[test]
fn starts_are_refused_outside_an_open_term() {
    Play::default().at(0, start(7, 1, true), &["refused 1: no such term"]);
    guarding()
        .at(0, start(6, 1, true), &["refused 1: no such term"])
        .at(0, start(8, 2, true), &["refused 2: no such term"])
        .at(
            7_000,
            start(7, 3, true),
            &["refused 3: the deadline is too near"],
        )
        .at(6_000, Request::EndTerm { token: of(7) }, &[])
        .at(6_000, start(7, 4, true), &["refused 4: the term has ended"])
        .at(6_000, Request::Term(usual(7)), &[])
        .at(6_000, start(7, 5, true), &["refused 5: the term has ended"])
        .at(6_000, Request::Term(usual(8)), &["guarded 8 until 10000"])
        .at(6_000, start(7, 6, true), &["refused 6: the term has ended"])
        .at(6_000, start(8, 7, true), &["spawn 7 before 7000"]);
}

#[test]
fn starts_are_refused_once_a_stop_has_begun() {
    guarding().at(0, stop(7, 0), &["empty 7"]).at(
        0,
        start(7, 1, true),
        &["refused 1: a stop has begun"],
    );
    guarding()
        .at(0, Request::Kill { token: of(7) }, &["empty 7"])
        .at(0, start(7, 1, true), &["refused 1: a stop has begun"]);
}

#[test]
fn a_sole_run_starts_only_in_an_empty_tree() {
    running()
        .at(
            1,
            start(7, 2, true),
            &["refused 2: an earlier run is alive"],
        )
        .at(2, ended(1), &["main 1 ended"])
        .at(2, GuardEvent::Reaped, &[])
        .at(
            3,
            start(7, 3, true),
            &["refused 3: an earlier run is alive"],
        )
        .at(4, start(7, 4, false), &["spawn 4 before 7000"])
        .at(
            4,
            GuardEvent::TooLate { run: 4 },
            &["refused 4: the deadline is too near"],
        )
        .at(5, GuardEvent::TreeEmpty, &["empty 7"])
        .at(6, start(7, 5, true), &["spawn 5 before 7000"]);
}

#[test]
fn a_stopped_run_bars_starts_until_it_is_gone() {
    running()
        .at(1, stop_run(7, 500), &["stop tree by 2"])
        .at(2, start(7, 2, false), &["refused 2: a stop has begun"])
        .at(3, ended(1), &["main 1 ended"])
        .at(3, GuardEvent::TreeEmpty, &["empty 7"])
        .at(4, start(7, 3, true), &["spawn 3 before 7000"])
        .timer(7_000);
}

#[test]
fn what_a_main_process_leaves_behind_is_asked_once_then_killed() {
    running()
        .at(1, stop_run(7, 500), &["stop tree by 2"])
        .at(2, ended(1), &["main 1 ended"])
        .at(2, GuardEvent::Reaped, &["stop tree by 2"])
        .at(3, GuardEvent::Reaped, &[])
        .timer(501)
        .at(501, GuardEvent::Tick, &["kill tree"])
        .at(502, GuardEvent::TreeEmpty, &["empty 7, killed"]);
}

#[test]
fn a_command_that_cannot_be_executed_ends_its_run() {
    let missing = GuardEvent::NotExecuted {
        run: 1,
        code: 127,
        error: String::new(),
    };
    guarding()
        .at(0, start(7, 1, true), &["spawn 1 before 7000"])
        .at(0, missing, &["main 1 ended"])
        .at(0, GuardEvent::TreeEmpty, &["empty 7"])
        .at(0, start(7, 2, true), &["spawn 2 before 7000"]);
}

/// A guard whose job's exec hangs.
fn starting() -> Play {
    let mut play = guarding();
    play.at(500, start(7, 1, true), &["spawn 1 before 7000"]);
    play
}

fn killed_early(run: u64) -> GuardEvent {
    GuardEvent::KilledEarly { run, signal: 9 }
}

#[test]
fn a_start_that_hangs_is_ended_by_the_deadline_and_is_no_job() {
    starting()
        .at(6_000, deadline(7, 12_000), &["guarded 7 until 12000"])
        .at(7_000, GuardEvent::Tick, &[])
        .at(
            8_000,
            start(7, 2, true),
            &["refused 2: an earlier run is alive"],
        )
        .at(9_000, GuardEvent::Tick, &["stopping 7", "stop tree by 15"])
        .at(
            9_001,
            killed_early(1),
            &["refused 1: the deadline is too near"],
        )
        .at(9_001, GuardEvent::TreeEmpty, &["empty 7"]);
}

#[test]
fn a_start_that_hangs_keeps_the_lease_until_nothing_is_left_of_it() {
    starting()
        .closes(1_000)
        .at(1_001, GuardEvent::DaemonDead, &[])
        .at(3_000, GuardEvent::Tick, &["kill tree"])
        .at(3_100, GuardEvent::Tick, &["kill tree", "renew 1f"])
        .at(3_200, killed_early(1), &["refused 1: a stop has begun"])
        .at(
            3_200,
            GuardEvent::TreeEmpty,
            &["empty 7, killed", "give back 1f until 18200"],
        );
}

#[test]
fn a_start_that_is_killed_by_another_hand_is_a_run_that_ended() {
    starting()
        .at(1_000, killed_early(1), &["main 1 ended"])
        .at(1_000, GuardEvent::TreeEmpty, &["empty 7"])
        .at(1_000, start(7, 2, true), &["spawn 2 before 7000"]);
}

#[test]
fn a_term_in_which_nothing_was_executed_has_no_hook_at_its_end() {
    let mut play = starting();
    with_hook(&mut play);
    play.at(1_000, stop(7, 500), &["stop tree by 2"])
        .at(1_001, killed_early(1), &["refused 1: a stop has begun"])
        .at(1_001, GuardEvent::TreeEmpty, &["empty 7"]);
}

#[test]
fn a_signal_is_passed_on_to_a_living_job_of_its_term_and_stops_nothing() {
    let signal = |token| Request::Signal {
        token: of(token),
        signal: 10,
    };
    guarding().at(0, signal(7), &[]);
    running()
        .at(1, signal(7), &["signal tree by 10"])
        .at(2, signal(8), &[])
        .at(3, start(7, 2, false), &["spawn 2 before 7000"]);
}

#[test]
fn what_an_earlier_term_left_is_killed_before_the_next_starts() {
    running()
        .at(
            1,
            Request::Term(usual(9)),
            &["kill tree", "guarded 9 until 10000"],
        )
        .at(2, start(9, 2, true), &["refused 2: a stop has begun"])
        .at(3, GuardEvent::TreeEmpty, &["empty 7, killed"])
        .at(4, start(9, 3, true), &["spawn 3 before 7000"])
        .at(4, executed(3), &["started 3"])
        .at(5, Request::Kill { token: of(7) }, &[])
        .at(6, Request::EndTerm { token: of(7) }, &[]);
}

#[test]
fn a_term_that_ends_with_processes_left_kills_them() {
    running()
        .at(1, Request::EndTerm { token: of(7) }, &["kill tree"])
        .at(2, GuardEvent::TreeEmpty, &["empty 7, killed"])
        .timer(None)
        .at(60_000, GuardEvent::Tick, &[]);
}

// === a tree that can't be emptied ===

#[test]
fn a_stuck_tree_is_named_while_the_daemon_renews() {
    let mut play = running();
    play.at(1_000, Request::Kill { token: of(7) }, &["kill tree"]);
    for ms in (1_010..2_000).step_by(10) {
        play.at(ms, GuardEvent::Tick, &["kill tree"]);
    }
    play.at(2_000, GuardEvent::Tick, &["kill tree", "say stuck"])
        .at(2_010, GuardEvent::Tick, &["kill tree"])
        .timer(2_110);
}

#[test]
fn a_stuck_tree_is_renewed_for_when_the_daemon_is_gone() {
    running()
        .at(1_000, GuardEvent::DaemonDead, &["stop tree by 15"])
        .at(3_000, GuardEvent::Tick, &["kill tree"])
        .at(3_099, GuardEvent::Tick, &["kill tree"])
        .timer(3_100)
        .at(3_100, GuardEvent::Tick, &["renew 1f"])
        .at(4_000, GuardEvent::Tick, &["kill tree", "say stuck"])
        .at(6_099, GuardEvent::Tick, &["kill tree"])
        .at(6_100, GuardEvent::Tick, &["renew 1f"])
        .at(
            6_150,
            GuardEvent::TreeEmpty,
            &[
                "empty 7, killed",
                "say job of 1f killed after 5150",
                "give back 1f until 21150",
            ],
        )
        .timer(None);
}

// === the daemon ===

#[test]
fn a_crashed_daemon_costs_no_more_than_the_stop_of_its_job() {
    running()
        .closes(1_000)
        .at(1_001, GuardEvent::DaemonDead, &[])
        .at(1_002, ended(1), &["main 1 ended"])
        .at(
            1_002,
            GuardEvent::TreeEmpty,
            &[
                "empty 7",
                "say job of 1f stopped after 2",
                "give back 1f until 16002",
            ],
        )
        .at(
            1_005,
            GuardEvent::GivenBack {
                lease: LeaseId::new(0x1f).unwrap(),
                confirmed: true,
            },
            &["say resigned 1f", "report resigned 1f", "exit"],
        );
}

#[test]
fn nothing_is_given_back_before_the_daemon_is_dead() {
    running()
        .closes(1_000)
        .at(
            1_001,
            GuardEvent::TreeEmpty,
            &["empty 7", "say job of 1f stopped after 1"],
        )
        .at(1_002, start(7, 2, true), &[])
        .at(1_003, GuardEvent::DaemonDead, &["give back 1f until 16003"]);
}

#[test]
fn the_lost_grace_ends_at_the_kill_time_at_the_latest() {
    running()
        .at(6_000, GuardEvent::DaemonDead, &["stop tree by 15"])
        .timer(8_000);
    running()
        .at(6_900, deadline(7, 10_000), &["guarded 7 until 10000"])
        .at(8_500, GuardEvent::DaemonDead, &["stop tree by 15"])
        .timer(9_000);
}

#[test]
fn a_crash_shortens_a_planned_stop() {
    running()
        .at(1_000, deadline(7, 90_000), &["guarded 7 until 90000"])
        .at(1_000, stop(7, 30_000), &["stop tree by 2"])
        .at(2_000, GuardEvent::DaemonDead, &[])
        .timer(4_000);
}

#[test]
fn a_guardian_is_connected_before_its_daemon_dies_or_connects_then() {
    beginning()
        .at(499, GuardEvent::Tick, &[])
        .at(499, GuardEvent::DaemonClosed, &["kill daemon", "connect"])
        .at(500, GuardEvent::Tick, &[])
        .at(501, GuardEvent::DaemonDead, &["give back 1f until 15501"]);
    guarding().at(1_000, GuardEvent::Tick, &[]).at(
        1_000,
        GuardEvent::DaemonClosed,
        &["kill daemon"],
    );
}

#[test]
fn every_candidacy_of_a_crashed_daemon_is_given_back_at_once() {
    let mut play = Play::default();
    play.at(0, lease(0x1f, None), &["remembered 1f"])
        .at(0, lease(0x20, None), &["remembered 20"])
        .at(0, lease(0x21, None), &["remembered 21"])
        .at(
            0,
            Request::Forget {
                lease: LeaseId::new(0x20).unwrap(),
            },
            &[],
        )
        .at(
            1_000,
            GuardEvent::DaemonDead,
            &[
                "connect",
                "give back 1f until 16000",
                "give back 21 until 16000",
            ],
        );
    for (id, last) in [(0x21, false), (0x1f, true)] {
        let lease = LeaseId::new(id).unwrap();
        let confirmed = false;
        let did = play
            .0
            .handle(GuardEvent::GivenBack { lease, confirmed }, at(1_010));
        assert_eq!(matches!(did.last(), Some(GuardAction::Exit)), last);
    }
}

#[test]
fn a_guardian_with_nothing_to_guard_leaves_with_its_daemon() {
    Play::default().at(0, GuardEvent::DaemonClosed, &["exit"]);
    Play::default().at(0, GuardEvent::DaemonDead, &["exit"]);
}

#[test]
fn a_silent_daemon_is_stood_in_for() {
    let mut play = running();
    play.at(0, lease(0x20, None), &["remembered 20"])
        .at(7_000, GuardEvent::Tick, &["stopping 7", "stop tree by 15"])
        .at(7_010, ended(1), &["main 1 ended"])
        .at(7_010, GuardEvent::TreeEmpty, &["empty 7"])
        .timer(7_110)
        .at(7_109, GuardEvent::Tick, &[])
        .at(
            7_110,
            GuardEvent::Tick,
            &[
                "say term lost 7 of 1f: deadline",
                "say job of 1f stopped after 10",
                "give back 1f until 22110",
            ],
        )
        .at(
            7_120,
            GuardEvent::GivenBack {
                lease: LeaseId::new(0x1f).unwrap(),
                confirmed: true,
            },
            &["say resigned 1f", "report resigned 1f"],
        )
        // It wakes, and finds that it can't start anything.
        .at(60_000, deadline(7, 70_000), &[])
        .at(
            60_000,
            start(7, 2, true),
            &["refused 2: the term has ended"],
        )
        .at(60_000, stop(7, 1), &["empty 7"])
        .at(60_000, Request::Term(usual(7)), &[])
        .timer(None);
}

#[test]
fn a_daemon_that_ends_the_term_itself_gives_it_back_itself() {
    running()
        .at(7_000, GuardEvent::Tick, &["stopping 7", "stop tree by 15"])
        .at(7_010, GuardEvent::TreeEmpty, &["empty 7"])
        .at(7_050, Request::EndTerm { token: of(7) }, &[])
        .timer(None);
}

#[test]
fn a_silent_daemon_is_stood_in_for_between_two_runs_too() {
    guarding()
        .at(7_000, GuardEvent::Tick, &["stopping 7", "empty 7"])
        .at(
            7_100,
            GuardEvent::Tick,
            &[
                "say term lost 7 of 1f: deadline",
                "give back 1f until 22100",
            ],
        );
}

#[test]
fn a_rust_job_is_killed_with_its_daemon_at_the_deadline() {
    let mut play = guarding();
    play.at(0, in_daemon(), &["guarded 7 until 10000"])
        .at(7_000, GuardEvent::Tick, &["stopping 7", "empty 7"])
        .timer(9_000)
        .at(
            9_000,
            GuardEvent::Tick,
            &["say term lost 7 of 1f: deadline", "kill daemon"],
        )
        .timer(9_100)
        .at(9_001, GuardEvent::DaemonClosed, &[])
        .at(9_002, GuardEvent::DaemonDead, &["give back 1f until 24002"]);
}

#[test]
fn a_rust_job_has_the_grace_of_a_planned_stop_and_the_kill_budget_after_a_loss() {
    let mut play = guarding();
    play.at(0, in_daemon(), &["guarded 7 until 10000"])
        .at(1_000, stop(7, 500), &["empty 7"])
        .timer(1_550)
        .at(
            1_550,
            GuardEvent::Tick,
            &["say term lost 7 of 1f: job_stuck", "kill daemon"],
        )
        .timer(7_000);
    let mut play = guarding();
    play.at(0, in_daemon(), &["guarded 7 until 10000"])
        .at(1_000, Request::Kill { token: of(7) }, &["empty 7"])
        .timer(2_050)
        .at(1_999, Request::EndTerm { token: of(7) }, &[])
        .timer(None);
}

#[test]
fn a_daemon_that_cannot_be_killed_is_renewed_for() {
    let mut play = guarding();
    play.at(0, in_daemon(), &["guarded 7 until 10000"])
        .at(1_000, GuardEvent::DaemonClosed, &["kill daemon"])
        .timer(1_100)
        .at(1_100, GuardEvent::Tick, &["renew 1f"])
        .timer(4_100);
}

// === the hook at the end of a term ===

/// Has a hook run at the end of the usual term, for 5 s at most.
pub(super) fn with_hook(play: &mut Play) {
    let request = Request::AtEnd {
        token: of(7),
        command: CommandSpec::default(),
        limit: Duration::from_secs(5),
    };
    play.at(600, request, &[]);
}

const BEGINS: [&str; 2] = ["at end of 7", "spawn 0 before 9000"];

/// A planned stop has come to the hook.
pub(super) fn hook_begins() -> Play {
    let mut play = running();
    with_hook(&mut play);
    play.at(1_000, stop(7, 30_000), &["stop tree by 2"])
        .at(1_100, ended(1), &["main 1 ended"])
        .at(1_100, GuardEvent::TreeEmpty, &BEGINS);
    play
}

#[test]
fn a_hook_runs_between_the_job_and_the_proof_that_the_tree_is_empty() {
    let mut play = hook_begins();
    play.at(1_100, executed(0), &[])
        .timer(6_100)
        .at(1_150, start(7, 2, false), &["refused 2: a stop has begun"])
        .at(1_200, ended(0), &[])
        .at(
            1_200,
            GuardEvent::TreeEmpty,
            &["say hook of 1f ended after 100", "empty 7"],
        )
        .at(1_300, stop(7, 30_000), &["empty 7"])
        .at(1_300, Request::EndTerm { token: of(7) }, &[]);
}

#[test]
fn a_hook_runs_once_and_only_where_something_ran_and_no_start_is_accepted() {
    let mut play = running();
    with_hook(&mut play);
    // The end of a run is not the end of the term.
    play.at(1_000, ended(1), &["main 1 ended"])
        .at(1_000, GuardEvent::TreeEmpty, &["empty 7, unfinished"])
        .at(1_001, stop_run(7, 30_000), &["empty 7, unfinished"])
        .at(1_002, stop(7, 30_000), &BEGINS)
        .at(1_002, executed(0), &[])
        .at(1_003, ended(0), &[])
        .at(
            1_003,
            GuardEvent::TreeEmpty,
            &["say hook of 1f ended after 1", "empty 7"],
        )
        .at(1_004, stop(7, 30_000), &["empty 7"]);
    let mut play = guarding();
    with_hook(&mut play);
    play.at(1_000, stop(7, 30_000), &["empty 7"]);
}

#[test]
fn a_hook_that_hangs_is_killed_at_its_limit() {
    let mut play = hook_begins();
    play.at(1_100, executed(0), &[])
        .at(6_099, GuardEvent::Tick, &[])
        .at(6_100, GuardEvent::Tick, &["kill tree"])
        .at(6_101, ended(0), &[])
        .at(
            6_101,
            GuardEvent::TreeEmpty,
            &["say hook of 1f killed after 5001", "empty 7"],
        );
}

#[test]
fn a_hook_has_no_time_beyond_the_kill_of_a_term_that_is_being_lost() {
    let mut play = running();
    with_hook(&mut play);
    play.at(7_000, GuardEvent::Tick, &["stopping 7", "stop tree by 15"])
        .at(7_100, ended(1), &["main 1 ended"])
        .at(7_100, GuardEvent::TreeEmpty, &BEGINS)
        .at(7_100, executed(0), &[])
        // Its own limit would be 12,100.
        .timer(9_000)
        .at(9_000, GuardEvent::Tick, &["kill tree"])
        .at(9_001, ended(0), &[])
        .at(
            9_001,
            GuardEvent::TreeEmpty,
            &["say hook of 1f killed after 1901", "empty 7"],
        )
        // The daemon is listened to from here on.
        .timer(9_101);
}

#[test]
fn a_hook_is_skipped_where_the_job_had_to_be_killed_in_time_for_the_next_leader() {
    let mut play = running();
    with_hook(&mut play);
    play.at(7_000, GuardEvent::Tick, &["stopping 7", "stop tree by 15"])
        .at(9_000, GuardEvent::Tick, &["kill tree"])
        .at(9_001, ended(1), &["main 1 ended"])
        .at(9_001, GuardEvent::TreeEmpty, &["empty 7, killed"]);
    let mut play = running();
    with_hook(&mut play);
    play.at(1_000, Request::Kill { token: of(7) }, &["kill tree"])
        .at(1_001, ended(1), &["main 1 ended"])
        .at(1_001, GuardEvent::TreeEmpty, &["empty 7, killed"]);
}

#[test]
fn a_loss_kills_the_hook() {
    let mut play = hook_begins();
    play.at(1_100, executed(0), &[])
        .at(1_200, Request::Kill { token: of(7) }, &["kill tree"])
        .at(1_201, ended(0), &[])
        .at(
            1_201,
            GuardEvent::TreeEmpty,
            &["say hook of 1f killed after 101", "empty 7"],
        );
}

#[test]
fn what_a_hook_leaves_behind_is_killed() {
    let mut play = hook_begins();
    play.at(1_100, executed(0), &[])
        .at(1_200, ended(0), &[])
        .at(1_200, GuardEvent::Reaped, &["kill tree"])
        .at(
            1_201,
            GuardEvent::TreeEmpty,
            &["say hook of 1f ended after 101", "empty 7"],
        );
}

#[test]
fn a_hook_that_can_not_be_executed_holds_nothing_up() {
    for outcome in [
        GuardEvent::NotExecuted {
            run: 0,
            code: 127,
            error: "x".into(),
        },
        GuardEvent::TooLate { run: 0 },
    ] {
        let said = ["say hook of 1f ended after 0", "empty 7"];
        hook_begins()
            .at(1_100, outcome, &[])
            .at(1_100, GuardEvent::TreeEmpty, &said);
    }
}

#[test]
fn a_hook_runs_before_the_guardian_gives_back_for_a_daemon_that_is_dead() {
    let mut play = running();
    with_hook(&mut play);
    play.closes(1_000)
        .at(1_001, GuardEvent::DaemonDead, &[])
        .at(1_002, ended(1), &["main 1 ended"])
        .at(
            1_002,
            GuardEvent::TreeEmpty,
            &[BEGINS[0], BEGINS[1], "say job of 1f stopped after 2"],
        )
        .at(1_002, executed(0), &[])
        .at(1_003, ended(0), &[])
        .at(
            1_003,
            GuardEvent::TreeEmpty,
            &[
                "say hook of 1f ended after 1",
                "empty 7",
                "give back 1f until 16003",
            ],
        );
    // Between two runs, too.
    let mut play = running();
    with_hook(&mut play);
    play.at(900, ended(1), &["main 1 ended"])
        .at(900, GuardEvent::TreeEmpty, &["empty 7, unfinished"])
        .at(1_000, GuardEvent::DaemonClosed, &["kill daemon"])
        .at(1_001, GuardEvent::DaemonDead, &BEGINS)
        .at(1_001, executed(0), &[])
        .at(1_003, ended(0), &[])
        .at(
            1_003,
            GuardEvent::TreeEmpty,
            &[
                "say hook of 1f ended after 2",
                "empty 7",
                "give back 1f until 16003",
            ],
        );
}

#[test]
fn a_daemon_that_dies_while_the_hook_runs_leaves_it_its_time() {
    let mut play = hook_begins();
    play.at(1_100, executed(0), &[])
        .at(1_200, GuardEvent::DaemonClosed, &["kill daemon"])
        .at(1_201, GuardEvent::DaemonDead, &[])
        // Its own limit, not what a job has when its term is lost.
        .timer(6_100)
        .at(6_100, GuardEvent::Tick, &["kill tree"]);
}

#[test]
fn a_hook_waits_for_the_end_of_a_rust_job() {
    let mut play = guarding();
    play.at(0, in_daemon(), &["guarded 7 until 10000"]);
    with_hook(&mut play);
    play.at(1_000, stop(7, 500), &["empty 7, unfinished"])
        .at(1_100, Request::JobOver { token: of(7) }, &BEGINS)
        .at(1_100, executed(0), &[])
        // The daemon isn't killed for a job that has ended.
        .timer(6_100)
        .at(1_200, ended(0), &[])
        .at(
            1_200,
            GuardEvent::TreeEmpty,
            &["say hook of 1f ended after 100", "empty 7"],
        );
}
