//! Logs: a bounded queue to a writer thread, so that no reader can hold up a term.

use serde::{Deserialize, Serialize};

/// `log.*` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// `log.filter`: a level, or `target=level` pairs with commas between.
    pub filter: String,
    /// `log.format`.
    pub format: Format,
}

/// `log.format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
    /// systemd's journal, with the field prefix `INCUMBENT_`.
    Journald,
}
