//! Transactions as etcdctl reads them: conditions, what is done if all hold, and what if one doesn't,
//! one a line, with an empty line after each of the three.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use clap::Parser as _;

use super::operation::OperationLine;
use crate::keys::shown;
use crate::kv::txn::{Compared, Condition, Operation, Relation, Transaction};
use crate::revision::Revision;

/// What is wrong with a line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub(super) struct BadLine {
    line: usize,
    what: String,
}

/// The three parts, in their order.
const PARTS: [&str; 3] = [
    "the conditions",
    "what to do if they hold",
    "what to do if they don't",
];

/// Reads a transaction. The last part may end with the text.
pub(super) fn read(text: &[u8]) -> Result<Transaction, BadLine> {
    let mut transaction = Transaction::default();
    let mut part = 0;
    let mut last = 0;
    for (at, whole) in (1..).zip(text.split_inclusive(|byte| *byte == b'\n')) {
        last = at;
        let line = whole.trim_ascii();
        let bad = |what| BadLine { line: at, what };
        match part {
            _ if line.is_empty() => part += 1,
            0 => transaction.conditions.push(condition(line).map_err(bad)?),
            1 => transaction.success.push(operation(line).map_err(bad)?),
            2 => transaction.failure.push(operation(line).map_err(bad)?),
            _ => return Err(bad(format!("expected the end, found {}", quoted(line)))),
        }
    }
    if part < 2 {
        let what = format!(
            "expected an empty line after {}, found the end",
            PARTS[part]
        );
        return Err(BadLine {
            line: last + 1,
            what,
        });
    }
    Ok(transaction)
}

/// Reads `mod("key") > "0"`.
fn condition(line: &[u8]) -> Result<Condition, String> {
    let mut rest = Rest(line);
    let word = rest.take_while(u8::is_ascii_alphabetic);
    let word = String::from_utf8_lossy(word).into_owned();
    rest.expect(b'(')?;
    let key = rest.quoted("a key in double quotes")?;
    rest.expect(b')')?;
    rest.skip_spaces();
    let relation = match rest.take_while(|byte| b"=!<>".contains(byte)) {
        b"=" => Relation::Equal,
        b"!=" => Relation::NotEqual,
        b">" => Relation::Greater,
        b"<" => Relation::Less,
        b"" => return Err(rest.expected("=, !=, > or <")),
        other => return Err(expected("=, !=, > or <", other)),
    };
    rest.skip_spaces();
    let value = rest.quoted("a value in double quotes")?;
    rest.skip_spaces();
    if !rest.0.is_empty() {
        return Err(rest.expected("the end of the line"));
    }
    let number = |what: &str, radix| {
        let text = std::str::from_utf8(&value).ok();
        let number = text.and_then(|text| i64::from_str_radix(text, radix).ok());
        number.ok_or_else(|| expected(what, &value))
    };
    let with = match word.as_str() {
        "ver" | "version" => Compared::Version(number("a number", 10)?),
        "c" | "create" => Compared::Created(Revision::new(number("a revision", 10)?)),
        "m" | "mod" => Compared::Written(Revision::new(number("a revision", 10)?)),
        "lease" => Compared::Lease(number("a lease id in hex, or 0", 16)?),
        "val" | "value" => Compared::Value(value),
        other => {
            let targets = "version, create, mod, value or lease";
            return Err(expected(targets, other.as_bytes()));
        }
    };
    Ok(Condition {
        key,
        relation,
        with,
    })
}

/// Reads `put key "a value"`, or another.
fn operation(line: &[u8]) -> Result<Operation, String> {
    let words = words(line)?;
    let known = ["get", "put", "del"];
    let first = words.first().map(|word| word.as_bytes());
    if !known.iter().any(|word| Some(word.as_bytes()) == first) {
        return Err(expected("get, put or del", first.unwrap_or_default()));
    }
    match OperationLine::try_parse_from(words) {
        Ok(line) => Ok(line.operation()),
        Err(error) => {
            let text = error.to_string();
            let text = text.split("\n\n").next().unwrap_or_default();
            let text = text.strip_prefix("error: ").unwrap_or(text);
            Err(text.split_whitespace().collect::<Vec<_>>().join(" "))
        }
    }
}

