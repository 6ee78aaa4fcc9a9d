//! What went wrong, in words for a person and as an exit status for a script.
//!
//! Owns: the kinds of failure and their exit codes. A failure says what happened
//! and, where there is something to try, what to try.

use std::fmt;

use crate::domain::command::{No, Refusal};
use crate::git::repo::RepoError;
use crate::store::ledger::LedgerError;

/// The exit statuses of the command line's contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Failed,
    Usage,
    Refused,
    Integrity,
    Missing,
    Machine,
    /// `run` failed before the program started.
    Launch,
}

impl Kind {
    /// Returns the kind that another process ended with.
    pub fn of_code(code: i32) -> Self {
        let all = [
            Self::Usage,
            Self::Refused,
            Self::Integrity,
            Self::Missing,
            Self::Machine,
        ];
        all.into_iter()
            .find(|kind| i32::from(kind.code()) == code)
            .unwrap_or(Self::Failed)
    }

    /// Returns the kind's name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::Refused => "refused",
            Self::Integrity => "integrity",
            Self::Missing => "missing",
            Self::Machine => "machine",
            Self::Launch => "launch",
        }
    }

    pub fn code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::Integrity => 4,
            Self::Missing => 5,
            Self::Machine => 6,
            Self::Launch => 125,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub kind: Kind,
    pub message: String,
    pub hint: Option<String>,
    /// The name of the rule that refused.
    pub rule: Option<&'static str>,
}

impl Failure {
    pub fn new(kind: Kind, message: impl fmt::Display) -> Self {
        Self {
            kind,
            message: message.to_string(),
            hint: None,
            rule: None,
        }
    }

    pub fn failed(message: impl fmt::Display) -> Self {
        Self::new(Kind::Failed, message)
    }

    pub fn usage(message: impl fmt::Display) -> Self {
        Self::new(Kind::Usage, message)
    }

    pub fn refused(message: impl fmt::Display) -> Self {
        Self::new(Kind::Refused, message)
    }

    pub fn integrity(message: impl fmt::Display) -> Self {
        Self::new(Kind::Integrity, message)
    }

    pub fn missing(message: impl fmt::Display) -> Self {
        Self::new(Kind::Missing, message)
    }

    pub fn machine(message: impl fmt::Display) -> Self {
        Self::new(Kind::Machine, message)
    }

    #[must_use]
    pub fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let kind = match refusal.no {
            No::Rule => Kind::Refused,
            No::Missing => Kind::Missing,
            No::Usage => Kind::Usage,
        };
        let mut failure = Self::new(kind, refusal.message);
        failure.rule = Some(refusal.rule);
        if refusal.hint.is_empty() {
            failure
        } else {
            failure.hint(refusal.hint)
        }
    }
}

impl From<LedgerError> for Failure {
    fn from(error: LedgerError) -> Self {
        match &error {
            LedgerError::NotThere(_) => {
                Self::missing("this repository has no ledger yet").hint("govfs init")
            }
            LedgerError::Foreign(_)
            | LedgerError::Damaged(_)
            | LedgerError::Tail(_)
            | LedgerError::Row(_)
            | LedgerError::Event(_)
            | LedgerError::Chain(_) => {
                Self::integrity(&error).hint("govfs verify --deep says where")
            }
            LedgerError::Newer { .. } => Self::machine(&error).hint("install a newer govfs"),
            LedgerError::Older { .. } => Self::machine(&error).hint("govfs init brings it forward"),
            LedgerError::Full => Self::failed(&error).hint("free some space and try again"),
            LedgerError::ReadOnly(_) => Self::failed(&error).hint(
                "reading works; to write, whoever owns the store must be able to write there",
            ),
            LedgerError::Busy
            | LedgerError::Sqlite { .. }
            | LedgerError::Entry(_)
            | LedgerError::Io { .. }
            | LedgerError::Stopped(_) => Self::failed(&error),
        }
    }
}

impl From<RepoError> for Failure {
    fn from(error: RepoError) -> Self {
        match &error {
            RepoError::NoRepository(_) => Self::missing(&error).hint("git init, then govfs init"),
            RepoError::Unreadable(_) => Self::machine(&error)
                .hint("govfs reads repositories with SHA-1 objects and file-based refs"),
            RepoError::Busy(_) => Self::failed(&error)
                .hint("wait until that has ended, or remove the lock where none runs any more"),
            RepoError::Index(_) => Self::machine(&error).hint(
                "make it a plain one: git update-index --no-split-index, or git sparse-checkout reapply --no-sparse-index",
            ),
            RepoError::Owner(_) => Self::failed(&error)
                .hint("the directory belongs to somebody else: see safe.directory in git config"),
            RepoError::Apart(_) => Self::machine(&error).hint(
                "start in the checkout, or name it: git config core.worktree DIR (a linked one: git worktree repair)",
            ),
            RepoError::NoCommit(_) => {
                Self::missing(&error).hint("git log --oneline --all shows some")
            }
            RepoError::Git { .. } => Self::failed(&error),
        }
    }
}
