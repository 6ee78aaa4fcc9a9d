//! Trees on disk that are served without a log: scratch, and the private git directory.
//!
//! Owns: the inodes of such a tree (by the numbers of the real ones, so hard links
//! are one inode), their names, what was unlinked but is still open, and every
//! system call on them. Invariants: each path is resolved beneath the tree's own
//! root, without following any link; a number means the same file for as long as
//! the kernel knows it; a device node is made for root alone and
//! opened by nobody (the mount is `nodev`). Never logs, never asks for claims.

mod change;
mod list;
mod missing;
mod same;
mod share;
mod xattr;

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::OnceLock;

use parking_lot::Mutex;
use rustix::fs::AtFlags;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;
use rustix::fs::Stat;

use crate::domain::path::RepoPath;
use crate::domain::zone::GitdirRule;
use crate::vfs::error::Error;
use crate::vfs::error::Result;
use crate::vfs::nodes::Realm;
use crate::vfs::overlay::Attr;
use crate::vfs::overlay::FileKind;
use crate::vfs::overlay::Gitdir;
use crate::vfs::overlay::Options;
use crate::vfs::overlay::Share;
use crate::vfs::working::OpenFiles;
use missing::Missing;
use share::Shares;

pub(crate) use change::Spot;

const NANOS: i64 = 1_000_000_000;
/// Longer chains of directories than this have no path anyway.
const DEPTH_MAX: usize = 4096;

/// Where a governed directory is: scratch may stand in one.
pub(crate) type Prefix<'a> = &'a dyn Fn(u64) -> Result<RepoPath>;

/// What to make.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Make<'a> {
    File(u32),
    Dir(u32),
    Symlink(&'a [u8]),
    /// A fifo, a socket or a device, by the bits of its mode and which device.
    Special(u32, u32),
}

#[derive(Debug, Default)]
struct RealNode {
    /// Every name the kernel was told: directory and name.
    names: Vec<(u64, Box<[u8]>)>,
    lookups: u64,
    /// Held once no name is left, so that it stays readable and its number taken.
    orphan: Option<Arc<File>>,
}

pub(crate) struct RealTree {
    realm: Realm,
    root: OwnedFd,
    root_ino: u64,
    owner: Option<(u32, u32)>,
    rule: Option<fn(&[u8]) -> GitdirRule>,
    prepare: Option<Box<dyn Fn() -> io::Result<()> + Send + Sync>>,
    prepared: OnceLock<()>,
    shares: Shares,
    missing: Missing,
    table: Mutex<HashMap<u64, RealNode>>,
    open: Mutex<OpenFiles>,
}

impl fmt::Debug for RealTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RealTree({:?})", self.realm)
    }
}

impl RealTree {
    pub(crate) fn scratch(root: OwnedFd, shares: Vec<Share>, options: &Options) -> Self {
        Self::new(Realm::Scratch, root, shares, options)
    }

    pub(crate) fn gitdir(gitdir: Gitdir, options: &Options) -> Self {
        let mut tree = Self::new(Realm::Gitdir, gitdir.dir, Vec::new(), options);
        tree.rule = Some(gitdir.rule);
        tree.prepare = Some(gitdir.prepare);
        tree
    }

    fn new(realm: Realm, root: OwnedFd, shares: Vec<Share>, options: &Options) -> Self {
        let number = rustix::fs::fstat(&root).map_or(1, |stat| stat.st_ino);
        let shares = Shares::new(shares, root.as_fd());
        Self {
            realm,
            root,
            root_ino: realm.ino(number),
            owner: (!options.real_owners).then_some((options.uid, options.gid)),
            rule: None,
            prepare: None,
            prepared: OnceLock::new(),
            shares,
            missing: Missing::default(),
            table: Mutex::new(HashMap::new()),
            open: Mutex::new(OpenFiles::default()),
        }
    }

    pub(crate) fn root_ino(&self) -> u64 {
        self.root_ino
    }

    /// Runs what has to be there before the index is looked up, once.
    pub(crate) fn prepare_once(&self) -> Result<()> {
        if let (Some(prepare), None) = (&self.prepare, self.prepared.get()) {
            prepare()?;
            let _ = self.prepared.set(()); // another thread may have been as quick
        }
        Ok(())
    }

    pub(crate) fn rule_of(&self, path: &RepoPath) -> GitdirRule {
        self.rule
            .map_or(GitdirRule::Writable, |rule| rule(path.as_bytes()))
    }

