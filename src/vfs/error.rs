//! What an operation of the overlay can answer instead of success.
//!
//! Owns: the error values and their meaning; `fuse` has the one table that turns
//! them into errnos. Invariant: a refusal of the gate is `Denied` and was put on
//! record before it got here.

use std::io;

use crate::domain::path::PathError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no such entry")]
    NoEntry,
    #[error("the name is taken")]
    Exists,
    #[error("not a directory")]
    NotDir,
    #[error("a directory")]
    IsDir,
    #[error("the directory is not empty")]
    NotEmpty,
    #[error("refused by the gate")]
    Denied,
    #[error("not possible for such a file")]
    NotPermitted,
    #[error("the two paths lie in different zones")]
    CrossZone,
    #[error("the path is too long")]
    NameTooLong,
    #[error("an argument makes no sense")]
    Invalid,
    #[error("no such attribute")]
    NoAttribute,
    #[error("not supported")]
    NotSupported,
    #[error("the buffer is too small")]
    Range,
    #[error("past the end of the file")]
    PastEnd,
    #[error("the inode is gone")]
    Stale,
    #[error("too large")]
    TooBig,
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<PathError> for Error {
    fn from(error: PathError) -> Self {
        match error {
            PathError::TooLong | PathError::NameTooLong => Self::NameTooLong,
            PathError::Empty
            | PathError::Absolute
            | PathError::Dots
            | PathError::EmptyComponent
            | PathError::Nul
            | PathError::Encoding => Self::Invalid,
        }
    }
}

impl From<nix::errno::Errno> for Error {
    fn from(errno: nix::errno::Errno) -> Self {
        Self::Io(errno.into())
    }
}

pub type Result<T> = std::result::Result<T, Error>;