/// The words of a line, as a shell has them: what is in quotes is one, and within double ones there are
/// escapes, as Go has them.
fn words(line: &[u8]) -> Result<Vec<OsString>, String> {
    let mut rest = Rest(line);
    let mut words = Vec::new();
    loop {
        rest.skip_spaces();
        let word = match rest.0.first() {
            None => return Ok(words),
            Some(b'"') => rest.quoted("a word")?,
            Some(b'\'') => {
                rest.0 = &rest.0[1..];
                let word = rest.take_while(|byte| *byte != b'\'').to_vec();
                rest.expect(b'\'')?;
                word
            }
            Some(_) => rest.take_while(|byte| !byte.is_ascii_whitespace()).to_vec(),
        };
        if rest
            .0
            .first()
            .is_some_and(|byte| !byte.is_ascii_whitespace())
        {
            return Err(rest.expected("a space"));
        }
        words.push(OsString::from_vec(word));
    }
}

/// What of a line has not been read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take_while(&mut self, is_part: impl Fn(&u8) -> bool) -> &'a [u8] {
        let length = self.0.iter().take_while(|byte| is_part(byte)).count();
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }

    fn skip_spaces(&mut self) {
        self.take_while(u8::is_ascii_whitespace);
    }

    fn expect(&mut self, byte: u8) -> Result<(), String> {
        self.skip_spaces();
        match self.0.split_first() {
            Some((first, rest)) if *first == byte => {
                self.0 = rest;
                Ok(())
            }
            _ => Err(self.expected(&char::from(byte).to_string())),
        }
    }

    fn expected(&self, what: &str) -> String {
        expected(what, self.0)
    }

    /// Reads a text in double quotes.
    fn quoted(&mut self, what: &str) -> Result<Vec<u8>, String> {
        self.skip_spaces();
        if self.0.first() != Some(&b'"') {
            return Err(self.expected(what));
        }
        let mut bytes = Vec::new();
        let mut rest = &self.0[1..];
        loop {
            match rest {
                [b'"', after @ ..] => {
                    self.0 = after;
                    return Ok(bytes);
                }
                [b'\\', after @ ..] => rest = escaped(after, &mut bytes)?,
                [byte, after @ ..] => {
                    bytes.push(*byte);
                    rest = after;
                }
                [] => return Err(expected("\" at the end of the text", b"")),
            }
        }
    }
}

/// Reads what follows a backslash, as Go has it; returns what is left.
fn escaped<'a>(rest: &'a [u8], bytes: &mut Vec<u8>) -> Result<&'a [u8], String> {
    let unknown = || {
        let end = rest.iter().position(|byte| *byte == b'"');
        let escape = [b"\\", &rest[..end.unwrap_or(rest.len()).min(9)]].concat();
        expected("an escape such as \\n, \\x00 or \\u0000", &escape)
    };
    let (&kind, after) = rest.split_first().ok_or_else(unknown)?;
    let simple = match kind {
        b'a' => 7,
        b'b' => 8,
        b't' => b'\t',
        b'n' => b'\n',
        b'v' => 11,
        b'f' => 12,
        b'r' => b'\r',
        b'\\' | b'"' => kind,
        b'0'..=b'7' | b'x' | b'u' | b'U' => {
            let (digits, radix) = match kind {
                b'x' => (after.get(..2), 16),
                b'u' => (after.get(..4), 16),
                b'U' => (after.get(..8), 16),
                _ => (rest.get(..3), 8),
            };
            let digits = digits.ok_or_else(unknown)?;
            let is_digit = |byte: &u8| char::from(*byte).is_digit(radix);
            let text = std::str::from_utf8(digits).ok();
            let text = text.filter(|_| digits.iter().all(is_digit));
            let number = text.and_then(|text| u32::from_str_radix(text, radix).ok());
            let number = number.ok_or_else(unknown)?;
            if matches!(kind, b'u' | b'U') {
                let character = char::from_u32(number).ok_or_else(unknown)?;
                bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                bytes.push(u8::try_from(number).map_err(|_| unknown())?);
            }
            let all = if radix == 8 { rest } else { after };
            return Ok(&all[digits.len()..]);
        }
        _ => return Err(unknown()),
    };
    bytes.push(simple);
    Ok(after)
}

fn expected(what: &str, found: &[u8]) -> String {
    format!("expected {what}, found {}", quoted(found))
}

