//! Prints each change under a prefix, until it is killed; over whatever happens to members and connections.
//!
//! ```sh
//! cargo run --example watch -- http://127.0.0.1:2379 /demo
//! ```

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;

use incumbent_election::{Change, Client, ClientOptions};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |default: &str| arguments.next().unwrap_or_else(|| default.to_owned());
    let endpoints = next("http://127.0.0.1:2379");
    let client = Client::new(&ClientOptions::new(endpoints.split(',')))?;
    let mut watcher = client.watch_prefix(next("/demo"));
    while let Some(change) = watcher.next().await {
        match change {
            Change::Put(put) => println!(
                "PUT {} {}",
                String::from_utf8_lossy(&put.key),
                String::from_utf8_lossy(&put.value)
            ),
            Change::Delete { key, .. } => println!("DELETE {}", String::from_utf8_lossy(&key)),
            _ => println!("some changes were compacted away"),
        }
    }
    Ok(())
}
