//! What stands between a candidate and `main`.

use crate::domain::path::RepoPath;

/// Whose doing something is: the branch's since the base, or the session's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Ours,
    Theirs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConflictKind {
    Content,
    Binary,
    BothAdded,
    Removed { by: Side },
    Mode,
    Type,
    FileDirectory,
    Rename,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    pub path: RepoPath,
    pub kind: ConflictKind,
    pub note: Option<String>,
}
