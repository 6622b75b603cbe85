//! Instants, by the two clocks that deadlines are counted on.
//!
//! `CLOCK_BOOTTIME` goes on while the machine is suspended, which neither [`std::time::Instant`] nor
//! tokio's timers do: a lease that ended during a suspend must be seen as ended on waking. But it is
//! steered: chronyd may slew it by up to 8.3 %, far more than two clocks drift apart. So it has
//! `CLOCK_MONOTONIC_RAW` beside it, which nothing steers, with the time of all suspends added, and a
//! span is the larger of what the two say. Both are the same for every process of a time namespace, so the
//! daemon and its guardian exchange instants as they are.

use std::cmp::Ordering;
use std::ops::{Add, Sub};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;

/// A point in time, in nanoseconds since boot by either clock.
///
/// It has come as soon as one of the clocks shows it: what began at one instant and lasts for a span
/// is over once either clock has run so far. `a < b` says that by neither clock `a` has come to `b`;
/// two instants that the clocks order differently are each as late as the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "(u64, u64)", into = "(u64, u64)")]
pub struct Instant {
    boot: u64,
    raw: u64,
}

impl Instant {
    /// The instant at which the machine booted: earlier than any that [`now`] returns.
    pub const BOOT: Self = Self::from_nanos(0);

    /// An instant that never comes.
    pub const FAR: Self = Self::from_nanos(u64::MAX);

    /// The instant `nanos` nanoseconds after boot by both clocks.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self::of(nanos, nanos)
    }

    /// The instant at which the clocks show so many nanoseconds: the one that counts suspends and is
    /// steered, and the one that nothing steers.
    pub const fn of(boot: u64, raw: u64) -> Self {
        Self { boot, raw }
    }

    /// Nanoseconds since boot, suspends included.
    pub const fn as_nanos(self) -> u64 {
        self.boot
    }

    /// How long after `earlier` this is, by the clock that has run further; zero if it is before.
    pub const fn since(self, earlier: Self) -> Duration {
        let boot = self.boot.saturating_sub(earlier.boot);
        let raw = self.raw.saturating_sub(earlier.raw);
        Duration::from_nanos(if boot > raw { boot } else { raw })
    }

    /// How long it is from `now` until this instant, by the clock that comes to it first, should it
    /// run true; zero once it has come.
    pub const fn after(self, now: Self) -> Duration {
        let boot = self.boot.saturating_sub(now.boot);
        let raw = self.raw.saturating_sub(now.raw);
        Duration::from_nanos(if boot < raw { boot } else { raw })
    }

    /// How long it is from `now` until both clocks have come to this instant, by the one that has
    /// longer to go, should it run true; zero once both have. What must last for a span at least goes
    /// by this: a clock that is made to go fast cuts nothing off it.
    pub const fn after_by_both(self, now: Self) -> Duration {
        let boot = self.boot.saturating_sub(now.boot);
        let raw = self.raw.saturating_sub(now.raw);
        Duration::from_nanos(if boot > raw { boot } else { raw })
    }

    /// How long it is from now until this instant; zero once it has come.
    pub fn remaining(self) -> Duration {
        self.after(now())
    }

    /// Whether this instant has come.
    pub fn has_passed(self) -> bool {
        now() >= self
    }

    /// The last instant, this one or one before, that is a multiple of `span` after boot, by the clock
    /// that counts suspends: the same for all between two of them.
    #[must_use]
    pub fn at_beat(self, span: Duration) -> Self {
        self - Duration::from_nanos(self.boot % nanos(span).max(1))
    }

    /// The instant that has come as soon as one of the two has.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        Self::of(self.boot.min(other.boot), self.raw.min(other.raw))
    }

    /// The instant that by either clock is as late as the later of the two.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self::of(self.boot.max(other.boot), self.raw.max(other.raw))
    }
}

impl PartialOrd for Instant {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(
            match (self.boot.cmp(&other.boot), self.raw.cmp(&other.raw)) {
                (Ordering::Less, Ordering::Less) => Ordering::Less,
                (Ordering::Greater, Ordering::Greater) => Ordering::Greater,
                _ => Ordering::Equal,
            },
        )
    }
}

impl From<(u64, u64)> for Instant {
    fn from((boot, raw): (u64, u64)) -> Self {
        Self::of(boot, raw)
    }
}

impl From<Instant> for (u64, u64) {
    fn from(instant: Instant) -> Self {
        (instant.boot, instant.raw)
    }
}

