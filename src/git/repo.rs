//! The operator's repository: where it is, what its refs say, and its settings.
//!
//! Owns: discovery from anywhere inside (linked worktrees, bare repositories,
//! submodules), reading one file of a commit, the trailers along a branch, and
//! the one commit that govfs makes by itself: `governor.md`. Never runs a hook or a
//! filter, no program but git where a partial clone has to fetch, and never writes
//! anything else.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use git2::{ErrorClass, ErrorCode, ObjectType, Repository, RepositoryOpenFlags, Signature, Sort};

use crate::domain::base::Oid;
use crate::domain::event::{Pinned, Place};
use crate::domain::logop::Bytes;
use crate::git::base::{Fetch as _, PromisorGit, program};
use crate::git::link;

mod changes;
mod commits;

pub use changes::ChangedLines;
pub use commits::CommitFact;

/// Who commits where git knows nobody.
const NAME: &str = "govfs";
const EMAIL: &str = "govfs@localhost";
/// What a file's entry in a tree says: a plain file.
const PLAIN: i32 = 0o100_644;

#[derive(Debug, thiserror::Error)]
pub enum RepoError {
    #[error("{} is not inside a git repository", .0.display())]
    NoRepository(PathBuf),
    #[error("the repository cannot be read by govfs: {0}")]
    Unreadable(String),
    #[error("{0}")]
    Owner(String),
    #[error("the git directory {} does not say where its checkout is", .0.display())]
    Apart(PathBuf),
    #[error("another git process holds the index: {}", .0.display())]
    Busy(PathBuf),
    #[error("the checkout's index cannot be read: {0}")]
    Index(String),
    #[error("{0:?} names no commit")]
    NoCommit(String),
    #[error("{doing}: {what}")]
    Git { doing: &'static str, what: String },
}

fn fault(doing: &'static str) -> impl Fn(git2::Error) -> RepoError {
    move |error| RepoError::Git {
        doing,
        what: error.message().to_owned(),
    }
}

/// An open repository of the operator's.
pub struct Repo {
    inner: Repository,
    common: PathBuf,
}

impl std::fmt::Debug for Repo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Repo({})", self.common.display())
    }
}

/// One commit of a branch's first-parent line that carries a trailer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trailer {
    pub commit: Oid,
    pub tree: Oid,
    pub value: String,
}

impl Repo {
    /// Finds the repository that `start` lies in.
    pub fn discover(start: &Path) -> Result<Self, RepoError> {
        // From `start` itself: a git directory kept apart does not know its checkout.
        let none: [&Path; 0] = [];
        let found = Repository::open_ext(start, RepositoryOpenFlags::CROSS_FS, none);
        let inner = found.map_err(|error| match error.code() {
            ErrorCode::NotFound => RepoError::NoRepository(start.to_owned()),
            ErrorCode::Owner => RepoError::Owner(error.message().to_owned()),
            _ if error.class() == ErrorClass::Repository => {
                RepoError::Unreadable(error.message().to_owned())
            }
            _ => fault("the repository cannot be opened")(error),
        })?;
        refuse_unreadable(&inner)?;
        refuse_apart(&inner)?;
        let common = fs::canonicalize(inner.commondir())
            .map_err(|error| RepoError::Unreadable(error.to_string()))?;
        Ok(Self { inner, common })
    }

    /// The git directory that all worktrees share.
    pub fn common_dir(&self) -> &Path {
        &self.common
    }

    /// This worktree's own git directory.
    pub fn git_dir(&self) -> &Path {
        self.inner.path()
    }

    pub fn workdir(&self) -> Option<&Path> {
        self.inner.workdir()
    }

    /// The directory that stands for the repository: the worktree, or the bare directory.
    pub fn root(&self) -> &Path {
        self.inner.workdir().unwrap_or(&self.common)
    }

    /// Says which directory this is, so that a copy is not taken for it.
    pub fn place(&self) -> std::io::Result<Place> {
        use std::os::unix::ffi::OsStrExt;
        let meta = fs::metadata(&self.common)?;
        Ok(Place {
            device: meta.dev(),
            inode: meta.ino(),
            path: Bytes(self.common.as_os_str().as_bytes().to_vec()),
        })
    }

