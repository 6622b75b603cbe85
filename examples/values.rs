//! Writes a value and reads it back, each within ten seconds, whichever members of etcd are away.
//!
//! ```sh
//! cargo run --example values -- http://127.0.0.1:2379 /demo-key "a value"
//! ```

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::time::Duration;

use incumbent_election::{Client, ClientOptions};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |default: &str| arguments.next().unwrap_or_else(|| default.to_owned());
    let endpoints = next("http://127.0.0.1:2379");
    let mut options = ClientOptions::new(endpoints.split(','));
    options.request_timeout = Duration::from_secs(10);
    let client = Client::new(&options)?;
    let (key, value) = (next("/demo-key"), next("a value"));

    client.put(key.as_str(), value).await?;
    match client.get(key.as_str()).await? {
        Some(found) => println!(
            "{key} = {} (revision {}, version {})",
            found.text().unwrap_or("no text"),
            found.mod_revision,
            found.version
        ),
        None => println!("{key} is gone"),
    }
    Ok(())
}
