//! The operator's checkouts of the merge target follow the branch.
//!
//! Owns: deciding that nothing of the operator's would be lost in any worktree
//! that has the branch checked out, and moving only the changed paths.
//!
//! In order: [`Promote::prepare_follow`] locks each index and looks at the
//! touched paths, before anything moves; the ref moves; [`Follow::finish`]
//! brings files and index along. Dropping a [`Follow`] changes nothing. After a
//! crash the same two calls with `again` accept what is already done.
//!
//! Never touches a path that the merge does not change, never overwrites what
//! git does not have.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use nix::sys::stat::FileStat;

use super::index::{Locked, NoIndex, Tracked};
use super::places::Place;
use super::worktree::{Content, Conversion, Worktree, is};
use super::{Delta, Leaf, MODE_COMMIT, MODE_LINK, Promote, PromoteError, Result, Target, io_error};
use crate::domain::base::Oid;
use crate::domain::path::RepoPath;

/// What keeps a checkout from following.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The index differs from the branch there.
    Staged,
    /// The file differs from the index.
    Modified,
    /// The file was removed, which the index does not know.
    Missing,
    /// Something that git does not track is in the way.
    Untracked,
    /// Another git process holds the index.
    Busy,
    /// The index cannot be read (split, sparse, damaged).
    Unreadable(String),
    /// A rebase, bisection, merge … is under way.
    InProgress(&'static str),
    /// The worktree is on a disk that is not there, and locked.
    Away,
}

/// One reason, with where and which path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    pub place: PathBuf,
    pub path: Option<RepoPath>,
    pub trouble: Trouble,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.place.display();
        if let Some(path) = &self.path {
            write!(f, "{path} ")?;
        }
        match &self.trouble {
            Trouble::Staged => write!(f, "has staged changes in {place}"),
            Trouble::Modified => write!(f, "is modified in {place}"),
            Trouble::Missing => write!(f, "is removed but not committed in {place}"),
            Trouble::Untracked => write!(f, "is untracked and in the way in {place}"),
            Trouble::Busy => write!(f, "another git process holds the index of {place}"),
            Trouble::Unreadable(why) => write!(f, "the index of {place} cannot be read: {why}"),
            Trouble::InProgress(what) => write!(f, "a {what} is in progress in {place}"),
            Trouble::Away => write!(f, "the locked worktree {place} is not there"),
        }
    }
}

impl Obstacle {
    /// Says what takes it out of the way.
    pub fn remedy(&self) -> &'static str {
        match self.trouble {
            Trouble::Staged | Trouble::Modified | Trouble::Missing | Trouble::Untracked => {
                "commit, stash or remove it there"
            }
            Trouble::Busy => {
                "wait until that has ended, or remove its index.lock where none runs any more"
            }
            Trouble::Unreadable(_) => {
                "make it a plain one there: git update-index --no-split-index, or git sparse-checkout reapply --no-sparse-index"
            }
            Trouble::InProgress(_) => "finish it there, or give it up",
            Trouble::Away => "bring it back, or give it up: git worktree unlock, then prune",
        }
    }
}

/// Checkouts that are ready to follow.
pub struct Follow {
    held: Vec<Held>,
    deltas: Vec<Delta>,
}

struct Held {
    place: Place,
    worktree: Worktree,
    index: Locked,
}

impl fmt::Debug for Follow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.held.iter().map(|held| &held.place.root))
            .finish()
    }
}

impl Promote {
    /// Looks at every checkout of `target`, about to become `tree`: either all
    /// can follow, or [`PromoteError::Blocked`] names everything in the way.
    /// `again` is for finishing what a crash cut short.
    pub fn prepare_follow(
        &self,
        target: &Target,
        tree: Oid,
        conversion: &dyn Conversion,
        again: bool,
    ) -> Result<Follow> {
        let mut obstacles = Vec::new();
        let places = self.places(target, &mut obstacles)?;
        let deltas = if places.is_empty() {
            Vec::new()
        } else {
            let old = target.tip.map(|tip| self.tree_of(tip)).transpose()?;
            self.diff(old, Some(tree))?
        };
        let mut held = Vec::new();
        for place in places {
            let Some(one) = Held::take(place, &deltas, &mut obstacles)? else {
                continue;
            };
            let look = Look {
                promote: self,
                held: &one,
                deltas: &deltas,
                conversion,
                again,
            };
            look.all(&mut obstacles)?;
            held.push(one);
        }
        if obstacles.is_empty() {
            Ok(Follow { held, deltas })
        } else {
            Err(PromoteError::Blocked(obstacles))
        }
    }
}

