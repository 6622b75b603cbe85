//! Session and election without the daemon, as one would use Go's concurrency package:
//! campaigns, proclaims a value, holds the term for a while, resigns.
//!
//! ```sh
//! cargo run --example campaign -- http://127.0.0.1:2379 /demo node1
//! ```

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use incumbent::config::timing::Timing;
use incumbent::election::Election;
use incumbent::etcd::{Settings, Store, Tls};
use incumbent::keys::Prefix;
use incumbent::session::{Options, Session, new_lease_id};
use incumbent::term::record::Member;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |default: &str| arguments.next().unwrap_or_else(|| default.to_owned());
    let endpoint = next("http://127.0.0.1:2379");
    let prefix = Prefix::new(next("/demo"));
    let name = next("node1");

    let store = Store::new(&Settings {
        endpoints: vec![endpoint],
        connect_timeout: Duration::from_secs(2),
        username: None,
        password_file: None::<PathBuf>,
        tls: Tls::default(),
    });
    // No job of its own that would need time to die: no graces.
    let timing = Timing::new(Duration::from_secs(5), Duration::ZERO, Duration::ZERO);
    let options = Options {
        lease: new_lease_id(),
        timing,
        tick: None,
    };
    let session = Session::open(&store, options).await?;
    let mut election = Election::new(store, prefix, &name, Duration::from_secs(1));
    let candidacy = election
        .join(&session, &Member::of_this_process(&name))
        .await?;
    println!("campaigning at position {}", candidacy.position);

    let term = election
        .campaign(&session, &candidacy, |progress| {
            println!("waiting: {progress:?}");
        })
        .await?;
    println!(
        "elected: token {}, {:?} left",
        term.token(),
        term.remaining()
    );
    election.proclaim(&term, "at your service").await?;
    term.put("/demo-value", "written by the leader").await?;

    tokio::select! {
        () = term.lost() => println!("term lost"),
        () = tokio::time::sleep(Duration::from_secs(2)) => {}
    }
    let confirmed = election.resign(session, Some(&term)).await;
    println!("resigned: confirmed {confirmed}");
    Ok(())
}
