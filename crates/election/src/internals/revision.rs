//! Revisions of the store, and the one of them by which a term is known: its token.

use std::fmt;
use std::num::NonZeroI64;

use serde::{Deserialize, Serialize};

/// A revision of the store: etcd counts its changes, and each key has the one that made it and the
/// one that wrote it last. Zero is before the first: what etcd gives for a key that isn't there.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Revision(i64);

impl Revision {
    /// The revision with this number.
    pub const fn new(number: i64) -> Self {
        Self(number)
    }

    /// Its number, as etcd's protocol has it.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The one after it: where a watch goes on.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<Revision> for i64 {
    fn from(revision: Revision) -> Self {
        revision.0
    }
}

/// The lowest number of a token.
const FIRST: NonZeroI64 = NonZeroI64::new(1).expect("one is not zero");

/// The fencing token of a term: the revision at which its leader's key was made. It is positive, and
/// rises with every term of an election, whoever leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct Token(NonZeroI64);

impl Token {
    /// The token with this number; `None` for zero and below, at which etcd makes no key.
    pub const fn new(number: i64) -> Option<Self> {
        match NonZeroI64::new(number) {
            Some(number) if number.get() > 0 => Some(Self(number)),
            _ => None,
        }
    }

    /// Of a key that was made at this revision. The first key of a store is made at its second.
    pub const fn at(revision: Revision) -> Self {
        match Self::new(revision.0) {
            Some(token) => token,
            None => Self(FIRST),
        }
    }

    /// Its number, as etcd's protocol has it.
    pub const fn get(self) -> i64 {
        self.0.get()
    }

    /// The revision that it is.
    pub const fn revision(self) -> Revision {
        Revision(self.get())
    }

    /// The highest that can be lower.
    pub(crate) const fn before(self) -> Option<Self> {
        Self::new(self.get() - 1)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<Token> for i64 {
    fn from(token: Token) -> Self {
        token.get()
    }
}

/// The number is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a token: expected a positive number")]
pub struct NotAToken;

impl TryFrom<i64> for Token {
    type Error = NotAToken;

    fn try_from(number: i64) -> Result<Self, NotAToken> {
        Self::new(number).ok_or(NotAToken)
    }
}

/// A token, or zero for none, as records of runs have it.
pub mod or_zero {
    use serde::{Deserialize as _, Deserializer, Serializer};

    use crate::revision::Token;

    /// Writes the number.
    ///
    /// # Errors
    /// The serializer's.
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
    pub fn serialize<S: Serializer>(token: &Option<Token>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_i64(token.map_or(0, Token::get))
    }

    /// Reads a number.
    ///
    /// # Errors
    /// What is no number.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Token>, D::Error> {
        i64::deserialize(from).map(Token::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_positive_in_json_too() {
        let read = |text: &str| serde_json::from_str::<Token>(text).ok();
        assert_eq!(read("7"), Token::new(7));
        for text in ["0", "-7", "1.5", "\"7\"", "9223372036854775808"] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(serde_json::to_string(&Token::new(7)).unwrap(), "7");
        assert_eq!(serde_json::to_string(&Revision::new(7)).unwrap(), "7");
    }

    #[test]
    fn a_token_is_the_revision_of_its_key() {
        let token = Token::at(Revision::new(7));
        assert_eq!((token.get(), token.revision()), (7, Revision::new(7)));
        assert_eq!(
            (token.before(), Token::new(1).unwrap().before()),
            (Token::new(6), None)
        );
        assert_eq!(Token::at(Revision::default()).get(), 1);
    }
}
