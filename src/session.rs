//! The session: a lease, its renewals and its local deadline.