impl Held {
    fn take(place: Place, deltas: &[Delta], obstacles: &mut Vec<Obstacle>) -> Result<Option<Self>> {
        let paths = deltas.iter().map(|delta| &delta.path);
        let trouble = match Locked::take(&place.git_dir, paths) {
            Ok(index) => {
                let root = Worktree::open(&place.root);
                let worktree = root.map_err(io_error(place.root.display().to_string()))?;
                return Ok(Some(Self {
                    place,
                    worktree,
                    index,
                }));
            }
            Err(NoIndex::Busy) => Trouble::Busy,
            Err(NoIndex::Unreadable(why)) => Trouble::Unreadable(why),
            Err(NoIndex::Failed(error)) => return Err(error),
        };
        obstacles.push(Obstacle {
            place: place.root,
            path: None,
            trouble,
        });
        Ok(None)
    }
}

/// One look at one checkout.
struct Look<'a> {
    promote: &'a Promote,
    held: &'a Held,
    deltas: &'a [Delta],
    conversion: &'a dyn Conversion,
    again: bool,
}

impl Look<'_> {
    fn all(&self, obstacles: &mut Vec<Obstacle>) -> Result<()> {
        let gone = |delta: &&Delta| delta.old.is_some();
        let leaving: BTreeSet<&RepoPath> = self
            .deltas
            .iter()
            .filter(gone)
            .map(|delta| &delta.path)
            .collect();
        for delta in self.deltas {
            if let Some((path, trouble)) = self.one(delta, &leaving)? {
                obstacles.push(Obstacle {
                    place: self.held.place.root.clone(),
                    path: Some(path),
                    trouble,
                });
            }
        }
        Ok(())
    }

    fn one(
        &self,
        delta: &Delta,
        leaving: &BTreeSet<&RepoPath>,
    ) -> Result<Option<(RepoPath, Trouble)>> {
        let path = &delta.path;
        let found = |trouble| Ok(Some((path.clone(), trouble)));
        let index = &self.held.index;
        let tracked = index.get(path);
        let done = self.again && tracked.map(|tracked| tracked.leaf) == delta.new;
        if index.unmerged(path) || tracked.is_some_and(|tracked| tracked.intended) {
            return found(Trouble::Staged);
        }
        if !done && tracked.map(|tracked| tracked.leaf) != delta.old {
            return found(Trouble::Staged);
        }
        let stat = self.stat(path)?;
        match (delta.old, stat, tracked) {
            (_, stat, _) if self.again && self.is_new(delta, stat.as_ref())? => Ok(None),
            (Some(_), None, Some(tracked)) if tracked.skipped => Ok(None),
            (Some(old), None, _) if old.mode == MODE_COMMIT => Ok(None),
            (Some(_), None, _) if self.again => Ok(None),
            (Some(_), None, _) => found(Trouble::Missing),
            (Some(old), Some(stat), tracked) => {
                if self.same(path, old, &stat, tracked.as_ref())? {
                    Ok(None)
                } else {
                    found(Trouble::Modified)
                }
            }
            (None, stat, _) => self.way_is_clear(path, stat.as_ref(), leaving),
        }
    }

    fn stat(&self, path: &RepoPath) -> Result<Option<FileStat>> {
        let stat = self.held.worktree.stat(path);
        stat.map_err(io_error(path.to_string()))
    }

    /// Says whether a path already is what it is to become.
    fn is_new(&self, delta: &Delta, stat: Option<&FileStat>) -> Result<bool> {
        match (delta.new, stat) {
            (None, None) => Ok(true),
            (Some(new), Some(stat)) => self.same(&delta.path, new, stat, None),
            _ => Ok(false),
        }
    }

    /// Says whether the file is what git has.
    fn same(
        &self,
        path: &RepoPath,
        leaf: Leaf,
        stat: &FileStat,
        tracked: Option<&Tracked>,
    ) -> Result<bool> {
        let place = &self.held.place;
        if leaf.mode == MODE_COMMIT {
            return Ok(is(stat, libc::S_IFDIR));
        }
        let link = leaf.mode == MODE_LINK && place.symlinks;
        if !is(stat, if link { libc::S_IFLNK } else { libc::S_IFREG }) {
            return Ok(false);
        }
        let exec = stat.st_mode & 0o100 != 0;
        if leaf.is_file() && place.file_mode && exec != leaf.is_exec() {
            return Ok(false);
        }
        if tracked.is_some_and(|tracked| self.held.index.trusts(tracked, stat)) {
            return Ok(true);
        }
        let failed = || io_error(path.to_string());
        let file = self.held.worktree.read(path, stat).map_err(failed())?;
        let blob = self.promote.blob(leaf.oid)?;
        if file == blob {
            return Ok(true);
        }
        if !leaf.is_file() {
            return Ok(false);
        }
        let stored = self.conversion.to_git(path, &file, &blob);
        Ok(stored.map_err(failed())? == blob)
    }

    /// Looks whether a new file finds nothing where it goes, nor above, nor beneath.
    fn way_is_clear(
        &self,
        path: &RepoPath,
        stat: Option<&FileStat>,
        leaving: &BTreeSet<&RepoPath>,
    ) -> Result<Option<(RepoPath, Trouble)>> {
        let index = &self.held.index;
        for dir in path.ancestors().filter(|dir| !leaving.contains(dir)) {
            if index.get(&dir).is_some() {
                return Ok(Some((dir, Trouble::Staged)));
            }
            match self.stat(&dir)? {
                Some(stat) if !is(&stat, libc::S_IFDIR) => {
                    return Ok(Some((dir, Trouble::Untracked)));
                }
                _ => {}
            }
        }
        match stat {
            None => Ok(None),
            Some(stat) if is(stat, libc::S_IFDIR) => self.only_leaving(path, leaving),
            Some(_) => Ok(Some((path.clone(), Trouble::Untracked))),
        }
    }

    /// Looks whether everything in a directory is on its way out.
    fn only_leaving(
        &self,
        dir: &RepoPath,
        leaving: &BTreeSet<&RepoPath>,
    ) -> Result<Option<(RepoPath, Trouble)>> {
        let list = self.held.worktree.list(dir);
        for path in list.map_err(io_error(dir.to_string()))? {
            let stat = self.stat(&path)?;
            let inner = if stat.is_some_and(|stat| is(&stat, libc::S_IFDIR)) {
                self.only_leaving(&path, leaving)?
            } else if leaving.contains(&path) {
                None
            } else {
                Some((path, Trouble::Untracked))
            };
            if inner.is_some() {
                return Ok(inner);
            }
        }
        Ok(None)
    }
}

