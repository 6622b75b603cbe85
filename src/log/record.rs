//! One event, taken out of `tracing`'s hands: what the queue carries.

use std::error::Error;
use std::fmt::{self, Debug};
use std::sync::Arc;
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::writer::LogQueue;

/// One event with its fields, not yet turned into a line.
#[derive(Clone, Debug)]
pub(super) struct LogRecord {
    /// When it happened, on the wall clock: for readers, never for decisions.
    pub(super) at: SystemTime,
    /// How grave it is.
    pub(super) level: Level,
    /// The module it comes from.
    pub(super) target: String,
    /// The constant message.
    pub(super) message: String,
    /// The fields in the order of the call.
    pub(super) fields: Vec<(&'static str, Value)>,
}

/// The value of a field.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// A field that was named but has no value.
    Null,
    /// Yes or no.
    Bool(bool),
    /// A whole number, wide enough for all that `tracing` knows.
    Integer(i128),
    /// Any other number.
    Float(f64),
    /// Everything else, as text.
    Text(String),
}

impl LogRecord {
    /// A record of our own crate, made now.
    pub(super) fn new(level: Level, message: &str, fields: Vec<(&'static str, Value)>) -> Self {
        Self {
            at: wall_clock(),
            level,
            target: module_path!().to_owned(),
            message: message.to_owned(),
            fields,
        }
    }
}

/// The record of a `tracing` event.
impl From<&Event<'_>> for LogRecord {
    fn from(event: &Event<'_>) -> Self {
        let metadata = event.metadata();
        let mut record = Self {
            at: wall_clock(),
            level: *metadata.level(),
            target: shown_target(metadata.target()),
            message: String::new(),
            fields: Vec::with_capacity(metadata.fields().len()),
        };
        event.record(&mut record);
        // `token = None` records nothing, yet "resigned" without a token has to say so (null).
        let has_token = record.fields.iter().any(|(name, _)| *name == "token");
        if !has_token && metadata.fields().field("token").is_some() {
            record.fields.push(("token", Value::Null));
        }
        record
    }
}

/// The part of the program that says it. The election is a crate of its own, which is nobody's
/// business who reads or filters lines.
fn shown_target(target: &str) -> String {
    match target.strip_prefix(ELECTION) {
        Some(room) => format!("{OURS}{room}"),
        None => target.to_owned(),
    }
}

/// What the targets of our own lines begin with.
pub(super) const OURS: &str = "incumbent::";

/// What they begin with where they come from the rooms of the election.
pub(super) const ELECTION: &str = "incumbent_election::internals::";

impl LogRecord {
    /// Adds what every line of this process says, unless the record says it itself.
    pub(super) fn complete(&mut self, always: &[(&'static str, Value)]) {
        let missing = always
            .iter()
            .filter(|(name, _)| self.fields.iter().all(|(said, _)| said != name));
        let missing: Vec<_> = missing.cloned().collect();
        self.fields.splice(0..0, missing);
    }

    fn push(&mut self, field: &Field, value: Value) {
        let name = field.name();
        self.fields
            .push((name.strip_prefix("r#").unwrap_or(name), value));
    }

    fn push_text(&mut self, field: &Field, text: String) {
        if field.name() == "message" {
            self.message = text;
        } else {
            self.push(field, Value::Text(text));
        }
    }
}

impl Visit for LogRecord {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.push_text(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push_text(field, value.to_owned());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.push_text(field, Chain(value).to_string());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, Value::Bool(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, Value::Integer(value.into()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, Value::Integer(value.into()));
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.push(field, Value::Integer(value));
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.push(
            field,
            Value::Integer(i128::try_from(value).unwrap_or(i128::MAX)),
        );
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(field, Value::Float(value));
    }
}

/// An error followed by its causes, with colons between.
struct Chain<'a>(&'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// The time of day, for the reader of a log.
#[expect(
    clippy::disallowed_methods,
    reason = "the time of day is what a log shows"
)]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}

/// The layer that takes every event that passes the filter into the queue.
#[derive(Debug)]
pub(super) struct LogLines(pub(super) Arc<LogQueue>);

impl<S: Subscriber> Layer<S> for LogLines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.0.push(LogRecord::from(event));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tracing_subscriber::Registry;
    use tracing_subscriber::layer::SubscriberExt;

    use super::super::Format;
    use super::*;

    /// The one record that `log` leaves.
    fn recorded(log: impl FnOnce()) -> LogRecord {
        let queue = Arc::new(LogQueue::new(Format::Text));
        let subscriber = Registry::default().with(LogLines(Arc::clone(&queue)));
        tracing::subscriber::with_default(subscriber, log);
        queue
            .take(Duration::ZERO)
            .expect("one record")
            .records
            .remove(0)
    }

    #[test]
    fn fields_keep_their_types_and_their_order() {
        let record = recorded(|| {
            tracing::info!(token = 7_i64, waited_ms = 12_u64, killed = false, lease = %"1f", "elected");
        });
        assert_eq!(record.message, "elected");
        assert_eq!(
            record.fields,
            [
                ("token", Value::Integer(7)),
                ("waited_ms", Value::Integer(12)),
                ("killed", Value::Bool(false)),
                ("lease", Value::Text("1f".to_owned())),
            ]
        );
    }

    #[test]
    fn a_missing_token_is_null_and_a_missing_pid_is_left_out() {
        let (token, pid) = (None::<i64>, None::<u32>);
        let record = recorded(|| tracing::info!(token, pid, "resigned"));
        assert_eq!(record.fields, [("token", Value::Null)]);
    }

    #[test]
    fn an_error_comes_with_its_causes() {
        let error = std::io::Error::other(crate::keys::NotALeaseId);
        let record = recorded(|| {
            tracing::warn!(
                error = &error as &(dyn Error + 'static),
                "store unreachable"
            );
        });
        let text = "not a lease id: expected a positive number in lower-case hex";
        assert_eq!(record.fields, [("error", Value::Text(text.to_owned()))]);
    }
}
