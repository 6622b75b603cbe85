//! Tests of the hook's decision, and of fencing where control groups can be made.

use std::process::Command;

use super::*;
use crate::etcd::Settings;
use crate::keys::{LeaseId, Prefix};
use crate::revision::Token;

const UNIT: &str = "/system.slice/system-incumbent.slice/incumbent@a.service";

fn place() -> UnitPlace {
    UnitPlace {
        boot_id: Some("boot".to_owned()),
        invocation_id: Some("run".to_owned()),
        cgroup: Some(UNIT.to_owned()),
    }
}

fn resignation() -> Resignation {
    Resignation {
        store: Settings {
            connect_timeout: Duration::from_secs(1),
            ..Settings::new(["http://127.0.0.1:1"])
        },
        cluster: 7,
        prefix: Prefix::new("/a"),
        candidate: "node1".to_owned(),
        lease: LeaseId::new(1).unwrap(),
        ttl: Duration::from_secs(15),
        attempt_limit: Duration::from_millis(1500),
        token: Token::new(7),
        may_mark: true,
        step_down: None,
        close: None,
    }
}

fn file() -> LeaseFile {
    LeaseFile::new(resignation(), place(), Some(Process::this()))
}

/// A lease that a daemon with this runtime directory held.
fn held(dir: &Path) -> HeldLease {
    HeldLease::new(Arc::new(Dir::open_trusted(dir).unwrap()), &file())
}

fn dead(_: Process, _: &str) -> Whereabouts {
    Whereabouts::Dead
}

/// What is decided at a place that differs from the recorded one as `change` says.
fn decided_at(change: impl FnOnce(&mut UnitPlace)) -> Result<String, ReleaseRefusal> {
    let mut here = place();
    change(&mut here);
    may_touch(&file(), &here, dead).map(str::to_owned)
}

#[test]
fn the_hook_of_the_same_run_may_fence_its_group() {
    assert_eq!(decided_at(|_| {}).as_deref(), Ok(UNIT));
    let control = format!("{UNIT}/.control");
    let delegated = decided_at(|here| here.cgroup = Some(control));
    assert_eq!(delegated.as_deref(), Ok(UNIT), "the unit's, not the hook's");
}

#[test]
fn anyone_else_is_refused() {
    let other = || Some("other".to_owned());
    assert_eq!(
        decided_at(|here| here.boot_id = other()),
        Err(ReleaseRefusal::OtherBoot)
    );
    assert_eq!(
        decided_at(|here| here.boot_id = None),
        Err(ReleaseRefusal::OtherBoot)
    );
    let run = decided_at(|here| here.invocation_id = other());
    assert_eq!(run, Err(ReleaseRefusal::OtherInvocation));
    for group in [
        "/",
        "/system.slice/ssh.service",
        "/user.slice/session-1.scope",
    ] {
        let decided = decided_at(|here| here.cgroup = Some(group.to_owned()));
        assert_eq!(decided, Err(ReleaseRefusal::OtherGroup), "{group}");
    }
    let below = format!("{UNIT}/below");
    let decided = decided_at(|here| here.cgroup = Some(below));
    assert_eq!(decided, Err(ReleaseRefusal::OtherGroup));
    assert_eq!(
        decided_at(|here| here.cgroup = None),
        Err(ReleaseRefusal::OtherGroup)
    );
}

#[test]
fn what_is_unknown_on_both_sides_is_not_the_same() {
    let mut file = file();
    file.place.boot_id = None;
    assert_eq!(
        may_touch(&file, &file.place, dead),
        Err(ReleaseRefusal::OtherBoot)
    );
    file.place = place();
    file.place.invocation_id = None;
    let decided = may_touch(&file, &file.place, dead);
    assert_eq!(decided, Err(ReleaseRefusal::OtherInvocation));
}

#[test]
fn a_group_that_is_no_service_is_never_fenced() {
    for group in [
        None,
        Some("/"),
        Some("/user.slice/session-1.scope"),
        Some("a.service"),
    ] {
        let mut file = file();
        file.place.cgroup = group.map(str::to_owned);
        let decided = may_touch(&file, &file.place, dead);
        assert_eq!(decided, Err(ReleaseRefusal::NoService), "{group:?}");
    }
}