impl Follow {
    /// Returns the checkouts that will follow.
    pub fn places(&self) -> impl Iterator<Item = &Path> {
        self.held.iter().map(|held| held.place.root.as_path())
    }

    /// Brings files and index of every checkout to the new tree. Deletions go
    /// first, so that a directory can make room for a file.
    pub fn finish(self, promote: &Promote, conversion: &dyn Conversion) -> Result<()> {
        for held in self.held {
            held.finish(promote, &self.deltas, conversion)?;
        }
        Ok(())
    }
}

impl Held {
    fn finish(
        mut self,
        promote: &Promote,
        deltas: &[Delta],
        conversion: &dyn Conversion,
    ) -> Result<()> {
        for delta in deltas {
            let failed = io_error(self.place.file(&delta.path));
            match delta.new {
                None => {
                    if delta.old.is_some_and(|old| old.mode != MODE_COMMIT) {
                        self.worktree.remove(&delta.path).map_err(failed)?;
                    }
                    self.index.remove(&delta.path);
                }
                Some(leaf) => self.put(promote, &delta.path, leaf, conversion)?,
            }
        }
        self.index.write(&self.worktree)
    }

    fn put(
        &mut self,
        promote: &Promote,
        path: &RepoPath,
        leaf: Leaf,
        conversion: &dyn Conversion,
    ) -> Result<()> {
        if self.outside_sparse(path) {
            self.index.put(path, leaf, None, true);
            return Ok(());
        }
        let failed = || io_error(self.place.file(path));
        if leaf.mode == MODE_COMMIT {
            self.worktree.make_dir(path).map_err(failed())?;
            self.index.put(path, leaf, None, false);
            return Ok(());
        }
        let blob = promote.blob(leaf.oid)?;
        let stat = if leaf.mode == MODE_LINK && self.place.symlinks {
            let content = Content::Link { target: &blob };
            self.worktree.put(path, &content)
        } else if leaf.mode == MODE_LINK {
            let content = Content::File {
                bytes: &blob,
                exec: false,
            };
            self.worktree.put(path, &content)
        } else {
            let bytes = conversion.to_worktree(path, &blob).map_err(failed())?;
            let content = Content::File {
                bytes: &bytes,
                exec: leaf.is_exec(),
            };
            self.worktree.put(path, &content)
        };
        let stat = stat.map_err(failed())?;
        self.index.put(path, leaf, Some(&stat), false);
        Ok(())
    }

    /// Says whether a sparse checkout leaves `path` out: its own entry does, or
    /// for a new path the first entry in the nearest tracked directory.
    fn outside_sparse(&self, path: &RepoPath) -> bool {
        if let Some(tracked) = self.index.get(path) {
            return tracked.skipped;
        }
        let mut dirs: Vec<_> = path.ancestors().collect();
        while let Some(dir) = dirs.pop() {
            if let Some(skipped) = self.index.first_is_skipped(&dir) {
                return skipped;
            }
        }
        false
    }
}
