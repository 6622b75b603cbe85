//! Durations: what is expected of each, and how text becomes one.

use std::time::Duration;

use ::config::Value;

use super::{Context, Parsed, Reading, from_text};
use crate::config::advice::Shown;
use crate::config::keys::Entry;
use crate::config::timing::{LARGEST_TTL, SMALLEST_TTL};

/// Which durations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// At least so long.
    AtLeast(Duration),
    /// Whole seconds, within what etcd grants.
    Ttl,
    /// Whole seconds, from 1 to a century.
    Every,
}

impl SpanKind {
    /// At least so many milliseconds.
    pub(in crate::config) const fn at_least(millis: u64) -> Self {
        Self::AtLeast(Duration::from_millis(millis))
    }
}

impl Reading for SpanKind {
    type Value = Duration;

    fn expected(self, example: &str, _: &[String]) -> String {
        match self {
            Self::AtLeast(least) if least.is_zero() => format!("a duration such as {example}"),
            Self::AtLeast(least) => {
                format!("a duration of at least {}, such as {example}", Shown(least))
            }
            Self::Ttl => {
                let least = Shown(SMALLEST_TTL);
                format!("whole seconds from {least} on, such as {example}")
            }
            Self::Every => {
                format!("a duration of whole seconds, from 1s to 100 years, such as {example}")
            }
        }
    }

    fn parse(self, key: &Entry, value: &Value, context: &Context<'_>) -> Parsed<Duration> {
        let fits = |span: &Duration| match self {
            Self::AtLeast(least) => *span >= least,
            Self::Ttl => is_ttl(*span),
            Self::Every => span.subsec_nanos() == 0 && EVERY.contains(span),
        };
        from_text(key, value, context, |text| span(text).filter(fits))
    }

    fn shown(span: &Duration) -> String {
        format!("\"{}\"", Shown(*span))
    }
}

/// A duration of at least this, or none for `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitKind(Duration);

impl LimitKind {
    /// At least so many milliseconds.
    pub(in crate::config) const fn at_least(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }
}

impl Reading for LimitKind {
    type Value = Option<Duration>;

    fn expected(self, _: &str, _: &[String]) -> String {
        let least = Shown(self.0);
        format!("a duration of at least {least}, such as \"1h\", or \"off\"")
    }

    fn parse(self, key: &Entry, value: &Value, context: &Context<'_>) -> Parsed<Option<Duration>> {
        from_text(key, value, context, |text| match text {
            "off" => Some(None),
            text => span(text).filter(|span| *span >= self.0).map(Some),
        })
    }

    fn shown(limit: &Option<Duration>) -> String {
        let limit = limit.map(|span| Shown(span).to_string());
        format!("\"{}\"", limit.as_deref().unwrap_or("off"))
    }
}

/// From a slot to the next.
const EVERY: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_hours(100 * 365 * 24 + 25 * 24);

/// A duration in words; one without a unit, `0` included, is none.
pub(super) fn span(text: &str) -> Option<Duration> {
    let has_unit = text.contains(|character: char| character.is_ascii_alphabetic());
    has_unit
        .then(|| humantime::parse_duration(text).ok())
        .flatten()
}

fn is_ttl(span: Duration) -> bool {
    span.subsec_nanos() == 0 && (SMALLEST_TTL..=LARGEST_TTL).contains(&span)
}
