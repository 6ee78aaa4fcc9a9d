//! Promotion: trees built from changes, merged in memory, committed, and a branch moved.
//!
//! Owns: everything between a session's computed changes and the tip of the
//! merge target. [`Stage`] collects new objects in memory, [`Promote`] reads
//! objects and moves refs, [`Follow`] lets the operator's checkouts follow.
//!
//! Invariants: the cost is that of the changes, never of the repository; no
//! object is named by a ref before it is durable; a ref moves only by
//! compare-and-swap; nothing outside the repository is run but the configured
//! signing program.
//!
//! Never: runs git, a hook, a filter, a merge driver or a diff driver; reads
//! attributes; checks a repository out; decides whether a merge is allowed.

mod blame;
mod checkout;
mod commit;
mod index;
mod objects;
mod places;
mod refs;
mod renames;
mod revert;
mod text;
mod threeway;
mod tree;
mod worktree;

use std::io;
use std::path::{Path, PathBuf};

use git2::Repository;

use crate::domain::base::Oid;
use crate::domain::logop::FileMode;
use crate::domain::path::RepoPath;

pub use blame::{BlamedLine, Touch, kept_lines};
pub use checkout::{Follow, Obstacle, Trouble};
pub use commit::{CommitSpec, Person, message_with_trailers};
pub use objects::Stage;
pub use places::Place;
pub use refs::Target;
pub use revert::Reverted;
pub use text::unified;
pub use threeway::Merged;
pub use tree::{Delta, Found};

use crate::domain::merge::Status;
pub use worktree::{Conversion, Plain};

/// Raw modes of tree entries.
pub const MODE_TREE: u32 = 0o040_000;
pub const MODE_PLAIN: u32 = 0o100_644;
pub const MODE_EXEC: u32 = 0o100_755;
pub const MODE_LINK: u32 = 0o120_000;
pub const MODE_COMMIT: u32 = 0o160_000;

/// What a tree says about one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Leaf {
    pub mode: u32,
    pub oid: Oid,
}

impl Leaf {
    pub fn is_tree(&self) -> bool {
        self.mode == MODE_TREE
    }

    /// Says whether this is a regular file, by git's rule (any `0100xxx`).
    pub fn is_file(&self) -> bool {
        self.mode & 0o170_000 == 0o100_000
    }

    pub fn is_exec(&self) -> bool {
        self.is_file() && self.mode & 0o100 != 0
    }
}

/// What becomes of one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The path is a file or symlink with the content `blob`.
    Put { mode: FileMode, blob: Oid },
    /// The path is gone; of a directory, everything beneath it.
    Delete,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub path: RepoPath,
    pub what: What,
}

/// Returns the raw tree mode of a file mode.
pub const fn raw_mode(mode: FileMode) -> u32 {
    match mode {
        FileMode::Plain => MODE_PLAIN,
        FileMode::Exec => MODE_EXEC,
        FileMode::Symlink => MODE_LINK,
    }
}

#[derive(Debug, thiserror::Error)]
pub enum PromoteError {
    #[error("git: {}", .0.message())]
    Git(#[from] git2::Error),
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    #[error("object {0} is missing from the repository")]
    Missing(Oid),
    #[error("tree {oid} is malformed: {why}")]
    BadTree { oid: Oid, why: &'static str },
    #[error("{path} cannot be both a file and a directory")]
    Shape { path: RepoPath },
    #[error("{path} has a name that git takes for its own directory")]
    Reserved { path: RepoPath },
    #[error("content of {path} is not what the ledger names")]
    Altered { path: RepoPath },
    #[error("branch {branch} moved meanwhile: expected {}, found {}", tip(*.expected), tip(*.found))]
    Moved {
        branch: String,
        expected: Option<Oid>,
        found: Option<Oid>,
    },
    #[error("no branch can be named {0}")]
    BadBranch(String),
    #[error("signing with {program} failed: {reason}")]
    Signing { program: String, reason: String },
    #[error("the checkout cannot follow: {}", list(.0))]
    Blocked(Vec<Obstacle>),
    #[error("{path} in the new commit is not what was promised")]
    Promise { path: RepoPath },
}

impl PromoteError {
    /// Says whether there was no room: the same can be done once there is.
    pub fn is_full(&self) -> bool {
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        matches!(self, Self::Io { source, .. } if full.contains(&source.kind()))
    }
}

fn tip(oid: Option<Oid>) -> String {
    oid.map_or_else(|| "no commit".to_owned(), |oid| oid.to_string())
}

fn list(obstacles: &[Obstacle]) -> String {
    let lines: Vec<_> = obstacles.iter().map(ToString::to_string).collect();
    lines.join("; ")
}

pub type Result<T> = std::result::Result<T, PromoteError>;

fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> PromoteError {
    let what = what.into();
    move |source| PromoteError::Io { what, source }
}

fn to_git(oid: Oid) -> git2::Oid {
    // Twenty bytes are always an id.
    git2::Oid::from_bytes(&oid.0).unwrap_or(git2::Oid::ZERO_SHA1)
}

fn from_git(oid: git2::Oid) -> Oid {
    let mut bytes = [0; 20];
    bytes.copy_from_slice(&oid.as_bytes()[..20]);
    Oid(bytes)
}

/// The operator's repository, as promotion sees it.
pub struct Promote {
    repo: Repository,
    /// Where the repository was found: perhaps a checkout that it does not know.
    seen_from: Option<PathBuf>,
    trees: tree::Trees,
    /// Objects that are not on disk yet; empty but in a stage's view.
    memory: objects::Memory,
}

impl std::fmt::Debug for Promote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Promote({})", self.common_dir().display())
    }
}

