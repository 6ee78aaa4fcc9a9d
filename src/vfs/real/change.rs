//! Changes of trees on disk: making, removing, linking, renaming, attributes.
//!
//! Owns: the system calls and the table's names that follow them. Invariants: the
//! parent is opened beneath the root first, then one `*at` call acts on one name;
//! what the kernel still knows is held open before its last name goes.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use rustix::fs::AtFlags;
use rustix::fs::FileType;
use rustix::fs::Gid;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::RenameFlags;
use rustix::fs::Stat;
use rustix::fs::Timespec;
use rustix::fs::Timestamps;
use rustix::fs::Uid;

use crate::domain::path::RepoPath;
use crate::vfs::error::Error;
use crate::vfs::error::Result;
use crate::vfs::overlay::Attr;
use crate::vfs::overlay::Caller;
use crate::vfs::overlay::FileKind;
use crate::vfs::overlay::SetAttr;
use crate::vfs::real::Make;
use crate::vfs::real::NANOS;
use crate::vfs::real::Prefix;
use crate::vfs::real::RealTree;
use crate::vfs::real::absent;
use crate::vfs::real::kind_of;

const SHADOW_MODE: u32 = 0o755;
const SET_ID: u32 = 0o6000;

/// One end of a rename on disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spot<'a> {
    pub(crate) dir: u64,
    pub(crate) path: &'a RepoPath,
}

