//! The base of a session, read straight from git's object database.
//!
//! Owns: [`GitBase`], which shows the tree of one commit exactly as `git checkout`
//! would write it. Invariants: everything is read lazily, nothing is copied to
//! disk, several threads may ask at once, and what is shown depends on nothing
//! but the commit and the [`Options`] pinned when it was opened. Never writes,
//! never reads attributes or ignore rules from anywhere but the base's own tree.
//!
//! An error without an OS error number is an EIO; its text names the object.

mod fetch;
mod objects;
mod tree;

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::domain::base::Base;
use crate::domain::base::BaseEntry;
use crate::domain::base::BaseKind;
use crate::domain::base::Oid;
use crate::domain::path::RepoPath;

pub use fetch::Fetch;
pub use fetch::PromisorGit;
pub use objects::ObjectError;

use objects::Objects;
use tree::TreeCache;

/// What a base depends on besides its commit, pinned for the session.
#[derive(Clone, Default)]
pub struct Options {
    /// Fetches an object that a partial clone lacks.
    pub fetch: Option<Arc<dyn Fetch>>,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("fetch", &self.fetch.is_some())
            .finish()
    }
}

/// The tree of one commit.
#[derive(Debug)]
pub struct GitBase {
    objects: Objects,
    trees: TreeCache,
    commit: Option<Oid>,
    root: Oid,
    time: i64,
}

impl GitBase {
    /// Opens the base at `commit` of the repository whose common directory is `common_dir`.
    pub fn open(common_dir: &Path, commit: Oid, options: Options) -> Result<Self, ObjectError> {
        let objects = Objects::open(&common_dir.join("objects"), options.fetch)?;
        let header = tree::parse_commit(&objects.read(&commit)?)
            .ok_or(ObjectError::Malformed { oid: commit })?;
        Ok(Self {
            objects,
            trees: TreeCache::default(),
            commit: Some(commit),
            root: header.tree,
            time: header.time,
        })
    }

    /// Opens a tree that is not (yet) a commit's, as one of `time` (seconds since 1970).
    pub fn open_tree(
        common_dir: &Path,
        tree: Oid,
        time: i64,
        options: Options,
    ) -> Result<Self, ObjectError> {
        Ok(Self {
            objects: Objects::open(&common_dir.join("objects"), options.fetch)?,
            trees: TreeCache::default(),
            commit: None,
            root: tree,
            time,
        })
    }

    /// Returns the commit this base shows, if it is a commit.
    pub fn commit(&self) -> Option<Oid> {
        self.commit
    }

    /// Returns the bytes of a blob as git stores them.
    pub fn blob(&self, oid: &Oid) -> Result<Vec<u8>, ObjectError> {
        self.objects.read(oid)
    }

    /// Returns the entry at `path`; the root has none.
    pub fn find(&self, path: &RepoPath) -> io::Result<Option<BaseEntry>> {
        let mut dir = self.root;
        let mut found = None;
        for name in path.components() {
            if let Some(entry) = found {
                let entry: BaseEntry = entry;
                if entry.kind != BaseKind::Dir {
                    return Ok(None);
                }
                dir = entry.oid;
            }
            found = self.child(&dir, name)?;
            if found.is_none() {
                return Ok(None);
            }
        }
        Ok(found)
    }

    fn child(&self, dir: &Oid, name: &[u8]) -> io::Result<Option<BaseEntry>> {
        let list = self.list(dir)?;
        let at = list.binary_search_by(|entry| entry.name.as_slice().cmp(name));
        Ok(at.ok().map(|at| list[at].clone()))
    }
}

impl Base for GitBase {
    fn root(&self) -> Oid {
        self.root
    }

    fn list(&self, oid: &Oid) -> io::Result<Arc<[BaseEntry]>> {
        if let Some(list) = self.trees.get(oid) {
            return Ok(list);
        }
        let bytes = self.objects.read(oid)?;
        let list = tree::parse_tree(&bytes).ok_or(ObjectError::Malformed { oid: *oid })?;
        Ok(self.trees.keep(*oid, list.into()))
    }

    fn size(&self, _path: &RepoPath, entry: &BaseEntry) -> io::Result<u64> {
        match entry.kind {
            BaseKind::Dir | BaseKind::Submodule => Ok(0),
            BaseKind::Symlink | BaseKind::File { .. } => Ok(self.objects.size(&entry.oid)?),
        }
    }

    fn read(&self, _path: &RepoPath, entry: &BaseEntry) -> io::Result<Vec<u8>> {
        match entry.kind {
            BaseKind::Dir | BaseKind::Submodule => {
                Err(io::Error::from(io::ErrorKind::IsADirectory))
            }
            BaseKind::Symlink | BaseKind::File { .. } => Ok(self.objects.read(&entry.oid)?),
        }
    }

    fn ignored(&self, _path: &RepoPath, _is_dir: bool) -> io::Result<bool> {
        Ok(false)
    }

    fn time(&self) -> i64 {
        self.time
    }
}

#[cfg(test)]
mod tests;
