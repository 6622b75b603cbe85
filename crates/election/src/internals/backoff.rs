//! Pauses that grow: doubled from a first to a largest one, and jittered.

use std::time::Duration;

/// A growing pause. Pure: the caller brings the random number and does the waiting.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    largest: Duration,
    next: Duration,
}

impl Backoff {
    /// Pauses that begin at `first` and double up to `largest`.
    pub fn new(first: Duration, largest: Duration) -> Self {
        let first = first.min(largest);
        Self {
            first,
            largest,
            next: first,
        }
    }

    /// The next pause, from half of it to the whole as `random` goes from 0 to `u32::MAX`.
    ///
    /// Never longer than the largest, so a bound that counts on it holds with jitter too.
    pub fn next(&mut self, random: u32) -> Duration {
        let pause = self.next;
        self.next = pause.saturating_mul(2).min(self.largest);
        let half = pause / 2;
        half + half.mul_f64(f64::from(random) / f64::from(u32::MAX))
    }

    /// Starts again at the first pause.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

/// A random number from the kernel, for jitter and for ids.
///
/// Falls back to the clock where the kernel has none to give, which costs only evenness.
pub fn random() -> u64 {
    let mut bytes = [0; 8];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::NONBLOCK) {
        Ok(8) => u64::from_ne_bytes(bytes),
        _ => crate::clock::now()
            .as_nanos()
            .wrapping_mul(0x9e37_79b9_7f4a_7c15),
    }
}

/// [`random`], cut to what [`Backoff::next`] takes.
pub fn jitter() -> u32 {
    (random() >> 32) as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn doubles_up_to_the_largest() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(5));
        let pauses: Vec<u64> = (0..5).map(|_| backoff.next(u32::MAX).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 5, 5]);
        backoff.reset();
        assert_eq!(backoff.next(u32::MAX), Duration::from_secs(1));
    }

    #[test]
    fn jitter_takes_at_most_half() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(1));
        assert_eq!(backoff.next(0), Duration::from_millis(500));
        assert!(backoff.next(u32::MAX / 2) < Duration::from_secs(1));
    }

    #[test]
    fn a_first_pause_over_the_largest_is_cut() {
        let mut backoff = Backoff::new(Duration::from_secs(9), Duration::from_secs(2));
        assert_eq!(backoff.next(u32::MAX), Duration::from_secs(2));
    }

    fn span() -> impl Strategy<Value = Duration> {
        (0_u64..120_000_000).prop_map(Duration::from_micros)
    }

    proptest! {
        #[test]
        fn every_pause_is_within_its_limits(
            first in span(),
            largest in span(),
            numbers in prop::collection::vec(any::<u32>(), 1..40),
        ) {
            let mut backoff = Backoff::new(first, largest);
            let mut whole = first.min(largest);
            for random in numbers {
                let pause = backoff.next(random);
                prop_assert!(whole / 2 <= pause && pause <= whole, "{pause:?} of {whole:?}");
                whole = (whole * 2).min(largest);
            }
        }

        #[test]
        fn jitter_tells_two_candidates_apart(largest in span(), random in any::<u32>()) {
            prop_assume!(largest > Duration::from_secs(1));
            let mut one = Backoff::new(largest, largest);
            let mut other = one.clone();
            let (one, other) = (one.next(random), other.next(random ^ 1 << 31));
            let apart = one.max(other).saturating_sub(one.min(other));
            // Half of the range, which is half of the pause.
            prop_assert!(apart > largest / 5, "{one:?} and {other:?}");
        }

        #[test]
        fn a_reset_starts_again(first in span(), largest in span(), times in 0_usize..20) {
            let mut backoff = Backoff::new(first, largest);
            for _ in 0..times {
                backoff.next(u32::MAX);
            }
            backoff.reset();
            prop_assert_eq!(backoff.next(u32::MAX), first.min(largest));
        }
    }
}
