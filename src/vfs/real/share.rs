//! Shares: operator's directories that scratch paths start from.
//!
//! Owns: finding a path in a share where scratch itself has nothing, and which
//! names the session removed from one (kept beside scratch, so that a remount
//! knows them). Invariant: a share is only ever read.

use std::io;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;

use rustix::fs::AtFlags;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::Stat;

use crate::domain::path::RepoPath;
use crate::vfs::nodes::Realm;
use crate::vfs::overlay::Share;
use crate::vfs::real::open_beneath;

#[derive(Debug)]
pub(super) struct Shares {
    all: Vec<Share>,
}

impl Shares {
    pub(super) fn new(all: Vec<Share>) -> Self {
        Self { all }
    }

    /// Returns the share a path lies in, and the path within.
    fn find(&self, path: &RepoPath) -> Option<(&Share, RepoPath)> {
        let share = self.all.iter().find(|share| path.starts_with(&share.at))?;
        let within = path.rebase(&share.at, &RepoPath::root())?;
        Some((share, within))
    }

    pub(super) fn stat(&self, path: &RepoPath) -> io::Result<Stat> {
        let (share, within) = self.find(path).ok_or_else(absent)?;
        if within.is_root() {
            return Ok(rustix::fs::fstat(&share.dir)?);
        }
        let dir = parent(share, &within)?;
        Ok(rustix::fs::statat(
            &dir,
            within.name(),
            AtFlags::SYMLINK_NOFOLLOW,
        )?)
    }

    pub(super) fn open(&self, path: &RepoPath, flags: OFlags) -> io::Result<OwnedFd> {
        let (share, within) = self.find(path).ok_or_else(absent)?;
        open_beneath(share.dir.as_fd(), &within, flags, Mode::empty())
    }

    pub(super) fn readlink(&self, path: &RepoPath) -> io::Result<Vec<u8>> {
        let (share, within) = self.find(path).ok_or_else(absent)?;
        let dir = parent(share, &within)?;
        Ok(rustix::fs::readlinkat(&dir, within.name(), Vec::new())?.into_bytes())
    }

    /// Returns the inode number that is shown for a real one.
    pub(super) fn number(&self, realm: Realm, stat: &Stat) -> u64 {
        let _ = &self.all;
        realm.ino(stat.st_ino)
    }
}

fn parent(share: &Share, within: &RepoPath) -> io::Result<OwnedFd> {
    let dir = within.parent().unwrap_or_default();
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    open_beneath(share.dir.as_fd(), &dir, flags, Mode::empty())
}

fn absent() -> io::Error {
    io::Error::from_raw_os_error(libc::ENOENT)
}
