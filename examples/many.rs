//! Hundreds of elections in one process, as a service has that shares its tenants, queues or shards out
//! to its replicas: whoever leads in one works for it. Tells in how many it leads whenever that changes,
//! and gives all of them back when its standard input ends.
//!
//! ```sh
//! cargo run --example many -- http://127.0.0.1:2379 /shards node1 500
//! cargo run --example many -- http://127.0.0.1:2379 /shards node1 500 15    # with a TTL of 15 s
//! ```

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use incumbent_election::{Client, ClientOptions, Term};
use tokio::sync::watch;
use tokio::task::JoinSet;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |default: &str| arguments.next().unwrap_or_else(|| default.to_owned());
    let client = Client::new(&ClientOptions::new([next("http://127.0.0.1:2379")]))?;
    let (prefix, name, count) = (next("/shards"), next("node1"), next("500").parse()?);
    let ttl = Duration::from_secs(next("5").parse()?);

    let (tell, ended) = watch::channel(());
    std::thread::Builder::new().spawn(move || {
        drop(std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
        // Dropped, it tells the end.
        drop(tell);
    })?;
    let leads = Arc::new(AtomicUsize::new(0));
    let mut elections = JoinSet::new();
    for shard in 0..count {
        let election = client.election(&format!("{prefix}/{shard}"))?;
        let candidate = election.candidate(&name).ttl(ttl);
        let (leads, mut ended) = (Arc::clone(&leads), ended.clone());
        let work = move |term: Term| {
            let leads = Led::begin(Arc::clone(&leads));
            async move {
                // Here it would work for the shard.
                term.ending().await;
                drop(leads);
            }
        };
        elections.spawn(async move {
            // An error is the end that is waited for.
            candidate
                .run(async move { drop(ended.changed().await) }, work)
                .await
        });
    }
    while let Some(over) = elections.join_next().await {
        over??;
    }
    Ok(())
}

/// One more election in which this process leads, until it is dropped: work that is late is dropped itself.
struct Led(Arc<AtomicUsize>);

impl Led {
    fn begin(leads: Arc<AtomicUsize>) -> Self {
        println!("leads in {}", leads.fetch_add(1, Ordering::Relaxed) + 1);
        Self(leads)
    }
}

impl Drop for Led {
    fn drop(&mut self) {
        println!("leads in {}", self.0.fetch_sub(1, Ordering::Relaxed) - 1);
    }
}
