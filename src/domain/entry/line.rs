//! The strict reader: a line in its one spelling, or a fault that says where.
//!
//! Validates without allocating; the body stays text until somebody asks.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use crate::domain::digest::Digest;
use crate::domain::entry::{DEPTH_MAX, EntryFault, HEAD_KEYS};
use crate::domain::time::{TIMESTAMP_LEN, Timestamp};

/// A valid line. Only [`Line::parse`] makes one.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    pub seq: u64,
    pub prev: Digest,
    pub ts: Timestamp,
    pub op: &'a str,
    pub agent: Option<&'a str>,
    pub session: Option<&'a str>,
    bytes: &'a [u8],
    /// Where the head ends: at `,` before the first key of the body, or at `}`.
    body: usize,
}

impl<'a> Line<'a> {
    /// Reads one line without its newline. Accepts only the canonical spelling.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, EntryFault> {
        let mut cursor = Cursor { bytes, at: 0 };
        cursor.expect(b"{\"v\":1,\"seq\":", "expected {\"v\":1,\"seq\":")?;
        let seq = cursor.natural()?;
        cursor.expect(b",\"prev\":\"", "expected prev")?;
        let prev = cursor.fixed(64, |hex| Digest::from_hex(hex).ok(), "not a digest")?;
        cursor.expect(b"\",\"ts\":\"", "expected ts")?;
        let ts = cursor.fixed(
            TIMESTAMP_LEN,
            |text| Timestamp::parse(text).ok(),
            "not a timestamp",
        )?;
        cursor.expect(b"\",\"op\":\"", "expected op")?;
        let op = cursor.word(is_op, "not an operation's name")?;
        let agent = cursor.optional_name(b",\"agent\":\"")?;
        let session = cursor.optional_name(b",\"session\":\"")?;
        let body = cursor.at;
        cursor.body()?;
        if cursor.at != bytes.len() {
            return Err(cursor.fault("something follows the entry"));
        }
        Ok(Self {
            seq,
            prev,
            ts,
            op,
            agent,
            session,
            bytes,
            body,
        })
    }

    /// Returns the line itself.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Returns the keys of the body with their values as text, in their order.
    pub fn fields(&self) -> Fields<'a> {
        Fields {
            rest: Cursor {
                bytes: self.bytes,
                at: self.body,
            },
        }
    }

    /// Returns the text of the value of `key` in the body.
    pub fn get(&self, key: &str) -> Option<&'a [u8]> {
        self.fields()
            .find(|(name, _)| *name == key.as_bytes())
            .map(|(_, value)| value)
    }

    /// Returns the natural number that `key` carries.
    pub fn natural(&self, key: &str) -> Option<u64> {
        std::str::from_utf8(self.get(key)?).ok()?.parse().ok()
    }

    /// Returns the digest that `key` carries.
    pub fn digest(&self, key: &str) -> Option<Digest> {
        Digest::from_hex(unquote(self.get(key)?)?).ok()
    }

    /// Returns the body as values.
    pub fn body(&self) -> Result<Map<String, Value>, EntryFault> {
        let mut map: Map<String, Value> =
            serde_json::from_slice(self.bytes).map_err(|_| EntryFault::Malformed {
                at: self.body,
                what: "the body cannot be read",
            })?;
        for key in HEAD_KEYS {
            map.remove(key);
        }
        Ok(map)
    }
}

/// Returns what stands between the quotes of a string's text.
pub(super) fn unquote(text: &[u8]) -> Option<&[u8]> {
    text.strip_prefix(b"\"")?.strip_suffix(b"\"")
}

/// The keys and values of a body, as text.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: Cursor<'a>,
}

impl<'a> Iterator for Fields<'a> {
    /// The key between its quotes, and the value's text.
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let cursor = &mut self.rest;
        if cursor.peek() != Some(b',') {
            return None;
        }
        cursor.at += 1;
        let key = cursor.string().ok()?;
        cursor.at += 1;
        let from = cursor.at;
        cursor.value(1).ok()?;
        Some((key, &cursor.bytes[from..cursor.at]))
    }
}

pub(super) fn is_op(name: &[u8]) -> bool {
    (1..=32).contains(&name.len())
        && name[0].is_ascii_lowercase()
        && name
            .iter()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
}

