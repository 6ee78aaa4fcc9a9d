//! The index of one checkout, locked from the first look to the last write.
//!
//! Owns: `index.lock` (git's own protocol, so the operator's git waits or
//! refuses), reading entries, and writing the changed ones. A lock that a crash
//! left behind is recognised by its content and broken: the caller holds the
//! repository's merge lock, so its maker is gone.
//!
//! Entries whose file may have changed within the old index's own second are
//! marked for git to look at again, as git itself does.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use git2::{Index, IndexEntry, IndexTime};
use nix::sys::stat::FileStat;

use super::worktree::Worktree;
use super::{Leaf, PromoteError, Result, from_git, io_error, to_git};
use crate::domain::path::RepoPath;

/// What our lock file says.
const MARK: &[u8] = b"govfs\n";
const SKIP_WORKTREE: u16 = 1 << 14;
const INTENT_TO_ADD: u16 = 1 << 13;
const EXTENDED: u16 = 1 << 14;

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
    index: Index,
    path: PathBuf,
    work: PathBuf,
    lock: PathBuf,
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

impl Locked {
    /// Locks and reads the index in `git_dir`; a lock that a crashed merge left is taken over.
    pub(super) fn take(git_dir: &Path) -> std::result::Result<Self, NoIndex> {
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
            index: Index::new().map_err(|error| NoIndex::Failed(error.into()))?,
            path,
            work,
            lock,
            stamp: None,
        };
        held.read()?;
        Ok(held)
    }

    /// Reads through a second name of the same file, so that writing replaces only that name.
    fn read(&mut self) -> std::result::Result<(), NoIndex> {
        let failed = |error| NoIndex::Failed(io_error("index")(error));
        let _ = fs::remove_file(&self.work);
        match fs::metadata(&self.path) {
            Ok(old) => {
                self.stamp = Some((old.mtime(), old.mtime_nsec()));
                if fs::hard_link(&self.path, &self.work).is_err() {
                    fs::copy(&self.path, &self.work).map_err(failed)?;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        self.index = Index::open(&self.work)
            .map_err(|error| NoIndex::Unreadable(error.message().to_owned()))?;
        Ok(())
    }

    pub(super) fn get(&self, path: &RepoPath) -> Option<Tracked> {
        let entry = self.index.get_path(as_path(path), 0)?;
        Some(Tracked {
            leaf: Leaf {
                mode: entry.mode,
                oid: from_git(entry.id),
            },
            skipped: entry.flags_extended & SKIP_WORKTREE != 0,
            intended: entry.flags_extended & INTENT_TO_ADD != 0,
            mtime: (entry.mtime.seconds(), entry.mtime.nanoseconds()),
            size: entry.file_size,
            inode: entry.ino,
        })
    }

    /// Says whether `path` has unmerged stages.
    pub(super) fn unmerged(&self, path: &RepoPath) -> bool {
        (1..=3).any(|stage| self.index.get_path(as_path(path), stage).is_some())
    }

    /// Returns the first tracked path beneath a directory, and whether it is outside a sparse checkout.
    pub(super) fn first_beneath(&self, dir: &RepoPath) -> Option<(Vec<u8>, bool)> {
        let mut prefix = dir.as_bytes().to_vec();
        prefix.push(b'/');
        let at = self.index.find_prefix(prefix.as_slice()).ok()?;
        let entry = self.index.get(at)?;
        let skipped = entry.flags_extended & SKIP_WORKTREE != 0;
        Some((entry.path, skipped))
    }

    /// Says whether entry `tracked` certainly describes the file with status
    /// `stat`, so that its content need not be read.
    pub(super) fn trusts(&self, tracked: &Tracked, stat: &FileStat) -> bool {
        let settled = self
            .stamp
            .is_some_and(|stamp| (i64::from(tracked.mtime.0), i64::from(tracked.mtime.1)) < stamp);
        settled && tracked.mtime.0 != 0 && same_file(tracked, stat)
    }

    pub(super) fn remove(&mut self, path: &RepoPath) -> Result<()> {
        match self.index.remove(as_path(path), 0) {
            Ok(()) => Ok(()),
            Err(error) if error.code() == git2::ErrorCode::NotFound => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Enters a path; without a status the file is outside a sparse checkout.
    pub(super) fn put(
        &mut self,
        path: &RepoPath,
        leaf: Leaf,
        stat: Option<&FileStat>,
        skipped: bool,
    ) -> Result<()> {
        let mut entry = stat.map_or_else(blank, described);
        entry.mode = leaf.mode;
        entry.id = to_git(leaf.oid);
        entry.path = path.as_bytes().to_vec();
        if skipped {
            entry.flags |= EXTENDED;
            entry.flags_extended |= SKIP_WORKTREE;
        }
        Ok(self.index.add(&entry)?)
    }

    /// Writes the index in place of the old one, and unlocks.
    pub(super) fn write(mut self, worktree: &Worktree) -> Result<()> {
        self.mark_racy(worktree)?;
        self.index.write()?;
        let failed = io_error(self.path.display().to_string());
        fs::rename(&self.work, &self.path).map_err(failed)
    }

    /// Marks entries whose file changed since, in the second the old index was written.
    fn mark_racy(&mut self, worktree: &Worktree) -> Result<()> {
        let Some((second, _)) = self.stamp else {
            return Ok(());
        };
        let racy: Vec<IndexEntry> = self
            .index
            .iter()
            .filter(|entry| i64::from(entry.mtime.seconds()) >= second && entry.mode != 0o160_000)
            .collect();
        for mut entry in racy {
            let Ok(path) = RepoPath::parse(&entry.path) else {
                continue;
            };
            let Some(tracked) = self.get(&path) else {
                continue;
            };
            let stat = worktree.stat(&path).map_err(io_error(path.to_string()))?;
            if stat.is_some_and(|stat| !same_file(&tracked, &stat)) {
                entry.mtime = IndexTime::new(0, 0);
                self.index.add(&entry)?;
            }
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

fn as_path(path: &RepoPath) -> &Path {
    Path::new(OsStr::from_bytes(path.as_bytes()))
}

fn blank() -> IndexEntry {
    IndexEntry {
        ctime: IndexTime::new(0, 0),
        mtime: IndexTime::new(0, 0),
        dev: 0,
        ino: 0,
        mode: 0,
        uid: 0,
        gid: 0,
        file_size: 0,
        id: git2::Oid::ZERO_SHA1,
        flags: 0,
        flags_extended: 0,
        path: Vec::new(),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the index keeps the low 32 bits of what stat says"
)]
fn described(stat: &FileStat) -> IndexEntry {
    IndexEntry {
        ctime: IndexTime::new(stat.st_ctime as i32, stat.st_ctime_nsec as u32),
        mtime: IndexTime::new(stat.st_mtime as i32, stat.st_mtime_nsec as u32),
        dev: stat.st_dev as u32,
        ino: stat.st_ino as u32,
        uid: stat.st_uid,
        gid: stat.st_gid,
        file_size: stat.st_size as u32,
        ..blank()
    }
}
