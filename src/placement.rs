//! Which jobs a daemon stands for, and where each of them is to be led, as it is decided: without a
//! store, a clock or a thread.

pub(crate) mod preference;
pub(crate) mod rank;
pub(crate) mod roster;