pub(super) fn is_name(name: &[u8]) -> bool {
    (1..=64).contains(&name.len())
        && name[0].is_ascii_alphanumeric()
        && name
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// What a byte of a string's text may be: 1 = itself, 0 = begins something else.
const PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0x20;
    while byte < 0x7F {
        table[byte] = byte != b'"' as usize && byte != b'\\' as usize;
        byte += 1;
    }
    table
};

#[derive(Clone, Debug)]
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn fault(&self, what: &'static str) -> EntryFault {
        EntryFault::Malformed { at: self.at, what }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn accept(&mut self, text: &[u8]) -> bool {
        let found = self.bytes[self.at..].starts_with(text);
        if found {
            self.at += text.len();
        }
        found
    }

    fn expect(&mut self, text: &[u8], what: &'static str) -> Result<(), EntryFault> {
        if self.accept(text) {
            return Ok(());
        }
        let rest = &self.bytes[self.at..];
        self.at += rest.iter().zip(text).take_while(|(a, b)| a == b).count();
        Err(self.fault(what))
    }

    /// Reads exactly `len` bytes by `read`.
    fn fixed<T>(
        &mut self,
        len: usize,
        read: impl Fn(&[u8]) -> Option<T>,
        what: &'static str,
    ) -> Result<T, EntryFault> {
        let value = self.bytes.get(self.at..self.at + len).and_then(read);
        let value = value.ok_or_else(|| self.fault(what))?;
        self.at += len;
        Ok(value)
    }

    /// Reads up to the closing quote what `fits`.
    fn word(
        &mut self,
        fits: impl Fn(&[u8]) -> bool,
        what: &'static str,
    ) -> Result<&'a str, EntryFault> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().take(65).position(|&b| b == b'"');
        let word = end
            .map(|end| &rest[..end])
            .filter(|word| fits(word))
            .and_then(|word| std::str::from_utf8(word).ok())
            .ok_or_else(|| self.fault(what))?;
        self.at += word.len() + 1;
        Ok(word)
    }

    fn optional_name(&mut self, lead: &[u8]) -> Result<Option<&'a str>, EntryFault> {
        if !self.accept(lead) {
            return Ok(None);
        }
        self.word(is_name, "not a name").map(Some)
    }

    /// Reads the body's `,"key":value` pairs and the closing brace.
    fn body(&mut self) -> Result<(), EntryFault> {
        let mut last = None;
        while !self.accept(b"}") {
            self.expect(b",", "expected , or }")?;
            last = Some(self.pair(last, 1)?);
        }
        Ok(())
    }

    fn object(&mut self, depth: usize) -> Result<(), EntryFault> {
        self.at += 1;
        if self.accept(b"}") {
            return Ok(());
        }
        let mut last = None;
        loop {
            last = Some(self.pair(last, depth)?);
            if self.accept(b"}") {
                return Ok(());
            }
            self.expect(b",", "expected , or }")?;
        }
    }

    /// Reads a key that comes after `last`, and its value; returns the key.
    fn pair(&mut self, last: Option<&[u8]>, depth: usize) -> Result<&'a [u8], EntryFault> {
        let from = self.at;
        let key = self.string()?;
        let ascends = last.is_none_or(|last| compare(last, key) == Ordering::Less);
        let reserved = depth == 1 && HEAD_KEYS.iter().any(|head| head.as_bytes() == key);
        if !ascends || reserved {
            self.at = from;
            return Err(self.fault("a key out of its order"));
        }
        self.expect(b":", "expected :")?;
        self.value(depth)?;
        Ok(key)
    }

    /// Reads a value that stands in something `depth` deep.
    fn value(&mut self, depth: usize) -> Result<(), EntryFault> {
        match self.peek() {
            Some(b'"') => self.string().map(|_| ()),
            Some(b'-' | b'0'..=b'9') => self.integer(),
            Some(b't') => self.expect(b"true", "expected true"),
            Some(b'f') => self.expect(b"false", "expected false"),
            Some(b'n') => self.expect(b"null", "expected null"),
            Some(b'[' | b'{') if depth >= DEPTH_MAX => Err(self.fault("nested too deep")),
            Some(b'[') => self.array(depth + 1),
            Some(b'{') => self.object(depth + 1),
            _ => Err(self.fault("expected a value")),
        }
    }

    fn array(&mut self, depth: usize) -> Result<(), EntryFault> {
        self.at += 1;
        if self.accept(b"]") {
            return Ok(());
        }
        loop {
            self.value(depth)?;
            if self.accept(b"]") {
                return Ok(());
            }
            self.expect(b",", "expected , or ]")?;
        }
    }

    /// Reads a string; returns its text between the quotes.
    fn string(&mut self) -> Result<&'a [u8], EntryFault> {
        self.expect(b"\"", "expected a string")?;
        let from = self.at;
        loop {
            let rest = &self.bytes[self.at..];
            let plain = rest
                .iter()
                .position(|&b| !PLAIN[usize::from(b)])
                .ok_or_else(|| self.fault("a string without an end"))?;
            self.at += plain;
            match rest[plain] {
                b'"' => {
                    self.at += 1;
                    return Ok(&self.bytes[from..self.at - 1]);
                }
                b'\\' => {
                    let (_, len) = escape(&self.bytes[self.at..])
                        .ok_or_else(|| self.fault("not the canonical escape"))?;
                    self.at += len;
                }
                _ => return Err(self.fault("a byte that must be escaped")),
            }
        }
    }

    fn natural(&mut self) -> Result<u64, EntryFault> {
        let digits = self.digits();
        let value = canonical(digits).ok_or_else(|| self.fault("not a number"))?;
        self.at += digits.len();
        Ok(value)
    }

    fn integer(&mut self) -> Result<(), EntryFault> {
        let negative = self.accept(b"-");
        let value = self.natural()?;
        if negative && !(1..=1 << 63).contains(&value) {
            return Err(self.fault("not an integer in range"));
        }
        Ok(())
    }

    fn digits(&self) -> &'a [u8] {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|b| !b.is_ascii_digit());
        &rest[..end.unwrap_or(rest.len())]
    }
}

