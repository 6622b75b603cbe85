//! How the settings of the store are called where they were made: by the configuration's keys, or by the
//! fields of the interface's options. Who reads an error can change only what they know.

/// Whose words errors are told in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wording {
    /// Of the daemon's configuration.
    #[default]
    Configuration,
    /// Of the interface's options.
    Options,
}

/// The table of the configuration whose keys are the fields of the options.
const TABLE: &str = "etcd.";

impl Wording {
    /// How the setting with this key is called.
    pub fn of(self, key: &'static str) -> &'static str {
        match self {
            Self::Configuration => key,
            Self::Options => key.strip_prefix(TABLE).unwrap_or(key),
        }
    }

    /// The same of a text that begins with the key.
    pub(super) fn of_text(self, text: String) -> String {
        match (self, text.strip_prefix(TABLE)) {
            (Self::Options, Some(ours)) => ours.to_owned(),
            _ => text,
        }
    }
}
