//! From a write log's line back to its operation: exactly the keys that the writer writes.
//!
//! Owns: the reading of each operation's body. Invariant: a key that is missing, one
//! too many or one out of its order is a fault. Never looks at the line's head.

use std::iter::Peekable;

use crate::domain::digest::Digest;
use crate::domain::entry::EntryFault;
use crate::domain::entry::line::{Fields, Line, characters, unquote};
use crate::domain::logop::{Actor, Bytes, FileMode, LogOp};
use crate::domain::path::{RepoPath, percent_decode};

/// Reads the operation of a write log's line.
#[rustfmt::skip]
pub fn decode(line: &Line<'_>) -> Result<LogOp, EntryFault> {
    let mut body = Body { op: line.op, fields: line.fields().peekable() };
    let op = match line.op {
        "version" => {
            let mode = body.mode()?;
            let path = body.path("path")?;
            let sha256 = body.digest("sha256")?;
            LogOp::Version { path, size: body.natural("size")?, mode, sha256 }
        }
        "denied" => {
            let count = body.natural("count")?;
            let (exe, path, pid) = body.exe_path_pid()?;
            let reason = body.text("reason")?;
            let rule = body.text("rule")?;
            let by = Actor { pid, exe, start: body.maybe_natural("start")? };
            LogOp::Denied { path, tried: body.text("tried")?, rule, reason, count, by }
        }
        "recovered" => {
            let lost = body.ranges("lost")?;
            let path = body.path("path")?;
            let sha256 = body.digest("sha256")?;
            LogOp::Recovered { path, size: body.natural("size")?, sha256, lost }
        }
        "void" => {
            let entry = body.natural("entry")?;
            LogOp::Void { entry, reason: body.text("reason")? }
        }
        _ => body.claimed()?,
    };
    body.end()?;
    Ok(op)
}

/// A body read in its order, key by key.
struct Body<'a> {
    op: &'a str,
    fields: Peekable<Fields<'a>>,
}

impl<'a> Body<'a> {
    /// Reads the operations that a claim allowed.
    #[rustfmt::skip]
    fn claimed(&mut self) -> Result<LogOp, EntryFault> {
        let known = ["write", "create", "mode", "mkdir", "unlink", "rmdir", "symlink", "rename", "truncate", "hole", "times", "xattr"];
        if !known.contains(&self.op) {
            return Err(EntryFault::Op(self.op.to_owned()));
        }
        let claim = self.natural("claim")?;
        if self.op == "rename" {
            return self.rename(claim);
        }
        let exe = self.maybe_bytes("exe")?;
        Ok(match self.op {
            "write" | "hole" => return self.range(claim, exe),
            "create" | "mode" => {
                let mode = self.mode()?;
                let (path, by) = self.path_by(exe)?;
                if self.op == "create" {
                    LogOp::Create { path, mode, claim, by }
                } else {
                    LogOp::Mode { path, mode, claim, by }
                }
            }
            "mkdir" => {
                let (path, by) = self.path_by(exe)?;
                LogOp::Mkdir { path, claim, by }
            }
            "unlink" => {
                let (path, by) = self.path_by(exe)?;
                LogOp::Unlink { path, claim, by }
            }
            "rmdir" => {
                let (path, by) = self.path_by(exe)?;
                LogOp::Rmdir { path, claim, by }
            }
            "symlink" => {
                let (path, by) = self.path_by(exe)?;
                LogOp::Symlink { path, target: self.bytes("target")?, claim, by }
            }
            "times" => {
                let mtime = self.integer("mtime")?;
                let (path, by) = self.path_by(exe)?;
                LogOp::Times { path, mtime, claim, by }
            }
            "xattr" => {
                let name = self.bytes("name")?;
                let path = self.path("path")?;
                let pid = self.pid()?;
                let sha256 = self.take("sha256").map(|value| self.as_digest("sha256", value)).transpose()?;
                let by = Actor { pid, exe, start: self.maybe_natural("start")? };
                LogOp::Xattr { path, name, sha256, claim, by }
            }
            _ => {
                let path = self.path("path")?;
                let pid = self.pid()?;
                let size = self.natural("size")?;
                let by = Actor { pid, exe, start: self.maybe_natural("start")? };
                LogOp::Truncate { path, size, claim, by }
            }
        })
    }

    fn rename(&mut self, claim: u64) -> Result<LogOp, EntryFault> {
        let exchange = match self.take("exchange") {
            None => false,
            Some(b"true") => true,
            Some(_) => return Err(self.fault("exchange")),
        };
        let exe = self.maybe_bytes("exe")?;
        let (path, by) = self.path_by(exe)?;
        Ok(LogOp::Rename {
            path,
            to: self.path("to")?,
            exchange,
            claim,
            by,
        })
    }

