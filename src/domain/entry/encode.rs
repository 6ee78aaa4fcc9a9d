//! The writers: any body as a line, and the write log's operations without allocating.
//!
//! Owns: the one spelling of every value. Invariants: what is written here the strict
//! reader takes, and gives back the same; members stand in the order of their names.
//! Never chooses a time or a number: they are handed in.

use std::mem;

use serde_json::{Map, Value};

use crate::domain::digest::Digest;
use crate::domain::entry::line::{is_name, is_op};
use crate::domain::entry::{DEPTH_MAX, EntryFault, HEAD_KEYS, LEAF_PREFIX};
use crate::domain::logop::{Actor, FileMode, LogOp};
use crate::domain::names::{AgentName, SessionId};
use crate::domain::path::{RepoPath, percent_encode_into};
use crate::domain::time::{TIMESTAMP_LEN, Timestamp};

/// The part of a line that every entry has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    pub seq: u64,
    pub prev: Digest,
    pub ts: Timestamp,
    pub op: &'a str,
    pub agent: Option<&'a str>,
    pub session: Option<&'a str>,
}

/// Writes a line (without a newline) in its one spelling.
pub fn encode(head: &Head<'_>, body: &Map<String, Value>) -> Result<Vec<u8>, EntryFault> {
    let unwritable = |key: &str, what| {
        Err(EntryFault::Unwritable {
            key: key.to_owned(),
            what,
        })
    };
    if !is_op(head.op.as_bytes()) {
        return unwritable("op", "that name");
    }
    let mut out = Vec::with_capacity(512);
    let mut stamp = [0; TIMESTAMP_LEN];
    head.ts.write(&mut stamp);
    write_head(&mut out, head.seq, &head.prev, &stamp, head.op);
    for (key, name) in [("agent", head.agent), ("session", head.session)] {
        let Some(name) = name else { continue };
        if !is_name(name.as_bytes()) {
            return unwritable(key, "that name");
        }
        write_name(&mut out, key, name);
    }
    for (key, value) in sorted(body) {
        if HEAD_KEYS.contains(&key.as_str()) {
            return unwritable(key, "a value of the body");
        }
        out.push(b',');
        write_member(&mut out, key, value, 1)?;
    }
    out.push(b'}');
    Ok(out)
}

/// Returns the members by key, whatever order the map keeps.
fn sorted(map: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut members: Vec<_> = map.iter().collect();
    members.sort_unstable_by_key(|(key, _)| *key);
    members
}

fn write_member(
    out: &mut Vec<u8>,
    key: &str,
    value: &Value,
    depth: usize,
) -> Result<(), EntryFault> {
    write_string(out, key);
    out.push(b':');
    write_value(out, key, value, depth)
}

fn write_value(
    out: &mut Vec<u8>,
    key: &str,
    value: &Value,
    depth: usize,
) -> Result<(), EntryFault> {
    let unwritable = |what| EntryFault::Unwritable {
        key: key.to_owned(),
        what,
    };
    if depth >= DEPTH_MAX && (value.is_array() || value.is_object()) {
        return Err(unwritable("so deep a value"));
    }
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => {
            if let Some(natural) = number.as_u64() {
                write_natural(out, natural);
            } else if let Some(integer) = number.as_i64() {
                write_integer(out, integer);
            } else {
                return Err(unwritable("a number that is not an integer"));
            }
        }
        Value::String(text) => write_string(out, text),
        Value::Array(values) => {
            out.push(b'[');
            for (at, value) in values.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write_value(out, key, value, depth + 1)?;
            }
            out.push(b']');
        }
        Value::Object(map) => {
            out.push(b'{');
            for (at, (key, value)) in sorted(map).into_iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write_member(out, key, value, depth + 1)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

fn write_head(out: &mut Vec<u8>, seq: u64, prev: &Digest, stamp: &[u8; TIMESTAMP_LEN], op: &str) {
    out.extend_from_slice(b"{\"v\":1,\"seq\":");
    write_natural(out, seq);
    out.extend_from_slice(b",\"prev\":\"");
    write_hex(out, prev);
    out.extend_from_slice(b"\",\"ts\":\"");
    out.extend_from_slice(stamp);
    out.extend_from_slice(b"\",\"op\":\"");
    out.extend_from_slice(op.as_bytes());
    out.push(b'"');
}

fn write_name(out: &mut Vec<u8>, key: &str, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":\"");
    out.extend_from_slice(name.as_bytes());
    out.push(b'"');
}

const HEX: &[u8; 16] = b"0123456789abcdef";

fn write_hex(out: &mut Vec<u8>, digest: &Digest) {
    out.extend_from_slice(&digest.hex_bytes());
}

