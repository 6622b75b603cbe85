//! Runs a job on exactly one of several machines: replicas of one daemon stand for election through
//! etcd, the leader runs the job, and the next in line takes over when the leader stops, dies, hangs
//! or is cut off.
//!
//! **Guaranteed.** While one replica's job has a living process, or a Rust job still runs, no other
//! replica's job starts: not when the daemon is killed, stopped or hung, not when it is cut off from
//! etcd, not when etcd's members die, freeze or lose their quorum. After a planned stop or a crash of
//! the daemon the next job starts within milliseconds; after the loss of a host, within the lease's
//! TTL, half a second and the takeover delay. Every term has a fencing token, which only rises, and
//! writes that etcd refuses once the term is over.
//!
//! **Not guaranteed.** A virtual machine that is frozen whole goes on for an instant when it wakes. A
//! write that is on its way to a third system arrives. There only the token helps, checked by who is
//! written to. Nor do the guarantees cover
//!
//! - work that a job hands to a process outside its own tree (`docker run`, `docker exec`, `nsenter`);
//! - a lease revoked early while the leader's watch is broken too, while a Go program is next, or before
//!   the term's record is there;
//! - a process that the kernel can't kill, or that we may not signal (`sudo`, setuid programs,
//!   subordinate user ids), while etcd is away;
//! - daemon and guardian each killed or stopped, where no service manager looks after them;
//! - an etcd restored from a snapshot without a revision bump, which is noticed.
//!
//! What is left of an earlier daemon on a host is killed by the next one there.
//!
//! # A job of one's own
//!
//! A binary with jobs in Rust is the whole tool, with the jobs added:
//!
//! ```no_run
//! use std::process::ExitCode;
//! use std::time::Duration;
//!
//! use incumbent::{App, Job, JobError, JobTerm, NoSettings};
//!
//! struct Count;
//!
//! impl Job for Count {
//!     type Settings = NoSettings;
//!
//!     fn new(_: NoSettings) -> Result<Self, JobError> {
//!         Ok(Self)
//!     }
//!
//!     async fn run(&self, term: JobTerm) -> Result<(), JobError> {
//!         while !term.is_stopping() {
//!             let count = match term.get("/count").await? {
//!                 Some(text) => String::from_utf8(text)?.parse()?,
//!                 None => 0_u64,
//!             };
//!             // Nothing is written once another leads.
//!             term.put("/count", (count + 1).to_string()).await?;
//!             tokio::select! {
//!                 () = tokio::time::sleep(Duration::from_secs(1)) => {}
//!                 () = term.stopping() => {}
//!             }
//!         }
//!         Ok(())
//!     }
//! }
//!
//! fn main() -> ExitCode {
//!     App::new("my-daemon", env!("CARGO_PKG_VERSION")).job::<Count>("count").main()
//! }
//! ```
//!
//! `job.kind = "count"` in the configuration chooses it. [`Job::run`] says when it has ended, and
//! what becomes of a job that doesn't. `examples/reindex.rs` is a longer one, with settings and a
//! process; `examples/tally.rs` one with a schedule, whose effects are there exactly once.
//!
//! # Without the daemon
//!
//! The crate `incumbent-election` is the election alone, as Go's `clientv3/concurrency` is, and in one
//! queue with it and with this daemon. There is no guardian then: the work has to end when its term is
//! ending. `docs/library.md` compares the two.
//!
//! ```no_run
//! # use incumbent_election::{Client, ClientOptions};
//! # async fn stand() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::new(&ClientOptions::new(["http://127.0.0.1:2379"]))?;
//! let leadership = client.election("/demo")?.candidate("node1").campaign().await?;
//! leadership.put("/demo-value", "written by the leader").await?;
//! leadership.resign().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Layout
//!
//! Each module is a room, and rooms import downwards only; `tests/project/rooms.rs` has the arrows.
//!
//! | room | does |
//! |---|---|
//! | `cli` | the command line, one file a command |
//! | `daemon` | the life of the process: configuration, signals, service manager |
//! | `placement` | which jobs a daemon stands for, and where each is to be led, as it is decided |
//! | `http` | status endpoints, metrics, the page, and the control socket |
//! | `candidate` | what the candidate decides, as a pure state machine, and the daemon's main loop around it |
//! | `job` | what a leader runs: a command, or Rust code on a runtime of its own |
//! | `guardian` | the process that starts, signals and reaps what the job consists of |
//! | `api` | what `incumbent-election` offers to who wants an election alone |
//! | `election` | the queue: joining, claiming, watching, observing |
//! | `session` | the lease, its renewals and its deadline |
//! | `term` | what a leader holds: token, guarded writes, the way to give it back |
//! | `etcd` | one client a member, rotation, limits, errors |
//! | `kv`, `status` | what the commands of these names ask the store |
//! | `schedule` | at which instants a job is to run, and which of them is due |
//! | `release` | the unit's stop hook |
//! | `fencing` | what an earlier daemon left on this host |
//! | `runtime_dir` | one daemon's folder: its lock, its lease file, the record of its runs |
//! | `runs` | which runs a guardian began, for who comes after both |
//! | `config` | the configuration, and the times (`config::timing`) that follow from it |
//! | `metrics` | what is counted for `/metrics` |
//! | `log` | lines that hold nobody up |
//! | `lines` | those that daemon, guardian and stop hook have in common |
//! | `notify`, `signals` | words to and from the service manager |
//! | `vital`, `worker` | threads whose end is the process's, and those that wait for what blocks |
//! | `shortage` | waiting for what can't be had for a moment |
//! | `keys`, `revision`, `clock`, `wall`, `backoff`, `proc`, `cgroup`, `faults`, `os_text`, `reason` | leaves: names, revisions and tokens, time, the time of day, pauses, `/proc`, whose fault an error is, paths as JSON, why a term ended |
//!
//! # Rules
//!
//! What keeps two jobs from running at once. Comments all over the code name these numbers. `T` is
//! the TTL, `D` the deadline, `G` the job's `lost_grace`, `K` its `kill_budget`.
//!
//! | rule | says | lives in |
//! |---|---|---|
//! | R1 | `D` counts from the *sending* of the last proven renewal, on a clock that suspend doesn't stop; an acknowledgement of a deposed leader of etcd proves nothing | `session`, `config::timing` |
//! | R2 | the job is asked to stop at `D−G−K`, killed at `D−K`, dead at `D`; "am I leader?" means the first of these | `config::timing`, `candidate`, `guardian` |
//! | R3 | the TTL has room for two failed renewals beside `G` and `K` | `config::timing`, and `candidate` for the TTL that was granted |
//! | R4 | a run starts only under a complete claim, before `D−G−K`, with nothing of an earlier run alive and no stop begun; whoever forks looks again | `candidate`, `guardian`, `fencing` |
//! | R5 | the key and the lease are given back only for a tree that is proven empty; until then somebody renews | `candidate`, `term::resignation`, `guardian`, `release` |
//! | R6 | the guardian alone forks, signals and reaps, and knows every lease before it is granted | `guardian`, `candidate` |
//! | R7 | a leader whose own key is gone kills its job at once; so does the guardian, while it stops what runs for a daemon that is dead or late | `election::control`, `session`, `guardian` |
//! | R8 | to be first in the queue is not to lead: one linearizable transaction proves it | `election` |
//! | R9 | who waits renews, watches the one in front, and joins again after any loss | `election::campaign`, `candidate` |
//! | R10 | a write that timed out may be applied later: a fresh lease for each candidacy, guarded deletes, and a revocation at the end | `session`, `term::resignation` |
//! | R11 | a planned stop renews until the job is over or its grace is | `candidate` |
//! | R12 | every await on the store has a limit; another cluster, or a history that went back, ends the term | `etcd` |
//! | R13 | after an end that nobody proved, the next leader waits `takeover_delay` | `election` |
//! | R14 | no thread that renews, guards or decides waits for whoever reads its output, or for a disk | `log`, `runtime_dir` |
//! | R15 | what can't be had for a moment, a thread, a descriptor, a process, ends no loop and no term by itself: it is said, and tried again; a thread that the daemon can't do without takes the process with it; the watchdog is fed only while main loop and contest get on | `shortage`, `vital`, `worker`, `daemon` |

#[cfg(not(target_os = "linux"))]
compile_error!("incumbent runs on Linux: its guardian owns a job by what that kernel offers");

mod candidate;
mod cgroup;
mod cli;
#[doc(hidden)]
pub mod config;
mod daemon;
mod faults;
mod fencing;
#[doc(hidden)]
pub mod guardian;
mod http;
mod job;
mod lines;
#[doc(hidden)]
pub mod log;
mod metrics;
mod notify;
mod placement;
mod proc;
mod release;
mod runs;
mod runtime_dir;
mod shortage;
mod signals;
mod status;

#[doc(hidden)]
pub use incumbent_election::internals::{
    backoff, clock, election, etcd, keys, kv, os_text, reason, revision, schedule, session, term,
    vital, wall, worker,
};

pub use cli::App;
pub use incumbent_election::{Answers, Error, GuardedTxn, Value};
pub use job::process::{JobCommand, JobProcess, ProcessError};
pub use job::{CompletionError, Job, JobError, JobTerm, NoSettings, ScheduledRun};
pub use revision::Token;
pub use term::WriteError;

/// Compiles the README's example with the documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
