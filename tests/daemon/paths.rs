//! Paths that are no UTF-8, which are bytes from one end to the other.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::process::Signal;

use crate::common::*;

/// A folder in the sandbox, made, whose name is no text.
fn folder(cluster: &Cluster) -> PathBuf {
    let folder = cluster
        .sandbox()
        .path()
        .join(OsStr::from_bytes(b"no-\xff-text"));
    fs::create_dir(&folder).unwrap();
    folder
}

#[test]
fn paths_that_are_no_text_reach_store_guardian_and_job_as_they_are() {
    let scene = Scene::on(Cluster::start_tls(1, false, &[]));
    let cluster = &scene.cluster;
    let folder = folder(cluster);
    let work = folder.join("work");
    fs::create_dir(&work).unwrap();
    fs::copy(cluster.tls().unwrap().ca(), folder.join("ca.pem")).unwrap();
    let binary = env!("CARGO_BIN_EXE_incumbent");
    // By what it was told, by the file alone, and where it runs.
    let job = format!(
        "{binary} kv put /told x && env -u INCUMBENT_SETTINGS {binary} kv put /by-file x &&
         pwd | {binary} kv put /runs-in - && exec sleep 1000000"
    );
    let endpoints = cluster.endpoints().join("', '");
    let file = folder.join("incumbent.toml");
    let config = format!(
        "candidate.name = 'a'
        etcd = {{ endpoints = ['{endpoints}'], tls.ca_file = 'ca.pem' }}
        election = {{ prefix = '{PREFIX}', ttl = '4s' }}
        job.command = ['/bin/sh', '-c', '''{job}''']
        log.format = 'json'"
    );
    fs::write(&file, config).unwrap();
    let runtime = folder.join("runtime");
    let incumbent = |arguments: &[&OsStr]| {
        let typed = cluster.sandbox().incumbent(arguments);
        typed
            .env("RUNTIME_DIRECTORY", &runtime)
            .env("INCUMBENT__JOB__WORKING_DIR", &work)
    };
    let named = [OsStr::new("-c"), file.as_os_str()];
    let with_file = |command| [&[OsStr::new(command)], &named[..]].concat();
    let mut daemon = incumbent(&with_file("run")).follow();
    let pwd = eventually(SOON, "the job writes", || {
        let found = cluster.etcdctl(&["get", "/runs-in", "--print-value-only"]);
        let found = found.output();
        if found.is_empty() {
            Err(daemon.errors())
        } else {
            Ok(found)
        }
    });
    assert_eq!(OsStr::from_bytes(pwd.trim_ascii_end()), work.as_os_str());
    for key in ["/told", "/by-file"] {
        assert_eq!(cluster.get(key).as_deref(), Some("x"), "{key}");
    }
    assert!(runtime.join("lease.json").is_file());
    let reloaded = incumbent(&with_file("reload")).run();
    assert_eq!(reloaded.code, Some(0), "{}", reloaded.errors);
    let checked = incumbent(&with_file("check")).run();
    assert_eq!(checked.code, Some(0), "{}", checked.errors);
    let text = checked.text();
    assert!(text.contains("no-\\xff-text/incumbent.toml"), "{text}");

    // It has to find the authority's file, too.
    let token = scene.first().create_revision;
    process::signal(daemon.pid(), Signal::KILL);
    daemon.wait_exit();
    scene.wait_marker(token);
}

#[test]
fn what_has_to_be_text_and_is_none_is_refused_by_its_name() {
    let cluster = Cluster::prepare(1);
    let bytes = OsStr::from_bytes(b"/no-\xff-text");
    for name in [
        "INCUMBENT_ELECTION",
        "INCUMBENT_ENDPOINTS",
        "INCUMBENT__ELECTION__PREFIX",
    ] {
        let asked = cluster.sandbox().incumbent(&["status"]).env(name, bytes);
        let answer = asked.run();
        assert_eq!(answer.code, Some(78), "{name}: {}", answer.errors);
        let expected = "expected UTF-8 text, found other bytes";
        let named = answer.errors.starts_with(&format!("incumbent: {name}: "));
        assert!(
            named && answer.errors.contains(expected),
            "{}",
            answer.errors
        );
    }
}
