//! What is to happen, in the order of true time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::world::What;

/// What happens when; at the same instant, in the order of planning.
#[derive(Debug, Default)]
pub(super) struct Planned {
    /// Each is one number, which is moved and compared far more often than anything happens: the
    /// instant, then the order, then the place of what happens.
    when: BinaryHeap<Reverse<u128>>,
    what: Vec<Option<What>>,
    free: Vec<usize>,
    order: u64,
}

/// How many bits the order and the place have.
const ORDER: u32 = 40;
const PLACE: u32 = 24;

impl Planned {
    pub(super) fn add(&mut self, at: u64, what: What) {
        self.order += 1;
        let place = self.free.pop().unwrap_or_else(|| {
            self.what.push(None);
            self.what.len() - 1
        });
        assert!(self.order >> ORDER == 0 && place >> PLACE == 0);
        self.what[place] = Some(what);
        let order = u128::from(self.order) << PLACE;
        let key = u128::from(at) << (ORDER + PLACE) | order | place as u128;
        self.when.push(Reverse(key));
    }

    /// When something happens next.
    pub(super) fn next_at(&self) -> Option<u64> {
        let Reverse(key) = self.when.peek()?;
        Some(u64::try_from(key >> (ORDER + PLACE)).expect("an instant"))
    }

    /// What happens next, and when.
    pub(super) fn next(&mut self) -> Option<(u64, What)> {
        let Reverse(key) = self.when.pop()?;
        let at = u64::try_from(key >> (ORDER + PLACE)).expect("an instant");
        let place = usize::try_from(key & ((1 << PLACE) - 1)).expect("a place");
        self.free.push(place);
        Some((at, self.what[place].take()?))
    }
}
