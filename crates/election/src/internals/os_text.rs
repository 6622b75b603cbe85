//! Text of the system, such as a path, as JSON: it is bytes, and UTF-8 only as a rule.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Text of the system. As JSON it is text where it is UTF-8, else its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Wire", into = "Wire")]
pub struct OsText(OsString);

/// [`OsText`] as JSON.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Wire {
    Utf8(String),
    Bytes(Vec<u8>),
}

impl OsText {
    /// The text.
    pub fn as_os_str(&self) -> &OsStr {
        &self.0
    }

    /// The same as a path.
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl From<OsString> for OsText {
    fn from(text: OsString) -> Self {
        Self(text)
    }
}

impl From<PathBuf> for OsText {
    fn from(path: PathBuf) -> Self {
        Self(path.into())
    }
}

impl<T: AsRef<OsStr> + ?Sized> From<&T> for OsText {
    fn from(text: &T) -> Self {
        Self(text.as_ref().to_owned())
    }
}

impl From<String> for OsText {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<Wire> for OsText {
    fn from(wire: Wire) -> Self {
        Self(match wire {
            Wire::Utf8(text) => text.into(),
            Wire::Bytes(bytes) => OsString::from_vec(bytes),
        })
    }
}

impl From<OsText> for Wire {
    fn from(text: OsText) -> Self {
        let text = text.0.into_string();
        text.map_or_else(|other| Self::Bytes(other.into_vec()), Self::Utf8)
    }
}

/// A path that may be missing, in the shape of [`OsText`]: for `#[serde(with)]`.
pub mod path {
    use std::path::PathBuf;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::os_text::OsText;

    /// Writes it.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(path: &Option<PathBuf>, to: S) -> Result<S::Ok, S::Error> {
        path.clone().map(OsText::from).serialize(to)
    }

    /// Reads it.
    ///
    /// # Errors
    /// The deserializer's.
    pub fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Option<PathBuf>, D::Error> {
        let text = Option::<OsText>::deserialize(from)?;
        Ok(text.map(|text| text.0.into()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Holder {
        #[serde(default, with = "path")]
        path: Option<PathBuf>,
    }

    fn holder(path: Option<&[u8]>) -> Holder {
        Holder {
            path: path.map(|bytes| OsStr::from_bytes(bytes).into()),
        }
    }

    #[test]
    fn a_path_comes_back_as_it_was_and_is_text_where_it_can_be() {
        for (path, json) in [
            (None, r#"{"path":null}"#),
            (Some(&b"/a/\xc3\xa9"[..]), "{\"path\":\"/a/é\"}"),
            (Some(b"a\xff"), r#"{"path":[97,255]}"#),
        ] {
            let holder = holder(path);
            assert_eq!(serde_json::to_string(&holder).unwrap(), json);
            assert_eq!(serde_json::from_str::<Holder>(json).unwrap(), holder);
        }
        assert_eq!(serde_json::from_str::<Holder>("{}").unwrap(), holder(None));
    }
}
