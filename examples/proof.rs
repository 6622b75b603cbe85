//! Writes the tables and the picture of `docs/proof.md` from what was measured: `make proof`.
//!
//! ```sh
//! cargo run --example proof -- docs target/{handover,systemd,slots}.json target/torture-*.json
//! ```
//!
//! Any number of results of `make torture` may be named; those on one version of etcd are added up. What
//! has no results is left as it stands.

#![allow(
    clippy::print_stdout,
    reason = "it says what it wrote and what it could not"
)]

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

#[path = "proof/page.rs"]
mod page;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let mut next = || {
        arguments
            .next()
            .ok_or("usage: proof DOCS HANDOVER.json SYSTEMD.json SLOTS.json TORTURE.json…")
    };
    let (docs, handover, systemd, slots) = (next()?, next()?, next()?, next()?);
    let torture: Vec<PathBuf> = arguments.collect();
    let file = docs.join("proof.md");
    let mut text = fs::read_to_string(&file)?;
    if let Some(results) = read(&handover)? {
        text = page::fill(&text, "handovers", &page::handovers(&results)?)?;
        fs::copy(handover.with_extension("svg"), docs.join("handover.svg"))?;
    }
    if let Some(results) = read(&systemd)? {
        text = page::fill(&text, "systemd", &page::under_the_unit(&results)?)?;
    }
    if let Some(results) = read(&slots)? {
        text = page::fill(&text, "slots", &page::slots(&results)?)?;
    }
    let mut runs = Vec::new();
    for file in &torture {
        runs.extend(read(file)?);
    }
    if !runs.is_empty() {
        text = page::fill(&text, "torture", &page::torture(&runs)?)?;
    }
    fs::write(&file, text)?;
    println!("{} is written", file.display());
    Ok(())
}

/// The results in a file, if it is there.
fn read(file: &Path) -> Result<Option<Value>, Box<dyn Error>> {
    if !file.exists() {
        println!("{} is not there; its part stays as it was", file.display());
        return Ok(None);
    }
    let text = fs::read_to_string(file)?;
    Ok(Some(serde_json::from_str(&text)?))
}
