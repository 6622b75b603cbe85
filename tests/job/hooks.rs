//! The hooks of a term: one before the job, which can refuse it, and one after the job.
//!
//! Most hooks here are recorders, as the jobs are, so that their overlap with any job is measured.

use std::fs;

use crate::common::daemon::Builder;
use crate::common::*;

/// A hook that keeps the record, and ends after so long.
fn recording(hook: &str, scene: &Scene, flags: &[&str]) -> String {
    format!("hooks.{hook} = {:?}", scene.record.command(flags))
}

fn script(hook: &str, script: &str) -> String {
    format!("hooks.{hook} = {:?}", ["sh", "-c", script])
}

/// How many processes the daemon has run in the term: hooks and runs of the job.
fn runs(scene: &Scene, token: i64) -> usize {
    scene.record.history().runs_of(token).count()
}

const QUICK: &str = "job = { restart_delay = '50ms', restart_delay_max = '100ms' }";

#[test]
fn a_hook_that_accepts_runs_once_a_term_and_before_the_job() {
    let scene = Scene::start(1);
    let seen = scene.cluster.sandbox().join("seen");
    let builder = scene
        .daemon_with("a", &["--exit-after", "300ms"])
        .toml(QUICK);
    let recorder = scene
        .record
        .command(&["--exit-after", "200ms", "--child-own-session"]);
    let text = format!(
        "echo $INCUMBENT_TOKEN >> {}; {}",
        seen.display(),
        recorder.join(" ")
    );
    let a = builder.toml(&script("on_elected", &text)).spawn();
    let token = a.wait_elected(SOON);
    let ended = a.wait_log("hook ended", SOON);
    assert_eq!((ended.token(), ended.int("code")), (token, 0));
    assert_eq!(ended.text("hook"), "on_elected");
    a.wait_nth("job started", 3, SOON);
    assert_eq!(fs::read_to_string(seen).unwrap(), format!("{token}\n"));
    assert_eq!(a.lines("hook ended").len(), 1);
    // Its child had not ended: it was killed before the job.
    let history = scene.record.history();
    assert!(history.lives.iter().any(|life| !life.is_main()));
    scene.assert_no_overlap();
    assert_eq!(a.status()["job"]["runs"], a.lines("job started").len());
}

/// A replica whose hook refuses resigns without ever starting its job; the next one leads.
fn refuses(hook: &str) -> Line {
    let scene = Scene::start(3);
    let refusing = scene
        .daemon("a")
        .toml(hook)
        .toml("job.yield_cooldown = '2s'");
    let a = refusing.toml("hooks.on_elected_timeout = '500ms'").spawn();
    let token = a.wait_elected(SOON);
    let b = scene.daemon("b").spawn();
    let ended = a.wait_log("hook ended", SOON);
    assert_eq!(ended.token(), token);
    assert!(a.wait_of_term("resigned", token, SOON).bool("confirmed"));
    let next = scene.wait_leads(&b, 1, SOON);
    assert!(a.lines("job started").is_empty() && a.lines("term lost").is_empty());
    assert_eq!(runs(&scene, token), 0);
    scene.wait_marker(token);
    let why = scene
        .cluster
        .get(&format!("/election.meta/terms/{token}"))
        .unwrap();
    assert!(why.contains("\"reason\":\"hook_refused\""), "{why}");
    // It cools down, and stands again.
    scene.cluster.wait_names(PREFIX, &["b", "a"]);
    scene.still_leads(&b, next).unwrap();
    ended
}

#[test]
fn a_hook_that_refuses_makes_another_lead_and_the_job_never_starts() {
    assert_eq!(refuses(&script("on_elected", "exit 3")).int("code"), 3);
}

#[test]
fn a_hook_that_can_not_be_executed_refuses() {
    let ended = refuses("hooks.on_elected = ['/nonexistent/hook']");
    assert_eq!(ended.int("code"), 127);
}

#[test]
fn a_hook_that_hangs_is_killed_at_its_limit_and_refuses() {
    let ended = refuses(&script(
        "on_elected",
        "trap '' TERM; setsid sleep 1000 & wait; wait",
    ));
    assert!(ended.bool("killed"), "{}", ended.text);
}

