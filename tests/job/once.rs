//! What a scheduled Rust job hands to the transaction that closes its run.

use std::fs;

use crate::common::daemon::Builder;
use crate::common::*;
use incumbent::schedule::record::HistoryEntry;

/// A replica with the job of `examples/tally.rs`, and these of its settings.
fn tally(cluster: &Cluster, name: &str, settings: &str) -> Builder {
    let config = fs::read_to_string("examples/tally.toml").unwrap();
    Daemon::builder(cluster, name)
        .binary(example("tally"))
        .toml(&config)
        .prefix(PREFIX)
        .toml("job.settings = { work = '0s' }")
        .toml("job.schedule.every = '1s'")
        .toml(&format!("job.settings = {{ {settings} }}"))
        .toml(&format!("etcd.endpoints = {:?}", cluster.endpoints()))
}

fn count(cluster: &Cluster) -> usize {
    let text = cluster.get("/tally/count").unwrap_or_default();
    text.parse().unwrap_or(0)
}

/// The records of runs, oldest first.
fn records(cluster: &Cluster) -> Vec<HistoryEntry> {
    let key = |seq: u64| format!("{PREFIX}.meta/runs/{seq:016}");
    let texts = (1..).map_while(|seq| cluster.get(&key(seq)));
    texts
        .map(|text| HistoryEntry::read(text.as_bytes()).unwrap())
        .collect()
}

/// Stops all and checks that the count is that of the slots that were done, each once; returns the
/// attempts in which they were.
#[track_caller]
fn assert_counted_once(cluster: &Cluster, last: &Daemon) -> Vec<String> {
    last.sigterm();
    assert_eq!(last.wait_exit(STOPPED).code(), Some(0));
    let records = records(cluster);
    let done: Vec<_> = records
        .iter()
        .filter(|record| record.result.word() == "success")
        .map(|record| record.slot.to_string())
        .collect();
    assert_eq!(count(cluster), done.len(), "{records:#?}");
    assert!(done.is_sorted_by(|a, b| a < b), "{done:?}");
    let attempts = done
        .iter()
        .map(|slot| cluster.get(&format!("/tally/{slot}")));
    attempts.map(Option::unwrap).collect()
}

/// A leader of which the first slot is at work or tidies up, for ever, is killed; another takes over.
fn killed(settings: &str, ready: impl Fn(&Cluster, &Daemon) -> bool) -> Vec<String> {
    let cluster = Cluster::start(1);
    let a = tally(&cluster, "a", settings).spawn();
    a.wait_elected(SOON);
    let b = tally(&cluster, "b", "").spawn();
    b.wait_log("campaigning", SOON);
    eventually(SOON, "the first slot is so far", || ready(&cluster, &a));
    let before = count(&cluster);
    a.sigkill();
    b.wait_elected(SOON);
    eventually(SOON, "b has run three", || count(&cluster) >= before + 3);
    assert_counted_once(&cluster, &b)
}

#[test]
fn what_was_done_with_the_close_is_not_done_again_after_a_kill() {
    let done = |cluster: &Cluster, _: &Daemon| count(cluster) == 1;
    let attempts = killed("tidy = '1h'", done);
    assert!(
        attempts.iter().all(|attempt| attempt == "1"),
        "{attempts:?}"
    );
}

#[test]
fn what_was_not_done_before_a_kill_is_done_once_by_the_next() {
    let at_work = |_: &Cluster, a: &Daemon| !a.lines("working").is_empty();
    let attempts = killed("work = '1h'", at_work);
    assert_eq!(attempts[0], "2");
}

#[test]
fn a_planned_stop_after_the_close_leaves_a_success() {
    let cluster = Cluster::start(1);
    let a = tally(&cluster, "a", "tidy = '1h'").spawn();
    eventually(SOON, "it is done", || count(&cluster) == 1);
    assert_eq!(assert_counted_once(&cluster, &a), ["1"]);
    assert_eq!(records(&cluster).len(), 1);
}

/// What a run hears that closes itself twice, after what it is told of itself.
#[track_caller]
fn heard(scene: &Scene, key: &str, schedule: &str) -> (String, String) {
    let (_, run, heard) = heard_with(scene, &format!("completes = '{key}'"), schedule);
    (run, heard)
}

/// The same, with these settings of its job, and the daemon.
#[track_caller]
fn heard_with(scene: &Scene, settings: &str, schedule: &str) -> (Daemon, String, String) {
    let builder = scene.rust("a", &format!("{settings}, ends_after = 10"));
    let a = builder.toml(schedule).spawn();
    a.wait_elected(SOON);
    let outcome = scene.record.file().with_extension("outcome");
    let text = eventually(SOON, "it has closed its run", || {
        fs::read_to_string(&outcome).map_err(|error| error.to_string())
    });
    let (run, heard) = text.trim_end().split_once('\n').unwrap();
    (a, run.to_owned(), heard.to_owned())
}

#[test]
fn a_run_is_told_what_it_is_for_and_closes_once() {
    let scene = Scene::start(1);
    let (run, told) = heard(&scene, "/written/once", "job.schedule = { every = '1s' }");
    assert!(
        run.contains("attempt: 1, missed: 0, last_success: None"),
        "{run}"
    );
    assert_eq!(told, "[Ok(()), Err(Closed(Some(\"success\")))]");
    assert_eq!(scene.cluster.get("/written/once").as_deref(), Some("done"));
    let slot = records(&scene.cluster)[0].slot;
    assert!(run.contains(&format!("slot: \"{slot}\"")), "{run}");
}

#[test]
fn a_run_whose_close_has_a_condition_that_fails_stays_open_and_writes_nothing() {
    let scene = Scene::start(1);
    scene.cluster.put("/written/before", "x");
    let settings = "completes = '/written/once', unless = '/written/before', ends = 'error'";
    let (_a, _, told) = heard_with(&scene, settings, "job.schedule = { every = '1s' }");
    assert_eq!(told, "[Err(ConditionFailed), Err(ConditionFailed)]");
    assert_eq!(scene.cluster.get("/written/once"), None);
    // It ends as it ends.
    let records = eventually(SOON, "its end is recorded", || {
        let records = records(&scene.cluster);
        if records.is_empty() {
            Err(())
        } else {
            Ok(records)
        }
    });
    assert_eq!(records[0].result.word(), "failure");
}

#[test]
fn a_run_whose_close_has_a_condition_that_holds_is_closed() {
    let scene = Scene::start(1);
    let settings = "completes = '/written/once', unless = '/written/before', ends = 'error'";
    let (_a, _, told) = heard_with(&scene, settings, "job.schedule = { every = '1s' }");
    assert_eq!(told, "[Ok(()), Err(Closed(Some(\"success\")))]");
    assert_eq!(scene.cluster.get("/written/once").as_deref(), Some("done"));
}

#[test]
fn a_run_without_a_schedule_has_nothing_to_close() {
    let scene = Scene::start(1);
    let (run, told) = heard(&scene, "/written/once", "");
    assert_eq!(run, "None");
    assert_eq!(told, "[Err(NoSchedule), Err(NoSchedule)]");
    assert_eq!(scene.cluster.get("/written/once"), None);
}

#[test]
fn a_run_does_not_close_with_a_write_to_the_elections_own_keys() {
    let scene = Scene::start(1);
    let own = format!("{PREFIX}.meta/schedule");
    let (_, told) = heard(&scene, &own, "job.schedule = { every = '1s' }");
    assert!(told.contains("Blocks"), "{told}");
}