    /// Returns the path of an inode that has a name, relative to the tree's root.
    pub(crate) fn path(&self, ino: u64, prefix: Prefix<'_>) -> Result<RepoPath> {
        let mut names: Vec<Box<[u8]>> = Vec::new();
        let mut at = ino;
        {
            let table = self.table.lock();
            while at != self.root_ino && Realm::of(at) == self.realm {
                let node = table.get(&at).ok_or(Error::Stale)?;
                let (dir, name) = node.names.last().ok_or(Error::NoEntry)?;
                names.push(name.clone());
                at = *dir;
                if names.len() > DEPTH_MAX {
                    return Err(Error::NameTooLong);
                }
            }
        }
        let mut path = if at == self.root_ino {
            RepoPath::root()
        } else {
            prefix(at)?
        };
        for name in names.iter().rev() {
            path = path.join(name)?;
        }
        Ok(path)
    }

    /// Opens a path beneath the root, following nothing.
    fn open_at(&self, path: &RepoPath, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        open_beneath(self.root.as_fd(), path, flags, mode)
    }

    /// Opens the directory that holds `path`.
    fn parent(&self, path: &RepoPath) -> io::Result<OwnedFd> {
        let dir = path.parent().unwrap_or_default();
        let open = || self.open_at(&dir, OFlags::PATH | OFlags::DIRECTORY, Mode::empty());
        if self.realm == Realm::Scratch {
            self.missing.or(&dir, open)
        } else {
            open() // govfs itself makes directories there
        }
    }

    fn stat_path(&self, path: &RepoPath) -> io::Result<Stat> {
        if path.is_root() {
            return Ok(rustix::fs::fstat(&self.root)?);
        }
        let found = self.parent(path).and_then(|dir| {
            Ok(rustix::fs::statat(
                &dir,
                path.name(),
                AtFlags::SYMLINK_NOFOLLOW,
            )?)
        });
        match found {
            Err(error) if is_absent(&error) => self.shares.stat(path),
            found => found,
        }
    }

    pub(crate) fn exists(&self, path: &RepoPath) -> bool {
        self.stat_path(path).is_ok()
    }

    pub(crate) fn is_dir(&self, path: &RepoPath) -> bool {
        (self.stat_path(path)).is_ok_and(|stat| kind_of(&stat) == FileKind::Directory)
    }

    /// Finds a name; the kernel knows the inode from then on.
    pub(crate) fn lookup(&self, dir: u64, dir_path: &RepoPath, name: &[u8]) -> Result<Attr> {
        let path = dir_path.join(name)?;
        let stat = self.stat_path(&path).map_err(absent)?;
        let attr = self.attr_of(&stat, &path);
        self.know(attr.ino, dir, name);
        Ok(attr)
    }

    /// Notes that the kernel was told about an inode under a name.
    fn know(&self, ino: u64, dir: u64, name: &[u8]) {
        let mut table = self.table.lock();
        let node = table.entry(ino).or_default();
        node.lookups += 1;
        if !node
            .names
            .iter()
            .any(|(at, known)| *at == dir && **known == *name)
        {
            node.names.push((dir, name.into()));
        }
    }

    pub(crate) fn forget(&self, ino: u64, count: u64) {
        let mut table = self.table.lock();
        let Some(node) = table.get_mut(&ino) else {
            return;
        };
        node.lookups = node.lookups.saturating_sub(count);
        if node.lookups == 0 && ino != self.root_ino {
            table.remove(&ino);
            drop(table);
            self.open.lock().close(ino);
        }
    }

    fn orphan(&self, ino: u64) -> Option<Arc<File>> {
        self.table.lock().get(&ino)?.orphan.clone()
    }

    pub(crate) fn attr(&self, ino: u64, prefix: Prefix<'_>) -> Result<Attr> {
        if let Some(file) = self.orphan(ino) {
            let stat = rustix::fs::fstat(&file).map_err(io::Error::from)?;
            return Ok(self.attr_of(&stat, &RepoPath::root()));
        }
        let path = self.path(ino, prefix)?;
        let stat = self.stat_path(&path).map_err(absent)?;
        self.check_number(ino, &stat)?;
        Ok(self.attr_of(&stat, &path))
    }

    fn check_number(&self, ino: u64, stat: &Stat) -> Result<()> {
        if self.number(stat) == ino {
            Ok(())
        } else {
            Err(Error::Stale)
        }
    }

    fn number(&self, stat: &Stat) -> u64 {
        self.shares.number(self.realm, stat)
    }