impl RealTree {
    /// Makes the directories on disk that lead to `path`, in whose place governed ones are shown.
    fn make_way(&self, path: &RepoPath) -> io::Result<()> {
        for dir in path.ancestors() {
            let parent = self.parent(&dir)?;
            let mode = self.way_mode(&dir);
            let mode = mode.unwrap_or(Mode::from_raw_mode(SHADOW_MODE));
            match rustix::fs::mkdirat(&parent, dir.name(), mode) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => self.missing.forget(),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    pub(super) fn parent_made(&self, path: &RepoPath) -> Result<OwnedFd> {
        match self.parent(path) {
            Ok(dir) => Ok(dir),
            Err(error) if super::is_absent(&error) => {
                self.make_way(path)?;
                Ok(self.parent(path)?)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Makes something at `path`, in the directory that the kernel knows as `dir`.
    pub(crate) fn make(
        &self,
        dir: u64,
        path: &RepoPath,
        make: Make<'_>,
        caller: Caller,
    ) -> Result<Attr> {
        if self.shows_through(path) {
            return Err(Error::Exists);
        }
        let parent = self.parent_made(path)?;
        let name = path.name();
        let mode = |bits: u32| Mode::from_raw_mode(bits & 0o7777);
        let mut opened = None;
        match make {
            Make::File(bits) => {
                let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
                let first = mode(bits) | Mode::RUSR | Mode::WUSR;
                let fd = rustix::fs::openat(&parent, name, flags | OFlags::CLOEXEC, first)
                    .map_err(io::Error::from)?;
                opened = Some(File::from(fd));
            }
            Make::Dir(bits) => {
                rustix::fs::mkdirat(&parent, name, mode(bits)).map_err(io::Error::from)?;
                self.missing.forget();
            }
            Make::Symlink(target) => {
                let target = std::ffi::OsStr::from_bytes(target);
                rustix::fs::symlinkat(target, &parent, name).map_err(io::Error::from)?;
            }
            Make::Special(bits, device) => {
                let (kind, device) = (FileType::from_raw_mode(bits), u64::from(device));
                rustix::fs::mknodat(&parent, name, kind, mode(bits), device)
                    .map_err(io::Error::from)?;
            }
        }
        self.own(&parent, name, caller)?;
        if let Make::File(bits) | Make::Dir(bits) | Make::Special(bits, _) = make {
            // Exactly what was asked for: the caller's umask was applied already.
            rustix::fs::chmodat(&parent, name, mode(bits), AtFlags::empty())
                .map_err(io::Error::from)?;
        }
        let stat = stat_in(&parent, name)?;
        let attr = self.attr_of(&stat, path);
        if let Some(file) = opened {
            self.open.lock().put(attr.ino, Arc::new(file));
        }
        self.know(attr.ino, dir, name);
        Ok(attr)
    }

    /// Gives a new file to whoever made it, where true owners are kept.
    fn own(&self, parent: &OwnedFd, name: &[u8], caller: Caller) -> Result<()> {
        if self.owner.is_some() {
            return Ok(());
        }
        let (uid, gid) = (Uid::from_raw(caller.uid), Gid::from_raw(caller.gid));
        let dir = rustix::fs::fstat(parent).map_err(io::Error::from)?;
        let gid = if dir.st_mode & 0o2000 != 0 {
            Gid::from_raw(dir.st_gid)
        } else {
            gid
        };
        rustix::fs::chownat(
            parent,
            name,
            Some(uid),
            Some(gid),
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .map_err(io::Error::from)?;
        Ok(())
    }

    /// Removes a name.
    pub(crate) fn remove(
        &self,
        dir: u64,
        dir_path: &RepoPath,
        name: &[u8],
        is_dir: bool,
    ) -> Result<()> {
        let path = dir_path.join(name)?;
        let stat = self.stat_path(&path).map_err(absent)?;
        let flags = match (kind_of(&stat) == FileKind::Directory, is_dir) {
            (true, false) => return Err(Error::IsDir),
            (false, true) => return Err(Error::NotDir),
            (true, true) => AtFlags::REMOVEDIR,
            (false, false) => AtFlags::empty(),
        };
        if self.shows_through(&path) {
            let number = self.number(&stat);
            let held = self.open_best(&path, false).ok().map(File::from);
            self.remove_shared(&path, is_dir)?;
            self.lose_name(number, dir, name, held);
            return Ok(());
        }
        let parent = self.parent(&path).map_err(absent)?;
        let held = self.hold(&parent, name, &stat);
        rustix::fs::unlinkat(&parent, name, flags).map_err(io::Error::from)?;
        self.lose_name(self.number(&stat), dir, name, held);
        Ok(())
    }

    /// Opens what is about to lose a name, if the kernel knows it.
    fn hold(&self, parent: &OwnedFd, name: &[u8], stat: &Stat) -> Option<File> {
        let ino = self.number(stat);
        if !self.table.lock().contains_key(&ino) {
            return None;
        }
        let best = match kind_of(stat) {
            FileKind::Regular => [OFlags::RDWR, OFlags::RDONLY, OFlags::PATH],
            _ => [OFlags::PATH; 3],
        };
        best.into_iter().find_map(|access| {
            let flags = access | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
            let fd = rustix::fs::openat(parent, name, flags, Mode::empty());
            fd.ok().map(File::from)
        })
    }

    fn lose_name(&self, ino: u64, dir: u64, name: &[u8], held: Option<File>) {
        let mut table = self.table.lock();
        let Some(node) = table.get_mut(&ino) else {
            return;
        };
        node.names
            .retain(|(at, known)| !(*at == dir && **known == *name));
        if node.names.is_empty() {
            node.orphan = self.open.lock().take(ino).or(held.map(Arc::new));
        }
    }

    pub(crate) fn link(
        &self,
        ino: u64,
        old: &RepoPath,
        dir: u64,
        path: &RepoPath,
        name: &[u8],
    ) -> Result<Attr> {
        self.copy_up(old, ino)?;
        let from = self.parent(old).map_err(absent)?;
        let to = self.parent_made(path)?;
        rustix::fs::linkat(&from, old.name(), &to, name, AtFlags::empty())
            .map_err(io::Error::from)?;
        let stat = stat_in(&to, name)?;
        self.check_number(ino, &stat)?;
        self.know(ino, dir, name);
        Ok(self.attr_of(&stat, path))
    }

    pub(crate) fn rename(&self, from: Spot<'_>, to: Spot<'_>, flags: RenameFlags) -> Result<()> {
        let (from_name, to_name) = (from.path.name(), to.path.name());
        self.ready_to_move(from.path)?;
        self.ready_to_move(to.path)?;
        let old = self.parent(from.path).map_err(absent)?;
        let new = self.parent_made(to.path)?;
        let stat = stat_in(&old, from_name)?;
        let replaced = match stat_in(&new, to_name) {
            Ok(stat) => Some(stat),
            Err(Error::NoEntry) => None,
            Err(error) => return Err(error),
        };
        let exchange = flags.contains(RenameFlags::EXCHANGE);
        let held = match &replaced {
            Some(target) if !exchange => self.hold(&new, to_name, target),
            _ => None,
        };
        rustix::fs::renameat_with(&old, from_name, &new, to_name, flags)
            .map_err(io::Error::from)?;
        self.missing.forget();
        if !exchange {
            self.hide(from.path)?;
        }
        let ino = self.number(&stat);
        let target = replaced.map(|stat| self.number(&stat));
        if target == Some(ino) {
            return Ok(()); // two names of one file: nothing moves
        }
        if let Some(target) = target {
            if exchange {
                self.move_name(target, (to.dir, to_name), (from.dir, from_name));
            } else {
                self.lose_name(target, to.dir, to_name, held);
            }
        }
        self.move_name(ino, (from.dir, from_name), (to.dir, to_name));
        Ok(())
    }

    fn move_name(&self, ino: u64, from: (u64, &[u8]), to: (u64, &[u8])) {
        let mut table = self.table.lock();
        if let Some(node) = table.get_mut(&ino) {
            node.names
                .retain(|(dir, name)| !(*dir == from.0 && **name == *from.1));
            node.names.push((to.0, to.1.into()));
        }
    }

    /// Removes the directory on disk in whose place a governed one was shown.
    pub(crate) fn drop_shadow(&self, path: &RepoPath) {
        if let Ok(parent) = self.parent(path) {
            // Most governed directories have none.
            let _ = rustix::fs::unlinkat(&parent, path.name(), AtFlags::REMOVEDIR);
        }
    }

    /// Moves scratch with the governed directory that it stands in.
    pub(crate) fn move_shadow(&self, from: &RepoPath, to: &RepoPath, exchange: bool) {
        let moved = (|| -> Result<()> {
            let here = self.exists(from);
            let there = self.exists(to);
            let flags = match (here, there, exchange) {
                (false, false, _) => return Ok(()),
                (false, true, false) => {
                    self.drop_shadow(to);
                    return Ok(());
                }
                (false, true, true) => return self.move_shadow_one(to, from),
                (true, true, true) => RenameFlags::EXCHANGE,
                (true, _, _) => return self.move_shadow_one(from, to),
            };
            let (old, new) = (self.parent(from)?, self.parent_made(to)?);
            rustix::fs::renameat_with(&old, from.name(), &new, to.name(), flags)
                .map_err(io::Error::from)?;
            self.missing.forget();
            Ok(())
        })();
        if let Err(error) = moved {
            tracing::warn!(%from, %to, %error, "scratch did not follow its directory");
        }
    }

    fn move_shadow_one(&self, from: &RepoPath, to: &RepoPath) -> Result<()> {
        let (old, new) = (self.parent(from)?, self.parent_made(to)?);
        rustix::fs::renameat(&old, from.name(), &new, to.name()).map_err(io::Error::from)?;
        self.missing.forget();
        Ok(())
    }

    pub(crate) fn setattr(
        &self,
        ino: u64,
        prefix: Prefix<'_>,
        set: &SetAttr,
        caller: Caller,
    ) -> Result<Attr> {
        let orphan = self.orphan(ino);
        if let Some(size) = set.size {
            self.file(ino, prefix, true)?.set_len(size)?;
        }
        if let Some(file) = orphan {
            set_on_file(&file, set, self.owner.is_none())?;
            return self.attr(ino, prefix);
        }
        let path = self.path(ino, prefix)?;
        self.copy_up(&path, ino)?;
        let parent = self.parent(&path).map_err(absent)?;
        let name: &[u8] = if path.is_root() { b"." } else { path.name() };
        self.set_owner(&parent, name, set, caller)?;
        if let Some(bits) = set.mode {
            let stat = stat_in(&parent, name)?;
            if kind_of(&stat) == FileKind::Symlink {
                return Err(Error::NotSupported);
            }
            let mode = Mode::from_raw_mode(bits & 0o7777);
            rustix::fs::chmodat(&parent, name, mode, AtFlags::empty()).map_err(io::Error::from)?;
        }
        if let Some(times) = timestamps(set) {
            rustix::fs::utimensat(&parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(io::Error::from)?;
        }
        let stat = stat_in(&parent, name)?;
        Ok(self.attr_of(&stat, &path))
    }

    fn set_owner(
        &self,
        parent: &OwnedFd,
        name: &[u8],
        set: &SetAttr,
        caller: Caller,
    ) -> Result<()> {
        if set.uid.is_none() && set.gid.is_none() && set.size.is_none() {
            return Ok(());
        }
        let stat = stat_in(parent, name)?;
        let shown = self.attr_of(&stat, &RepoPath::root());
        let changes = set.uid.is_some_and(|uid| uid != shown.uid)
            || set.gid.is_some_and(|gid| gid != shown.gid);
        if changes && self.owner.is_some() {
            return Err(Error::NotPermitted);
        }
        if self.owner.is_none() && (set.uid.is_some() || set.gid.is_some()) {
            let (uid, gid) = (set.uid.map(Uid::from_raw), set.gid.map(Gid::from_raw));
            rustix::fs::chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(io::Error::from)?;
        }
        // The kernel leaves it to us to take set-id bits away.
        let keeps = caller.uid == 0 && set.size.is_none();
        let bits = stat.st_mode;
        if bits & SET_ID != 0 && set.mode.is_none() && kind_of(&stat) == FileKind::Regular {
            let left = if keeps { bits } else { without_set_id(bits) };
            rustix::fs::chmodat(
                parent,
                name,
                Mode::from_raw_mode(left & 0o7777),
                AtFlags::empty(),
            )
            .map_err(io::Error::from)?;
        }
        Ok(())
    }

    /// Takes set-id bits away before a write; a file that is gone has none.
    pub(crate) fn drop_set_id(&self, ino: u64, prefix: Prefix<'_>) {
        let Ok(file) = self.file(ino, prefix, false) else {
            return;
        };
        if let Ok(stat) = rustix::fs::fstat(&file)
            && stat.st_mode & SET_ID != 0
        {
            let mode = Mode::from_raw_mode(without_set_id(stat.st_mode) & 0o7777);
            if let Err(error) = rustix::fs::fchmod(&file, mode) {
                tracing::warn!(%error, "set-id bits stayed on a scratch file");
            }
        }
    }
}

fn stat_in(parent: &OwnedFd, name: &[u8]) -> Result<Stat> {
    rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|error| absent(error.into()))
}

const fn without_set_id(bits: u32) -> u32 {
    // A set-group-id bit without group execution means mandatory locking and stays.
    if bits & 0o010 == 0 {
        bits & !0o4000
    } else {
        bits & !SET_ID
    }
}

fn timestamps(set: &SetAttr) -> Option<Timestamps> {
    if set.atime.is_none() && set.mtime.is_none() {
        return None;
    }
    let spec = |time: Option<i64>| match time {
        Some(time) => Timespec {
            tv_sec: time.div_euclid(NANOS),
            tv_nsec: time.rem_euclid(NANOS),
        },
        None => Timespec {
            tv_sec: 0,
            tv_nsec: rustix::fs::UTIME_OMIT,
        },
    };
    Some(Timestamps {
        last_access: spec(set.atime),
        last_modification: spec(set.mtime),
    })
}

fn set_on_file(file: &File, set: &SetAttr, owners: bool) -> Result<()> {
    if owners && (set.uid.is_some() || set.gid.is_some()) {
        let (uid, gid) = (set.uid.map(Uid::from_raw), set.gid.map(Gid::from_raw));
        rustix::fs::fchown(file, uid, gid).map_err(io::Error::from)?;
    }
    if let Some(bits) = set.mode {
        rustix::fs::fchmod(file, Mode::from_raw_mode(bits & 0o7777)).map_err(io::Error::from)?;
    }
    if let Some(times) = timestamps(set) {
        rustix::fs::futimens(file, &times).map_err(io::Error::from)?;
    }
    Ok(())
}
