//! An election without the daemon, as one would use Go's `clientv3/concurrency`: stands for election,
//! proclaims a value, holds the term for a while, resigns.
//!
//! ```sh
//! cargo run --example campaign -- http://127.0.0.1:2379 /demo node1
//! ```
//!
//! There is no guardian here: the work has to end when `term.ending()` returns.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::time::Duration;

use incumbent_election::{Client, ClientOptions};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |default: &str| arguments.next().unwrap_or_else(|| default.to_owned());
    let client = Client::new(&ClientOptions::new([next("http://127.0.0.1:2379")]))?;
    let election = client.election(&next("/demo"))?;
    let mut candidate = election
        .candidate(next("node1"))
        .ttl(Duration::from_secs(5));

    let leadership = candidate.campaign().await?;
    println!("elected: token {}", leadership.token());
    println!("leader for at least {:?}", leadership.remaining());
    leadership.proclaim("at your service").await?;
    // Refused by etcd should another lead by now.
    leadership
        .put("/demo-value", "written by the leader")
        .await?;

    tokio::select! {
        ending = leadership.ending() => println!("term ends: {ending}"),
        () = tokio::time::sleep(Duration::from_secs(2)) => {}
    }
    leadership.resign().await?;
    println!("resigned");
    Ok(())
}
