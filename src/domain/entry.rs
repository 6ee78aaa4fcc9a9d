//! Entries: the lines of the ledger and of the write logs, and their chain.
//!
//! Owns: the format below, its one writer and its one strict reader, the leaf
//! hash, and the rule by which lines chain. The stored bytes are the hashed
//! bytes: a line is never parsed and written again to be hashed. Never does
//! I/O; what an operation means is `event`'s and `logop`'s.
//!
//! # The format, version 1
//!
//! A log is a sequence of lines; in a file each ends in one `\n`, which is not
//! part of it. A line is one JSON object in ASCII, in its only spelling:
//!
//! - no white space outside strings; integers only, from -2^63 to 2^64-1, without
//!   `+`, `-0`, leading zeros, fraction or exponent; `true`, `false`, `null`;
//!   arrays and objects nested at most 64 deep, the line itself counted;
//! - a string is what `json.dumps(text, ensure_ascii=True)` of Python writes: `\"`,
//!   `\\`, `\n`, `\r`, `\t`, `\b`, `\f`; every other code point outside 0x20 to 0x7E
//!   as `\uXXXX` with lower-case digits, above U+FFFF as a surrogate pair; nothing
//!   else is escaped, and a lone surrogate is not a string;
//! - the keys of the line: `v seq prev ts op`, then `agent` and `session` where
//!   there is one, then the keys of the body, sorted by code points; keys of
//!   nested objects are sorted too; no key stands twice, and none of those seven
//!   names stands in the body.
//!
//! | key | value |
//! |---|---|
//! | `v` | `1` |
//! | `seq` | 0 for the first line of a log, then one more each |
//! | `prev` | the leaf of the line before, 64 lower-case hex digits; of a ledger's first line 64 zeros; of a write log's first line the leaf of the ledger's `session` entry |
//! | `ts` | RFC 3339 in UTC with nine digits, `2026-11-20T06:30:00.000000000Z`, later than that of the line before |
//! | `op` | what happened: 1 to 32 of `a-z 0-9 -`, the first a letter |
//! | `agent`, `session` | names: 1 to 64 of `A-Z a-z 0-9 . _ -`, the first a letter or digit |
//!
//! Paths, patterns and other byte strings of the body are percent-encoded: every
//! byte outside `A-Za-z0-9-._~/@+,=:` is `%XX`, upper case. Digests are 64
//! lower-case hex digits.
//!
//! ```text
//! leaf = SHA-256(0x00 ‖ "govfs/entry/v1\n" ‖ line)
//! ```
//!
//! which is the RFC 6962 leaf hash of `"govfs/entry/v1\n" ‖ line`; `proof` builds
//! the tree over it. A write log is bound into the ledger by `seal` entries that
//! carry its `session` and, in the body, `count`, `head` (the leaf of line
//! `count - 1`; with 0 lines the leaf of the `session` entry) and `root` (the tree
//! hash of the first `count` leaves).
//!
//! # The body of a write log's entries
//!
//! | op | keys |
//! |---|---|
//! | `write` | claim exe? len offset path pid sha256 start? |
//! | `create`, `mode` | claim exe? mode path pid start? |
//! | `mkdir`, `unlink`, `rmdir` | claim exe? path pid start? |
//! | `symlink` | claim exe? path pid start? target |
//! | `rename` | claim exchange? exe? path pid start? to |
//! | `truncate` | claim exe? path pid size start? |
//! | `hole` | claim exe? len offset path pid size start? |
//! | `times` | claim exe? mtime path pid start? |
//! | `xattr` | claim exe? name path pid sha256? start? |
//! | `version` | mode path sha256 size |
//! | `denied` | count exe? path pid reason rule start? tried |
//! | `recovered` | lost path sha256 size |
//! | `void` | entry reason |
//!
//! `mode` is `plain`, `exec` or `symlink` (git's 100644, 100755, 120000);
//! `exchange` stands only where it is `true`; `sha256` of an `xattr` is absent
//! where the attribute was removed; `lost` is an array of `[offset,length]`;
//! `mtime` is in nanoseconds since 1970; `exe` and `start` say which process `pid`
//! was.

mod decode;
mod encode;
mod line;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::domain::digest::Digest;
use crate::domain::time::Timestamp;

pub use decode::decode;
pub use encode::{Encoded, Encoder, Head, encode};
pub use line::{Fields, Line};

