//! The interface. One rule: what can be misused isn't there.
//!
//! A [`Client`] has a thread with a runtime of its own, and all that a term hangs on lives there: blocking
//! code, dropped futures and foreign runtimes can't reach it. What the methods here return are handles on
//! that, and futures that only wait for its words.

mod candidacy;
mod candidate;
mod client;
mod election;
mod engine;
mod error;
mod lock;
mod options;
mod stage;
mod term;
mod txn;
mod values;

pub use candidate::{Candidate, Waiting};
pub use client::Client;
pub use election::{Election, Event, Leader, Observer};
pub use error::{CampaignError, Ending, OptionsError, ResignError, WriteError};
pub use lock::{Lock, LockGuard};
pub use options::{ClientOptions, Password, Tls, User};
pub use term::{Leadership, Term};
pub use txn::{Answers, GuardedTxn};
pub use values::{Change, Value, Watcher};
