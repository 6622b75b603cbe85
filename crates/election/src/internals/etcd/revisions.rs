//! The revisions that a key carries.

use etcd_client::KeyValue;

use crate::revision::{Revision, Token};

impl Revision {
    /// The one at which a key was made.
    pub(crate) fn created(kv: &KeyValue) -> Self {
        Self::new(kv.create_revision())
    }

    /// The one at which a key was written last.
    pub(crate) fn written(kv: &KeyValue) -> Self {
        Self::new(kv.mod_revision())
    }
}

impl Token {
    /// Of a candidate's key.
    pub(crate) fn of(kv: &KeyValue) -> Self {
        Self::at(Revision::created(kv))
    }
}
