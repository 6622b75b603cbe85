//! Instants on `CLOCK_BOOTTIME`, the one clock that deadlines are counted on.
//!
//! It goes on while the machine is suspended, which neither [`std::time::Instant`] nor tokio's
//! timers do: a lease that ended during a suspend must be seen as ended on waking. It is the same
//! for every process of a machine, so the daemon and its guardian exchange instants as they are.

use std::ops::{Add, Sub};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use serde::{Deserialize, Serialize};
use tokio::net::unix::pipe::Receiver;

/// A point in time on `CLOCK_BOOTTIME`, in nanoseconds since boot.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Instant(u64);

impl Instant {
    /// The instant at which the machine booted: earlier than any that [`now`] returns.
    pub const BOOT: Self = Self(0);

    /// The instant `nanos` nanoseconds after boot.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since boot.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero if it is before.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// How long it is from now until this instant; zero once it has come.
    pub fn remaining(self) -> Duration {
        self.since(now())
    }

    /// Whether this instant has come.
    pub fn has_passed(self) -> bool {
        now() >= self
    }
}

/// Saturates at the far end of the clock.
impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(nanos(span)))
    }
}

/// Saturates at boot: an instant before boot has passed, as it should have.
impl Sub<Duration> for Instant {
    type Output = Self;

    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(span)))
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// The present, read from the kernel.
pub fn now() -> Instant {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(tv_sec).unwrap_or(0);
    let nanos = u64::try_from(tv_nsec).unwrap_or(0);
    Instant(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

/// The wall clock as RFC 3339 in UTC, for people to read. Nothing is ever decided by it.
pub fn wall_time() -> String {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::Realtime);
    let since_epoch = Duration::new(
        u64::try_from(tv_sec).unwrap_or(0),
        u32::try_from(tv_nsec).unwrap_or(0),
    );
    let time = std::time::SystemTime::UNIX_EPOCH + since_epoch;
    humantime::format_rfc3339_millis(time).to_string()
}

/// Proof that a loop is running: it ticks, and others see how long ago the last tick was.
#[derive(Clone, Debug)]
pub struct Tick(Arc<AtomicU64>);

impl Tick {
    /// A tick that has just happened.
    pub fn new() -> Self {
        Self(Arc::new(AtomicU64::new(now().0)))
    }

    /// Says that the loop is running.
    pub fn tick(&self) {
        self.0.store(now().0, Ordering::Relaxed);
    }

    /// When the last tick was.
    pub fn last(&self) -> Instant {
        Instant(self.0.load(Ordering::Relaxed))
    }

    /// How long ago the last tick was.
    pub fn age(&self) -> Duration {
        now().since(self.last())
    }
}

impl Default for Tick {
    fn default() -> Self {
        Self::new()
    }
}

/// A timer on `CLOCK_BOOTTIME` that can be polled as a file descriptor.
///
/// It becomes readable at the instant it was last [armed](Timer::arm) for.
#[derive(Debug)]
pub struct Timer(OwnedFd);

impl Timer {
    /// Makes a timer that is not armed.
    ///
    /// # Errors
    /// Fails if the process has no file descriptors left.
    pub fn new() -> std::io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        Ok(Self(timerfd_create(TimerfdClockId::Boottime, flags)?))
    }

    /// Sets the instant at which the timer becomes readable; `None` disarms it.
    ///
    /// # Errors
    /// Never for an instant that [`now`] could return.
    pub fn arm(&self, at: Option<Instant>) -> std::io::Result<()> {
        let zero = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // A value of zero would disarm, so boot itself becomes the first nanosecond after it.
        let it_value = at.map_or(zero, |at| {
            let nanos = at.0.max(1);
            Timespec {
                tv_sec: i64::try_from(nanos / 1_000_000_000).unwrap_or(i64::MAX),
                tv_nsec: i64::try_from(nanos % 1_000_000_000).unwrap_or(0),
            }
        });
        let spec = Itimerspec {
            it_interval: zero,
            it_value,
        };
        timerfd_settime(&self.0, TimerfdTimerFlags::ABSTIME, &spec)?;
        Ok(())
    }
}

impl std::os::fd::AsFd for Timer {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl std::os::fd::AsRawFd for Timer {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.as_raw_fd()
    }
}

/// Waits until `at`, counting the time that the machine is suspended.
///
/// Returns at once if it has passed. Needs tokio's I/O driver.
///
/// # Cancel safety
/// Safe to drop at any time.
pub async fn sleep_until(at: Instant) {
    while !at.has_passed() {
        let armed = Timer::new().and_then(|timer| {
            timer.arm(Some(at))?;
            // The one safe way to hand tokio a descriptor of any kind to wait on: it is read as a
            // pipe would be, which a timer allows.
            Receiver::from_owned_fd_unchecked(timer.0)
        });
        let waited = match armed {
            Ok(timer) => timer.readable().await,
            Err(error) => Err(error),
        };
        if waited.is_err() {
            // Without a file descriptor to spare, a timer that sleeps through a suspend is the
            // best there is; it is short so that a wake-up is noticed soon.
            tokio::time::sleep(at.remaining().min(Duration::from_millis(100))).await;
        }
    }
}

/// Waits for `span`, counting the time that the machine is suspended; see [`sleep_until`].
pub async fn sleep(span: Duration) {
    sleep_until(now() + span).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_before_boot_has_passed() {
        assert_eq!(Instant::BOOT - Duration::from_secs(1), Instant::BOOT);
        assert!(Instant::BOOT.has_passed());
    }

    #[test]
    fn since_never_goes_below_zero() {
        let early = Instant::from_nanos(5);
        let late = Instant::from_nanos(9);
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(late.since(early), Duration::from_nanos(4));
    }

    #[tokio::test]
    async fn sleep_until_never_returns_early() {
        let at = now() + Duration::from_millis(20);
        sleep_until(at).await;
        assert!(now() >= at);
    }

    #[tokio::test]
    async fn sleep_until_the_past_returns_at_once() {
        sleep_until(Instant::BOOT).await;
    }
}
