//! Schedules: at which instants a job is to run, what is recorded of its runs, and which of them is
//! due.
//!
//! Pure but for [`Schedule::new`] and [`Schedule::refreshed`], which read the zones of this host.
//! [`planner`] decides, told the time by whoever asks; [`record`] is what the store keeps. Who elects
//! without the daemon has no schedule, and is spared what reads one, with the crates for it.

#[cfg(feature = "daemon")]
mod calendar;
#[cfg(feature = "daemon")]
#[cfg(test)]
mod histories;
#[cfg(feature = "daemon")]
pub mod planner;
#[cfg(feature = "daemon")]
mod preview;
pub mod record;
mod slot;
#[cfg(feature = "daemon")]
#[cfg(test)]
mod tests;
#[cfg(feature = "daemon")]
mod timetable;
#[cfg(feature = "daemon")]
mod words;
mod writes;

#[cfg(feature = "daemon")]
pub use preview::ClockChange;
pub use slot::{NotASlot, Occasion, Run, RunId, Slot};
#[cfg(feature = "daemon")]
pub use timetable::{NotASchedule, Pace, Schedule, check_pattern, check_zone, jitter};
pub use writes::{Stored, Write, Written};
