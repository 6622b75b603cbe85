//! What is to happen, in the order of true time.

use std::cmp::Ordering;

use super::world::What;

/// What happens at an instant of true time; at the same one, in the order of planning.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) at: u64,
    pub(super) order: u64,
    pub(super) what: What,
}

impl Ord for Planned {
    fn cmp(&self, other: &Self) -> Ordering {
        // The heap gives out its largest.
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Planned {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Planned {}
