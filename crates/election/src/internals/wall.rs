//! The time of day, for schedules alone: whether a slot is due is all that it decides.
//!
//! It steps: an administrator sets it, a virtual machine wakes, a daemon corrects it. Who leads, and
//! when a job must be dead, is counted on [`clock`](crate::clock)'s instants and never on this one.

use std::fmt;
use std::io;
use std::ops::{Add, Sub};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use rustix::io::Errno;
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use serde::{Deserialize, Serialize};

/// A time of day with its date: milliseconds since 1970-01-01 00:00 UTC, leap seconds not counted.
///
/// Prints as RFC 3339 in UTC, with a fraction only if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Time(u64);

/// 9999-12-31 23:59:59.999, the last that RFC 3339 can tell.
const LAST: u64 = 253_402_300_799_999;

impl Time {
    /// 1970-01-01 00:00 UTC: nothing is before it.
    pub const EPOCH: Self = Self(0);

    /// So many milliseconds after [`Time::EPOCH`], at most to the end of the year 9999.
    pub const fn from_millis(millis: u64) -> Self {
        Self(if millis > LAST { LAST } else { millis })
    }

    /// So many seconds after [`Time::EPOCH`], at most to the end of the year 9999.
    pub const fn from_secs(seconds: u64) -> Self {
        Self::from_millis(seconds.saturating_mul(1000))
    }

    /// Milliseconds since [`Time::EPOCH`].
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Whole seconds since [`Time::EPOCH`], rounded down.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1000
    }

    /// How long after `earlier` this is; zero if it is before.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Saturates at the end of the year 9999.
impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self::from_millis(self.0.saturating_add(millis(span)))
    }
}

/// Saturates at [`Time::EPOCH`].
impl Sub<Duration> for Time {
    type Output = Self;

    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(millis(span)))
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(self.0);
        humantime::format_rfc3339(time).fmt(f)
    }
}

/// The text is no time of day.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a time such as 2027-03-28T01:00:00Z, found {0:?}")]
pub struct NotATime(String);

impl FromStr for Time {
    type Err = NotATime;

    /// Reads RFC 3339 in UTC, to the millisecond, from 1970 on.
    fn from_str(text: &str) -> Result<Self, NotATime> {
        humantime::parse_rfc3339(text)
            .ok()
            .and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok())
            .map(|span| Self::from_millis(millis(span)))
            .ok_or_else(|| NotATime(text.to_owned()))
    }
}

impl TryFrom<String> for Time {
    type Error = NotATime;

    fn try_from(text: String) -> Result<Self, NotATime> {
        text.parse()
    }
}

impl From<Time> for String {
    fn from(time: Time) -> Self {
        time.to_string()
    }
}

/// The present, read from the kernel and rounded down: what has come by it has truly come.
pub fn now() -> Time {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::Realtime);
    let seconds = u64::try_from(tv_sec).unwrap_or(0);
    let nanos = u64::try_from(tv_nsec).unwrap_or(0);
    Time::from_millis(seconds.saturating_mul(1000) + nanos / 1_000_000)
}

/// What a [`Timer`] woke for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// The time has come.
    Due,
    /// The clock was set. Until it is armed anew, the timer still waits for the same time of day.
    Set,
    /// Neither.
    No,
}

/// A timer on the wall clock that can be polled as a file descriptor.
///
/// It becomes readable when the time it was [armed](Timer::arm) for has come, however the clock came
/// there, and as soon as the clock is set: a span computed from the time of day would be wrong then.
#[derive(Debug)]
pub struct Timer(OwnedFd);

impl Timer {
    /// Makes a timer that is not armed.
    ///
    /// # Errors
    /// Fails if the process has no file descriptors left.
    pub fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        Ok(Self(timerfd_create(TimerfdClockId::Realtime, flags)?))
    }

    /// Sets the time at which the timer becomes readable; a time that is past makes it so at once.
    /// `None` leaves it to tell of a clock that is set, and nothing else.
    ///
    /// # Errors
    /// None for a time that can be told in RFC 3339.
    pub fn arm(&self, at: Option<Time>) -> io::Result<()> {
        let zero = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // A value of zero would disarm, and a timer that isn't armed hears of no step.
        let millis = at.map_or(LAST, |at| at.0.max(1));
        let it_value = Timespec {
            tv_sec: i64::try_from(millis / 1000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(millis % 1000 * 1_000_000).unwrap_or(0),
        };
        let spec = Itimerspec {
            it_interval: zero,
            it_value,
        };
        let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        match timerfd_settime(&self.0, flags, &spec) {
            // It is armed, and the clock was set since it was last read.
            Ok(_) | Err(Errno::CANCELED) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes what it woke for, so that it is readable only for what comes after. Never blocks.
    ///
    /// # Errors
    /// None that a timer is known for.
    pub fn take(&self) -> io::Result<Woken> {
        let mut count = [0; 8];
        match rustix::io::read(&self.0, &mut count) {
            Ok(_) => Ok(Woken::Due),
            Err(Errno::CANCELED) => Ok(Woken::Set),
            Err(Errno::AGAIN | Errno::INTR) => Ok(Woken::No),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;

    fn readable(timer: &Timer, limit: i64) -> bool {
        let limit = Timespec {
            tv_sec: limit,
            tv_nsec: 0,
        };
        let mut fds = [PollFd::new(timer, PollFlags::IN)];
        poll(&mut fds, Some(&limit)).unwrap() > 0
    }

    #[test]
    fn a_time_is_written_as_it_is_read() {
        for text in [
            "1970-01-01T00:00:00Z",
            "2027-03-28T01:00:00Z",
            "9999-12-31T23:59:59Z",
        ] {
            assert_eq!(text.parse::<Time>().unwrap().to_string(), text);
        }
        let half = Time::from_millis(1_500);
        assert_eq!(half.to_string().parse::<Time>().unwrap(), half);
        for text in ["", "manual", "2027-02-30T00:00:00Z", "1969-12-31T23:59:59Z"] {
            assert!(text.parse::<Time>().is_err(), "{text}");
        }
    }

    #[test]
    fn no_time_is_beyond_what_can_be_told() {
        let last = Time::from_secs(u64::MAX);
        assert!(last.to_string().starts_with("9999-12-31"));
        assert_eq!(last + Duration::MAX, last);
        assert_eq!(Time::EPOCH - Duration::from_secs(1), Time::EPOCH);
    }

    #[test]
    fn the_present_is_past_the_day_this_was_written_on() {
        assert!(now() > "2026-01-01T00:00:00Z".parse().unwrap());
    }

    #[test]
    fn a_timer_wakes_when_its_time_has_come_and_not_before() {
        let timer = Timer::new().unwrap();
        let at = now() + Duration::from_millis(30);
        timer.arm(Some(at)).unwrap();
        assert!(readable(&timer, 10));
        assert!(now() >= at);
        assert_eq!(timer.take().unwrap(), Woken::Due);
        assert_eq!(timer.take().unwrap(), Woken::No);
    }

    #[test]
    fn a_timer_for_the_past_wakes_at_once() {
        let timer = Timer::new().unwrap();
        timer.arm(Some(Time::EPOCH)).unwrap();
        assert!(readable(&timer, 0));
    }

    #[test]
    fn a_timer_for_nothing_stays_silent() {
        let timer = Timer::new().unwrap();
        timer.arm(Some(Time::EPOCH)).unwrap();
        timer.arm(None).unwrap();
        assert!(!readable(&timer, 0));
        assert_eq!(timer.take().unwrap(), Woken::No);
    }
}