    /// Reads `write` and `hole`, which say where in the file.
    #[rustfmt::skip]
    fn range(&mut self, claim: u64, exe: Option<Bytes>) -> Result<LogOp, EntryFault> {
        let len = self.natural("len")?;
        let offset = self.natural("offset")?;
        let path = self.path("path")?;
        let pid = self.pid()?;
        if self.op == "write" {
            let sha256 = self.digest("sha256")?;
            let by = Actor { pid, exe, start: self.maybe_natural("start")? };
            return Ok(LogOp::Write { path, offset, len, sha256, claim, by });
        }
        let size = self.natural("size")?;
        let by = Actor { pid, exe, start: self.maybe_natural("start")? };
        Ok(LogOp::Hole { path, offset, len, size, claim, by })
    }

    fn exe_path_pid(&mut self) -> Result<(Option<Bytes>, RepoPath, u32), EntryFault> {
        let exe = self.maybe_bytes("exe")?;
        Ok((exe, self.path("path")?, self.pid()?))
    }

    fn path_by(&mut self, exe: Option<Bytes>) -> Result<(RepoPath, Actor), EntryFault> {
        let path = self.path("path")?;
        let pid = self.pid()?;
        let start = self.maybe_natural("start")?;
        Ok((path, Actor { pid, exe, start }))
    }

    fn fault(&self, key: &'static str) -> EntryFault {
        EntryFault::Field {
            op: self.op.to_owned(),
            key,
        }
    }

    /// Returns the next value if it is `key`'s.
    fn take(&mut self, key: &'static str) -> Option<&'a [u8]> {
        self.fields
            .next_if(|(name, _)| *name == key.as_bytes())
            .map(|(_, value)| value)
    }

    fn need(&mut self, key: &'static str) -> Result<&'a [u8], EntryFault> {
        self.take(key).ok_or_else(|| self.fault(key))
    }

    fn end(&mut self) -> Result<(), EntryFault> {
        match self.fields.next() {
            None => Ok(()),
            Some((key, _)) => Err(EntryFault::Extra {
                op: self.op.to_owned(),
                key: characters(key).collect(),
            }),
        }
    }

    fn as_number<T: std::str::FromStr>(
        &self,
        key: &'static str,
        value: &[u8],
    ) -> Result<T, EntryFault> {
        let number = std::str::from_utf8(value).ok().and_then(|t| t.parse().ok());
        number.ok_or_else(|| self.fault(key))
    }

    fn natural(&mut self, key: &'static str) -> Result<u64, EntryFault> {
        let value = self.need(key)?;
        self.as_number(key, value)
    }

    fn integer(&mut self, key: &'static str) -> Result<i64, EntryFault> {
        let value = self.need(key)?;
        self.as_number(key, value)
    }

    fn pid(&mut self) -> Result<u32, EntryFault> {
        let value = self.need("pid")?;
        self.as_number("pid", value)
    }

    fn maybe_natural(&mut self, key: &'static str) -> Result<Option<u64>, EntryFault> {
        let value = self.take(key);
        value.map(|value| self.as_number(key, value)).transpose()
    }

    fn as_digest(&self, key: &'static str, value: &[u8]) -> Result<Digest, EntryFault> {
        unquote(value)
            .and_then(|hex| Digest::from_hex(hex).ok())
            .ok_or_else(|| self.fault(key))
    }

    fn digest(&mut self, key: &'static str) -> Result<Digest, EntryFault> {
        let value = self.need(key)?;
        self.as_digest(key, value)
    }

    fn as_bytes(&self, key: &'static str, value: &[u8]) -> Result<Bytes, EntryFault> {
        unquote(value)
            .and_then(|text| std::str::from_utf8(text).ok())
            .and_then(percent_decode)
            .map(Bytes)
            .ok_or_else(|| self.fault(key))
    }

    fn bytes(&mut self, key: &'static str) -> Result<Bytes, EntryFault> {
        let value = self.need(key)?;
        self.as_bytes(key, value)
    }

    fn maybe_bytes(&mut self, key: &'static str) -> Result<Option<Bytes>, EntryFault> {
        let value = self.take(key);
        value.map(|value| self.as_bytes(key, value)).transpose()
    }

    fn path(&mut self, key: &'static str) -> Result<RepoPath, EntryFault> {
        let value = self.need(key)?;
        unquote(value)
            .and_then(|text| std::str::from_utf8(text).ok())
            .and_then(|text| RepoPath::decode(text).ok())
            .ok_or_else(|| self.fault(key))
    }

    fn text(&mut self, key: &'static str) -> Result<String, EntryFault> {
        let value = self.need(key)?;
        unquote(value)
            .map(|text| characters(text).collect())
            .ok_or_else(|| self.fault(key))
    }

    fn mode(&mut self) -> Result<FileMode, EntryFault> {
        match self.need("mode")? {
            b"\"plain\"" => Ok(FileMode::Plain),
            b"\"exec\"" => Ok(FileMode::Exec),
            b"\"symlink\"" => Ok(FileMode::Symlink),
            _ => Err(self.fault("mode")),
        }
    }

    fn ranges(&mut self, key: &'static str) -> Result<Vec<(u64, u64)>, EntryFault> {
        let value = self.need(key)?;
        serde_json::from_slice(value).map_err(|_| self.fault(key))
    }
}
