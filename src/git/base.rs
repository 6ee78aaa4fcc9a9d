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
mod lfs;
mod objects;
mod rules;
mod shape;
mod tree;

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::domain::base::Base;
use crate::domain::base::BaseEntry;
use crate::domain::base::BaseKind;
use crate::domain::base::Oid;
use crate::domain::convert;
use crate::domain::convert::Conversion;
use crate::domain::convert::EolConfig;
use crate::domain::convert::Filter;
use crate::domain::ignore;
use crate::domain::path::RepoPath;

pub use fetch::Fetch;
pub use fetch::PromisorGit;
pub use fetch::program;
pub use lfs::LfsProgram;
pub use lfs::Smudge;
pub use objects::ObjectError;
pub(in crate::git) use objects::in_text;
pub use objects::remember_no_objects;
pub use shape::FileSystem;
pub use shape::Shape;
pub use shape::ShapeError;
pub use shape::ShapeKind;
pub use shape::discover;
pub use shape::file_system;

use lfs::LfsContents;
use objects::Objects;
use rules::Rules;
use rules::SizeCache;
use tree::TreeCache;

/// What a base depends on besides its commit, pinned for the session.
#[derive(Clone, Default)]
pub struct Options {
    /// The operator's line-ending settings.
    pub eol: EolConfig,
    /// Finds the content behind Git LFS pointers; without it the pointers are shown.
    pub smudge: Option<Arc<dyn Smudge>>,
    /// Fetches an object that a partial clone lacks.
    pub fetch: Option<Arc<dyn Fetch>>,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("eol", &self.eol)
            .field("smudge", &self.smudge.is_some())
            .field("fetch", &self.fetch.is_some())
            .finish()
    }
}

/// The tree of one commit.
#[derive(Debug)]
pub struct GitBase {
    objects: Objects,
    trees: TreeCache,
    rules: Rules,
    sizes: SizeCache,
    lfs: LfsContents,
    eol: EolConfig,
    commit: Option<Oid>,
    root: Oid,
    time: i64,
}

impl GitBase {
    /// Opens the base at `commit` of the repository whose common directory is `common_dir`.
    pub fn open(common_dir: &Path, commit: Oid, options: Options) -> Result<Self, ObjectError> {
        let mut base = Self::open_tree(common_dir, commit, 0, options)?;
        let header = tree::parse_commit(&base.objects.read(&commit)?)
            .ok_or(ObjectError::Malformed { oid: commit })?;
        base.commit = Some(commit);
        base.root = header.tree;
        base.time = header.time;
        Ok(base)
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
            rules: Rules::default(),
            sizes: SizeCache::default(),
            lfs: LfsContents::new(options.smudge),
            eol: options.eol,
            commit: None,
            root: tree,
            time,
        })
    }

    /// Returns the commit this base shows, if it is a commit.
    pub fn commit(&self) -> Option<Oid> {
        self.commit
    }

    /// Returns the line-ending settings this base is shown with.
    pub fn eol(&self) -> EolConfig {
        self.eol
    }

    /// Returns the first file, if any, that showed its Git LFS pointer for want of content.
    pub fn first_bare_pointer(&self) -> Option<RepoPath> {
        self.lfs.first_bare()
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

    /// Returns how a file at `path` is converted, by the base's attributes.
    pub fn conversion(&self, path: &RepoPath) -> io::Result<Conversion> {
        let dir = rules::directory(self, &path.parent().unwrap_or_default())?;
        let attributes = dir.attributes.evaluate(path);
        Ok(Conversion::new(&attributes, self.eol))
    }

    /// Returns the conversion if what is shown may differ from the blob.
    fn shown_conversion(&self, path: &RepoPath) -> io::Result<Option<Conversion>> {
        let dir = rules::directory(self, &path.parent().unwrap_or_default())?;
        if dir.attributes.is_empty() && self.eol == EolConfig::default() {
            return Ok(None);
        }
        let attributes = dir.attributes.evaluate(path);
        let conversion = Conversion::new(&attributes, self.eol);
        Ok(conversion.shows_other_bytes().then_some(conversion))
    }

    fn converted_size(
        &self,
        path: &RepoPath,
        oid: &Oid,
        conversion: Conversion,
    ) -> io::Result<u64> {
        if let Some(size) = self.sizes.get(oid, &conversion) {
            return Ok(size);
        }
        let blob = self.objects.read(oid)?;
        let text = convert::to_worktree(&blob, oid, &conversion);
        let size = match conversion.filter() {
            Filter::Lfs => self.lfs.size(path, &text),
            Filter::None | Filter::Other => text.len() as u64,
        };
        self.sizes.keep(*oid, conversion, size);
        Ok(size)
    }

    fn converted(
        &self,
        path: &RepoPath,
        oid: &Oid,
        conversion: &Conversion,
    ) -> io::Result<Vec<u8>> {
        let blob = self.objects.read(oid)?;
        let text = convert::to_worktree(&blob, oid, conversion).into_owned();
        match conversion.filter() {
            Filter::Lfs => self.lfs.read(path, text),
            Filter::None | Filter::Other => Ok(text),
        }
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

    fn size(&self, path: &RepoPath, entry: &BaseEntry) -> io::Result<u64> {
        match entry.kind {
            BaseKind::Dir | BaseKind::Submodule => Ok(0),
            BaseKind::Symlink => Ok(self.objects.size(&entry.oid)?),
            BaseKind::File { .. } => match self.shown_conversion(path)? {
                Some(conversion) => self.converted_size(path, &entry.oid, conversion),
                None => Ok(self.objects.size(&entry.oid)?),
            },
        }
    }

    fn read(&self, path: &RepoPath, entry: &BaseEntry) -> io::Result<Vec<u8>> {
        match entry.kind {
            BaseKind::Dir | BaseKind::Submodule => {
                Err(io::Error::from(io::ErrorKind::IsADirectory))
            }
            BaseKind::Symlink => Ok(self.objects.read(&entry.oid)?),
            BaseKind::File { .. } => match self.shown_conversion(path)? {
                Some(conversion) => self.converted(path, &entry.oid, &conversion),
                None => Ok(self.objects.read(&entry.oid)?),
            },
        }
    }

    fn ignored(&self, path: &RepoPath, is_dir: bool) -> io::Result<bool> {
        ignore::ignored(path, is_dir, |dir| {
            rules::directory(self, dir).map(|dir| dir.ignore.clone())
        })
    }

    fn time(&self) -> i64 {
        self.time
    }
}

#[cfg(test)]
pub(super) mod tests;
