//! Text that others wrote: names, keys, values, what a member of the store says of an error. It must
//! neither break a line, nor move a terminal's cursor, nor turn the direction of what is read.

use std::fmt::Write as _;

use serde::Serialize;

/// Whether a character does nothing but to be seen: it is no control, of ASCII or of C1, no mark
/// that changes the direction of writing, and no line break by another name.
pub fn is_printable(character: char) -> bool {
    !character.is_control()
        && !matches!(
            character,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

/// The text with everything escaped that isn't [printable](is_printable), for a line of a terminal,
/// a log or the journal.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if is_printable(character) {
            shown.push(character);
        } else {
            shown.extend(character.escape_default());
        }
    }
    shown
}

/// The bytes as text for a terminal: what isn't UTF-8 is replaced, and all but line breaks and tabs
/// is as of [`printable`].
pub fn printable_lines(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\t' => shown.push(character),
            other if is_printable(other) => shown.push(other),
            other => shown.extend(other.escape_default()),
        }
    }
    shown
}

/// The value as JSON on one line, in which all that isn't printable is escaped: JSON itself asks that
/// of ASCII's controls alone.
///
/// # Errors
/// As of [`serde_json::to_string`].
pub fn json(value: &impl Serialize) -> serde_json::Result<String> {
    serde_json::to_string(value).map(|text| escaped_json(&text))
}

/// JSON with its unprintable characters escaped: such ones stand in texts alone.
pub(super) fn escaped_json(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for character in json.chars() {
        if is_printable(character) {
            shown.push(character);
        } else {
            // All of them are in Unicode's first plane.
            // Writing to a String cannot fail.
            _ = write!(shown, "\\u{:04x}", u32::from(character));
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_printable_moves_a_cursor_or_turns_the_text() {
        let evil = "a\u{1b}[2J\u{9b}31m\r\n\u{202e}b\u{2066}\u{200f}\u{2028}\u{7f}é";
        let shown = "a\\u{1b}[2J\\u{9b}31m\\r\\n\\u{202e}b\\u{2066}\\u{200f}\\u{2028}\\u{7f}é";
        assert_eq!(printable(evil), shown);
        assert_eq!(
            printable_lines(b"a\tb\nc\x1b\xff\n"),
            "a\tb\nc\\u{1b}\u{fffd}\n"
        );
    }

    #[test]
    fn json_that_was_escaped_says_the_same() {
        let evil = "a\u{1b}\u{9b}\u{202e}\u{2069}\u{7f}\"\\é\n";
        let text = json(&evil).unwrap();
        assert!(text.chars().all(is_printable), "{text:?}");
        assert!(
            text.contains("\\u202e") && text.contains("\\u009b"),
            "{text}"
        );
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), evil);
    }
}
