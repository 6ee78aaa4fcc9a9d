//! Shares: operator's directories that scratch paths start from, copied on write.
//!
//! Owns: finding a path in a share where scratch itself has nothing, which names
//! the session removed from one (a list in scratch, where no agent's path leads),
//! and copying up before a change. Invariants: a share is only ever read; what
//! was removed stays removed after a remount; a copied file keeps the inode
//! number by which the kernel knows it.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use parking_lot::Mutex;
use rustix::fs::AtFlags;
use rustix::fs::Dir;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::Stat;
use rustix::fs::Timespec;
use rustix::fs::Timestamps;

use crate::domain::path::RepoPath;
use crate::vfs::error::Error;
use crate::vfs::error::Result;
use crate::vfs::nodes::Realm;
use crate::vfs::nodes::hash_name;
use crate::vfs::overlay::FileKind;
use crate::vfs::overlay::Share;
use crate::vfs::real::RealTree;
use crate::vfs::real::absent;
use crate::vfs::real::is_absent;
use crate::vfs::real::kind_of;
use crate::vfs::real::open_beneath;
use crate::vfs::working::copy_all;

/// The list of removed paths, one percent-encoded path a line. The root's
/// `.govfs` is the control zone's, so no path of the agent's leads here.
const PRIVATE: &str = ".govfs";
const REMOVED: &str = "removed";

#[derive(Debug)]
pub(super) struct Shares {
    all: Vec<Share>,
    root_dev: u64,
    removed: Mutex<BTreeSet<RepoPath>>,
    /// Real (device, inode) of a copy to the number that the original was shown by.
    copies: Mutex<HashMap<(u64, u64), u64>>,
}

impl Shares {
    pub(super) fn new(all: Vec<Share>, root: BorrowedFd<'_>) -> Self {
        let removed = if all.is_empty() {
            BTreeSet::new()
        } else {
            read_removed(root).unwrap_or_default()
        };
        Self {
            all,
            root_dev: rustix::fs::fstat(root).map_or(0, |stat| stat.st_dev),
            removed: Mutex::new(removed),
            copies: Mutex::default(),
        }
    }

    /// Returns the share a path lies in, and the path within, unless it was removed.
    fn find(&self, path: &RepoPath) -> io::Result<(&Share, RepoPath)> {
        let share = self.all.iter().find(|share| path.starts_with(&share.at));
        let share = share.ok_or_else(nothing)?;
        let removed = self.removed.lock();
        if removed.contains(path) || path.ancestors().any(|up| removed.contains(&up)) {
            return Err(nothing());
        }
        let within = path.rebase(&share.at, &RepoPath::root());
        Ok((share, within.ok_or_else(nothing)?))
    }

    pub(super) fn covers(&self, path: &RepoPath) -> bool {
        self.all.iter().any(|share| path.starts_with(&share.at))
    }

    /// Returns the names of shares that stand directly in a directory.
    pub(super) fn names_in(&self, dir: &RepoPath) -> impl Iterator<Item = Vec<u8>> {
        let here = self.all.iter();
        here.filter(|share| share.at.parent().as_ref() == Some(dir))
            .map(|share| share.at.name().to_vec())
    }

    pub(super) fn stat(&self, path: &RepoPath) -> io::Result<Stat> {
        let (share, within) = self.find(path)?;
        if within.is_root() {
            return Ok(rustix::fs::fstat(&share.dir)?);
        }
        let dir = parent(share, &within)?;
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        Ok(rustix::fs::statat(&dir, within.name(), flags)?)
    }

    pub(super) fn open(&self, path: &RepoPath, flags: OFlags) -> io::Result<OwnedFd> {
        let (share, within) = self.find(path)?;
        open_beneath(share.dir.as_fd(), &within, flags, Mode::empty())
    }

    pub(super) fn readlink(&self, path: &RepoPath) -> io::Result<Vec<u8>> {
        let (share, within) = self.find(path)?;
        let dir = parent(share, &within)?;
        Ok(rustix::fs::readlinkat(&dir, within.name(), Vec::new())?.into_bytes())
    }

    /// Returns what a share has in a directory.
    pub(super) fn list(&self, path: &RepoPath) -> io::Result<Vec<Vec<u8>>> {
        let fd = self.open(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut names = Vec::new();
        for entry in Dir::new(fd)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            let shown = path.join(name).is_ok_and(|below| self.find(&below).is_ok());
            if shown && !matches!(name, b"." | b"..") {
                names.push(name.to_vec());
            }
        }
        Ok(names)
    }

    /// Returns the inode number that is shown for a real one.
    pub(super) fn number(&self, realm: Realm, stat: &Stat) -> u64 {
        if self.all.is_empty() {
            return realm.ino(stat.st_ino);
        }
        if let Some(shown) = self.copies.lock().get(&(stat.st_dev, stat.st_ino)) {
            return *shown;
        }
        if stat.st_dev == self.root_dev {
            realm.ino(stat.st_ino)
        } else {
            realm.ino(hash_name(stat.st_dev, &stat.st_ino.to_le_bytes()))
        }
    }

    fn remember_copy(&self, copy: &Stat, shown: u64) {
        let key = (copy.st_dev, copy.st_ino);
        self.copies.lock().insert(key, shown);
    }
}