fn write_natural(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = HEX[usize::try_from(value % 10).unwrap_or(0)];
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

fn write_integer(out: &mut Vec<u8>, value: i64) {
    if value < 0 {
        out.push(b'-');
    }
    write_natural(out, value.unsigned_abs());
}

/// Writes a string as `json.dumps(text, ensure_ascii=True)` does.
fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for c in text.chars() {
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\u{8}' => out.extend_from_slice(b"\\b"),
            '\u{c}' => out.extend_from_slice(b"\\f"),
            ' '..='~' => out.push(u8::try_from(c).unwrap_or(b'?')),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.extend_from_slice(b"\\u");
                    for shift in [12, 8, 4, 0] {
                        out.push(HEX[usize::from(*unit >> shift & 15)]);
                    }
                }
            }
        }
    }
    out.push(b'"');
}

/// A line of a write log, ready to be appended.
#[derive(Debug)]
pub struct Encoded<'a> {
    /// The line and its newline.
    pub text: &'a [u8],
    pub leaf: Digest,
}

/// Writes the lines of one session's log into one buffer that it keeps.
#[derive(Debug)]
pub struct Encoder {
    /// `LEAF_PREFIX`, the line, a newline: so one pass hashes it and one call writes it.
    buffer: Vec<u8>,
    /// The `agent` and `session` members.
    names: Vec<u8>,
    /// The second that `stamp` spells.
    second: i64,
    stamp: [u8; TIMESTAMP_LEN],
}

const NANOS: i64 = 1_000_000_000;

impl Encoder {
    pub fn new(agent: &AgentName, session: &SessionId) -> Self {
        let mut names = Vec::new();
        write_name(&mut names, "agent", agent.as_str());
        write_name(&mut names, "session", session.as_str());
        let mut stamp = [0; TIMESTAMP_LEN];
        Timestamp(0).write(&mut stamp);
        Self {
            buffer: Vec::with_capacity(1024),
            names,
            second: 0,
            stamp,
        }
    }

    /// Writes and hashes the line of `op`.
    pub fn encode(&mut self, seq: u64, prev: &Digest, ts: Timestamp, op: &LogOp) -> Encoded<'_> {
        self.set_stamp(ts);
        let out = &mut self.buffer;
        out.clear();
        out.extend_from_slice(LEAF_PREFIX);
        write_head(out, seq, prev, &self.stamp, name(op));
        out.extend_from_slice(&self.names);
        write_body(out, op);
        out.push(b'}');
        let leaf = Digest::of(out);
        out.push(b'\n');
        Encoded {
            text: &out[LEAF_PREFIX.len()..],
            leaf,
        }
    }

    /// Within one second only the nine digits change.
    fn set_stamp(&mut self, ts: Timestamp) {
        let second = ts.0.div_euclid(NANOS);
        if second != self.second {
            ts.write(&mut self.stamp);
            self.second = second;
            return;
        }
        let mut nanos = ts.0.rem_euclid(NANOS).unsigned_abs();
        for digit in self.stamp[20..29].iter_mut().rev() {
            *digit = HEX[usize::try_from(nanos % 10).unwrap_or(0)];
            nanos /= 10;
        }
    }
}

/// Returns the `op` of a write log's entry.
fn name(op: &LogOp) -> &'static str {
    match op {
        LogOp::Write { .. } => "write",
        LogOp::Create { .. } => "create",
        LogOp::Mkdir { .. } => "mkdir",
        LogOp::Symlink { .. } => "symlink",
        LogOp::Rename { .. } => "rename",
        LogOp::Unlink { .. } => "unlink",
        LogOp::Rmdir { .. } => "rmdir",
        LogOp::Truncate { .. } => "truncate",
        LogOp::Hole { .. } => "hole",
        LogOp::Mode { .. } => "mode",
        LogOp::Times { .. } => "times",
        LogOp::Xattr { .. } => "xattr",
        LogOp::Version { .. } => "version",
        LogOp::Denied { .. } => "denied",
        LogOp::Recovered { .. } => "recovered",
        LogOp::Void { .. } => "void",
    }
}

/// Members one after the other; the caller keeps them sorted.
struct Members<'a>(&'a mut Vec<u8>);