fn quoted(found: &[u8]) -> String {
    if found.is_empty() {
        "the end of the line".to_owned()
    } else {
        format!("{:?}", shown(found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{Detail, Get, Put, Span};

    fn bad(text: &str) -> String {
        read(text.as_bytes()).unwrap_err().to_string()
    }

    fn put(key: &[u8], value: &[u8]) -> Operation {
        Operation::Put(Put {
            key: key.to_vec(),
            value: value.to_vec(),
            lease: None,
            prev_kv: false,
        })
    }

    #[test]
    fn the_three_parts_are_read_in_their_order() {
        let text = "mod(\"a\") > \"7\"\n  lease( \"b\" )=\"1f\"\r\n\nput c 1\n\nget d e --keys-only\ndel f --prefix --prev-kv\n";
        let condition = |key: &[u8], relation, with| Condition {
            key: key.to_vec(),
            relation,
            with,
        };
        let keys = Get {
            detail: Detail::Keys,
            ..Get::all(Span::range(b"d".to_vec(), b"e".to_vec()))
        };
        let expected = Transaction {
            conditions: vec![
                condition(b"a", Relation::Greater, Compared::Written(Revision::new(7))),
                condition(b"b", Relation::Equal, Compared::Lease(0x1f)),
            ],
            success: vec![put(b"c", b"1")],
            failure: vec![
                Operation::Get(keys),
                Operation::Delete(Span::prefix(b"f".to_vec()), true),
            ],
        };
        assert_eq!(read(text.as_bytes()), Ok(expected.clone()));
        // The last part may have its empty line, and may be all that follows.
        assert_eq!(read(format!("{text}\n").as_bytes()), Ok(expected));
        assert_eq!(read(b"\n\n"), Ok(Transaction::default()));
        assert_eq!(read(b"\n\n\n\n"), Ok(Transaction::default()));
    }

    #[test]
    fn quotes_keep_a_word_together_and_escapes_are_gos() {
        let text = br#"

put "a b\t\"\x00\377\u00e9\U0001f600\\" 'c \d'
"#;
        let value = b"c \\d";
        let key = b"a b\t\"\x00\xff\xc3\xa9\xf0\x9f\x98\x80\\";
        let read = read(text).unwrap();
        assert_eq!(read.failure, [put(key, value)]);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line_and_what_was_expected() {
        for (text, said) in [
            (
                "",
                "line 1: expected an empty line after the conditions, found the end",
            ),
            (
                "\nget a\n",
                "line 3: expected an empty line after what to do if they hold, found the end",
            ),
            (
                "mod(a) > \"0\"\n\n\n",
                "line 1: expected a key in double quotes, found \"a) > \\\"0\\\"\"",
            ),
            (
                "size(\"a\") > \"0\"\n\n\n",
                "line 1: expected version, create, mod, value or lease, found \"size\"",
            ),
            (
                "mod(\"a\") ~ \"0\"\n\n\n",
                "line 1: expected =, !=, > or <, found \"~ \\\"0\\\"\"",
            ),
            (
                "mod(\"a\") => \"0\"\n\n\n",
                "line 1: expected =, !=, > or <, found \"=>\"",
            ),
            (
                "mod(\"a\") = 0\n\n\n",
                "line 1: expected a value in double quotes, found \"0\"",
            ),
            (
                "mod(\"a\") = \"x\"\n\n\n",
                "line 1: expected a revision, found \"x\"",
            ),
            (
                "mod(\"a\") = \"0\" x\n\n\n",
                "line 1: expected the end of the line, found \"x\"",
            ),
            (
                "mod \"a\" = \"0\"\n\n\n",
                "line 1: expected (, found \"\\\"a\\\" = \\\"0\\\"\"",
            ),
            (
                "\n\npush a b\n",
                "line 3: expected get, put or del, found \"push\"",
            ),
            (
                "\nput a\n\n",
                "line 2: the following required arguments were not provided: <VALUE>",
            ),
            (
                "\nget a --old\n\n",
                "line 2: unexpected argument '--old' found",
            ),
            (
                "\nget a --prefix --from-key\n\n",
                "line 2: the argument '--prefix' cannot be used with '--from-key'",
            ),
            (
                "\nput \"a b\n\n",
                "line 2: expected \" at the end of the text, found the end of the line",
            ),
            (
                "\nput \"a\"b c\n\n",
                "line 2: expected a space, found \"b c\"",
            ),
            (
                "\nput \"\\q\" c\n\n",
                "line 2: expected an escape such as \\n, \\x00 or \\u0000, found \"\\\\q\"",
            ),
        ] {
            assert_eq!(bad(text), said, "{text:?}");
        }
    }
}
