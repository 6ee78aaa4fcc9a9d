//! The index of one checkout, locked from the first look to the last write.
//!
//! Owns: `index.lock` (git's own protocol, so the operator's git waits or
//! refuses), what the index says of the paths that a merge changes, and writing
//! it with those changed. It is read through for the questions and once more for
//! the writing, so memory does not grow with the repository. A lock that a crash
//! left behind is recognised by its content and broken: the caller holds the
//! repository's merge lock, so its maker is gone.
//!
//! Entries whose file may have changed within the old index's own second are
//! marked for git to look at again, as git itself does.

mod file;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::sys::stat::FileStat;

use super::worktree::Worktree;
use super::{Leaf, MODE_COMMIT, PromoteError, Result, io_error};
use crate::domain::path::RepoPath;

use file::{Entry, Fault, Reader, Writer};

/// What our lock file says.
const MARK: &[u8] = b"govfs\n";

/// One entry, as far as a checkout asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tracked {
    pub(super) leaf: Leaf,
    pub(super) skipped: bool,
    pub(super) intended: bool,
    pub(super) mtime: (i32, u32),
    pub(super) size: u32,
    pub(super) inode: u32,
}

pub(super) struct Locked {
    path: PathBuf,
    work: PathBuf,
    lock: PathBuf,
    /// What the index says of the paths that were asked about.
    known: BTreeMap<Vec<u8>, Tracked>,
    unmerged: BTreeSet<Vec<u8>>,
    /// Whether the first tracked path beneath a directory is outside a sparse checkout.
    beneath: BTreeMap<Vec<u8>, bool>,
    changes: BTreeMap<Vec<u8>, Option<Entry>>,
    /// The old index's time; entries at or after it may hide a change.
    stamp: Option<(i64, i64)>,
}

impl Drop for Locked {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.work);
        let _ = fs::remove_file(&self.lock);
    }
}

/// Makes the lock with its mark in it: whoever finds it without was not stopped half way.
fn make_lock(git_dir: &Path, lock: &Path) -> io::Result<()> {
    let aside = git_dir.join("index.govfs-lock");
    let _ = fs::remove_file(&aside); // a crashed merge's; nobody else is here
    File::create_new(&aside).and_then(|mut file| file.write_all(MARK))?;
    let made = fs::hard_link(&aside, lock);
    let _ = fs::remove_file(&aside); // the next merge would
    made
}

/// Takes away the lock of the index in `git_dir` that a crashed merge left, and what was beside it.
pub(super) fn break_lock(git_dir: &Path) {
    let lock = git_dir.join("index.lock");
    if fs::read(&lock).is_ok_and(|mark| mark == MARK) {
        let _ = fs::remove_file(git_dir.join("index.govfs")); // what cannot go is in the way of the next try
        let _ = fs::remove_file(&lock);
    }
}

/// Why an index could not be had.
pub(super) enum NoIndex {
    /// Somebody else's lock stands.
    Busy,
    Unreadable(String),
    Failed(PromoteError),
}

impl From<Fault> for NoIndex {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Unreadable(why) => Self::Unreadable(why.to_owned()),
            Fault::Io(error) => Self::Failed(io_error("index")(error)),
        }
    }
}

