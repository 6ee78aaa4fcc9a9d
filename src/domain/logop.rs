//! The operations of a session's write log, as values.
//!
//! Owns: which operations there are and what each one carries. How one becomes
//! a line of the log is `entry`'s. Never performs one.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::domain::digest::Digest;
use crate::domain::path::{RepoPath, percent_decode, percent_encode};

/// The names of all operations, in the order of the command line's contract.
pub const OPS: [&str; 16] = [
    "write",
    "create",
    "mkdir",
    "symlink",
    "rename",
    "unlink",
    "rmdir",
    "truncate",
    "hole",
    "mode",
    "times",
    "xattr",
    "version",
    "denied",
    "recovered",
    "void",
];

/// A byte string that JSON carries percent-encoded (symlink targets, xattr names and values).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bytes(pub Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&percent_encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        percent_decode(&text)
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom("not percent-encoded"))
    }
}

/// What git can say about a file's mode: 0o644, 0o755 or 0o120000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileMode {
    Plain,
    Exec,
    Symlink,
}

/// Who asked: evidence, never authority. `exe` and `start` stand only in the
/// first entry that a process causes, and in every denial.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Actor {
    /// 0 where the kernel could not say (write-back of a mapping).
    pub pid: u32,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exe: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub start: Option<u64>,
}

/// One entry of a write log. `claim` is the id of the claim that allowed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogOp {
    /// `data` went to `path` at `offset`; logged before the bytes are written.
    Write {
        path: RepoPath,
        offset: u64,
        len: u64,
        sha256: Digest,
        claim: u64,
        by: Actor,
    },
    Create {
        path: RepoPath,
        mode: FileMode,
        claim: u64,
        by: Actor,
    },
    Mkdir {
        path: RepoPath,
        claim: u64,
        by: Actor,
    },
    Symlink {
        path: RepoPath,
        target: Bytes,
        claim: u64,
        by: Actor,
    },
    Rename {
        path: RepoPath,
        to: RepoPath,
        exchange: bool,
        claim: u64,
        by: Actor,
    },
    Unlink {
        path: RepoPath,
        claim: u64,
        by: Actor,
    },
    Rmdir {
        path: RepoPath,
        claim: u64,
        by: Actor,
    },
    Truncate {
        path: RepoPath,
        size: u64,
        claim: u64,
        by: Actor,
    },
    /// A hole punched, or a range zeroed or allocated: `len` zero bytes at `offset`; `size` afterwards.
    Hole {
        path: RepoPath,
        offset: u64,
        len: u64,
        size: u64,
        claim: u64,
        by: Actor,
    },
    Mode {
        path: RepoPath,
        mode: FileMode,
        claim: u64,
        by: Actor,
    },
    /// Modification time in nanoseconds since 1970.
    Times {
        path: RepoPath,
        mtime: i64,
        claim: u64,
        by: Actor,
    },
    /// A `user.*` attribute set (`sha256` of its value) or removed (`None`).
    Xattr {
        path: RepoPath,
        name: Bytes,
        sha256: Option<Digest>,
        claim: u64,
        by: Actor,
    },
    /// The file settled: these are its whole bytes now.
    Version {
        path: RepoPath,
        size: u64,
        mode: FileMode,
        sha256: Digest,
    },
    Denied {
        path: RepoPath,
        tried: String,
        rule: String,
        reason: String,
        count: u64,
        by: Actor,
    },
    /// After a crash: what was found in a file that had not settled.
    Recovered {
        path: RepoPath,
        size: u64,
        sha256: Digest,
        lost: Vec<(u64, u64)>,
    },
    /// Entry `entry` of this log was written, but the operation then failed.
    Void { entry: u64, reason: String },
}

impl LogOp {
    /// Returns the version that the entry names, whose bytes must be kept for it.
    pub fn content(&self) -> Option<Digest> {
        match self {
            Self::Version { sha256, .. } | Self::Recovered { sha256, .. } => Some(*sha256),
            Self::Xattr { sha256, .. } => *sha256,
            _ => None,
        }
    }
}