#[test]
fn a_leader_that_is_stopped_while_its_hook_runs_starts_no_job() {
    let scene = Scene::start(1);
    let a = scene
        .daemon("a")
        .toml(&script("on_elected", "sleep 1000"))
        .spawn();
    let token = a.wait_elected(SOON);
    eventually(SOON, "the hook runs", || a.processes().len() >= 3);
    a.sigterm();
    assert_eq!(a.wait_exit(STOPPED).code(), Some(0));
    assert!(a.wait_of_term("resigned", token, SOON).bool("confirmed"));
    assert!(a.lines("job started").is_empty());
    a.wait_no_processes(SOON);
}

/// Ends the term of a leader with a hook at its end: it runs after the job and before the next one.
/// Returns how the hook ended.
fn runs_between(builder: impl Fn(&Scene) -> String, end: impl Fn(&Daemon), rust: bool) -> Line {
    let scene = Scene::start(3);
    let hook = builder(&scene);
    let first = if rust {
        scene.rust("a", "")
    } else {
        scene.daemon("a")
    };
    let (a, token) = scene.leader(first.toml(&hook));
    let b = scene.waiter(scene.daemon("b"));
    end(&a);
    scene.wait_leads(&b, 1, SOON);
    scene.wait_marker(token);
    assert_eq!(runs(&scene, token), 2, "{:?}", scene.record.history());
    let ended = a.wait_log("hook ended", SOON);
    assert_eq!((ended.token(), ended.text("hook")), (token, "on_lost"));
    assert!(a.lines("term lost").is_empty());
    scene.assert_no_overlap();
    scene.assert_gaps_below(millis(1000));
    ended
}

/// The same of a hook that ends by itself, and is let.
fn runs_to_its_end(end: impl Fn(&Daemon), rust: bool) {
    let short = |scene: &Scene| recording("on_lost", scene, &["--exit-after", "200ms"]);
    assert_eq!(runs_between(short, end, rust).int("code"), 0);
}

#[test]
fn a_hook_runs_after_the_job_and_before_the_next_one_on_a_planned_end() {
    runs_to_its_end(Daemon::sigterm, false);
}

#[test]
fn a_hook_runs_after_a_rust_job_and_before_the_next_one() {
    runs_to_its_end(Daemon::sigterm, true);
}

#[test]
fn a_hook_runs_when_the_leader_steps_down() {
    runs_to_its_end(Daemon::sigusr1, false);
}

#[test]
fn a_hook_runs_after_the_job_of_a_daemon_that_was_killed() {
    runs_to_its_end(Daemon::sigkill, false);
}

#[test]
fn a_hook_that_hangs_holds_the_hand_over_up_no_longer_than_its_limit() {
    let hang = |scene: &Scene| {
        let hook = recording("on_lost", scene, &["--ignore-term", "--child-own-session"]);
        format!("{hook}\nhooks.on_lost_timeout = '500ms'")
    };
    let ended = runs_between(hang, Daemon::sigterm, false);
    assert!(ended.bool("killed"), "{}", ended.text);
    let ran = millis(u64::try_from(ended.int("ran_ms")).unwrap());
    assert!(
        (millis(500)..patience(millis(1500))).contains(&ran),
        "{ran:?}"
    );
}

#[test]
fn a_hook_runs_where_the_hook_before_the_job_refused() {
    let scene = Scene::start(1);
    let seen = scene.cluster.sandbox().join("seen");
    let text = format!("echo $INCUMBENT_TOKEN >> {}", seen.display());
    let builder = scene.daemon("a").toml(&script("on_lost", &text));
    let a = builder.toml(&script("on_elected", "exit 1")).spawn();
    let token = a.wait_elected(SOON);
    assert!(a.wait_of_term("resigned", token, SOON).bool("confirmed"));
    assert_eq!(fs::read_to_string(seen).unwrap(), format!("{token}\n"));
}

