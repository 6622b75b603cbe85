//! Tests of the lease file.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use super::*;

fn lease_file(id: i64, folder: &Path) -> LeaseFile {
    fs::write(folder.join("password"), "secret\n").unwrap();
    fs::write(folder.join("ca"), "PEM").unwrap();
    let resignation = Resignation {
        store: Settings {
            username: Some("u".to_owned()),
            password_file: Some(folder.join("password")),
            tls: Tls {
                ca_file: Some(folder.join("ca")),
                server_name: Some("etcd".to_owned()),
                ..Tls::default()
            },
            ..Settings::new(["https://a:2379"])
        },
        cluster: 7,
        prefix: Prefix::new("/a"),
        candidate: "node1".to_owned(),
        lease: LeaseId::new(id).unwrap(),
        ttl: Duration::from_secs(15),
        attempt_limit: Duration::from_millis(1500),
        token: Token::new(7),
        may_mark: true,
        step_down: None,
        close: None,
    };
    let place = UnitPlace {
        invocation_id: Some("0123".to_owned()),
        cgroup: Some("/system.slice/incumbent@a.service".to_owned()),
        ..UnitPlace::here()
    };
    LeaseFile::new(resignation, place, Some(Process::this()))
        .with_token(Some(AuthToken::new("https://a:2379", "a secret token")))
}

/// Closed to others, whatever else is in it.
fn held(dir: &Path) -> RuntimeDir {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).unwrap();
    RuntimeDir::hold(dir).unwrap()
}

fn open(dir: &tempfile::TempDir) -> Arc<Dir> {
    Arc::new(Dir::open(dir.path()).unwrap())
}

#[tokio::test]
async fn without_a_hook_to_read_them_no_secrets_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    let mut by_hand = lease_file(0x1f, other.path());
    by_hand.place.cgroup = Some("/user.slice/session.scope".to_owned());
    keeper_with(dir.path(), by_hand).await;
    let text = fs::read_to_string(dir.path().join(NAME)).unwrap();
    assert!(!text.contains("secret"), "{text}");
}

async fn keeper_with(dir: &Path, file: LeaseFile) -> Keeper {
    let keeper = Keeper::start(&held(dir)).unwrap();
    keeper.write(file).await.unwrap().unwrap();
    keeper
}

#[tokio::test]
async fn it_reads_back_as_it_was_written_and_is_for_its_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    let written = lease_file(0x1f, other.path());
    keeper_with(dir.path(), written.clone()).await;
    let mode = fs::metadata(dir.path().join(NAME)).unwrap().mode();
    assert_eq!(mode & 0o777, 0o600);

    let read = LeaseFile::read(&open(&dir)).unwrap().unwrap();
    assert_eq!(read.place, written.place);
    assert_eq!(read.daemon, Process::this());
    assert_eq!(read.guardian, Some(Process::this()));
    assert_eq!(read.token(), written.token());
    let (unpacked, files) = read.resignation_with_credentials().unwrap();
    let password = unpacked.store.password_file.clone().unwrap();
    assert_eq!(fs::read_to_string(&password).unwrap(), "secret\n");
    // Nor in any file that others of the user could put another in the place of.
    assert!(
        !password
            .canonicalize()
            .is_ok_and(|it| it.starts_with(dir.path()))
    );
    let ca = unpacked.store.tls.ca_file.clone().unwrap();
    assert_eq!(fs::read_to_string(ca).unwrap(), "PEM");
    drop(files);

    let mut same = unpacked;
    same.store = written.resignation.store.clone();
    assert_eq!(same, written.resignation);
}

#[tokio::test]
async fn its_text_has_the_names_that_scripts_rely_on() {
    let dir = tempfile::tempdir().unwrap();
    keeper_with(dir.path(), lease_file(0x1f, dir.path())).await;
    let text = fs::read_to_string(dir.path().join(NAME)).unwrap();
    let object: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(object["lease"], "1f");
    assert_eq!(object["key"], "/a/1f");
    assert_eq!(object["token"], 7);
    assert_eq!(object["may_mark"], true);
    assert_eq!(object["endpoints"][0], "https://a:2379");
    assert_eq!(object["daemon"]["pid"], std::process::id());
    for name in ["boot_id", "invocation_id", "cgroup", "guardian"] {
        assert!(object.get(name).is_some(), "{name}");
    }
}

