//! Files of the operator's checkout, one path at a time.
//!
//! Owns: every system call on a checkout. A path is resolved beneath the
//! checkout's root descriptor without following a symbolic link, so that a link
//! planted in a tracked directory leads nowhere. New content appears by rename,
//! whole or not at all.
//!
//! Never runs a filter: what a file looks like in a checkout is the caller's
//! [`Conversion`].

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat, renameat};
use nix::sys::stat::{FileStat, Mode, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, symlinkat, unlinkat};

use crate::domain::path::RepoPath;

/// What stands between a blob and a file of the checkout (eol, encoding, …).
pub trait Conversion {
    /// Returns what `git checkout` would write for `blob`.
    fn to_worktree(&self, path: &RepoPath, blob: &[u8]) -> io::Result<Vec<u8>>;
    /// Returns what `git add` would store for `file`; `blob` is what is stored now.
    fn to_git(&self, path: &RepoPath, file: &[u8], blob: &[u8]) -> io::Result<Vec<u8>>;
}

/// No conversion: files are blobs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl Conversion for Plain {
    fn to_worktree(&self, _: &RepoPath, blob: &[u8]) -> io::Result<Vec<u8>> {
        Ok(blob.to_vec())
    }

    fn to_git(&self, _: &RepoPath, file: &[u8], _: &[u8]) -> io::Result<Vec<u8>> {
        Ok(file.to_vec())
    }
}

/// What a new file is to be.
pub(super) enum Content<'a> {
    File { bytes: &'a [u8], exec: bool },
    Link { target: &'a [u8] },
}

/// The root of a checkout.
pub(super) struct Worktree {
    root: OwnedFd,
}

const TEMPORARY: &str = ".govfs-checkout.tmp";

impl Worktree {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let root = File::open(path)?.into();
        Ok(Self { root })
    }

    /// Opens a directory beneath the root, following no link.
    fn directory(&self, dir: &RepoPath) -> nix::Result<OwnedFd> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_RDONLY;
        if dir.is_root() {
            return openat(&self.root, ".", flags, Mode::empty());
        }
        let how = OpenHow::new()
            .flags(flags | OFlag::O_NOFOLLOW)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
        openat2(&self.root, dir.as_bytes(), how)
    }

    fn parent(&self, path: &RepoPath) -> nix::Result<OwnedFd> {
        self.directory(&path.parent().unwrap_or_default())
    }

    /// Returns what stands at `path`; a path through a file or a link has nothing.
    pub(super) fn stat(&self, path: &RepoPath) -> io::Result<Option<FileStat>> {
        let stat = self
            .parent(path)
            .and_then(|dir| fstatat(dir, path.name(), AtFlags::AT_SYMLINK_NOFOLLOW));
        match stat {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the bytes of a file, or the target of a link.
    pub(super) fn read(&self, path: &RepoPath, stat: &FileStat) -> io::Result<Vec<u8>> {
        let dir = self.parent(path)?;
        if is(stat, libc::S_IFLNK) {
            return Ok(readlinkat(dir, path.name())?.into_vec());
        }
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let mut file = File::from(openat(dir, path.name(), flags, Mode::empty())?);
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Lists a directory; nothing where there is none.
    pub(super) fn list(&self, dir: &RepoPath) -> io::Result<Vec<RepoPath>> {
        let fd = match self.directory(dir) {
            Ok(fd) => fd,
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let mut out = Vec::new();
        for entry in Dir::from_fd(fd)?.iter() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                out.push(dir.join(name).map_err(io::Error::other)?);
            }
        }
        Ok(out)
    }

    /// Puts `content` at `path` by rename, and returns its status.
    pub(super) fn put(&self, path: &RepoPath, content: &Content<'_>) -> io::Result<FileStat> {
        for dir in path.ancestors() {
            self.make_dir(&dir)?;
        }
        self.remove_empty_dirs(path)?;
        let dir = self.parent(path)?;
        match unlinkat(&dir, TEMPORARY, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let placed =
            make(&dir, content).and_then(|()| Ok(renameat(&dir, TEMPORARY, &dir, path.name())?));
        if let Err(error) = placed {
            // Half a file is nobody's: the operator would find it beside their own.
            let _ = unlinkat(&dir, TEMPORARY, UnlinkatFlags::NoRemoveDir);
            return Err(error);
        }
        Ok(fstatat(&dir, path.name(), AtFlags::AT_SYMLINK_NOFOLLOW)?)
    }

    /// Makes one directory, in place of nothing else.
    pub(super) fn make_dir(&self, dir: &RepoPath) -> io::Result<()> {
        let parent = self.parent(dir)?;
        match mkdirat(&parent, dir.name(), Mode::from_bits_truncate(0o777)) {
            Ok(()) => Ok(()),
            Err(Errno::EEXIST) => Ok(self.directory(dir).map(drop)?),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a file or link, and the directories that this leaves empty.
    pub(super) fn remove(&self, path: &RepoPath) -> io::Result<()> {
        let dir = match self.parent(path) {
            Ok(dir) => dir,
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        match unlinkat(&dir, path.name(), UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT | Errno::EISDIR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut above: Vec<_> = path.ancestors().collect();
        while let Some(dir) = above.pop() {
            if !self.remove_dir(&dir)? {
                break;
            }
        }
        Ok(())
    }

    /// Removes an empty directory; says whether it is gone.
    fn remove_dir(&self, dir: &RepoPath) -> io::Result<bool> {
        let parent = match self.parent(dir) {
            Ok(parent) => parent,
            Err(Errno::ENOENT) => return Ok(true),
            Err(error) => return Err(error.into()),
        };
        match unlinkat(&parent, dir.name(), UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(true),
            Err(_) => Ok(false),
        }
    }

    /// Removes the empty directories that stand where a file is to be.
    fn remove_empty_dirs(&self, path: &RepoPath) -> io::Result<()> {
        let dir = self
            .stat(path)?
            .is_some_and(|stat| is(&stat, libc::S_IFDIR));
        if !dir {
            return Ok(());
        }
        for child in self.list(path)? {
            self.remove_empty_dirs(&child)?;
        }
        self.remove_dir(path).map(drop)
    }
}

/// Makes `content` aside, in `dir`.
fn make(dir: &OwnedFd, content: &Content<'_>) -> io::Result<()> {
    match content {
        Content::File { bytes, exec } => {
            let mode = if *exec { 0o777 } else { 0o666 };
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
            let fd = openat(dir, TEMPORARY, flags, Mode::from_bits_truncate(mode))?;
            File::from(fd).write_all(bytes)
        }
        Content::Link { target } => Ok(symlinkat(OsStr::from_bytes(target), dir, TEMPORARY)?),
    }
}

pub(super) fn is(stat: &FileStat, kind: libc::mode_t) -> bool {
    stat.st_mode & libc::S_IFMT == kind
}