    fn attr_of(&self, stat: &Stat, path: &RepoPath) -> Attr {
        let (uid, gid) = self.owner.unwrap_or((stat.st_uid, stat.st_gid));
        let mut perm = u16::try_from(stat.st_mode & 0o7777).unwrap_or(0o644);
        let provided = self.rule_of(path) == GitdirRule::Provided;
        if provided && kind_of(stat) == FileKind::Regular {
            perm &= !0o222;
        }
        let time = |seconds: i64, nanos: u64| {
            seconds
                .saturating_mul(NANOS)
                .saturating_add(i64::try_from(nanos).unwrap_or(0))
        };
        Attr {
            ino: self.number(stat),
            kind: kind_of(stat),
            perm,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            blocks: u64::try_from(stat.st_blocks).unwrap_or(0),
            nlink: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
            rdev: u32::try_from(stat.st_rdev).unwrap_or(0),
            uid,
            gid,
            mtime: time(stat.st_mtime, stat.st_mtime_nsec),
            ctime: time(stat.st_ctime, stat.st_ctime_nsec),
            atime: time(stat.st_atime, stat.st_atime_nsec),
        }
    }

    /// Returns an open file for reading, or for writing too.
    pub(crate) fn file(&self, ino: u64, prefix: Prefix<'_>, write: bool) -> Result<Arc<File>> {
        if let Some(file) = self.orphan(ino) {
            return Ok(file);
        }
        if let Some(file) = self.open.lock().get(ino) {
            return Ok(file);
        }
        let path = self.path(ino, prefix)?;
        if write {
            self.copy_up(&path, ino)?;
        }
        let file = Arc::new(File::from(self.open_best(&path, write)?));
        let stat = rustix::fs::fstat(&file).map_err(io::Error::from)?;
        self.check_number(ino, &stat)?;
        if write {
            self.open.lock().put(ino, Arc::clone(&file));
        }
        Ok(file)
    }

    /// Opens a file whatever its mode says: the kernel has checked that already.
    fn open_best(&self, path: &RepoPath, write: bool) -> Result<OwnedFd> {
        let access = if write { OFlags::RDWR } else { OFlags::RDONLY };
        let flags = access | OFlags::NONBLOCK | OFlags::NOFOLLOW;
        match self.open_at(path, flags, Mode::empty()) {
            Err(error) if error.raw_os_error() == Some(libc::EACCES) => {
                let dir = self.parent(path)?;
                let stat = rustix::fs::statat(&dir, path.name(), AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(io::Error::from)?;
                let mode = Mode::from_raw_mode(stat.st_mode);
                let wider = mode | Mode::RUSR | Mode::WUSR;
                rustix::fs::chmodat(&dir, path.name(), wider, AtFlags::empty())
                    .map_err(io::Error::from)?;
                let opened = self.open_at(path, flags, Mode::empty());
                rustix::fs::chmodat(&dir, path.name(), mode, AtFlags::empty())
                    .map_err(io::Error::from)?;
                Ok(opened?)
            }
            Err(error) if is_absent(&error) && !write => {
                Ok(self.shares.open(path, flags).map_err(absent)?)
            }
            opened => Ok(opened.map_err(absent)?),
        }
    }

    pub(crate) fn readlink(&self, path: &RepoPath) -> Result<Vec<u8>> {
        let read = |dir: &OwnedFd, name: &[u8]| -> io::Result<Vec<u8>> {
            Ok(rustix::fs::readlinkat(dir, name, Vec::new())?.into_bytes())
        };
        let found = self.parent(path).and_then(|dir| read(&dir, path.name()));
        match found {
            Err(error) if is_absent(&error) => Ok(self.shares.readlink(path).map_err(absent)?),
            found => Ok(found?),
        }
    }
}

fn open_beneath(
    root: BorrowedFd<'_>,
    path: &RepoPath,
    flags: OFlags,
    mode: Mode,
) -> io::Result<OwnedFd> {
    let bytes: &[u8] = if path.is_root() {
        b"."
    } else {
        path.as_bytes()
    };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(root, bytes, flags | OFlags::CLOEXEC, mode, resolve) {
            // A rename elsewhere in the tree came between; ask again.
            Err(rustix::io::Errno::AGAIN) => {}
            opened => return Ok(opened?),
        }
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR))
}

fn absent(error: io::Error) -> Error {
    if is_absent(&error) {
        Error::NoEntry
    } else {
        Error::Io(error)
    }
}

fn kind_of(stat: &Stat) -> FileKind {
    kind_of_type(FileType::from_raw_mode(stat.st_mode))
}

fn kind_of_type(kind: FileType) -> FileKind {
    match kind {
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        FileType::Fifo => FileKind::Fifo,
        FileType::Socket => FileKind::Socket,
        FileType::CharacterDevice => FileKind::Char,
        FileType::BlockDevice => FileKind::Block,
        _ => FileKind::Regular,
    }
}