#[tokio::test]
async fn only_the_lease_it_is_about_removes_it() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = keeper_with(dir.path(), lease_file(2, dir.path())).await;
    let lease = |id| LeaseId::new(id).unwrap();
    keeper.remove(lease(1)).await.unwrap().unwrap();
    assert!(LeaseFile::read(&open(&dir)).unwrap().is_some());
    keeper.remove(lease(2)).await.unwrap().unwrap();
    assert!(LeaseFile::read(&open(&dir)).unwrap().is_none());
    keeper.remove(lease(2)).await.unwrap().unwrap();
}

#[tokio::test]
async fn orders_are_carried_out_in_turn_though_nobody_waits() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = Keeper::start(&held(dir.path())).unwrap();
    for id in 1..50 {
        drop(keeper.write(lease_file(id, dir.path())));
    }
    let last = LeaseId::new(49).unwrap();
    keeper
        .remove(LeaseId::new(48).unwrap())
        .await
        .unwrap()
        .unwrap();
    let file = LeaseFile::read(&open(&dir)).unwrap().unwrap();
    assert_eq!(file.resignation.lease, last);
}

#[tokio::test]
async fn a_directory_that_is_gone_is_told_to_who_waits() {
    let dir = tempfile::tempdir().unwrap();
    let file = lease_file(1, dir.path());
    let gone = dir.path().join("gone");
    let keeper = Keeper::start(&RuntimeDir::hold(&gone).unwrap()).unwrap();
    fs::remove_dir_all(&gone).unwrap();
    assert!(keeper.write(file).await.unwrap().is_err());
}

#[test]
fn a_missing_credential_does_not_keep_the_file_away() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = lease_file(1, dir.path());
    file.resignation.store.password_file = Some("/nonexistent".into());
    file.write(&open(&dir)).unwrap();
    let read = LeaseFile::read(&open(&dir)).unwrap().unwrap();
    assert_eq!(read.credentials.password, None);
}

#[test]
fn a_broken_file_is_an_error_and_not_a_missing_one() {
    let dir = tempfile::tempdir().unwrap();
    assert!(LeaseFile::read(&open(&dir)).unwrap().is_none());
    fs::write(dir.path().join(NAME), "{").unwrap();
    assert!(LeaseFile::read(&open(&dir)).is_err());
}

#[test]
fn secrets_are_not_shown() {
    let token = AuthToken::new("https://a:2379", "secret");
    assert!(!format!("{token:?}").contains("secret"));
    let credentials = Credentials {
        password: Some("secret".to_owned()),
        token: Some(token),
        ..Credentials::default()
    };
    assert!(!format!("{credentials:?}").contains("secret"));
}

#[test]
fn no_link_in_the_place_of_the_file_is_written_through() {
    let dir = tempfile::tempdir().unwrap();
    let victim = dir.path().join("victim");
    for link in [
        |old: &Path, new: &Path| std::os::unix::fs::symlink(old, new).unwrap(),
        |old: &Path, new: &Path| fs::hard_link(old, new).unwrap(),
    ] {
        fs::write(&victim, "theirs").unwrap();
        link(&victim, &dir.path().join(UNFINISHED));
        lease_file(1, dir.path()).write(&open(&dir)).unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "theirs");
    }
}

#[test]
fn a_directory_that_is_put_in_the_place_of_ours_gets_nothing() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("run");
    let held = RuntimeDir::hold(&path).unwrap();
    fs::rename(&path, parent.path().join("ours")).unwrap();
    fs::create_dir(&path).unwrap();
    lease_file(1, parent.path()).write(held.dir()).unwrap();
    assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    assert!(parent.path().join("ours").join(NAME).exists());
}