impl Members<'_> {
    fn key(&mut self, key: &str) {
        self.0.extend_from_slice(b",\"");
        self.0.extend_from_slice(key.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    fn natural(&mut self, key: &str, value: u64) -> &mut Self {
        self.key(key);
        write_natural(self.0, value);
        self
    }

    fn integer(&mut self, key: &str, value: i64) -> &mut Self {
        self.key(key);
        write_integer(self.0, value);
        self
    }

    fn digest(&mut self, key: &str, value: &Digest) -> &mut Self {
        self.key(key);
        self.0.push(b'"');
        write_hex(self.0, value);
        self.0.push(b'"');
        self
    }

    fn bytes(&mut self, key: &str, value: &[u8]) -> &mut Self {
        self.key(key);
        self.0.push(b'"');
        percent_encode_into(value, self.0);
        self.0.push(b'"');
        self
    }

    fn text(&mut self, key: &str, value: &str) -> &mut Self {
        self.key(key);
        write_string(self.0, value);
        self
    }

    fn path(&mut self, path: &RepoPath) -> &mut Self {
        self.bytes("path", path.as_bytes())
    }

    fn mode(&mut self, mode: FileMode) -> &mut Self {
        let word = match mode {
            FileMode::Plain => "plain",
            FileMode::Exec => "exec",
            FileMode::Symlink => "symlink",
        };
        self.text("mode", word)
    }

    fn exe(&mut self, by: &Actor) -> &mut Self {
        if let Some(exe) = &by.exe {
            self.bytes("exe", &exe.0);
        }
        self
    }

    fn pid(&mut self, by: &Actor) -> &mut Self {
        self.natural("pid", u64::from(by.pid))
    }

    fn start(&mut self, by: &Actor) -> &mut Self {
        if let Some(start) = by.start {
            self.natural("start", start);
        }
        self
    }

    fn ranges(&mut self, key: &str, ranges: &[(u64, u64)]) -> &mut Self {
        self.key(key);
        let mut lead = b'[';
        for &(offset, len) in ranges {
            self.0.push(mem::replace(&mut lead, b','));
            self.0.push(b'[');
            write_natural(self.0, offset);
            self.0.push(b',');
            write_natural(self.0, len);
            self.0.push(b']');
        }
        if ranges.is_empty() {
            self.0.push(b'[');
        }
        self.0.push(b']');
        self
    }
}

/// Writes the members of `op`'s body, sorted by name.
#[rustfmt::skip]
fn write_body(out: &mut Vec<u8>, op: &LogOp) {
    let mut m = Members(out);
    match op {
        LogOp::Write { path, offset, len, sha256, claim, by } => m
            .natural("claim", *claim).exe(by).natural("len", *len).natural("offset", *offset)
            .path(path).pid(by).digest("sha256", sha256).start(by),
        LogOp::Create { path, mode, claim, by } | LogOp::Mode { path, mode, claim, by } => m
            .natural("claim", *claim).exe(by).mode(*mode).path(path).pid(by).start(by),
        LogOp::Mkdir { path, claim, by }
        | LogOp::Unlink { path, claim, by }
        | LogOp::Rmdir { path, claim, by } => m
            .natural("claim", *claim).exe(by).path(path).pid(by).start(by),
        LogOp::Symlink { path, target, claim, by } => m
            .natural("claim", *claim).exe(by).path(path).pid(by).start(by).bytes("target", &target.0),
        LogOp::Rename { path, to, exchange, claim, by } => {
            m.natural("claim", *claim);
            if *exchange {
                m.key("exchange");
                m.0.extend_from_slice(b"true");
            }
            m.exe(by).path(path).pid(by).start(by).bytes("to", to.as_bytes())
        }
        LogOp::Truncate { path, size, claim, by } => m
            .natural("claim", *claim).exe(by).path(path).pid(by).natural("size", *size).start(by),
        LogOp::Hole { path, offset, len, size, claim, by } => m
            .natural("claim", *claim).exe(by).natural("len", *len).natural("offset", *offset)
            .path(path).pid(by).natural("size", *size).start(by),
        LogOp::Times { path, mtime, claim, by } => m
            .natural("claim", *claim).exe(by).integer("mtime", *mtime).path(path).pid(by).start(by),
        LogOp::Xattr { path, name, sha256, claim, by } => {
            m.natural("claim", *claim).exe(by).bytes("name", &name.0).path(path).pid(by);
            if let Some(sha256) = sha256 {
                m.digest("sha256", sha256);
            }
            m.start(by)
        }
        LogOp::Version { path, size, mode, sha256 } => m
            .mode(*mode).path(path).digest("sha256", sha256).natural("size", *size),
        LogOp::Denied { path, tried, rule, reason, count, by } => m
            .natural("count", *count).exe(by).path(path).pid(by).text("reason", reason)
            .text("rule", rule).start(by).text("tried", tried),
        LogOp::Recovered { path, size, sha256, lost } => m
            .ranges("lost", lost).path(path).digest("sha256", sha256).natural("size", *size),
        LogOp::Void { entry, reason } => m
            .natural("entry", *entry).text("reason", reason),
    };
}
