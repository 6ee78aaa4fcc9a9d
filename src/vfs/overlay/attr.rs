//! Attributes: what a stat shows.
//!
//! Owns: the honest mode (the `w` of a file is the gate's answer at that moment;
//! of the stored mode only the x bit is real), sizes and times. A directory
//! always shows `w`: some name may be made in any of them (what the ignore rules
//! cover), and each attempt is a request of its own. Never changes anything.

use crate::domain::base::BaseEntry;
use crate::domain::base::BaseKind;
use crate::domain::path::RepoPath;
use crate::vfs::error::Result;
use crate::vfs::nodes::FROM_BASE;
use crate::vfs::nodes::Idx;
use crate::vfs::nodes::Kind;
use crate::vfs::nodes::ORPHAN;
use crate::vfs::nodes::SHOWN;
use crate::vfs::nodes::SHOWN_W;
use crate::vfs::nodes::Tree;
use crate::vfs::overlay::Overlay;
use crate::vfs::working::Times;

const NANOS: i64 = 1_000_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    Directory,
    Regular,
    Symlink,
    Fifo,
    Socket,
    Char,
    Block,
}

/// What a stat shows; times are nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr {
    pub ino: u64,
    pub kind: FileKind,
    pub perm: u16,
    pub size: u64,
    pub blocks: u64,
    pub nlink: u32,
    /// Which device, as the kernel packs it; 0 for what is none.
    pub rdev: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: i64,
    pub ctime: i64,
    pub atime: i64,
}

impl Attr {
    /// Returns what stands for no inode.
    pub const fn nothing() -> Self {
        Self {
            ino: 0,
            kind: FileKind::Regular,
            perm: 0,
            size: 0,
            blocks: 0,
            nlink: 0,
            rdev: 0,
            uid: 0,
            gid: 0,
            mtime: 0,
            ctime: 0,
            atime: 0,
        }
    }
}

/// What a lookup found. A virtual file is found anew each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub attr: Attr,
    /// The name may be remembered for ever; otherwise not at all.
    pub lasting: bool,
}

impl Found {
    pub(super) fn lasting(attr: Attr) -> Self {
        Self {
            attr,
            lasting: true,
        }
    }
}

impl Overlay {
    /// Says whether a write to this file would be allowed now.
    pub(super) fn is_writable(&self, tree: &Tree, idx: Idx) -> bool {
        let node = tree.node(idx);
        if node.is(ORPHAN) {
            return true;
        }
        if let Some(saves) = node.file().and_then(|file| file.saves.lock().clone()) {
            return self.gate.writable(&saves);
        }
        tree.path(idx).is_ok_and(|path| self.gate.writable(&path))
    }

    /// Returns the attributes of a node and notes that the kernel has them now.
    pub(super) fn attr(&self, tree: &Tree, idx: Idx) -> Result<Attr> {
        let node = tree.node(idx);
        let (kind, perm) = match node.kind {
            Kind::Dir | Kind::Submodule => (FileKind::Directory, 0o755),
            Kind::Symlink => (FileKind::Symlink, 0o777),
            Kind::File | Kind::Exec => {
                let writable = self.is_writable(tree, idx);
                node.see(SHOWN);
                if writable {
                    node.see(SHOWN_W);
                } else {
                    node.unsee(SHOWN_W);
                }
                (FileKind::Regular, file_perm(node.kind, writable))
            }
        };
        let size = self.size(tree, idx)?;
        let times = self.times(tree, idx);
        Ok(Attr {
            ino: node.ino,
            kind,
            perm,
            size,
            blocks: size.div_ceil(512),
            nlink: u32::from(!node.is(ORPHAN)),
            rdev: 0,
            uid: self.options.uid,
            gid: self.options.gid,
            mtime: times.mtime,
            ctime: times.ctime,
            atime: times.atime,
        })
    }

    pub(super) fn times(&self, tree: &Tree, idx: Idx) -> Times {
        let base = self.base.time().saturating_mul(NANOS);
        let node = tree.node(idx);
        if let Some(file) = node.file() {
            return file.times();
        }
        let own = node.dir().and_then(|dir| dir.times);
        own.unwrap_or(Times {
            mtime: base,
            ctime: base,
            atime: base,
        })
    }

    fn size(&self, tree: &Tree, idx: Idx) -> Result<u64> {
        let node = tree.node(idx);
        if let Some(file) = node.file() {
            return Ok(file.size());
        }
        if node.kind.is_dir() || !node.is(FROM_BASE) {
            return Ok(if node.kind.is_dir() { 4096 } else { 0 });
        }
        let (path, entry) = base_place(tree, idx)?;
        Ok(self.base.size(&path, &entry)?)
    }
}

/// Returns where the base has a node, and its entry there.
pub(super) fn base_place(tree: &Tree, idx: Idx) -> Result<(RepoPath, BaseEntry)> {
    let node = tree.node(idx);
    let path = tree.base_path(idx)?;
    let entry = BaseEntry {
        name: path.name().to_vec(),
        kind: match node.kind {
            Kind::Dir => BaseKind::Dir,
            Kind::File => BaseKind::File { exec: false },
            Kind::Exec => BaseKind::File { exec: true },
            Kind::Symlink => BaseKind::Symlink,
            Kind::Submodule => BaseKind::Submodule,
        },
        oid: node.oid,
    };
    Ok((path, entry))
}

pub(super) const fn file_perm(kind: Kind, writable: bool) -> u16 {
    match (kind, writable) {
        (Kind::Exec, true) => 0o755,
        (Kind::Exec, false) => 0o555,
        (_, true) => 0o644,
        (_, false) => 0o444,
    }
}
