//! The base: the commit a session started from, as the overlay sees it.
//!
//! Owns: the one trait behind which a base stands (git; a map in tests), and the
//! values it speaks in. What is read here is exactly what `git checkout` would
//! write. Never changes anything.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::domain::path::RepoPath;

/// A git object id (SHA-1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Oid(pub [u8; 20]);

impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an object id (40 lower-case hex digits)")]
pub struct OidError;

impl FromStr for Oid {
    type Err = OidError;

    fn from_str(text: &str) -> Result<Self, OidError> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Ok(byte - b'0'),
            b'a'..=b'f' => Ok(byte - b'a' + 10),
            _ => Err(OidError),
        };
        if text.len() != 40 {
            return Err(OidError);
        }
        let mut out = [0; 20];
        for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(Self(out))
    }
}

impl Serialize for Oid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Oid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BaseKind {
    Dir,
    File {
        exec: bool,
    },
    Symlink,
    /// Shown as an empty directory.
    Submodule,
}

/// One name in a directory of the base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseEntry {
    pub name: Vec<u8>,
    pub kind: BaseKind,
    pub oid: Oid,
}

pub trait Base: Send + Sync {
    /// Returns the id of the root tree.
    fn root(&self) -> Oid;

    /// Returns the entries of the tree `oid`, sorted by name bytes. Names that
    /// cannot be served (`.git` aliases, `/`, NUL, empty) are left out.
    fn list(&self, oid: &Oid) -> io::Result<Arc<[BaseEntry]>>;

    /// Returns the size of the file or symlink as checked out at `path`.
    /// `path` is the path in the base: attributes depend on it.
    fn size(&self, path: &RepoPath, entry: &BaseEntry) -> io::Result<u64>;

    /// Returns the bytes of the file, or the target of the symlink, as checked out at `path`.
    fn read(&self, path: &RepoPath, entry: &BaseEntry) -> io::Result<Vec<u8>>;

    /// Says whether the base's own `.gitignore` files ignore `path`, itself or
    /// by one of its directories.
    fn ignored(&self, path: &RepoPath, is_dir: bool) -> io::Result<bool>;

    /// Returns the commit's time in seconds since 1970: the mtime of all base files.
    fn time(&self) -> i64;
}
