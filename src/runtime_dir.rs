//! The runtime directory: one daemon's lock, lease file and sockets.
