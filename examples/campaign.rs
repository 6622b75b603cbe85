//! Session and election without the daemon, as one would use Go's concurrency package: stands for
//! election, proclaims a value, holds the term for a while, resigns.
//!
//! ```sh
//! cargo run --example campaign -- http://127.0.0.1:2379 /demo node1
//! ```
//!
//! There is no guardian here: whoever does the work must be done with it when `term.lost()`
//! returns. The work can take its time from the graces of [`Timing`]: with `lost_grace` and
//! `kill_budget` the term counts as lost so much before the lease can end.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::time::Duration;

use incumbent::config::timing::Timing;
use incumbent::election::Election;
use incumbent::etcd::{Settings, Store};
use incumbent::keys::Prefix;
use incumbent::session::{Options, Session};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |default: &str| arguments.next().unwrap_or_else(|| default.to_owned());
    let store = Store::new(&Settings::new([next("http://127.0.0.1:2379")]));
    let prefix = Prefix::checked(next("/demo"))?;
    let name = next("node1");

    // Half a second to leave the work in good order, another to be done with it for certain.
    let half = Duration::from_millis(500);
    let timing = Timing::new(Duration::from_secs(5), half, half);
    let session = Session::open(&store, Options::new(timing)).await?;
    // What the last leader may overrun its lease by, if it didn't resign.
    let takeover_delay = Duration::from_secs(1);
    let mut election = Election::new(store, prefix, &name, takeover_delay);

    let term = election.stand(&session).await?;
    println!("elected: token {}", term.token());
    println!("leader for at least {:?}", term.remaining());
    election.proclaim(&term, "at your service").await?;
    // Refused by the store should another lead by now.
    term.put("/demo-value", "written by the leader").await?;

    tokio::select! {
        () = term.lost() => println!("term lost"),
        () = tokio::time::sleep(Duration::from_secs(2)) => {}
    }
    let confirmed = election.resign(session, Some(&term)).await;
    println!("resigned: confirmed {confirmed}");
    Ok(())
}