/// Saturates at the far end of the clocks.
impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        let span = nanos(span);
        Self::of(
            self.boot.saturating_add(span),
            self.raw.saturating_add(span),
        )
    }
}

/// Saturates at boot: an instant before boot has passed, as it should have.
impl Sub<Duration> for Instant {
    type Output = Self;

    fn sub(self, span: Duration) -> Self {
        let span = nanos(span);
        Self::of(
            self.boot.saturating_sub(span),
            self.raw.saturating_sub(span),
        )
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// The present, read from the kernel.
pub fn now() -> Instant {
    let boot = read(ClockId::Boottime);
    let monotonic = read(ClockId::Monotonic);
    instant(boot, monotonic, read(ClockId::MonotonicRaw))
}

/// What the kernel's three clocks show, read in this order: then the raw clock with the suspends is at
/// what it shows at some instant in between, whatever comes between the readings.
///
/// A time namespace sets two of the clocks forward or back, each by its own: the one that counts suspends
/// may be behind the one that doesn't.
const fn instant(boot: u64, monotonic: u64, raw: u64) -> Instant {
    Instant::of(boot, boot.saturating_add(raw).saturating_sub(monotonic))
}

fn read(clock: ClockId) -> u64 {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(clock);
    let seconds = u64::try_from(tv_sec).unwrap_or(0);
    let nanos = u64::try_from(tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
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
pub struct Tick(Arc<[AtomicU64; 2]>);

impl Tick {
    /// A tick that has just happened.
    pub fn new() -> Self {
        let tick = Self(Arc::default());
        tick.tick();
        tick
    }

    /// Says that the loop is running.
    pub fn tick(&self) {
        let Instant { boot, raw } = now();
        // Each clock's age is told by its own: nothing has to be read together.
        self.0[0].store(boot, Relaxed);
        self.0[1].store(raw, Relaxed);
    }

    /// When the last tick was.
    pub fn last(&self) -> Instant {
        Instant::of(self.0[0].load(Relaxed), self.0[1].load(Relaxed))
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

/// A timer that can be polled as a file descriptor.
///
/// It becomes readable at the instant it was last [armed](Timer::arm) for, or before: the kernel has
/// timers on `CLOCK_BOOTTIME`, but not on the clock that may come first. Whoever was woken looks
/// whether the instant has come, and arms it anew.
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
        set(&self.0, at.map(|at| look_again(at, now())))
    }
}

/// Sets the nanosecond after boot at which a timer becomes readable; `None` disarms it.
fn set(timer: impl AsFd, at: Option<u64>) -> std::io::Result<()> {
    let zero = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // A value of zero would disarm, so boot itself becomes the first nanosecond after it.
    let it_value = at.map_or(zero, |nanos| {
        let nanos = nanos.max(1);
        Timespec {
            tv_sec: i64::try_from(nanos / 1_000_000_000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(nanos % 1_000_000_000).unwrap_or(0),
        }
    });
    let spec = Itimerspec {
        it_interval: zero,
        it_value,
    };
    timerfd_settime(timer, TimerfdTimerFlags::ABSTIME, &spec)?;
    Ok(())
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl std::os::fd::AsRawFd for Timer {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.as_raw_fd()
    }
}

/// As long as this, a clock that is slewed as fast as can be costs less than a millisecond.
const SHORT: Duration = Duration::from_millis(8);

/// When to look whether `at` has come, as `CLOCK_BOOTTIME` shows it: at `at`, if that is soon, else so
/// early that it can't have come by the other clock, however slowly this one is made to go. The kernel
/// takes no more than a tenth off its rate.
fn look_again(at: Instant, now: Instant) -> u64 {
    let left = at.after(now);
    let wait = if left <= SHORT { left } else { left / 8 * 7 };
    now.boot.saturating_add(nanos(wait))
}

/// What a loop waits with that waits again and again: one timer, which stays armed for as long as it
/// is to go off at the same instant. One that is made for each wait costs five system calls more.
///
/// Needs tokio's I/O driver. Whatever waits with it is safe to drop at any time.
#[derive(Debug, Default)]
pub struct Alarm {
    timer: Option<Receiver>,
    /// What the timer is armed for.
    armed: Option<Wanted>,
}

/// About when to be woken, and by when at the latest.
type Wanted = (Instant, Option<Instant>);

impl Alarm {
    /// Waits until `at`, counting the time that the machine is suspended. Returns at once if it has
    /// passed.
    pub async fn until(&mut self, at: Instant) {
        self.about(Instant::FAR, Some(at)).await;
    }

    /// Waits until about `at`, but not past `limit`.
    ///
    /// For what may be late by as much as the clock that counts suspends is slewed: who has to be on time
    /// by the other one too is woken three or four times on the way to see how it stands.
    pub async fn about(&mut self, at: Instant, limit: Option<Instant>) {
        while now().boot < at.boot && !limit.is_some_and(Instant::has_passed) {
            self.wait((at, limit)).await;
        }
    }

    /// Waits once, until it is time to look.
    async fn wait(&mut self, wanted: Wanted) {
        let woken = match self.arm(wanted) {
            // How often it went off; a read that fills less than its room tells tokio that there is no more.
            Ok(timer) => timer.read(&mut [0; 16]).await.map(drop),
            Err(error) => Err(error),
        };
        self.armed = None;
        if woken.is_err() {
            // Without a file descriptor to spare, a timer that sleeps through a suspend is the
            // best there is; it is short so that a wake-up is noticed soon.
            let left = wanted.0.min(wanted.1.unwrap_or(wanted.0)).remaining();
            tokio::time::sleep(left.min(Duration::from_millis(100))).await;
        }
    }

    fn arm(&mut self, wanted: Wanted) -> std::io::Result<&mut Receiver> {
        let timer = match self.timer.take() {
            Some(timer) => timer,
            // The one safe way to hand tokio a descriptor of any kind to wait on: it is read as a
            // pipe would be, which a timer allows.
            None => Receiver::from_owned_fd_unchecked(Timer::new()?.0)?,
        };
        let timer = self.timer.insert(timer);
        if self.armed != Some(wanted) {
            let (at, limit) = wanted;
            let look = limit.map_or(at.boot, |limit| at.boot.min(look_again(limit, now())));
            set(&*timer, Some(look))?;
            self.armed = Some(wanted);
        }
        Ok(timer)
    }
}

/// Waits until `at`, counting the time that the machine is suspended.
///
/// Returns at once if it has passed. Needs tokio's I/O driver.
///
/// # Cancel safety
/// Safe to drop at any time.
pub async fn sleep_until(at: Instant) {
    Alarm::default().until(at).await;
}

/// Waits for about `span`, counting the time that the machine is suspended; see [`Alarm::about`].
///
/// # Cancel safety
/// Safe to drop at any time.
pub async fn sleep(span: Duration) {
    Alarm::default().about(now() + span, None).await;
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

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_span_is_the_larger_of_what_the_clocks_say() {
        let sent = Instant::of(100 * SECOND, 40 * SECOND);
        let over = sent + Duration::from_mins(1);
        for (boot, raw, passed) in [
            (159, 99, false),
            // As they should run; slewed slow and fast.
            (160, 100, true),
            (155, 100, true),
            (160, 95, true),
        ] {
            let now = Instant::of(boot * SECOND, raw * SECOND);
            assert_eq!(now >= over, passed, "{boot} {raw}");
            assert_eq!(over.after(now) == Duration::ZERO, passed, "{boot} {raw}");
            assert_eq!(now.since(sent) >= Duration::from_mins(1), passed);
            assert_eq!(now < over, !passed);
        }
    }

    #[test]
    fn a_span_that_must_last_is_over_by_both_clocks() {
        let began = Instant::of(100 * SECOND, 40 * SECOND);
        let over = began + Duration::from_mins(1);
        for (boot, raw, left) in [(160, 100, 0), (160, 95, 5), (155, 100, 5), (130, 71, 30)] {
            let now = Instant::of(boot * SECOND, raw * SECOND);
            assert_eq!(over.after_by_both(now), Duration::from_secs(left));
        }
    }

    #[test]
    fn the_earlier_of_two_instants_comes_with_the_first_of_them() {
        let (one, other) = (Instant::of(5, 9), Instant::of(7, 8));
        assert_eq!(one.min(other), Instant::of(5, 8));
        assert_eq!(one.max(other), Instant::of(7, 9));
    }

    #[test]
    fn instants_go_to_another_process_with_both_readings() {
        let at = Instant::of(5, 9);
        let text = serde_json::to_string(&at).unwrap();
        assert_eq!(serde_json::from_str::<Instant>(&text).unwrap(), at);
    }

    #[tokio::test]
    async fn an_alarm_goes_off_for_what_comes_first_again_and_again() {
        let (soon, late) = (Duration::from_millis(20), Duration::from_secs(10));
        let mut alarm = Alarm::default();
        for (at, limit) in [(soon, None), (soon, Some(late)), (late, Some(soon))] {
            let begun = now();
            let waited = alarm.about(begun + at, limit.map(|limit| begun + limit));
            waited.await;
            assert!(now() >= begun + soon && now() < begun + late / 2);
        }
        // One that is given up on is armed anew, and an instant that has passed is not waited for.
        let begun = now();
        tokio::select! {
            biased;
            () = alarm.until(begun + late) => panic!("too soon"),
            () = tokio::time::sleep(soon) => {}
        }
        alarm.until(begun + soon * 2).await;
        alarm.until(begun).await;
        assert!(now() >= begun + soon * 2 && now() < begun + late / 2);
    }

    /// A timer whose clock is slewed all the while it waits is looked at in time all the same.
    #[test]
    fn no_slew_makes_a_timer_late() {
        for percent in [90, 92, 100, 110] {
            let mut now = Instant::of(1000 * SECOND, 400 * SECOND);
            let at = now + Duration::from_mins(1);
            let mut looks = 0;
            while now < at {
                let boot = look_again(at, now) - now.boot;
                now = Instant::of(now.boot + boot, now.raw + boot * 100 / percent);
                looks += 1;
            }
            let late = now.since(at);
            assert!(late < Duration::from_millis(1), "{percent}: {late:?}");
            assert!(looks < 12, "{percent}: {looks}");
        }
    }

    /// A machine in milliseconds of true time, and what its kernel's clocks show in nanoseconds.
    struct Machine {
        boot: u64,
        monotonic: u64,
        raw: u64,
    }

    impl Machine {
        /// Some hours after boot, in a time namespace that sets its clocks so many seconds ahead.
        fn ahead(boot: u64, monotonic: u64) -> Self {
            Self {
                boot: (30_000 + boot) * SECOND,
                monotonic: (20_000 + monotonic) * SECOND,
                raw: (20_001 + monotonic) * SECOND,
            }
        }

        /// A millisecond, while two of the clocks are steered by so many millionths.
        fn runs(&mut self, steered: i64) {
            let steered = u64::try_from(1_000_000 + steered).unwrap();
            self.boot += steered;
            self.monotonic += steered;
            self.raw += 1_000_000;
        }

        fn sleeps(&mut self, millis: u64) {
            self.boot += millis * 1_000_000;
        }

        fn now(&self) -> Instant {
            instant(self.boot, self.monotonic, self.raw)
        }
    }

    /// However the clocks are steered, for as long as the machine runs, and whenever it sleeps.
    #[test]
    fn no_slew_and_no_suspend_lengthens_a_deadline() {
        const SPAN: u64 = 15_000;
        let slews = [-100_000, -83_000, -500, 0, 500, 83_000, 100_000];
        for (boot, monotonic) in [(0, 0), (400_000, 400_000), (0, 700_000), (900_000, 0)] {
            for (first, then) in slews.iter().flat_map(|a| slews.map(|b| (*a, b))) {
                for (at, asleep) in [(0, 0), (1, 4_000), (9_000, 700), (14_998, 3), (100, 60_000)] {
                    let mut machine = Machine::ahead(boot, monotonic);
                    let sent = machine.now();
                    let over = sent + Duration::from_millis(SPAN);
                    let (mut elapsed, mut ran) = (0, 0);
                    while elapsed < SPAN {
                        // A clock that is made to go fast cuts off its own error, and no more.
                        let fastest = u64::try_from(first.max(then).max(0)).unwrap();
                        if elapsed + elapsed * fastest / 1_000_000 + 1 < SPAN {
                            assert!(machine.now() < over, "{first} {then}: after {elapsed} ms");
                        }
                        if ran == at && asleep > 0 {
                            machine.sleeps(asleep);
                            elapsed += asleep;
                        }
                        machine.runs(if ran < SPAN / 2 { first } else { then });
                        (elapsed, ran) = (elapsed + 1, ran + 1);
                    }
                    let case = format!("{boot} {monotonic}, {first} {then}, {asleep} at {at}");
                    assert!(machine.now() >= over, "{case}: it has come");
                    let told = machine.now().since(sent);
                    assert!(told >= Duration::from_millis(elapsed), "{case}: {told:?}");
                }
            }
        }
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
