//! The page at `/`: whole without scripts, live with them, in a real browser where there is one.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::float_cmp,
    clippy::cast_precision_loss,
    reason = "a helper of tests is part of them; a test that is skipped says so; counts are small"
)]

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::http::{free_address, request};
use crate::common::*;

/// The browser, where there is one.
fn browser() -> Option<&'static str> {
    let found = ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find(|name| {
            let version = Command::new(name)
                .arg("--version")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            version.is_ok_and(|status| status.success())
        });
    if found.is_none() {
        eprintln!("skipped: there is no chromium");
    }
    found
}

/// Runs the browser on the page with these flags, and returns what it prints.
fn browse(browser: &str, profile: &Path, address: SocketAddr, flags: &[&str]) -> String {
    let output = Command::new("timeout")
        .args(["90", browser, "--headless", "--no-sandbox", "--disable-gpu"])
        .arg("--disable-dev-shm-usage")
        .arg(format!("--user-data-dir={}", profile.display()))
        .args(flags)
        .arg(format!("http://{address}/"))
        .stderr(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Two replicas whose queue, terms and runs have something to show; `a` leads its second term.
struct Shown {
    scene: Scene,
    address: SocketAddr,
    a: Daemon,
    b: Daemon,
}

impl Shown {
    fn start() -> Self {
        let scene = Scene::start(1);
        let address = free_address();
        let listen = format!("http.listen = '{address}'");
        let (a, first) = scene.leader(scene.daemon("a<b>\"&'").toml(&listen));
        let b = scene.waiter(scene.daemon("b"));
        a.sigusr1();
        let second = scene.wait_leads(&b, 1, SOON);
        eventually(SOON, "a waits again", || scene.place(&a) == Some(1));
        b.sigusr1();
        scene.wait_leads(&a, 2, SOON);
        eventually(SOON, "two terms are in the history", || {
            [first, second].iter().all(|token| {
                let past = scene.cluster.get(&format!("/election.meta/terms/{token}"));
                past.is_some_and(|past| past.contains("resigned"))
            })
        });
        Self {
            scene,
            address,
            a,
            b,
        }
    }

    /// How many transactions the store has made.
    fn transactions(&self) -> f64 {
        let metrics = self.scene.cluster.metrics(0);
        let is_txn = |name: &&String| {
            name.starts_with("grpc_server_handled_total") && name.contains("\"Txn\"")
        };
        let names: Vec<_> = metrics.keys().filter(is_txn).collect();
        assert!(!names.is_empty(), "etcd counts no transactions");
        names.iter().map(|name| metrics[*name]).sum()
    }

    /// Waits until the page has this in it.
    #[track_caller]
    fn wait_for(&self, text: &str) -> String {
        eventually(SOON, &format!("the page shows {text}"), || {
            let page = request(self.address, "GET", "/").unwrap().body;
            if page.contains(text) {
                Ok(page)
            } else {
                Err(page)
            }
        })
    }
}

const NAME: &str = "a&lt;b&gt;&quot;&amp;&#39;";

#[test]
fn the_page_tells_all_without_scripts() {
    let shown = Shown::start();
    let page = shown.wait_for("<tr><td>1<td class=\"name\">b<td><progress max=\"4\"");
    assert!(page.contains("<h1>Election /election</h1>"), "{page}");
    assert!(
        page.contains(&format!("<b>{NAME}</b> leads since ")),
        "{page}"
    );
    assert!(!page.contains("a<b>"), "{page}");
    // A lane for each, three terms, and why they ended.
    assert_eq!(page.matches("<svg ").count(), 2, "{page}");
    assert_eq!(page.matches("<rect class=\"planned\"").count(), 2, "{page}");
    assert_eq!(page.matches("<rect class=\"leads\"").count(), 1, "{page}");
    assert_eq!(
        page.matches("<td class=\"planned\">resigned").count(),
        2,
        "{page}"
    );
    assert!(
        page.contains("<td>stopped<td>"),
        "the run of the first term: {page}"
    );
    // Nothing comes from elsewhere.
    assert!(
        !page.contains("http://") && !page.contains("https://"),
        "{page}"
    );
    let reply = request(shown.address, "GET", "/").unwrap();
    assert!(
        reply
            .head
            .contains("content-security-policy: default-src 'none'"),
        "{reply:?}"
    );
    assert_eq!(shown.a.ask("GET", "/").status, 200);
    assert_eq!(shown.b.ask("GET", "/").status, 200);
}

#[test]
fn a_page_without_the_store_says_so_and_what_it_knows() {
    let scene = Scene::start(1);
    let links = Links::to(&scene.cluster);
    let (a, _) = scene.leader(scene.daemon("a").through(&links));
    links.drop_connections();
    links.black_hole();
    let page = a.get("/");
    assert!(page.contains("The store can't be read: "), "{page}");
    assert!(page.contains("This replica, <b>a</b>, is "), "{page}");
}

#[test]
fn a_crowd_of_readers_costs_the_store_one_reading_a_second() {
    let shown = Shown::start();
    shown.wait_for("leads since");
    let before = shown.transactions();
    let begun = process::monotonic_ns();
    for _ in 0..200 {
        assert_eq!(request(shown.address, "GET", "/").unwrap().status, 200);
    }
    let seconds = (process::monotonic_ns() - begun) as f64 / 1e9;
    let asked = shown.transactions() - before;
    let most = seconds.ceil() + 3.0;
    assert!(asked <= most, "{asked} transactions in {seconds} s");
}

#[test]
fn a_browser_shows_it_by_day_and_night_on_desks_and_phones() {
    let Some(browser) = browser() else { return };
    let shown = Shown::start();
    shown.wait_for("leads since");
    let folder = shown.scene.cluster.sandbox().join("browser");
    std::fs::create_dir_all(&folder).unwrap();
    let keep = std::env::var_os("INCUMBENT_TEST_SCREENSHOTS");
    let pictures = keep.map_or_else(|| folder.clone(), Into::into);
    for (name, size, flag) in [
        ("desk-light", "1200,900", "--force-light-mode"),
        ("desk-dark", "1200,900", "--force-dark-mode"),
        ("phone-light", "500,900", "--force-light-mode"),
    ] {
        let file = pictures.join(format!("{name}.png"));
        let size = format!("--window-size={size}");
        let picture = format!("--screenshot={}", file.display());
        browse(browser, &folder, shown.address, &[&size, flag, &picture]);
        let bytes = std::fs::read(&file).unwrap();
        assert!(
            bytes.starts_with(b"\x89PNG") && bytes.len() > 5_000,
            "{name}"
        );
    }
}

#[test]
fn a_browser_keeps_it_live() {
    let Some(browser) = browser() else { return };
    let shown = Shown::start();
    shown.wait_for("leads since");
    let folder = shown.scene.cluster.sandbox().join("browser");
    std::fs::create_dir_all(&folder).unwrap();
    // The scripts run for six seconds of the browser's time: at least one fetch, put in place.
    let dom = browse(
        browser,
        &folder,
        shown.address,
        &["--virtual-time-budget=6000", "--dump-dom"],
    );
    // The class is set by a fetch that came through.
    assert!(
        dom.contains("<span id=\"live\" class=\"\">Live.</span>"),
        "{dom}"
    );
    assert!(dom.contains("</b> leads since"), "{dom}");
}
