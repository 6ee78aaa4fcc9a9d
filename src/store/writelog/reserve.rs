//! Room on the disk that the log has before it needs it.
//!
//! Owns: how far ahead of the log's end the disk is asked for room, and which
//! entries may use the last of it. A full disk must not keep anybody from making
//! room: the entries of what removes or empties a file, and of what is known to
//! have failed or settled, go into the reserve; everything else is refused while
//! it cannot be filled up. Where the file system gives no room in advance there
//! is no reserve, and a full disk refuses all alike.

use std::io;

use crate::domain::logop::LogOp;
use crate::store::writelog::Medium;

/// Room for a thousand removals.
pub(super) const RESERVE: u64 = 256 << 10;

#[derive(Debug, Default)]
pub(super) struct Reserve {
    /// The disk has room for the log up to here.
    to: u64,
    /// The file system knows no such thing.
    impossible: bool,
}

impl Reserve {
    /// Says whether an entry of a log of `len` bytes may be appended.
    pub(super) fn admit<M: Medium>(
        &mut self,
        medium: &mut M,
        len: u64,
        op: &LogOp,
    ) -> io::Result<()> {
        if self.impossible || len + RESERVE <= self.to || makes_room(op) {
            return Ok(());
        }
        match medium.set_aside(len, 2 * RESERVE) {
            Ok(()) => self.to = len + 2 * RESERVE,
            Err(error) if is_unknown(&error) => self.impossible = true,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Notes that the log was cut: what lay beyond its end is the disk's again.
    pub(super) fn gone(&mut self) {
        self.to = 0;
    }
}

/// Says whether an operation gives room back, or only says what became of another.
const fn makes_room(op: &LogOp) -> bool {
    matches!(
        op,
        LogOp::Unlink { .. }
            | LogOp::Rmdir { .. }
            | LogOp::Truncate { size: 0, .. }
            | LogOp::Void { .. }
            | LogOp::Version { .. }
            | LogOp::Recovered { .. }
    )
}

fn is_unknown(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Unsupported
        || matches!(
            error.raw_os_error(),
            Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::ENODEV | libc::ESPIPE)
        )
}
