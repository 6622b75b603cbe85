//! Names of the keys in etcd, and which keys under a prefix are no candidates.
//!
//! Pure text: the one place that knows the layout, so that every room and command agrees on it.

use std::fmt;
use std::num::NonZeroI64;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::revision::Token;

/// Suffix of the prefix under which everything of ours lives that Go must not take for a candidate.
const META: &str = ".meta/";

/// The id of an etcd lease; prints as lower-case hex without padding, as in a candidate key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LeaseId(NonZeroI64);

impl LeaseId {
    /// The lease with this id; `None` for zero and negative numbers, which etcd never grants.
    pub fn new(id: i64) -> Option<Self> {
        NonZeroI64::new(id).filter(|id| id.get() > 0).map(Self)
    }

    /// A fresh id, by a number at random: one is never used twice (R10).
    pub fn random(number: u64) -> Self {
        let positive = NonZeroI64::new((number >> 1).cast_signed());
        Self(positive.unwrap_or(NonZeroI64::MAX))
    }

    /// The id as etcd's protocol has it.
    pub const fn get(self) -> i64 {
        self.0.get()
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// The text is no lease id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a lease id: expected a positive number in lower-case hex")]
pub struct NotALeaseId;

impl FromStr for LeaseId {
    type Err = NotALeaseId;

    /// Accepts what [`Display`](fmt::Display) prints and nothing else: no padding, no capitals.
    fn from_str(text: &str) -> Result<Self, NotALeaseId> {
        i64::from_str_radix(text, 16)
            .ok()
            .and_then(Self::new)
            .filter(|id| id.to_string() == text)
            .ok_or(NotALeaseId)
    }
}

impl TryFrom<String> for LeaseId {
    type Error = NotALeaseId;

    fn try_from(text: String) -> Result<Self, NotALeaseId> {
        text.parse()
    }
}

impl From<LeaseId> for String {
    fn from(id: LeaseId) -> Self {
        id.to_string()
    }
}

/// The prefix of one election, as the user wrote it, and the keys that hang on it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Prefix(String);

/// The text is no prefix for an election.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAPrefix {
    /// It is empty, or holds control characters.
    #[error("not a prefix for an election: it is empty, or holds control characters")]
    Text,
    /// The records of another election, or of none, would stand among its candidates.
    #[error("not a prefix for an election: it ends in .meta or contains .meta/")]
    Records,
}

impl Prefix {
    /// The election under `prefix`, as the configuration takes it.
    ///
    /// # Errors
    /// Under an empty prefix, or one that ends in `.meta` or contains `.meta/`, there is no election.
    pub fn checked(prefix: impl Into<String>) -> Result<Self, NotAPrefix> {
        let prefix = Self::new(prefix);
        prefix.check().map(|()| prefix)
    }

    /// Whether an election can be held under it.
    pub(crate) fn check(&self) -> Result<(), NotAPrefix> {
        if self.0.is_empty() || self.0.chars().any(char::is_control) {
            Err(NotAPrefix::Text)
        } else if self.candidates().contains(META) {
            Err(NotAPrefix::Records)
        } else {
            Ok(())
        }
    }

    /// What begins with `prefix`, taken as given: nothing is normalised, and nothing checked until
    /// somebody stands there; see [`checked`](Self::checked).
    pub fn new(prefix: impl Into<String>) -> Self {
        Self(prefix.into())
    }

    /// The prefix as given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What every candidate key begins with: the prefix and a slash, as Go's election has it.
    pub fn candidates(&self) -> String {
        format!("{}/", self.0)
    }

    /// The candidate key of `lease`.
    pub fn candidate(&self, lease: LeaseId) -> String {
        format!("{}/{lease}", self.0)
    }

    /// What every record of ours begins with.
    pub fn records(&self) -> String {
        format!("{}{META}", self.0)
    }

    /// The member record of `lease`, which goes with the lease as the candidate key does.
    pub fn member(&self, lease: LeaseId) -> String {
        format!("{}{META}members/{lease}", self.0)
    }

    /// What every member record begins with.
    pub fn members(&self) -> String {
        format!("{}{META}members/", self.0)
    }

    /// The term record: who leads, or led last.
    pub fn term(&self) -> String {
        format!("{}{META}term", self.0)
    }