    /// Returns the branch that HEAD names, also before its first commit.
    pub fn head_branch(&self) -> Option<String> {
        let head = self.inner.find_reference("HEAD").ok()?;
        let name = head.symbolic_target().ok().flatten()?;
        name.strip_prefix("refs/heads/").map(str::to_owned)
    }

    /// Returns the commit at the tip of `branch`.
    pub fn tip(&self, branch: &str) -> Result<Option<Oid>, RepoError> {
        match self.inner.refname_to_id(&format!("refs/heads/{branch}")) {
            Ok(oid) => Ok(Some(to_oid(oid))),
            Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
            Err(error) => Err(fault("read a branch")(error)),
        }
    }

    /// Returns the commit that `revision` names.
    pub fn resolve(&self, revision: &str) -> Result<Oid, RepoError> {
        self.inner
            .revparse_single(revision)
            .and_then(|object| object.peel_to_commit())
            .map(|commit| to_oid(commit.id()))
            .map_err(|_| RepoError::NoCommit(revision.to_owned()))
    }

    /// Returns the bytes of one file of a commit.
    pub fn file_at(&self, commit: Oid, path: &str) -> Result<Option<Vec<u8>>, RepoError> {
        let doing = fault("read a file of a commit");
        let tree = self
            .inner
            .find_commit(from_oid(commit))
            .and_then(|commit| commit.tree())
            .map_err(&doing)?;
        match tree.get_path(Path::new(path)) {
            Ok(entry) if entry.kind() == Some(ObjectType::Blob) => {
                let blob = match self.inner.find_blob(entry.id()) {
                    Err(error) if error.code() == ErrorCode::NotFound && self.fetch(entry.id()) => {
                        self.inner.find_blob(entry.id())
                    }
                    found => found,
                };
                Ok(Some(blob.map_err(&doing)?.content().to_vec()))
            }
            Ok(_) => Ok(None),
            Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
            Err(error) => Err(doing(error)),
        }
    }

    /// Brings a blob that a partial clone left out; says whether it may be there now.
    fn fetch(&self, blob: git2::Oid) -> bool {
        let git = program("git").map(|git| PromisorGit::new(git, self.common.clone()));
        git.is_some_and(|git| git.fetch(&to_oid(blob)))
    }

    /// Returns the settings that decide what a checkout contains.
    pub fn pinned(&self) -> Pinned {
        let text =
            |key: &str, default: &str| self.config(key).unwrap_or_else(|| default.to_owned());
        Pinned {
            autocrlf: text("core.autocrlf", "false"),
            eol: text("core.eol", "native"),
            ignore_case: text("core.ignorecase", "false") == "true",
        }
    }

    pub fn config(&self, key: &str) -> Option<String> {
        self.inner
            .config()
            .and_then(|mut config| config.snapshot()?.get_string(key))
            .ok()
    }

    /// Says whether the checkout's index can be read, so that something can be staged.
    pub fn can_stage(&self) -> Result<(), RepoError> {
        if self.inner.is_bare() {
            return Ok(());
        }
        let lock = self.inner.path().join("index.lock");
        if lock.try_exists().unwrap_or(false) {
            return Err(RepoError::Busy(lock));
        }
        match self.inner.index() {
            Ok(_) => Ok(()),
            Err(error) => Err(RepoError::Index(error.message().to_owned())),
        }
    }