/// Lets `fault` befall a leader whose graces are long enough for a hook to begin, which would go on
/// for ever: it is dead before the lease ends. Returns the leader, its token and the next one.
fn hangs_while_its_term_is_lost(
    scene: &Scene,
    builder: Builder,
    fault: impl FnOnce(&Daemon),
) -> (Daemon, i64, Daemon) {
    let hook = recording("on_lost", scene, &["--ignore-term", "--child-own-session"]);
    let builder = builder.toml(&hook).ttl("6s");
    let builder = builder.toml("hooks.on_lost_timeout = '1h'\njob.lost_grace = '1s'");
    let (a, token) = scene.leader(builder);
    let old = scene.candidate(&a);
    let b = scene.waiter(scene.daemon("b"));
    let vigil = scene.cluster.watch_deletion(&old.key, 0);
    fault(&a);
    let gone = vigil.wait(secs(20));
    scene.assert_over_before(token, gone);
    assert_eq!(runs(scene, token), 2, "the hook ran");
    assert!(scene.wait_leads(&b, 1, SOON) > token);
    (a, token, b)
}

#[test]
fn a_hook_that_hangs_is_dead_before_the_lease_ends_when_the_leader_is_cut_off() {
    let scene = Scene::start(3);
    let links = Links::to(&scene.cluster);
    let builder = scene.daemon("a").through(&links);
    let cut = |_: &Daemon| links.black_hole();
    let (a, token, _b) = hangs_while_its_term_is_lost(&scene, builder, cut);
    assert!(a.wait_log("hook ended", SOON).bool("killed"));
    assert_eq!(a.wait_log("term lost", SOON).token(), token);
    scene.assert_no_overlap();
}

#[test]
fn a_hook_that_hangs_is_dead_before_the_lease_ends_when_the_daemon_stands_still() {
    let scene = Scene::start(3);
    let (a, _, _b) = hangs_while_its_term_is_lost(&scene, scene.daemon("a"), Daemon::sigstop);
    a.sigcont();
    scene.cluster.wait_names(PREFIX, &["b", "a"]);
    scene.assert_no_overlap();
}

/// The next leader may start at any moment: there is no time for a hook.
#[test]
fn no_hook_runs_once_the_lease_is_revoked() {
    let scene = Scene::start(3);
    let hook = recording("on_lost", &scene, &["--ignore-term"]);
    let (a, token) = scene.leader(scene.daemon("a").toml(&hook));
    let b = scene.waiter(scene.daemon("b"));
    scene.cluster.revoke(scene.candidate(&a).lease);
    scene.wait_leads(&b, 1, SOON);
    assert_eq!(a.wait_log("term lost", SOON).token(), token);
    assert_eq!(runs(&scene, token), 1);
    scene.assert_no_overlap();
}

#[test]
fn a_second_sigterm_ends_the_hook() {
    let scene = Scene::start(1);
    let hook = recording("on_lost", &scene, &["--ignore-term"]);
    let builder = scene.daemon("a").toml(&hook);
    let (a, token) = scene.leader(builder.toml("hooks.on_lost_timeout = '1h'"));
    a.sigterm();
    eventually(SOON, "the hook runs", || runs(&scene, token) == 2);
    a.sigterm_again();
    assert_eq!(a.wait_exit(STOPPED).code(), Some(0));
    assert!(a.wait_of_term("resigned", token, SOON).bool("confirmed"));
    assert!(a.wait_log("hook ended", SOON).bool("killed"));
    a.wait_no_processes(SOON);
}

#[test]
fn exec_runs_its_command_between_the_hooks_and_a_signal_to_a_hook_ends_it() {
    let cluster = Cluster::start(1);
    let sh = |script| format!("{:?}", ["sh", "-c", script]);
    let exec = |hook| {
        cluster
            .incumbent(&["exec", "--", "sh", "-c", "echo command; exit 7"])
            .env("INCUMBENT__RUNTIME_DIR", cluster.sandbox().join("run"))
            .env("INCUMBENT__HOOKS__ON_ELECTED", sh(hook))
            .env("INCUMBENT__HOOKS__ON_LOST", sh("echo after"))
    };
    let mut whole = exec("echo before").follow();
    assert_eq!(whole.wait_exit(), Some(7), "{:?}", whole.errors());
    assert_eq!(whole.wait_lines(3), ["before", "command", "after"]);

    let mut stopped = exec("echo before; exec sleep 1000").follow();
    stopped.wait_lines(1);
    process::signal(stopped.pid(), rustix::process::Signal::TERM);
    assert_eq!(stopped.wait_exit(), Some(143), "{:?}", stopped.errors());
    assert_eq!(stopped.wait_lines(2), ["before", "after"]);
    assert_eq!(cluster.leases(), Vec::<i64>::new());
}

