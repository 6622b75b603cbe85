//! The daemon: config, guardian, candidate, signals and notifications put together.
