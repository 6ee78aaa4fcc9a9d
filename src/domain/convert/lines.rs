//! Line endings, by git's rules.
//!
//! Owns: when git takes a file for text, and when it leaves line endings alone
//! although attributes ask for them (content that was stored with CRLF).

use crate::domain::attributes::Attributes;
use crate::domain::attributes::Value;

use super::AutoCrlf;
use super::Eol;
use super::EolConfig;

/// What happens to line endings: certain text, or text if it looks like it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum LineAction {
    #[default]
    Keep,
    Text {
        crlf: bool,
    },
    Auto {
        crlf: bool,
        /// Git decides with the whole file in memory, not as it streams by.
        whole: bool,
    },
}

impl LineAction {
    pub(super) fn new(attributes: &Attributes<'_>, config: EolConfig) -> Self {
        let asked = asked(attributes.text).or_else(|| asked(attributes.crlf));
        let native = match config.autocrlf {
            AutoCrlf::True => true,
            AutoCrlf::Input => false,
            AutoCrlf::False => config.eol == Eol::Crlf,
        };
        let eol = match (asked, attributes.eol.text()) {
            (Some(Asked::Input), Some(b"crlf")) => Some(true),
            (Some(Asked::Input), _) | (_, Some(b"lf")) => Some(false),
            (_, Some(b"crlf")) => Some(true),
            _ => None,
        };
        match (asked, eol) {
            (Some(Asked::Binary), _) => Self::Keep,
            (Some(Asked::Auto), eol) => Self::Auto {
                crlf: eol.unwrap_or(native),
                whole: eol != Some(false),
            },
            (Some(Asked::Text | Asked::Input), eol) => Self::Text {
                crlf: eol.unwrap_or(native),
            },
            // `eol` alone says that the file is text.
            (None, Some(crlf)) => Self::Text { crlf },
            (None, None) if config.autocrlf == AutoCrlf::False => Self::Keep,
            (None, None) => Self::Auto {
                crlf: native,
                whole: native,
            },
        }
    }

    pub(super) fn writes_crlf(self) -> bool {
        matches!(
            self,
            Self::Text { crlf: true } | Self::Auto { crlf: true, .. }
        )
    }

    pub(super) fn needs_whole_file(self) -> bool {
        matches!(self, Self::Auto { whole: true, .. })
    }

    pub(super) fn may_strip(self) -> bool {
        self != Self::Keep
    }

    pub(super) fn to_worktree(self, bytes: &[u8]) -> Option<Vec<u8>> {
        if !self.writes_crlf() {
            return None;
        }
        let stats = Stats::of(bytes);
        let mixed = stats.lone_cr > 0 || stats.crlf > 0 || stats.looks_binary();
        if stats.lone_lf == 0 || (matches!(self, Self::Auto { .. }) && mixed) {
            return None;
        }
        let mut out = Vec::with_capacity(bytes.len() + stats.lone_lf);
        for (at, &byte) in bytes.iter().enumerate() {
            if byte == b'\n' && (at == 0 || bytes[at - 1] != b'\r') {
                out.push(b'\r');
            }
            out.push(byte);
        }
        Some(out)
    }

    pub(super) fn to_git(self, bytes: &[u8], base: Option<&[u8]>) -> Option<Vec<u8>> {
        if self == Self::Keep {
            return None;
        }
        let stats = Stats::of(bytes);
        if stats.crlf == 0 {
            return None;
        }
        if matches!(self, Self::Auto { .. })
            && (stats.looks_binary() || base.is_some_and(was_stored_with_crlf))
        {
            return None;
        }
        let mut out = Vec::with_capacity(bytes.len() - stats.crlf);
        for (at, &byte) in bytes.iter().enumerate() {
            if byte != b'\r' || bytes.get(at + 1) != Some(&b'\n') {
                out.push(byte);
            }
        }
        Some(out)
    }
}

#[derive(Clone, Copy)]
enum Asked {
    Text,
    Binary,
    Input,
    Auto,
}

fn asked(value: &Value) -> Option<Asked> {
    match value {
        Value::Set => Some(Asked::Text),
        Value::Unset => Some(Asked::Binary),
        Value::Text(text) if **text == *b"input" => Some(Asked::Input),
        Value::Text(text) if **text == *b"auto" => Some(Asked::Auto),
        Value::Text(_) | Value::Unspecified => None,
    }
}

fn was_stored_with_crlf(blob: &[u8]) -> bool {
    let stats = Stats::of(blob);
    stats.crlf > 0 && !stats.looks_binary()
}

/// Counts by which git tells text from binary.
#[derive(Default)]
struct Stats {
    nul: usize,
    lone_cr: usize,
    lone_lf: usize,
    crlf: usize,
    printable: usize,
    unprintable: usize,
}

impl Stats {
    fn of(bytes: &[u8]) -> Self {
        let mut stats = Self::default();
        let mut rest = bytes.iter().copied().peekable();
        while let Some(byte) = rest.next() {
            match byte {
                b'\r' if rest.next_if_eq(&b'\n').is_some() => stats.crlf += 1,
                b'\r' => stats.lone_cr += 1,
                b'\n' => stats.lone_lf += 1,
                0x08 | b'\t' | 0x1b | 0x0c => stats.printable += 1,
                0 => {
                    stats.nul += 1;
                    stats.unprintable += 1;
                }
                1..=31 | 127 => stats.unprintable += 1,
                _ => stats.printable += 1,
            }
        }
        // A DOS end-of-file mark does not make a file binary.
        if bytes.last() == Some(&0x1a) {
            stats.unprintable -= 1;
        }
        stats
    }

    fn looks_binary(&self) -> bool {
        self.lone_cr > 0 || self.nul > 0 || (self.printable >> 7) < self.unprintable
    }
}