    /// The marker: every term up to this token was proven dead or waited out.
    pub fn ended(&self) -> String {
        format!("{}{META}ended", self.0)
    }

    /// The create_revision of the youngest candidate seen in front of one of ours that leaves no
    /// records: one of a Go program.
    pub fn foreign(&self) -> String {
        format!("{}{META}foreign", self.0)
    }

    /// What every record of the history begins with.
    pub fn terms(&self) -> String {
        format!("{}{META}terms/", self.0)
    }

    /// The record in the history of the term with `token`.
    pub fn past_term(&self, token: Token) -> String {
        format!("{}{META}terms/{token}", self.0)
    }

    /// What every record of an operator's wish begins with.
    pub fn control(&self) -> String {
        format!("{}{META}control/", self.0)
    }

    /// The record that pauses the election.
    pub fn pause(&self) -> String {
        format!("{}{META}control/pause", self.0)
    }

    /// The record that asks one term to step down.
    pub fn step_down(&self) -> String {
        format!("{}{META}control/step-down", self.0)
    }

    /// The record that asks a scheduled job's leader for a run now.
    pub fn trigger(&self) -> String {
        format!("{}{META}control/trigger", self.0)
    }

    /// What the records of hosts begin with that stand for jobs below this prefix.
    pub fn hosts(&self) -> String {
        format!("{}{META}hosts/", self.0)
    }

    /// The record of the host whose candidates have this name.
    pub fn host(&self, name: &str) -> String {
        format!("{}{META}hosts/{name}", self.0)
    }

    /// The state record of a schedule.
    pub fn schedule(&self) -> String {
        format!("{}{META}schedule", self.0)
    }

    /// What every record of a scheduled job's runs begins with.
    pub fn runs(&self) -> String {
        format!("{}{META}runs/", self.0)
    }

    /// The record of the run with this number; they sort as they were written.
    pub fn run(&self, seq: u64) -> String {
        format!("{}{META}runs/{seq:016}", self.0)
    }

    /// The lease named by `key` if it is well formed for a candidate of this election.
    pub fn lease_of(&self, key: impl AsRef<[u8]>) -> Option<LeaseId> {
        lease_after(key.as_ref(), &self.candidates())
    }

    /// The lease whose member record `key` is, if it is one.
    pub fn lease_of_member(&self, key: impl AsRef<[u8]>) -> Option<LeaseId> {
        lease_after(key.as_ref(), &self.members())
    }

    /// Whether a range of keys has any that are the election's own: candidates, or records of ours.
    /// An empty `end` is the one key `start`, and a NUL byte is no end at all, as etcd has it.
    pub(crate) fn owns_any(&self, start: &[u8], end: &[u8]) -> bool {
        [self.candidates(), self.records()].iter().any(|own| {
            let own = own.as_bytes();
            match end {
                [] => start.starts_with(own),
                // None of them begins before the shortest.
                [0] => start.starts_with(own) || start < own,
                end => start.starts_with(own) && start < end || start <= own && own < end,
            }
        })
    }

