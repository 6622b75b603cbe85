//! Text for the page: escaped, and times as people read them.

use std::fmt;
use std::time::{Duration, SystemTime};

use crate::log::is_printable;

/// The most that is shown of a text: others may have put anything there.
const LONGEST: usize = 512;

/// Text from anywhere, as HTML that means just it.
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        for character in self.0.chars().take(LONGEST) {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                other if !is_printable(other) => f.write_char('\u{fffd}')?,
                other => f.write_char(other)?,
            }
        }
        if self.0.chars().nth(LONGEST).is_some() {
            f.write_char('…')?;
        }
        Ok(())
    }
}

/// A time in RFC 3339 without its letters and fractions; anything else as it is, escaped.
pub(super) fn moment(time: &str) -> String {
    match parsed(time) {
        Some(time) => humantime::format_rfc3339_seconds(time)
            .to_string()
            .replace('T', " ")
            .replace('Z', ""),
        None => Escaped(time).to_string(),
    }
}

/// The instant that a time in RFC 3339 is.
pub(super) fn parsed(time: &str) -> Option<SystemTime> {
    humantime::parse_rfc3339(time).ok()
}

/// How long it is from `since` to `now`, in words; nothing if that can't be told.
pub(super) fn span_since(since: &str, now: &str) -> String {
    match (parsed(since), parsed(now)) {
        (Some(since), Some(now)) => words(now.duration_since(since).unwrap_or_default()),
        _ => String::new(),
    }
}

/// A length of time in its two largest units.
pub(super) fn words(span: Duration) -> String {
    if span < Duration::from_secs(10) {
        return format!("{:.1} s", span.as_secs_f64());
    }
    let seconds = span.as_secs();
    let (days, hours, minutes) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_becomes_markup() {
        let name = "<script>alert('&\"')</script>\u{1b}";
        assert_eq!(
            Escaped(name).to_string(),
            "&lt;script&gt;alert(&#39;&amp;&quot;&#39;)&lt;/script&gt;\u{fffd}"
        );
        assert_eq!(moment("<b>"), "&lt;b&gt;");
    }

    #[test]
    fn times_are_short() {
        assert_eq!(moment("2031-05-04T03:02:01.987Z"), "2031-05-04 03:02:01");
        for (seconds, text) in [
            (3, "3.0 s"),
            (59, "59 s"),
            (61, "1 min 1 s"),
            (7200, "2 h 0 min"),
            (90_000, "1 d 1 h"),
        ] {
            assert_eq!(words(Duration::from_secs(seconds)), text);
        }
    }
}
