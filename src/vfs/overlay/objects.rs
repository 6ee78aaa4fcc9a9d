//! The repository's objects, shown read-only at `.govfs/objects/N`.
//!
//! Owns: the inodes of those trees and what is held open of them. The agent's
//! private git directory names them as its alternates, so that every process sees
//! the objects at the same place, whatever else it can see of the machine.
//! Invariants: nothing is ever written; each path is resolved beneath its own
//! directory, following no link; a number means the same bytes for as long as the
//! kernel knows it (a file that was replaced gets another one), and a pack that
//! the operator's repack removes stays readable for who has it open. The
//! repository's own alternates stand here too, so their list is not shown.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::AtFlags;
use rustix::fs::Dir;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;
use rustix::fs::Stat;

use crate::domain::path::RepoPath;
use crate::vfs::error::Error;
use crate::vfs::error::Result;
use crate::vfs::overlay::FileKind;
use crate::vfs::working::open_max;

/// How many files are held open; past that a removed one may be gone for its reader.
const HELD_MAX: usize = 256;
const NANOS: i64 = 1_000_000_000;

/// What a number of this tree stands for.
#[derive(Clone, Debug)]
struct Known {
    place: Place,
    lookups: u64,
    key: Key,
    held: Option<Arc<File>>,
}

/// Where it is: beneath all directories, or within the one of that position.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Top,
    In(usize, RepoPath),
}

/// What makes two lookups find the same thing: its place and, but for the
/// directories, the very file with its last change.
type Key = (usize, Vec<u8>, [i64; 4]);

/// What a stat of one shows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    pub(super) kind: FileKind,
    pub(super) size: u64,
    pub(super) time: i64,
    /// The name may be remembered.
    pub(super) lasting: bool,
}

#[derive(Debug, Default)]
struct Table {
    known: HashMap<u64, Known>,
    numbers: HashMap<Key, u64>,
    held: usize,
}

#[derive(Debug)]
pub(super) struct Objects {
    dirs: Vec<OwnedFd>,
    table: Mutex<Table>,
}