    /// Whether a key of this name, attached to `lease` (0 for none), stands in the queue for ever
    /// because no candidate can be behind it.
    pub fn is_blocked_by(&self, key: impl AsRef<[u8]>, lease: i64) -> bool {
        let key = key.as_ref();
        key.starts_with(self.candidates().as_bytes())
            && self.lease_of(key).map(LeaseId::get) != Some(lease)
    }
}

/// The lease named by what follows `start` in `key`.
fn lease_after(key: &[u8], start: &str) -> Option<LeaseId> {
    let lease = key.strip_prefix(start.as_bytes())?;
    std::str::from_utf8(lease).ok()?.parse().ok()
}

/// A key or a value, which may be any bytes, as text: what is no UTF-8 is escaped as `\xff`.
pub fn shown(bytes: &[u8]) -> String {
    use fmt::Write as _;
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            // Writing to a String can't fail.
            _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a job among several.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobName(Arc<str>);

impl JobName {
    /// The most characters of one.
    pub const LONGEST: usize = 64;

    /// One of this text, if it may be one: 1 to 64 of `a-z`, `0-9`, `-` and `_`.
    pub fn new(text: &str) -> Option<Self> {
        let may =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
        let is_good = !text.is_empty() && text.len() <= Self::LONGEST && text.bytes().all(may);
        is_good.then(|| Self(text.into()))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(id: i64) -> LeaseId {
        LeaseId::new(id).expect("positive")
    }

    #[test]
    fn candidate_keys_are_those_of_go() {
        let prefix = Prefix::new("/testelection");
        let key = prefix.candidate(lease(0x3269_6bd0_d159_d067));
        assert_eq!(key, "/testelection/32696bd0d159d067");
    }

    #[test]
    fn a_range_of_keys_is_the_elections_own_if_any_of_it_is() {
        let prefix = Prefix::new("/a");
        let owns = |start: &str, end: &str| prefix.owns_any(start.as_bytes(), end.as_bytes());
        for (start, end) in [
            ("/a/count", ""),
            ("/a/", ""),
            ("/a.meta/ended", ""),
            ("/", "0"),
            ("/a", "/b"),
            ("/a/x", "/a/y"),
            ("/a/x", "/b"),
            ("/", "\0"),
            ("/a/x", "\0"),
            ("\0", "\0"),
            ("/a.", "/a.n"),
        ] {
            assert!(owns(start, end), "{start:?} {end:?}");
        }
        for (start, end) in [
            ("/a", ""),
            ("/ab", ""),
            ("/a-value", ""),
            ("/b", "/c"),
            ("/a0", "/b"),
            ("/a", "/a."),
            ("/b", "\0"),
            ("/a/y", "/a/x"),
        ] {
            assert!(!owns(start, end), "{start:?} {end:?}");
        }
    }

    #[test]
    fn no_election_is_held_under_a_prefix_that_the_configuration_refuses() {
        for text in ["", "/a\n"] {
            assert_eq!(Prefix::checked(text), Err(NotAPrefix::Text), "{text:?}");
        }
        for text in ["/a.meta", "/a.meta/b", ".meta"] {
            assert_eq!(Prefix::checked(text), Err(NotAPrefix::Records), "{text:?}");
        }
        for text in ["/a", "a", "/", "/a.metal", "/.meta-data"] {
            assert!(Prefix::checked(text).is_ok(), "{text:?}");
        }
    }

    #[test]
    fn a_slash_at_the_end_is_kept() {
        assert_eq!(Prefix::new("/a/").candidate(lease(10)), "/a//a");
    }

    #[test]
    fn records_of_ours_are_no_candidates() {
        let prefix = Prefix::new("/a");
        for key in [
            prefix.term(),
            prefix.ended(),
            prefix.pause(),
            prefix.member(lease(1)),
        ] {
            assert!(!key.starts_with(&prefix.candidates()), "{key}");
            assert!(!prefix.is_blocked_by(&key, 0), "{key}");
        }
    }

    #[test]
    fn a_key_without_its_lease_blocks() {
        let prefix = Prefix::new("/a");
        assert!(!prefix.is_blocked_by("/a/1f", 0x1f));
        assert!(prefix.is_blocked_by("/a/1f", 0));
        assert!(prefix.is_blocked_by("/a/1f", 0x20));
        assert!(prefix.is_blocked_by("/a/01f", 0x1f));
        assert!(prefix.is_blocked_by("/a/1F", 0x1f));
        assert!(prefix.is_blocked_by("/a/b/1f", 0x1f));
        assert!(!prefix.is_blocked_by("/ab/1f", 0));
    }

    #[test]
    fn keys_are_bytes_and_two_that_differ_are_shown_differently() {
        let prefix = Prefix::new("/a");
        assert!(prefix.is_blocked_by(b"/a/\xff", 0));
        assert!(!prefix.is_blocked_by(b"/b/\xff", 0));
        assert_eq!(prefix.lease_of(b"/a/\xff"), None);
        assert_eq!(shown(b"/a/\xfe\xff\xc3\xa4"), "/a/\\xfe\\xff\u{e4}");
    }

    #[test]
    fn lease_ids_print_as_they_parse() {
        assert_eq!("7f".parse::<LeaseId>(), Ok(lease(0x7f)));
        for text in ["", "0", "-1", "7F", "07f", "x", "+7f"] {
            assert_eq!(text.parse::<LeaseId>(), Err(NotALeaseId), "{text}");
        }
    }
}