    /// Commits `path` with `content` on top of the branch that HEAD names, and
    /// nothing else; what is staged stays staged.
    pub fn commit_file(&self, path: &str, content: &[u8], message: &str) -> Result<Oid, RepoError> {
        let doing = fault("commit the charter");
        let head = match self.inner.head() {
            Ok(head) => Some(head.peel_to_commit().map_err(&doing)?),
            Err(error) if matches!(error.code(), ErrorCode::UnbornBranch | ErrorCode::NotFound) => {
                None
            }
            Err(error) => return Err(doing(error)),
        };
        let before = head
            .as_ref()
            .map(git2::Commit::tree)
            .transpose()
            .map_err(&doing)?;
        let blob = self.inner.blob(content).map_err(&doing)?;
        let mut builder = self.inner.treebuilder(before.as_ref()).map_err(&doing)?;
        builder.insert(path, blob, PLAIN).map_err(&doing)?;
        let tree = builder
            .write()
            .and_then(|oid| self.inner.find_tree(oid))
            .map_err(&doing)?;
        let who = self.identity()?;
        let parents: Vec<_> = head.iter().collect();
        let commit = self
            .inner
            .commit(Some("HEAD"), &who, &who, message, &tree, &parents)
            .map_err(&doing)?;
        self.stage(path).map_err(&doing)?;
        Ok(to_oid(commit))
    }

    fn stage(&self, path: &str) -> Result<(), git2::Error> {
        if self.inner.is_bare() {
            return Ok(());
        }
        let mut index = self.inner.index()?;
        index.add_path(Path::new(path))?;
        index.write()
    }

    fn identity(&self) -> Result<Signature<'static>, RepoError> {
        self.inner
            .signature()
            .or_else(|_| Signature::now(NAME, EMAIL))
            .map_err(fault("find out who commits"))
    }

    /// Writes files as a tree and makes `name` a commit of it, on top of what it names now.
    pub fn write_ref(
        &self,
        name: &str,
        files: &BTreeMap<String, Vec<u8>>,
        message: &str,
    ) -> Result<Oid, RepoError> {
        let doing = fault("write the ref");
        let mut index = git2::Index::new().map_err(&doing)?;
        for (path, bytes) in files {
            let id = self.inner.blob(bytes).map_err(&doing)?;
            index.add(&entry(path, id)).map_err(&doing)?;
        }
        let tree = index
            .write_tree_to(&self.inner)
            .and_then(|oid| self.inner.find_tree(oid))
            .map_err(&doing)?;
        let parent = match self.inner.refname_to_id(name) {
            Ok(oid) => Some(self.inner.find_commit(oid).map_err(&doing)?),
            Err(error) if error.code() == ErrorCode::NotFound => None,
            Err(error) => return Err(doing(error)),
        };
        let who = self.identity()?;
        let parents: Vec<_> = parent.iter().collect();
        let commit = self
            .inner
            .commit(Some(name), &who, &who, message, &tree, &parents)
            .map_err(&doing)?;
        Ok(to_oid(commit))
    }

    /// Reads all files of the commit that `name` names.
    pub fn read_ref(&self, name: &str) -> Result<Option<BTreeMap<String, Vec<u8>>>, RepoError> {
        let doing = fault("read the ref");
        let tree = match self.inner.refname_to_id(name) {
            Ok(oid) => self
                .inner
                .find_commit(oid)
                .and_then(|commit| commit.tree())
                .map_err(&doing)?,
            Err(error) if error.code() == ErrorCode::NotFound => return Ok(None),
            Err(error) => return Err(doing(error)),
        };
        let mut files = BTreeMap::new();
        let mut failed = Ok(());
        tree.walk(git2::TreeWalkMode::PreOrder, |folder, entry| {
            if entry.kind() == Some(ObjectType::Blob) {
                match self.inner.find_blob(entry.id()) {
                    Ok(blob) => {
                        let name = String::from_utf8_lossy(entry.name_bytes()).into_owned();

                        files.insert(format!("{folder}{name}"), blob.content().to_vec());
                    }
                    Err(error) => failed = Err(error),
                }
            }
            git2::TreeWalkResult::Ok
        })
        .map_err(&doing)?;
        failed.map_err(&doing)?;
        Ok(Some(files))
    }

    /// Returns the trailers named `key` along the first-parent line of `branch`, newest first.
    pub fn trailers(&self, branch: &str, key: &str) -> Result<Vec<Trailer>, RepoError> {
        let tips: Vec<Oid> = self.tip(branch)?.into_iter().collect();
        self.trailers_behind(&tips, key)
    }

    /// Returns where a clone has `branch`: as its own, as its remotes', and in what is
    /// checked out, which on a pull request is no branch at all.
    pub fn seen_tips(&self, branch: &str) -> Result<Vec<Oid>, RepoError> {
        let doing = fault("read the branches");
        let mut tips: Vec<Oid> = self.tip(branch)?.into_iter().collect();
        let remotes = self
            .inner
            .references_glob(&format!("refs/remotes/*/{branch}"));
        for reference in remotes.map_err(&doing)? {
            let target = reference.and_then(|reference| reference.peel_to_commit());
            tips.push(to_oid(target.map_err(&doing)?.id()));
        }
        if let Ok(head) = self.inner.head().and_then(|head| head.peel_to_commit()) {
            tips.push(to_oid(head.id())); // none where nothing is checked out
        }
        Ok(tips)
    }

    /// Returns the trailers named `key` of the commits behind `tips`.
    pub fn trailers_behind(&self, tips: &[Oid], key: &str) -> Result<Vec<Trailer>, RepoError> {
        let doing = fault("read the branch");
        let mut walk = self.inner.revwalk().map_err(&doing)?;
        walk.simplify_first_parent().map_err(&doing)?;
        walk.set_sorting(Sort::TOPOLOGICAL).map_err(&doing)?;
        for tip in tips {
            walk.push(from_oid(*tip)).map_err(&doing)?;
        }
        let mut found = Vec::new();
        for oid in walk {
            let commit = oid
                .and_then(|oid| self.inner.find_commit(oid))
                .map_err(&doing)?;
            let message = String::from_utf8_lossy(commit.message_bytes()).into_owned();
            let Ok(trailers) = git2::message_trailers_strs(&message) else {
                continue;
            };
            for (name, value) in trailers.iter() {
                if name.eq_ignore_ascii_case(key) {
                    found.push(Trailer {
                        commit: to_oid(commit.id()),
                        tree: to_oid(commit.tree_id()),
                        value: value.to_owned(),
                    });
                }
            }
        }
        Ok(found)
    }
}

