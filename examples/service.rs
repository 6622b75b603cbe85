//! A web service of which one replica works in the background: it leads whenever it can, and resigns when
//! its standard input ends.
//!
//! ```sh
//! cargo run --example service -- http://127.0.0.1:2379 /demo node1 127.0.0.1:8080
//! curl http://127.0.0.1:8080/
//! ```

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use incumbent_election::{Client, ClientOptions, Term, Token, WriteError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// The term that this replica works in, if any, as its handler sees it.
type Leads = Arc<Mutex<Option<Token>>>;

/// Counts in etcd for as long as the term lasts.
async fn count(term: &Term) -> Result<(), WriteError> {
    loop {
        let count = match term.get("/demo-count").await? {
            Some(text) => String::from_utf8_lossy(&text).parse().unwrap_or(0),
            None => 0_u64,
        };
        term.put("/demo-count", (count + 1).to_string()).await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Answers every request with how this replica stands.
async fn serve(listener: TcpListener, leads: Leads) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let token = *leads.lock().unwrap_or_else(PoisonError::into_inner);
        let text = match token {
            Some(token) => format!("leading with token {token}\n"),
            None => "standing by\n".to_owned(),
        };
        let length = text.len();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{text}");
        // Whatever was asked; and whoever hangs up needs no answer.
        drop(stream.read(&mut [0; 4096]).await);
        drop(stream.write_all(answer.as_bytes()).await);
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |default: &str| arguments.next().unwrap_or_else(|| default.to_owned());
    let client = Client::new(&ClientOptions::new([next("http://127.0.0.1:2379")]))?;
    let candidate = client.election(&next("/demo"))?.candidate(next("node1"));
    let listener = TcpListener::bind(next("127.0.0.1:8080")).await?;
    println!("listening on {}", listener.local_addr()?);
    let leads = Leads::default();
    tokio::spawn(serve(listener, Arc::clone(&leads)));

    let (tell, ended) = oneshot::channel::<()>();
    std::thread::Builder::new().spawn(move || {
        drop(std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
        // Dropped, it tells the same.
        drop(tell);
    })?;
    let tell = |token| *leads.lock().unwrap_or_else(PoisonError::into_inner) = token;
    let work = |term: Term| async move {
        tell(Some(term.token()));
        // Dropped when the term is ending.
        drop(term.scope(count(&term)).await);
        tell(None);
    };
    // The end of the input, or of whoever would tell it.
    candidate
        .ttl(Duration::from_secs(5))
        .run(async { drop(ended.await) }, work)
        .await?;
    println!("resigned");
    Ok(())
}
