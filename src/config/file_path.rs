//! Paths as values: any bytes, relative ones, and those of systemd's credentials.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use ::config::{Map, Value, ValueKind};

use super::kinds::{Context, is_text};
use super::place::{Place, path_quoted};
use super::source::why_unreadable;

/// The one key of the table that stands for a path that is no UTF-8.
const BYTES: &str = "\0bytes";

/// The start of a path that stands for systemd's directory of credentials.
pub(super) const CREDENTIALS: &str = "${CREDENTIALS_DIRECTORY}";

/// A path that is no UTF-8, of which the `config` crate knows nothing.
pub(super) fn of_bytes(path: &OsStr, place: &Place) -> Value {
    let origin = place.origin();
    let at = |kind| Value::new(Some(&origin), kind);
    let bytes = path.as_bytes().iter();
    let bytes = bytes
        .map(|byte| at(ValueKind::I64((*byte).into())))
        .collect();
    let bytes = at(ValueKind::Array(bytes));
    at(ValueKind::Table(Map::from([(BYTES.to_owned(), bytes)])))
}

/// The text of a path, whatever its bytes.
pub(super) fn text(value: &Value) -> Option<OsString> {
    let table = match &value.kind {
        ValueKind::String(text) => return Some(text.into()),
        ValueKind::Table(table) => table,
        _ => return None,
    };
    let ValueKind::Array(bytes) = &table.get(BYTES)?.kind else {
        return None;
    };
    let byte = |value: &Value| match value.kind {
        ValueKind::I64(byte) => u8::try_from(byte).ok(),
        _ => None,
    };
    bytes
        .iter()
        .map(byte)
        .collect::<Option<_>>()
        .map(OsString::from_vec)
}

/// The absolute path that `text` means.
pub(super) fn absolute(
    text: &OsStr,
    place: &Place,
    context: &Context<'_>,
) -> Result<PathBuf, String> {
    let shown = path_quoted(Path::new(text));
    let as_text = text.to_string_lossy();
    if !is_text(&as_text) {
        let found = shown;
        return Err(format!(
            "expected a path without control characters, found {found}"
        ));
    }
    let base = match context.file.and_then(Path::parent) {
        Some(dir) if place.is_in_file() => dir,
        _ => &context.source.current_dir,
    };
    let Some(rest) = text.as_bytes().strip_prefix(CREDENTIALS.as_bytes()) else {
        if as_text.contains("${") {
            return Err(format!(
                "expected a path in which only {CREDENTIALS} at the start stands for something, \
                 found {shown}"
            ));
        }
        return Ok(base.join(text));
    };
    let dir = context.source.credentials_dir(context.file);
    let dir = dir.ok_or_else(|| {
        format!(
            "expected CREDENTIALS_DIRECTORY in the environment, as systemd sets it for a unit with \
             LoadCredential=, found it missing for {shown}{}",
            context.source.who_has_credentials(context.file)
        )
    })?;
    let slashes = rest.iter().take_while(|byte| **byte == b'/').count();
    Ok(dir.join(OsStr::from_bytes(&rest[slashes..])))
}

/// Looks without opening: a path may be a pipe, and a pipe can be read but once.
pub(super) fn readable(path: &Path) -> Result<(), String> {
    let found = if path.is_dir() {
        "a directory".to_owned()
    } else {
        match rustix::fs::access(path, rustix::fs::Access::READ_OK) {
            Ok(()) => return Ok(()),
            Err(error) => why_unreadable(&error.into()),
        }
    };
    let path = path_quoted(path);
    Err(format!("expected a readable file, found {found} at {path}"))
}
