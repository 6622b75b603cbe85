//! The command line: what is typed, and one file a command.
