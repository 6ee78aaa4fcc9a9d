//! One node: its kind, its marks, and what only directories have.
//!
//! Owns: the layout of a node (64 bytes) and how inode numbers are made of what a
//! node is. Knows no other node.

use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use crate::domain::base::BaseKind;
use crate::domain::base::Oid;
use crate::domain::logop::FileMode;
use crate::domain::path::RepoPath;
use crate::vfs::nodes::DEAD;
use crate::vfs::nodes::Idx;
use crate::vfs::nodes::arena::Name;
use crate::vfs::working::FileMore;
use crate::vfs::working::Times;

/// The kernel's number for the root.
pub const ROOT_INO: u64 = 1;
/// Bits of a number that say which node; the two above say which zone. Together
/// they fit a double, which is what scripting languages keep inode numbers in.
const INO_BITS: u32 = 50;
pub(super) const INO_MASK: u64 = (1 << INO_BITS) - 1;
pub(super) const INO_FIRST: u64 = 16;

/// Which engine serves an inode, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Realm {
    Tree,
    Scratch,
    Gitdir,
    Control,
}

impl Realm {
    pub fn of(ino: u64) -> Self {
        match ino >> INO_BITS {
            1 => Self::Scratch,
            2 => Self::Gitdir,
            3 => Self::Control,
            _ => Self::Tree,
        }
    }

    /// Returns the number of this realm for `number`.
    pub(crate) fn ino(self, number: u64) -> u64 {
        let tag = match self {
            Self::Tree => 0,
            Self::Scratch => 1,
            Self::Gitdir => 2,
            Self::Control => 3,
        };
        let low = if number <= INO_MASK {
            number
        } else {
            mix(number) & INO_MASK
        };
        (tag << INO_BITS) | low
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Dir,
    File,
    Exec,
    Symlink,
    /// An empty directory.
    Submodule,
}

impl Kind {
    pub(crate) const fn is_dir(self) -> bool {
        matches!(self, Self::Dir | Self::Submodule)
    }

    pub(crate) const fn is_file(self) -> bool {
        matches!(self, Self::File | Self::Exec)
    }

    pub(crate) const fn mode(self) -> FileMode {
        match self {
            Self::Symlink => FileMode::Symlink,
            Self::Exec => FileMode::Exec,
            _ => FileMode::Plain,
        }
    }

    pub(crate) const fn of_mode(mode: FileMode) -> Self {
        match mode {
            FileMode::Plain => Self::File,
            FileMode::Exec => Self::Exec,
            FileMode::Symlink => Self::Symlink,
        }
    }

    pub(super) fn of_base(kind: BaseKind) -> Self {
        match kind {
            BaseKind::Dir => Self::Dir,
            BaseKind::File { exec: true } => Self::Exec,
            BaseKind::File { exec: false } => Self::File,
            BaseKind::Symlink => Self::Symlink,
            BaseKind::Submodule => Self::Submodule,
        }
    }
}

/// Its name and bytes come from the base.
pub(crate) const FROM_BASE: u8 = 1;
/// The base's entries of the directory were taken in.
pub(crate) const LOADED: u8 = 2;
/// Unlinked, but the kernel still knows it.
pub(crate) const ORPHAN: u8 = 4;
/// Made, or put, under a name that is for atomic saves alone.
pub(crate) const TRANSIENT: u8 = 8;
/// Somebody changed it in this session.
pub(crate) const CHANGED: u8 = 16;

/// The kernel was told that it is writable.
pub(crate) const SHOWN_W: u8 = 1;
/// The kernel was told attributes that may still be valid.
pub(crate) const SHOWN: u8 = 2;
/// Read since the kernel last asked for its attributes.
pub(crate) const READ: u8 = 4;
/// Its bytes were asked for at some time in this mount's life.
pub(crate) const WAS_READ: u8 = 8;

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) ino: u64,
    pub(crate) more: More,
    pub(crate) parent: Idx,
    pub(super) name: Name,
    pub(super) cookie: u32,
    pub(super) lookups: AtomicU32,
    pub(crate) oid: Oid,
    pub(crate) kind: Kind,
    pub(crate) flags: u8,
    pub(super) seen: AtomicU8,
}

#[derive(Debug, Default)]
pub(crate) enum More {
    #[default]
    None,
    Dir(Box<DirMore>),
    File(Arc<FileMore>),
}