/// Reads digits without leading zeros.
fn canonical(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || (digits.len() > 1 && digits[0] == b'0') {
        return None;
    }
    digits.iter().try_fold(0_u64, |sum, &byte| {
        sum.checked_mul(10)?.checked_add(u64::from(byte - b'0'))
    })
}

/// Reads one escape that the writer would have written; returns the character and its length as text.
fn escape(text: &[u8]) -> Option<(char, usize)> {
    let short = |c| Some((c, 2));
    match text.get(1)? {
        b'"' => short('"'),
        b'\\' => short('\\'),
        b'n' => short('\n'),
        b'r' => short('\r'),
        b't' => short('\t'),
        b'b' => short('\u{8}'),
        b'f' => short('\u{c}'),
        b'u' => long_escape(text),
        _ => None,
    }
}

fn long_escape(text: &[u8]) -> Option<(char, usize)> {
    let unit = hex_unit(text)?;
    if let Some(c) = char::from_u32(unit) {
        let short = matches!(c, '\n' | '\r' | '\t' | '\u{8}' | '\u{c}');
        return (!short && !(' '..='~').contains(&c)).then_some((c, 6));
    }
    let low = hex_unit(text.get(6..)?)?;
    if !(0xD800..0xDC00).contains(&unit) || !(0xDC00..0xE000).contains(&low) {
        return None;
    }
    let c = char::from_u32(0x1_0000 + ((unit - 0xD800) << 10) + (low - 0xDC00))?;
    Some((c, 12))
}

/// Reads `\uXXXX` with lower-case digits.
fn hex_unit(text: &[u8]) -> Option<u32> {
    let digits = text.get(..6)?.strip_prefix(b"\\u")?;
    digits.iter().try_fold(0, |sum, &byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        Some(sum << 4 | u32::from(digit))
    })
}

/// Compares two string texts by the code points they stand for.
fn compare(left: &[u8], right: &[u8]) -> Ordering {
    if left.contains(&b'\\') || right.contains(&b'\\') {
        characters(left).cmp(characters(right))
    } else {
        left.cmp(right)
    }
}

/// Returns the characters of a valid string's text.
pub(super) fn characters(text: &[u8]) -> impl Iterator<Item = char> + '_ {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (c, len) = match *rest.first()? {
            b'\\' => escape(rest)?,
            byte => (char::from(byte), 1),
        };
        rest = &rest[len..];
        Some(c)
    })
}
