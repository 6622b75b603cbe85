//! The role of this candidate, as a pure state machine.
