//! Chance that can be repeated: a seed tells a whole history.

use std::time::Duration;

/// Random numbers from a seed (`SplitMix64`).
#[derive(Debug)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `most`.
    pub(super) fn up_to(&mut self, most: u64) -> u64 {
        self.next() % (most + 1)
    }

    /// Whether something happens that happens once in `times`.
    pub(super) fn one_in(&mut self, times: u64) -> bool {
        self.next().is_multiple_of(times)
    }

    /// Nanoseconds from none to `most`; the two ends, where mistakes are made, come up often.
    pub(super) fn span(&mut self, most: Duration) -> u64 {
        let most = nanos(most);
        match self.up_to(3) {
            0 => 0,
            1 => most,
            _ => self.up_to(most),
        }
    }

    /// Nanoseconds from none to `most`, seldom many of them.
    pub(super) fn delay(&mut self, most: Duration) -> u64 {
        if self.one_in(6) {
            self.span(most)
        } else {
            self.up_to(2_000_000).min(nanos(most))
        }
    }

    pub(super) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        let last = of.len() as u64 - 1;
        of[usize::try_from(self.up_to(last)).expect("an index")]
    }
}

pub(super) fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).expect("a span of a history")
}
