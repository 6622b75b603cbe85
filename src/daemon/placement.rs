//! Where jobs are led: spread over the hosts when they start, and later by who leads better.

mod preference;
mod sight;

pub(super) use preference::hand_over;
pub(super) use sight::{Sight, Starting};