/// The version of the format.
pub const VERSION: u64 = 1;
/// What is hashed before each line: the leaf byte of RFC 6962 and this format's name.
pub const LEAF_PREFIX: &[u8; 16] = b"\x00govfs/entry/v1\n";
/// How deep arrays and objects may nest, the line itself counted.
pub const DEPTH_MAX: usize = 64;
/// The longest line a reader takes; whoever has no newline by then has no log.
pub const LINE_MAX: usize = 64 << 20;
/// The keys of a line that are not its body, in their order.
pub const HEAD_KEYS: [&str; 7] = ["v", "seq", "prev", "ts", "op", "agent", "session"];

/// Returns the leaf hash of `line` (without its newline).
pub fn leaf(line: &[u8]) -> Digest {
    Digest::of_parts(&[LEAF_PREFIX, line])
}

/// Why bytes are not an entry, or why a value cannot become one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryFault {
    #[error("not an entry: byte {at}: {what}")]
    Malformed { at: usize, what: &'static str },
    #[error("an entry cannot carry {what} in `{key}`")]
    Unwritable { key: String, what: &'static str },
    #[error("a `{op}` entry without a proper `{key}`")]
    Field { op: String, key: &'static str },
    #[error("a `{op}` entry with the unknown key `{key}`")]
    Extra { op: String, key: String },
    #[error("`{0}` is not an operation of a write log")]
    Op(String),
}

/// Where a chain breaks: at the line that should have been `seq`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry {seq}: {broken}")]
pub struct ChainFault {
    pub seq: u64,
    pub broken: Broken,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error(transparent)]
    Line(#[from] EntryFault),
    #[error("its seq is {found}")]
    Seq { found: u64 },
    #[error("its prev is {found}, but the entry before has the leaf {expected}")]
    Prev { expected: Digest, found: Digest },
    #[error("its ts {found} is not after {previous}")]
    Time {
        previous: Timestamp,
        found: Timestamp,
    },
}

/// The end of a log: what the next line must say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    seq: u64,
    prev: Digest,
    ts: Option<Timestamp>,
}

impl Chain {
    /// Begins a log whose first `prev` is `first` (for a ledger [`Digest::ZERO`]).
    pub const fn new(first: Digest) -> Self {
        Self {
            seq: 0,
            prev: first,
            ts: None,
        }
    }

    /// Continues after entry `seq - 1`, whose leaf is `prev` and whose time is `ts`.
    pub const fn resume(seq: u64, prev: Digest, ts: Option<Timestamp>) -> Self {
        Self { seq, prev, ts }
    }

    /// Returns the next line's `seq`: how many there are so far.
    pub const fn seq(&self) -> u64 {
        self.seq
    }

    /// Returns the next line's `prev`: the leaf of the last one.
    pub const fn prev(&self) -> Digest {
        self.prev
    }

    /// Returns the last line's time.
    pub const fn ts(&self) -> Option<Timestamp> {
        self.ts
    }

    /// Returns the next line's time when the clock says `now`: a chain's time only grows.
    #[must_use]
    pub fn stamp(&self, now: Timestamp) -> Timestamp {
        match self.ts {
            Some(Timestamp(last)) => Timestamp(now.0.max(last.saturating_add(1))),
            None => now,
        }
    }

    /// Says whether `line` may come next.
    pub fn check(&self, line: &Line<'_>) -> Result<(), ChainFault> {
        let broken = if line.seq != self.seq {
            Broken::Seq { found: line.seq }
        } else if line.prev != self.prev {
            Broken::Prev {
                expected: self.prev,
                found: line.prev,
            }
        } else {
            match self.ts {
                Some(previous) if line.ts <= previous => Broken::Time {
                    previous,
                    found: line.ts,
                },
                _ => return Ok(()),
            }
        };
        Err(ChainFault {
            seq: self.seq,
            broken,
        })
    }

    /// Reads the next line, checks it and moves on. Returns it with its leaf.
    pub fn push<'a>(&mut self, bytes: &'a [u8]) -> Result<(Line<'a>, Digest), ChainFault> {
        let line = Line::parse(bytes).map_err(|fault| ChainFault {
            seq: self.seq,
            broken: fault.into(),
        })?;
        self.check(&line)?;
        let leaf = leaf(bytes);
        self.advance(leaf, line.ts);
        Ok((line, leaf))
    }

    /// Moves past a line that was written by this chain's own rules.
    pub fn advance(&mut self, leaf: Digest, ts: Timestamp) {
        self.seq += 1;
        self.prev = leaf;
        self.ts = Some(ts);
    }
}

/// What a `seal` entry says of a write log's first `count` lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seal {
    pub count: u64,
    pub head: Digest,
    pub root: Digest,
}