/// An entry of an index that lives in memory only.
fn entry(path: &str, id: git2::Oid) -> git2::IndexEntry {
    let never = git2::IndexTime::new(0, 0);
    git2::IndexEntry {
        ctime: never,
        mtime: never,
        dev: 0,
        ino: 0,
        mode: 0o100_644,
        uid: 0,
        gid: 0,
        file_size: 0,
        id,
        flags: 0,
        flags_extended: 0,
        path: path.as_bytes().to_vec(),
    }
}

/// libgit2 reads SHA-1 objects and file-based refs; say so instead of showing an empty repository.
fn refuse_unreadable(repository: &Repository) -> Result<(), RepoError> {
    let config = repository.config().and_then(|mut config| config.snapshot());
    let Ok(config) = config else { return Ok(()) };
    let text = |key: &str| {
        config
            .get_string(key)
            .unwrap_or_default()
            .to_ascii_lowercase()
    };
    if text("extensions.refstorage") == "reftable" {
        return Err(RepoError::Unreadable(
            "its refs are kept as reftable".to_owned(),
        ));
    }
    if text("extensions.objectformat") == "sha256" {
        return Err(RepoError::Unreadable(
            "its objects are named by SHA-256".to_owned(),
        ));
    }
    Ok(())
}

/// The directory around a git directory that is kept apart is not its checkout.
fn refuse_apart(repository: &Repository) -> Result<(), RepoError> {
    let Some(root) = repository.workdir() else {
        return Ok(());
    };
    // A linked worktree that is not there can still be read about.
    let away = repository.is_worktree() && !root.exists();
    if away || link::checkout(repository).is_some() {
        Ok(())
    } else {
        Err(RepoError::Apart(repository.path().to_owned()))
    }
}

fn to_oid(oid: git2::Oid) -> Oid {
    let mut bytes = [0; 20];
    bytes.copy_from_slice(&oid.as_bytes()[..20]);
    Oid(bytes)
}

fn from_oid(oid: Oid) -> git2::Oid {
    git2::Oid::from_bytes(&oid.0).unwrap_or(git2::Oid::ZERO_SHA1)
}