impl Objects {
    pub(super) fn new(dirs: Vec<OwnedFd>) -> Self {
        Self {
            dirs,
            table: Mutex::default(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.dirs.is_empty()
    }

    pub(super) fn knows(&self, ino: u64) -> bool {
        self.table.lock().known.contains_key(&ino)
    }

    /// Finds the directory of all; `fresh` makes a number for what has none yet.
    pub(super) fn top(&self, fresh: impl FnOnce() -> u64) -> (u64, Shown) {
        let key = (usize::MAX, Vec::new(), [0; 4]);
        (self.know(Place::Top, key, None, fresh), directory(0, true))
    }

    /// Finds a name in a directory of this tree.
    pub(super) fn lookup(
        &self,
        dir: u64,
        name: &[u8],
        fresh: impl FnOnce() -> u64,
    ) -> Result<(u64, Shown)> {
        let place = match self.place(dir)? {
            Place::Top => Place::In(self.position(name)?, RepoPath::root()),
            Place::In(at, path) => Place::In(at, path.join(name)?),
        };
        let Place::In(at, path) = &place else {
            return Err(Error::NoEntry);
        };
        if path.as_bytes() == b"info/alternates" {
            return Err(Error::NoEntry);
        }
        let stat = self.stat(*at, path)?;
        let shown = shown(&stat, path)?;
        let key = (*at, path.as_bytes().to_vec(), version(&stat, shown.lasting));
        let held = if shown.kind == FileKind::Regular && is_long_lived(path) {
            self.hold(*at, path)
        } else {
            None
        };
        Ok((self.know(place, key, held, fresh), shown))
    }

    /// Returns which directory a name of the top one stands for: its position, written plainly.
    fn position(&self, name: &[u8]) -> Result<usize> {
        let text = std::str::from_utf8(name).map_err(|_| Error::NoEntry)?;
        let at: usize = text.parse().map_err(|_| Error::NoEntry)?;
        if at < self.dirs.len() && at.to_string() == text {
            Ok(at)
        } else {
            Err(Error::NoEntry)
        }
    }

    fn place(&self, ino: u64) -> Result<Place> {
        let table = self.table.lock();
        let known = table.known.get(&ino).ok_or(Error::Stale)?;
        Ok(known.place.clone())
    }

    fn know(
        &self,
        place: Place,
        key: Key,
        held: Option<Arc<File>>,
        fresh: impl FnOnce() -> u64,
    ) -> u64 {
        let mut table = self.table.lock();
        if let Some(&ino) = table.numbers.get(&key)
            && let Some(known) = table.known.get_mut(&ino)
        {
            known.lookups += 1;
            return ino;
        }
        let ino = fresh();
        let held = held.filter(|_| table.held < open_max().min(HELD_MAX));
        table.held += usize::from(held.is_some());
        table.numbers.insert(key.clone(), ino);
        table.known.insert(
            ino,
            Known {
                place,
                lookups: 1,
                key,
                held,
            },
        );
        ino
    }

    pub(super) fn forget(&self, ino: u64, count: u64) {
        let mut table = self.table.lock();
        let Some(known) = table.known.get_mut(&ino) else {
            return;
        };
        known.lookups = known.lookups.saturating_sub(count);
        if known.lookups == 0
            && let Some(known) = table.known.remove(&ino)
        {
            table.held -= usize::from(known.held.is_some());
            table.numbers.remove(&known.key);
        }
    }

    pub(super) fn shown(&self, ino: u64) -> Result<Shown> {
        let (place, held) = self.known(ino)?;
        match (place, held) {
            (Place::Top, _) => Ok(directory(0, true)),
            (Place::In(_, path), Some(file)) => {
                let stat = rustix::fs::fstat(&file).map_err(io::Error::from)?;
                shown(&stat, &path)
            }
            (Place::In(at, path), None) => shown(&self.stat(at, &path)?, &path),
        }
    }

    fn known(&self, ino: u64) -> Result<(Place, Option<Arc<File>>)> {
        let table = self.table.lock();
        let known = table.known.get(&ino).ok_or(Error::Stale)?;
        Ok((known.place.clone(), known.held.clone()))
    }

    pub(super) fn read(&self, ino: u64, offset: u64, size: u32) -> Result<Vec<u8>> {
        let file = match self.known(ino)? {
            (_, Some(file)) => file,
            (Place::Top, None) => return Err(Error::IsDir),
            (Place::In(at, path), None) => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
                Arc::new(self.open(at, &path, flags)?.into())
            }
        };
        Ok(super::content::read_at(&file, offset, size)?)
    }

    /// Calls `each` with a name, whether it is a directory, and where to go on.
    pub(super) fn list(
        &self,
        ino: u64,
        after: u64,
        each: &mut dyn FnMut(&[u8], bool, u64) -> bool,
    ) -> Result<()> {
        let (at, path) = match self.place(ino)? {
            Place::Top => {
                let all = (1..)
                    .zip(0..self.dirs.len())
                    .filter(|(next, _)| *next > after);
                for (next, at) in all {
                    if each(at.to_string().as_bytes(), true, next) {
                        break;
                    }
                }
                return Ok(());
            }
            Place::In(at, path) => (at, path),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let mut dir = Dir::new(self.open(at, &path, flags)?).map_err(io::Error::from)?;
        if after != 0 {
            dir.seek(after.cast_signed()).map_err(io::Error::from)?;
        }
        while let Some(entry) = dir.read() {
            let entry = entry.map_err(io::Error::from)?;
            let name = entry.file_name().to_bytes();
            let hidden = path.as_bytes() == b"info" && name == b"alternates";
            let kind = entry.file_type();
            let fits = matches!(kind, FileType::RegularFile | FileType::Directory);
            if matches!(name, b"." | b"..") || hidden || !fits {
                continue;
            }
            if each(
                name,
                kind == FileType::Directory,
                entry.offset().cast_unsigned(),
            ) {
                break;
            }
        }
        Ok(())
    }

    fn stat(&self, at: usize, path: &RepoPath) -> Result<Stat> {
        let dir = self.dirs.get(at).ok_or(Error::NoEntry)?;
        if path.is_root() {
            return Ok(rustix::fs::fstat(dir).map_err(io::Error::from)?);
        }
        let above = path.parent().unwrap_or_default();
        let above = self.open(at, &above, OFlags::PATH | OFlags::DIRECTORY)?;
        rustix::fs::statat(&above, path.name(), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| absent(error.into()))
    }

    fn hold(&self, at: usize, path: &RepoPath) -> Option<Arc<File>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let opened = self.open(at, path, flags).ok()?;
        Some(Arc::new(opened.into()))
    }

    fn open(&self, at: usize, path: &RepoPath, flags: OFlags) -> Result<OwnedFd> {
        let dir = self.dirs.get(at).ok_or(Error::NoEntry)?;
        let bytes: &[u8] = if path.is_root() {
            b"."
        } else {
            path.as_bytes()
        };
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        loop {
            let flags = flags | OFlags::CLOEXEC;
            match rustix::fs::openat2(dir.as_fd(), bytes, flags, Mode::empty(), resolve) {
                // A rename elsewhere on that file system came between; ask again.
                Err(rustix::io::Errno::AGAIN) => {}
                opened => return opened.map_err(|error| absent(error.into())),
            }
        }
    }
}

fn absent(error: io::Error) -> Error {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR) => Error::NoEntry,
        _ => Error::Io(error),
    }
}

fn directory(time: i64, lasting: bool) -> Shown {
    Shown {
        kind: FileKind::Directory,
        size: 4096,
        time,
        lasting,
    }
}

fn shown(stat: &Stat, path: &RepoPath) -> Result<Shown> {
    let time = stat.st_mtime.saturating_mul(NANOS);
    match FileType::from_raw_mode(stat.st_mode) {
        // The kernel keeps a directory's list, so one that changed is found anew; git
        // never lists the outermost ones.
        FileType::Directory => Ok(directory(time, path.is_root())),
        FileType::RegularFile => Ok(Shown {
            kind: FileKind::Regular,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            time,
            lasting: false,
        }),
        // git keeps nothing else here, and where a link leads is not ours to show.
        _ => Err(Error::NoEntry),
    }
}

/// Says whether git keeps a file of that kind open or mapped while it works.
fn is_long_lived(path: &RepoPath) -> bool {
    let mut parts = path.components();
    matches!(parts.next(), Some(b"pack" | b"info"))
}

fn version(stat: &Stat, by_name: bool) -> [i64; 4] {
    if by_name {
        return [0; 4];
    }
    [
        stat.st_dev.cast_signed(),
        stat.st_ino.cast_signed(),
        stat.st_ctime,
        i64::try_from(stat.st_ctime_nsec).unwrap_or(0),
    ]
}
