//! The election: a contest under one key prefix.
