//! The gate: who may change what, asked for every operation.
//!
//! Owns: the questions (`Tried`), the answers (`Permit`, `Refusal`) and the door
//! between the overlay and everything behind it (`Gate`: store-backed; a Vec in
//! tests). The rules themselves are pure functions of [`Rules`]. An error is a
//! denial. Never performs an operation.

use std::fs::File;
use std::io;

use crate::domain::digest::Digest;
use crate::domain::logop::{Actor, LogOp};
use crate::domain::path::RepoPath;

/// What somebody tried to do to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tried {
    Open,
    Access,
    Write,
    Create,
    Mkdir,
    Symlink,
    Link,
    Mknod,
    RenameFrom,
    RenameTo,
    Unlink,
    Rmdir,
    Truncate,
    Allocate,
    Mode,
    Owner,
    Times,
    Xattr,
}

/// Proof that the gate said yes to one operation on one path. Only a gate makes one.
#[derive(Debug)]
pub struct Permit {
    claim: u64,
}

impl Permit {
    /// Returns the claim that allowed it (0 for zones that need none).
    pub fn claim(&self) -> u64 {
        self.claim
    }
}

/// Why not, and what to do instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// One of the names in `RULES`, e.g. `not-claimed`, `protected`, `held`, `expired`, `frozen`.
    pub rule: &'static str,
    pub reason: String,
    pub hint: String,
}

/// What stands behind the overlay: decisions in, entries out.
///
/// Implementations: the session's (claims, charter, write log, versions on disk)
/// and a recording one in tests.
pub trait Gate: Send + Sync {
    /// Decides one operation. A refusal has been recorded (entry and
    /// `.govfs/denials`) when this returns.
    fn permit(&self, tried: Tried, path: &RepoPath, by: &Actor) -> Result<Permit, Refusal>;

    /// Says whether a write to `path` would be allowed now: the honest `w` bit. Records nothing.
    fn writable(&self, path: &RepoPath) -> bool;

    /// Says whether some claimed path lies beneath the directory `path`, so that
    /// it may be made, or removed when empty.
    fn leads_to_claim(&self, path: &RepoPath) -> bool;

    /// Returns the claimed literal file paths' base names in `dir`, from which transient names derive.
    fn claimed_names(&self, dir: &RepoPath) -> Vec<Vec<u8>>;

    /// Appends one entry with one `write(2)` and returns its sequence number.
    fn record(&self, op: &LogOp) -> io::Result<u64>;

    /// Makes the log durable (fdatasync).
    fn sync(&self) -> io::Result<()>;

    /// Stores the settled bytes of `file` (`name` in the work directory) as the
    /// version `sha256`. With `take`, the file itself may be moved away.
    fn keep(&self, file: &File, name: &str, sha256: &Digest, take: bool) -> io::Result<()>;

    /// Opens the version `sha256` for reading.
    fn version(&self, sha256: &Digest) -> io::Result<File>;
}
