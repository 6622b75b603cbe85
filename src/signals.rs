//! The signals that the daemon understands.
