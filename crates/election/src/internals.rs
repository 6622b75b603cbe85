//! The rooms behind the interface. With the feature `daemon` they are open to the daemon, of which
//! this is the election; to nobody else, and without a promise.

pub mod backoff;
pub mod clock;
pub mod election;
pub mod etcd;
pub mod keys;
pub mod kv;
pub mod os_text;
pub mod reason;
pub mod revision;
pub mod schedule;
pub mod session;
pub mod term;
pub mod timing;
pub mod vital;
pub mod wall;
pub mod worker;