#[test]
fn a_hook_that_runs_when_the_daemon_is_killed_has_its_whole_time() {
    let scene = Scene::start(3);
    let hook = recording("on_lost", &scene, &["--exit-after", "2s"]);
    let builder = scene.daemon("a").toml(&hook);
    let (a, token) = scene.leader(builder.ttl("10s").toml("job.lost_grace = '200ms'"));
    let b = scene.waiter(scene.daemon("b").ttl("10s"));
    a.sigterm();
    eventually(SOON, "the hook runs", || runs(&scene, token) == 2);
    a.sigkill();
    scene.wait_leads(&b, 1, SOON);
    let ended = a.wait_log("hook ended", SOON);
    assert_eq!((ended.token(), ended.int("code")), (token, 0));
    scene.assert_no_overlap();
}

#[test]
fn the_hooks_of_a_term_are_those_that_it_began_with() {
    let scene = Scene::start(1);
    let seen = scene.cluster.sandbox().join("seen");
    let says = |word: &str| script("on_lost", &format!("echo {word} >> {}", seen.display()));
    let (a, token) = scene.leader(scene.daemon("a").toml(QUICK).toml(&says("old")));
    let b = scene.waiter(scene.daemon("b"));
    let job = a.wait_job(SOON);
    a.reload(&says("new"));
    a.wait_log("reloaded", SOON);
    // Another run takes on what is new of the job.
    process::signal(job, rustix::process::Signal::KILL);
    a.wait_nth("job started", 2, SOON);
    a.sigusr1();
    scene.wait_leads(&b, 1, SOON);
    a.wait_of_term("resigned", token, SOON);
    assert_eq!(fs::read_to_string(&seen).unwrap(), "old\n");
    scene.cluster.wait_names(PREFIX, &["b", "a"]);
    b.sigterm();
    scene.wait_leads(&a, 2, SOON);
    a.sigterm();
    assert_eq!(a.wait_exit(STOPPED).code(), Some(0));
    assert_eq!(fs::read_to_string(seen).unwrap(), "old\nnew\n");
}

#[test]
fn what_a_hook_leaves_behind_holds_the_job_up_no_longer_than_a_kill_takes() {
    let scene = Scene::start(1);
    let leaves = "(setsid sh -c 'trap \"\" TERM; sleep 1000 & wait; wait' &); sleep 0.2";
    let builder = scene.daemon("a").toml(&script("on_elected", leaves));
    let a = builder
        .toml("hooks.on_elected_timeout = '1h'\njob.stop_grace = '1h'")
        .spawn();
    assert_eq!(a.wait_log("hook ended", SOON).int("code"), 0);
    a.wait_log("job started", SOON);
    scene.assert_no_overlap();
}

#[test]
fn a_hook_that_hangs_holds_a_stop_up_no_longer_than_its_limit() {
    let scene = Scene::start(1);
    let hang = script("on_elected", "trap '' TERM; sleep 1000 & wait; wait");
    let builder = scene.daemon("a").toml(&hang);
    let a = builder
        .toml("hooks.on_elected_timeout = '3s'\njob.stop_grace = '1h'")
        .spawn();
    let token = a.wait_elected(SOON);
    eventually(SOON, "the hook runs", || a.processes().len() >= 4);
    a.sigterm();
    assert_eq!(a.wait_exit(STOPPED).code(), Some(0));
    assert!(a.wait_of_term("resigned", token, SOON).bool("confirmed"));
    assert!(a.lines("job started").is_empty());
}