#[derive(Debug, Default)]
pub(crate) struct DirMore {
    /// (list position, node), by position; removed ones are `DEAD` until swept.
    pub(super) order: Vec<(u32, Idx)>,
    dead: u32,
    next: u32,
    pub(crate) times: Option<Times>,
    pub(super) listing: Listing,
    /// Where the base has it, once it was moved.
    pub(super) base_path: Option<RepoPath>,
}

/// Below so many files a fresh listing costs more than their attributes.
const RELIST_MIN: u32 = 4;
/// About as many names fit into one answer of a listing, on a kernel that asks for a page.
const NAMES_IN_ANSWER: u32 = 16;

/// What the kernel's memory of a directory's listing is worth. Reading a file makes
/// its access time stale, so that each file's next stat would be a request of its own;
/// a fresh listing brings the attributes of all.
#[derive(Debug)]
pub(crate) struct Listing {
    /// Files that were read since; `UNKNOWN` where the kernel has no listing of ours.
    stale: AtomicU32,
}

const UNKNOWN: u32 = u32::MAX;

impl Default for Listing {
    fn default() -> Self {
        Self {
            stale: AtomicU32::new(UNKNOWN),
        }
    }
}

impl Listing {
    fn took(&self) {
        self.stale.store(0, Ordering::Relaxed);
    }

    /// Counts a file that was read; says, once, that a fresh listing of so many names
    /// would be cheaper now.
    fn read_one(&self, names: usize) -> bool {
        let count = |stale: u32| (stale != UNKNOWN).then(|| stale.saturating_add(1));
        let order = Ordering::Relaxed;
        let Ok(before) = self.stale.fetch_update(order, order, count) else {
            return false;
        };
        let stale = before.saturating_add(1);
        let due = stale >= RELIST_MIN && stale as usize * NAMES_IN_ANSWER as usize >= names;
        if due {
            self.stale.store(UNKNOWN, order);
        }
        due
    }
}

impl Node {
    /// Notes that the kernel has been given a listing of this directory, with attributes.
    pub(crate) fn listed(&self) {
        if let Some(dir) = self.dir() {
            dir.listing.took();
        }
    }

    /// Notes that one of this directory's files was read; says whether the kernel
    /// should forget its listing.
    pub(crate) fn read_one(&self) -> bool {
        self.dir()
            .is_some_and(|dir| dir.listing.read_one(dir.order.len()))
    }

    pub(crate) fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub(crate) fn see(&self, flag: u8) {
        self.seen.fetch_or(flag, Ordering::Relaxed);
    }

    /// Clears a mark and says whether it stood.
    pub(crate) fn unsee(&self, flag: u8) -> bool {
        self.seen.fetch_and(!flag, Ordering::Relaxed) & flag != 0
    }

    pub(crate) fn has_seen(&self, flag: u8) -> bool {
        self.seen.load(Ordering::Relaxed) & flag != 0
    }

    pub(crate) fn known(&self) -> bool {
        self.lookups.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn looked_up(&self) {
        self.lookups.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn dir(&self) -> Option<&DirMore> {
        match &self.more {
            More::Dir(dir) => Some(dir),
            _ => None,
        }
    }

    pub(crate) fn file(&self) -> Option<&Arc<FileMore>> {
        match &self.more {
            More::File(file) => Some(file),
            _ => None,
        }
    }
}

/// A stable 64-bit hash: inode numbers must be the same in every build.
pub(crate) fn hash_name(seed: u64, name: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64 ^ mix(seed);
    for &byte in name {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    mix(hash)
}

pub(super) fn mix(value: u64) -> u64 {
    let mut x = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl DirMore {
    /// Makes room for so many names and no more: most directories never get another.
    pub(super) fn expect(&mut self, names: usize) {
        self.order.reserve_exact(names);
    }

    pub(super) fn push(&mut self, idx: Idx) -> u32 {
        self.next += 1;
        self.order.push((self.next, idx));
        self.next
    }

    pub(super) fn remove(&mut self, cookie: u32) {
        let Ok(at) = self.order.binary_search_by_key(&cookie, |&(c, _)| c) else {
            return;
        };
        self.order[at].1 = DEAD;
        self.dead += 1;
        if self.dead > 64 && self.dead as usize * 2 > self.order.len() {
            self.order.retain(|&(_, idx)| idx != DEAD);
            self.dead = 0;
        }
    }
}