impl Promote {
    /// Opens the repository whose git directory or worktree is `path`.
    pub fn open(path: &Path) -> Result<Self> {
        let repo = Repository::open(path)?;
        Ok(Self::over(repo, None))
    }

    /// Lets the checkout `root` follow too, if it is one of this repository.
    #[must_use]
    pub fn seen_from(mut self, root: Option<&Path>) -> Self {
        self.seen_from = root.map(Path::to_path_buf);
        self
    }

    fn over(repo: Repository, seen_from: Option<PathBuf>) -> Self {
        Self {
            repo,
            seen_from,
            trees: tree::Trees::default(),
            memory: objects::Memory::default(),
        }
    }

    /// Returns the git directory that all worktrees share.
    pub fn common_dir(&self) -> PathBuf {
        self.repo.commondir().to_path_buf()
    }

    /// Returns the tree of a commit.
    pub fn tree_of(&self, commit: Oid) -> Result<Oid> {
        let header = self.object(commit, git2::ObjectType::Commit)?;
        let tree = ids(&header, b"tree ").next();
        tree.ok_or(PromoteError::Missing(commit))
    }

    /// Lists the parents of a commit.
    pub fn parents_of(&self, commit: Oid) -> Result<Vec<Oid>> {
        let header = self.object(commit, git2::ObjectType::Commit)?;
        Ok(ids(&header, b"parent ").collect())
    }

    /// Returns the first parent of a commit.
    pub fn first_parent(&self, commit: Oid) -> Result<Option<Oid>> {
        Ok(self.parents_of(commit)?.first().copied())
    }

    /// Returns the message of a commit, as bytes.
    pub fn message_of(&self, commit: Oid) -> Result<Vec<u8>> {
        let commit = self.repo.find_commit(to_git(commit))?;
        Ok(commit.message_raw_bytes().to_vec())
    }

    /// Returns the bytes of a blob.
    pub fn blob(&self, oid: Oid) -> Result<Vec<u8>> {
        self.object(oid, git2::ObjectType::Blob)
    }

    /// Returns the size of a blob, from its header alone.
    pub fn blob_size(&self, oid: Oid) -> Result<u64> {
        if let Some((_, bytes)) = self.memory.lock().get(&oid) {
            return Ok(bytes.len() as u64);
        }
        let odb = self.repo.odb()?;
        let header = odb.read_header(to_git(oid));
        let (size, _) = header.map_err(|error| missing(&error, oid))?;
        Ok(size as u64)
    }

    fn object(&self, oid: Oid, kind: git2::ObjectType) -> Result<Vec<u8>> {
        if let Some((staged, bytes)) = self.memory.lock().get(&oid) {
            let fine = *staged == kind;
            return fine
                .then(|| bytes.to_vec())
                .ok_or(PromoteError::Missing(oid));
        }
        let odb = self.repo.odb()?;
        let object = odb.read(to_git(oid));
        let object = object.map_err(|error| missing(&error, oid))?;
        if object.kind() == kind {
            Ok(object.data().to_vec())
        } else {
            Err(PromoteError::Missing(oid))
        }
    }
}

/// Returns the ids in a commit's header lines that begin with `key`.
fn ids<'a>(commit: &'a [u8], key: &'static [u8]) -> impl Iterator<Item = Oid> + 'a {
    commit
        .split(|&b| b == b'\n')
        .take_while(|line| !line.is_empty())
        .filter_map(move |line| {
            let hex = std::str::from_utf8(line.strip_prefix(key)?).ok()?;
            git2::Oid::from_str(hex).ok().map(from_git)
        })
}

fn missing(error: &git2::Error, oid: Oid) -> PromoteError {
    if error.code() == git2::ErrorCode::NotFound {
        PromoteError::Missing(oid)
    } else {
        PromoteError::Git(git2::Error::new(
            error.code(),
            error.class(),
            format!("{oid}: {}", error.message()),
        ))
    }
}
