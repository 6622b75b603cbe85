//! Which keys a command is about.

use etcd_client::{DeleteOptions, GetOptions, TxnOp, WatchOptions};

/// One key, or a range of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    start: Vec<u8>,
    end: SpanEnd,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum SpanEnd {
    /// No other key.
    Start,
    /// Every key that begins so.
    Prefix,
    /// Every key before this one.
    Before(Vec<u8>),
    /// Every key from it on.
    Rest,
}

/// The options of each kind of request have the same three methods, and no trait in common.
macro_rules! bounded {
    ($span:expr, $options:expr) => {
        match &$span.end {
            SpanEnd::Start => $options,
            SpanEnd::Prefix => $options.with_prefix(),
            SpanEnd::Before(end) => $options.with_range(end.clone()),
            SpanEnd::Rest => $options.with_from_key(),
        }
    };
}

impl Span {
    /// One key.
    pub const fn key(key: Vec<u8>) -> Self {
        Self {
            start: key,
            end: SpanEnd::Start,
        }
    }

    /// Every key that begins with `prefix`; all keys if it is empty.
    pub const fn prefix(prefix: Vec<u8>) -> Self {
        Self {
            start: prefix,
            end: SpanEnd::Prefix,
        }
    }

    /// The keys from `start` on and before `end`.
    pub const fn range(start: Vec<u8>, end: Vec<u8>) -> Self {
        Self {
            start,
            end: SpanEnd::Before(end),
        }
    }

    /// The keys from `start` on.
    pub const fn from_key(start: Vec<u8>) -> Self {
        Self {
            start,
            end: SpanEnd::Rest,
        }
    }

    pub(super) fn start(&self) -> Vec<u8> {
        self.start.clone()
    }

    pub(super) fn of_get(&self) -> GetOptions {
        bounded!(self, GetOptions::new())
    }

    /// The operation that deletes its keys, with an answer that holds what they were, or without.
    pub(super) fn deletion(&self, prev_kv: bool) -> TxnOp {
        let options = bounded!(self, DeleteOptions::new());
        let options = if prev_kv {
            options.with_prev_key()
        } else {
            options
        };
        TxnOp::delete(self.start(), Some(options))
    }

    pub(super) fn of_watch(&self) -> WatchOptions {
        bounded!(self, WatchOptions::new())
    }
}