impl RealTree {
    /// Copies what a share has at `path` into scratch, before it is changed.
    pub(super) fn copy_up(&self, path: &RepoPath, ino: u64) -> Result<()> {
        if !self.shares.covers(path) || self.has_own(path) {
            return Ok(());
        }
        let stat = match self.shares.stat(path) {
            Ok(stat) => stat,
            Err(error) if is_absent(&error) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        self.copy_one(path, &stat)?;
        let dir = self.parent(path)?;
        let copy = rustix::fs::statat(&dir, path.name(), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(io::Error::from)?;
        self.shares.remember_copy(&copy, ino);
        Ok(())
    }

    /// Says whether scratch itself, and not only a share, has the path.
    fn has_own(&self, path: &RepoPath) -> bool {
        self.parent(path).is_ok_and(|dir| {
            rustix::fs::statat(&dir, path.name(), AtFlags::SYMLINK_NOFOLLOW).is_ok()
        })
    }

    fn copy_one(&self, path: &RepoPath, stat: &Stat) -> Result<()> {
        let parent = self.parent_made(path)?;
        let name = path.name();
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        match kind_of(stat) {
            FileKind::Directory => {
                rustix::fs::mkdirat(&parent, name, mode).map_err(io::Error::from)?;
                self.missing.forget();
            }
            FileKind::Symlink => {
                let target = self.shares.readlink(path)?;
                rustix::fs::symlinkat(target.as_slice(), &parent, name).map_err(io::Error::from)?;
            }
            FileKind::Regular => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW;
                let source = File::from(self.shares.open(path, flags)?);
                let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let first = Mode::RUSR | Mode::WUSR;
                let fd =
                    rustix::fs::openat(&parent, name, flags, first).map_err(io::Error::from)?;
                let mut target = File::from(fd);
                if let Err(error) = copy_all(&source, &mut target) {
                    let _ = rustix::fs::unlinkat(&parent, name, AtFlags::empty()); // half a copy helps nobody
                    return Err(error.into());
                }
                rustix::fs::fchmod(&target, mode).map_err(io::Error::from)?;
            }
            _ => return Err(Error::NotPermitted),
        }
        let spec = |tv_sec, nanos: u64| Timespec {
            tv_sec,
            tv_nsec: i64::try_from(nanos).unwrap_or(0),
        };
        let times = Timestamps {
            last_access: spec(stat.st_atime, stat.st_atime_nsec),
            last_modification: spec(stat.st_mtime, stat.st_mtime_nsec),
        };
        rustix::fs::utimensat(&parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(io::Error::from)?;
        Ok(())
    }

    /// Returns the mode for a directory that is made on the way to a copy.
    pub(super) fn way_mode(&self, dir: &RepoPath) -> Option<Mode> {
        let stat = self.shares.stat(dir).ok()?;
        Some(Mode::from_raw_mode(stat.st_mode & 0o7777))
    }

    /// Says whether a share still shows something at `path`.
    pub(super) fn shows_through(&self, path: &RepoPath) -> bool {
        self.shares.covers(path) && self.shares.stat(path).is_ok()
    }

    /// Hides what a share has at `path`, for this session and for ever.
    pub(super) fn hide(&self, path: &RepoPath) -> Result<()> {
        if !self.shows_through(path) {
            return Ok(());
        }
        match rustix::fs::mkdirat(&self.root, PRIVATE, Mode::RWXU) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(io::Error::from(error).into()),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND;
        let mut list = File::from(open_private(self.root.as_fd(), flags)?);
        list.write_all(format!("{}\n", path.encode()).as_bytes())?;
        self.shares.removed.lock().insert(path.clone());
        Ok(())
    }

    /// Says whether a directory has nothing in scratch and nothing in a share.
    pub(super) fn is_empty_merged(&self, path: &RepoPath) -> Result<bool> {
        let theirs = match self.shares.list(path) {
            Ok(names) => names.is_empty(),
            Err(error) if is_absent(&error) => true,
            Err(error) => return Err(error.into()),
        };
        Ok(theirs && self.is_empty(path)?)
    }

    /// Removes a name that a share has, or had, and scratch perhaps too.
    pub(super) fn remove_shared(&self, path: &RepoPath, is_dir: bool) -> Result<()> {
        if is_dir && !self.is_empty_merged(path)? {
            return Err(Error::NotEmpty);
        }
        if self.has_own(path) {
            let parent = self.parent(path).map_err(absent)?;
            let flags = if is_dir {
                AtFlags::REMOVEDIR
            } else {
                AtFlags::empty()
            };
            rustix::fs::unlinkat(&parent, path.name(), flags).map_err(io::Error::from)?;
        }
        self.hide(path)
    }

    /// Prepares one end of a rename in a share: a file is copied up; a directory
    /// that a share still has a part in must be copied by whoever moves it.
    pub(super) fn ready_to_move(&self, path: &RepoPath) -> Result<()> {
        if !self.shows_through(path) {
            return Ok(());
        }
        let stat = self.stat_path(path).map_err(absent)?;
        if kind_of(&stat) == FileKind::Directory {
            return Err(Error::CrossZone);
        }
        self.copy_up(path, self.number(&stat))
    }
}

fn read_removed(root: BorrowedFd<'_>) -> io::Result<BTreeSet<RepoPath>> {
    let mut text = String::new();
    File::from(open_private(root, OFlags::RDONLY)?).read_to_string(&mut text)?;
    Ok(text
        .lines()
        .filter_map(|line| RepoPath::decode(line).ok())
        .collect())
}

fn open_private(root: BorrowedFd<'_>, flags: OFlags) -> io::Result<OwnedFd> {
    let path = format!("{PRIVATE}/{REMOVED}");
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(rustix::fs::openat(
        root,
        path,
        flags,
        Mode::RUSR | Mode::WUSR,
    )?)
}

fn parent(share: &Share, within: &RepoPath) -> io::Result<OwnedFd> {
    let dir = within.parent().unwrap_or_default();
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    open_beneath(share.dir.as_fd(), &dir, flags, Mode::empty())
}

fn nothing() -> io::Error {
    io::Error::from_raw_os_error(libc::ENOENT)
}