impl Locked {
    /// Locks the index in `git_dir` and reads what it says of `paths` and above
    /// them; a lock that a crashed merge left is taken over.
    pub(super) fn take<'a>(
        git_dir: &Path,
        paths: impl Iterator<Item = &'a RepoPath>,
    ) -> std::result::Result<Self, NoIndex> {
        let path = git_dir.join("index");
        let lock = git_dir.join("index.lock");
        break_lock(git_dir);
        match make_lock(git_dir, &lock) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(NoIndex::Busy);
            }
            Err(error) => {
                return Err(NoIndex::Failed(io_error(lock.display().to_string())(error)));
            }
        }
        let work = git_dir.join("index.govfs");
        // From here on, dropping gives the lock back.
        let mut held = Self {
            path,
            work,
            lock,
            known: BTreeMap::new(),
            unmerged: BTreeSet::new(),
            beneath: BTreeMap::new(),
            changes: BTreeMap::new(),
            stamp: None,
        };
        held.read(paths)?;
        Ok(held)
    }

    /// Opens the old index; none where nothing was ever added.
    fn open(&self, checks: bool) -> std::result::Result<Option<Reader>, Fault> {
        match File::open(&self.path) {
            Ok(file) => Reader::new(file, checks).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Fault::Io(error)),
        }
    }

    /// Reads the index through. Its entries are sorted, and so are the questions.
    fn read<'a>(
        &mut self,
        paths: impl Iterator<Item = &'a RepoPath>,
    ) -> std::result::Result<(), NoIndex> {
        let Some(mut reader) = self.open(true)? else {
            return Ok(());
        };
        let old = fs::metadata(&self.path).map_err(Fault::Io)?;
        self.stamp = Some((old.mtime(), old.mtime_nsec()));
        let (mut wanted, mut dirs) = (BTreeSet::new(), BTreeSet::new());
        for path in paths {
            wanted.insert(path.as_bytes().to_vec());
            for dir in path.ancestors() {
                wanted.insert(dir.as_bytes().to_vec());
                dirs.insert([dir.as_bytes(), b"/"].concat());
            }
        }
        let mut wanted = wanted.into_iter().peekable();
        let mut dirs = dirs.into_iter().peekable();
        while let Some(entry) = reader.next()? {
            let path = entry.path.as_slice();
            while let Some(dir) = dirs.next_if(|dir| dir.as_slice() <= path) {
                if path.starts_with(&dir) {
                    let dir = dir[..dir.len() - 1].to_vec();
                    self.beneath.insert(dir, entry.is_skipped());
                }
            }
            while wanted.next_if(|want| want.as_slice() < path).is_some() {}
            if wanted.peek().is_some_and(|want| want == path) {
                if entry.stage() == 0 {
                    self.known.insert(path.to_vec(), entry.tracked());
                } else {
                    self.unmerged.insert(path.to_vec());
                }
            }
        }
        reader.finish()?;
        Ok(())
    }

    pub(super) fn get(&self, path: &RepoPath) -> Option<Tracked> {
        self.known.get(path.as_bytes()).copied()
    }

    /// Says whether `path` has unmerged stages.
    pub(super) fn unmerged(&self, path: &RepoPath) -> bool {
        self.unmerged.contains(path.as_bytes())
    }

    /// Says of a directory with tracked paths whether the first is outside a sparse checkout.
    pub(super) fn first_is_skipped(&self, dir: &RepoPath) -> Option<bool> {
        self.beneath.get(dir.as_bytes()).copied()
    }

    /// Says whether entry `tracked` certainly describes the file with status
    /// `stat`, so that its content need not be read.
    pub(super) fn trusts(&self, tracked: &Tracked, stat: &FileStat) -> bool {
        let settled = self
            .stamp
            .is_some_and(|stamp| (i64::from(tracked.mtime.0), i64::from(tracked.mtime.1)) < stamp);
        settled && tracked.mtime.0 != 0 && same_file(tracked, stat)
    }

    pub(super) fn remove(&mut self, path: &RepoPath) {
        self.changes.insert(path.as_bytes().to_vec(), None);
    }

    /// Enters a path; without a status the file is outside a sparse checkout.
    pub(super) fn put(
        &mut self,
        path: &RepoPath,
        leaf: Leaf,
        stat: Option<&FileStat>,
        skipped: bool,
    ) {
        let entry = Entry::new(path.as_bytes(), leaf, stat, skipped);
        self.changes.insert(path.as_bytes().to_vec(), Some(entry));
    }

    /// Writes the index in place of the old one, and unlocks.
    pub(super) fn write(mut self, worktree: &Worktree) -> Result<()> {
        let changes = std::mem::take(&mut self.changes);
        let written = self.write_changed(worktree, changes);
        written.map_err(|fault| match fault {
            Fault::Io(error) => io_error(self.path.display().to_string())(error),
            Fault::Unreadable(why) => {
                io_error(self.path.display().to_string())(io::Error::other(why))
            }
        })
    }

    fn write_changed(
        &self,
        worktree: &Worktree,
        changes: BTreeMap<Vec<u8>, Option<Entry>>,
    ) -> std::result::Result<(), Fault> {
        let mut reader = self.open(false)?; // nobody else writes it while the lock is ours
        let (version, before) = reader.as_ref().map_or((2, 0), Reader::shape);
        let here = |path: &Vec<u8>| self.known.contains_key(path);
        let gone = changes
            .iter()
            .filter(|(path, new)| new.is_none() && here(path));
        let new = changes
            .iter()
            .filter(|(path, new)| new.is_some() && !here(path));
        let count = before + new.count() - gone.count();
        let extended = changes.values().flatten().any(Entry::is_extended);
        let version = if extended { version.max(3) } else { version };
        let _ = fs::remove_file(&self.work); // a crashed merge's
        let file = File::create_new(&self.work)?;
        let mut writer = Writer::new(file, version, count)?;
        let touched: Vec<Vec<u8>> = changes.keys().cloned().collect();
        let mut changes = changes.into_iter().peekable();
        if let Some(reader) = &mut reader {
            while let Some(entry) = reader.next()? {
                while let Some((_, new)) = changes.next_if(|(path, _)| *path < entry.path) {
                    writer.put(new.as_ref())?;
                }
                if let Some((_, new)) = changes.next_if(|(path, _)| *path == entry.path) {
                    writer.put(new.as_ref())?;
                } else {
                    self.mark_if_racy(entry, worktree)?;
                    writer.put(Some(entry))?;
                }
            }
        }
        for (_, new) in changes {
            writer.put(new.as_ref())?;
        }
        let kept = match reader {
            Some(reader) => reader.finish()?,
            None => Vec::new(),
        };
        writer.finish(&kept, &touched)?;
        Ok(fs::rename(&self.work, &self.path)?)
    }

    /// Marks an entry whose file changed since, in the second the old index was written.
    fn mark_if_racy(&self, entry: &mut Entry, worktree: &Worktree) -> io::Result<()> {
        let tracked = entry.tracked();
        let Some((second, _)) = self.stamp else {
            return Ok(());
        };
        if i64::from(tracked.mtime.0) < second || tracked.leaf.mode == MODE_COMMIT {
            return Ok(());
        }
        let Ok(path) = RepoPath::parse(&entry.path) else {
            return Ok(());
        };
        let stat = worktree.stat(&path)?;
        if stat.is_some_and(|stat| !same_file(&tracked, &stat)) {
            entry.forget_time();
        }
        Ok(())
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the index keeps the low 32 bits of what stat says"
)]
fn same_file(tracked: &Tracked, stat: &FileStat) -> bool {
    tracked.mtime == (stat.st_mtime as i32, stat.st_mtime_nsec as u32)
        && tracked.size == stat.st_size as u32
        && tracked.inode == stat.st_ino as u32
}