#[test]
fn a_daemon_or_guardian_that_lives_outside_the_unit_forbids_it() {
    let file = file();
    let decided = |at| may_touch(&file, &place(), |_, _| at);
    assert_eq!(decided(Whereabouts::Dead), Ok(UNIT));
    assert_eq!(decided(Whereabouts::Inside), Ok(UNIT));
    let refused = decided(Whereabouts::Elsewhere);
    assert_eq!(refused, Err(ReleaseRefusal::LivesElsewhere));
}

#[test]
fn a_living_process_is_never_taken_for_dead() {
    let this = Process::this();
    assert_eq!(whereabouts(this, UNIT), Whereabouts::Elsewhere);
    let earlier = Process {
        start_time: this.start_time - 2,
        ..this
    };
    assert_eq!(whereabouts(earlier, UNIT), Whereabouts::Dead);
    let Some(group) = Group::make("inside") else {
        return;
    };
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    group.take_in("", child.id());
    let inside = Process::with_pid(child.id().cast_signed()).unwrap();
    assert_eq!(whereabouts(inside, &group.0), Whereabouts::Inside);
    assert_eq!(whereabouts(inside, UNIT), Whereabouts::Elsewhere);
    let handle = inside.open().unwrap().unwrap();
    child.kill().unwrap();
    assert!(handle.wait(Duration::from_secs(5)));
    assert_eq!(whereabouts(inside, UNIT), Whereabouts::Dead, "unreaped");
    child.wait().unwrap();
    assert_eq!(whereabouts(inside, UNIT), Whereabouts::Dead);
}

#[test]
fn one_that_lives_under_other_clocks_is_not_taken_for_dead_either() {
    let test = "release::tests::one_that_lives_under_other_clocks_is_not_taken_for_dead_either";
    crate::proc::ticks::tests::under_other_clocks(test, |shown| {
        assert_eq!(whereabouts(shown, UNIT), Whereabouts::Elsewhere);
    });
}

#[tokio::test]
async fn by_hand_it_touches_nothing() {
    // The tests run outside a unit's hook, so the very first condition fails.
    let dir = tempfile::tempdir().unwrap();
    if std::env::var_os("SERVICE_RESULT").is_none() {
        let outcome = run(open(dir.path())).await;
        assert_eq!(outcome, ReleaseOutcome::Refused(ReleaseRefusal::NotAHook));
        assert_eq!(outcome.code(), 3);
    }
}

/// A control group of the test's own, removed at its end; `None` where none can be made.
struct Group(String);

impl Group {
    fn make(name: &str) -> Option<Self> {
        let path = format!("/incumbent-test-{}-{name}.service", std::process::id());
        let made = std::fs::create_dir(cgroup::folder(&path));
        if let Err(error) = made {
            let mut stderr = io::stderr().lock();
            drop(io::Write::write_fmt(
                &mut stderr,
                format_args!("SKIPPED: no control group can be made here: {error}\n"),
            ));
            return None;
        }
        Some(Self(path))
    }

    fn take_in(&self, below: &str, pid: u32) {
        let folder = cgroup::folder(&self.0).join(below);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("cgroup.procs"), pid.to_string()).unwrap();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let folder = cgroup::folder(&self.0);
        drop(std::fs::remove_dir(folder.join("below")));
        drop(std::fs::remove_dir(folder));
    }
}

#[tokio::test]
async fn everything_in_the_group_and_below_is_killed() {
    let Some(group) = Group::make("kill") else {
        return;
    };
    let mut children = Vec::new();
    for below in ["", "below"] {
        // Deaf to SIGTERM and in a session of its own: neither helps.
        let mut command = Command::new("setsid");
        command.args(["sh", "-c", "trap '' TERM; sleep 60; :"]);
        let child = command.spawn().unwrap();
        group.take_in(below, child.id());
        children.push(child);
    }
    let until = clock::now() + Duration::from_secs(5);
    let folder = tempfile::tempdir().unwrap();
    assert!(fence(&group.0, &[held(folder.path())], until).await);
    for mut child in children {
        assert!(!child.wait().unwrap().success());
    }
}

#[tokio::test]
async fn a_group_that_cannot_be_read_is_never_taken_for_empty() {
    let folder = tempfile::tempdir().unwrap();
    let (held, stuck) = ([held(folder.path())], RefCell::default());
    let until = clock::now() + Duration::from_millis(50);
    assert!(!until_alone("/nonexistent.service", &held, &stuck, until).await);
}
