//! The overlay engine: the session's tree, acting on requests that are no longer the kernel's.
//!
//! Owns: the one place where a request becomes a decision, an entry, and then a
//! change. Invariants: every mutating call asks the gate; the entry is appended
//! before the change; entries stand in the order in which the tree changed
//! (structural changes under the tree's write lock, a file's bytes under the
//! file's own); locks are taken in the order file, tree; a refusal is on record
//! before it is answered. The tree is the fold of the log: a remount replays
//! entries through the same calls. Never names the kernel's protocol.

mod attr;
mod content;
mod control;
mod denial;
mod disk;
mod extra;
mod meta;
mod names;
mod objects;
mod read;
mod recover;
mod rename;
mod replay;
mod settle;
mod write;

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::Duration;
use std::time::Instant;

use parking_lot::Condvar;
use parking_lot::Mutex;
use parking_lot::RwLock;

use crate::domain::base::Base;
use crate::domain::gate::{Gate, Kept};
use crate::domain::path::RepoPath;
use crate::domain::zone::Facts;
use crate::domain::zone::GitdirRule;
use crate::vfs::error::Error;
use crate::vfs::error::Result;
use crate::vfs::nodes::CHANGED;
use crate::vfs::nodes::FROM_BASE;
use crate::vfs::nodes::Idx;
use crate::vfs::nodes::LOADED;
use crate::vfs::nodes::ORPHAN;
use crate::vfs::nodes::SHOWN;
use crate::vfs::nodes::SHOWN_W;
use crate::vfs::nodes::Tree;
use crate::vfs::nodes::WAS_READ;
use crate::vfs::real::RealTree;
use crate::vfs::working::WorkDir;

pub use attr::{Attr, FileKind, Found};
pub use content::ReadCache;
pub use control::Control;
pub use meta::SetAttr;
pub use read::Listed;
pub use rename::{End, RenameHow};
pub use replay::{History, Logged, Since};
pub use settle::Settler;

use control::ControlDir;
use denial::Actors;
use denial::Coalescer;

/// Who asks, as the kernel says it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Caller {
    pub uid: u32,
    pub gid: u32,
    /// 0 where the kernel could not say.
    pub pid: u32,
}

/// Something the kernel should be told; sent by a thread that serves no request.
#[derive(Clone, Debug)]
pub enum Notice {
    /// The attributes of an inode may have changed.
    Attributes(u64),
    /// The bytes of an inode may have changed, or have to be written back now.
    Data(u64),
    /// The kernel's listing of a directory is to be asked for again.
    Listing(u64),
    /// A directory has, or has lost, a name.
    Entry { dir: u64, name: Vec<u8> },
    /// Everything before this was sent; says so.
    Flushed(Sender<()>),
    /// The mount is over.
    End,
}

/// A rule given as a function of a path.
pub type PathRule = Arc<dyn Fn(&RepoPath, bool) -> bool + Send + Sync>;
/// A rule given as a function of a name.
pub type NameRule = Arc<dyn Fn(&[u8]) -> bool + Send + Sync>;
/// The wall clock in nanoseconds since 1970.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// How a session's tree is to be shown and kept.
#[derive(Clone)]
pub struct Options {
    /// Whom every inode belongs to.
    pub uid: u32,
    pub gid: u32,
    /// Keep true owners in scratch (a server that is root, serving several uids).
    pub real_owners: bool,
    pub clock: Clock,
    /// The charter's scratch list, by path and whether it is a directory.
    pub scratch: PathRule,
    /// The charter's own transient names.
    pub transient: NameRule,
    /// How long a file must be quiet before it settles.
    pub quiet: Duration,
    /// Which checks of the gate are made: all but in tests.
    pub kept: Kept,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Options({}:{}, quiet {:?})",
            self.uid, self.gid, self.quiet
        )
    }
}

/// The private git directory, as the mount shows it.
pub struct Gitdir {
    pub dir: OwnedFd,
    pub rule: fn(&[u8]) -> GitdirRule,
    /// Called once, before `index` is looked up for the first time.
    pub prepare: Box<dyn Fn() -> std::io::Result<()> + Send + Sync>,
}

impl fmt::Debug for Gitdir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gitdir({:?})", self.dir)
    }
}

/// An operator's directory that scratch paths start from, copied on write.
#[derive(Debug)]
pub struct Share {
    pub at: RepoPath,
    pub dir: OwnedFd,
}

/// What an overlay stands on.
pub struct Parts {
    pub base: Arc<dyn Base>,
    pub gate: Arc<dyn Gate>,
    pub work: OwnedFd,
    pub scratch: OwnedFd,
    pub shares: Vec<Share>,
    pub gitdir: Option<Gitdir>,
    pub control: Option<Arc<dyn Control>>,
    /// The repository's object directories, shown at `.govfs/objects/N`.
    pub objects: Vec<OwnedFd>,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Parts({:?}, {:?})", self.work, self.gitdir)
    }
}

/// One session's tree.
pub struct Overlay {
    base: Arc<dyn Base>,
    gate: Arc<dyn Gate>,
    options: Options,
    tree: RwLock<Tree>,
    work: WorkDir,
    reads: ReadCache,
    scratch: RealTree,
    gitdir: Option<RealTree>,
    control: ControlDir,
    frozen: AtomicBool,
    stopping: AtomicBool,
    dirty: Mutex<HashMap<u64, Instant>>,
    wake: Condvar,
    denials: Mutex<Coalescer>,
    actors: Actors,
    touched: Mutex<BTreeSet<RepoPath>>,
    notices: OnceLock<Sender<Notice>>,
}

impl fmt::Debug for Overlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Overlay({} nodes)", self.tree.read().len())
    }
}

/// What a running engine says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    pub nodes: usize,
    pub unsettled: usize,
    pub descriptors: usize,
}

impl Overlay {
    fn tell(&self, notice: Notice) {
        if let Some(sender) = self.notices.get() {
            let _ = sender.send(notice); // the mount is going away: nobody to tell
        }
    }

    /// Takes the thread to which notices go.
    pub fn notify_with(&self, sender: Sender<Notice>) {
        let _ = self.notices.set(sender);
    }

    fn now(&self) -> i64 {
        (self.options.clock)()
    }

    /// Takes the base's entries of a directory in, unless that was done.
    fn load(&self, ino: u64) -> Result<Idx> {
        let (idx, oid) = {
            let tree = self.tree.read();
            let idx = tree.by_ino(ino)?;
            let node = tree.node(idx);
            if !node.kind.is_dir() {
                return Err(Error::NotDir);
            }
            if Self::is_loaded(&tree, idx) {
                return Ok(idx);
            }
            (idx, node.oid)
        };
        let entries = self.base.list(&oid)?;
        let mut tree = self.tree.write();
        if tree.by_ino(ino)? == idx {
            tree.load(idx, &entries);
        }
        Ok(idx)
    }

    fn is_loaded(tree: &Tree, idx: Idx) -> bool {
        let node = tree.node(idx);
        node.is(LOADED) || node.kind == crate::vfs::nodes::Kind::Submodule || !node.is(FROM_BASE)
    }

    /// Finds a path, loading directories on the way.
    fn find(&self, path: &RepoPath) -> Result<Idx> {
        loop {
            let unloaded = {
                let tree = self.tree.read();
                match tree.find(path) {
                    Ok(found) => return found.ok_or(Error::NoEntry),
                    Err(dir) if Self::is_loaded(&tree, dir) => return Err(Error::NoEntry),
                    Err(dir) => tree.node(dir).ino,
                }
            };
            self.load(unloaded)?;
        }
    }

    /// Says that claims changed: a `w` that was shown and stands no more is taken back.
    pub fn refresh(&self) {
        let tree = self.tree.read();
        for idx in tree.all() {
            let node = tree.node(idx);
            if !node.kind.is_file() || !node.has_seen(SHOWN) || node.is(ORPHAN) {
                continue;
            }
            if self.is_writable(&tree, idx) != node.has_seen(SHOWN_W) {
                self.tell(Notice::Attributes(node.ino));
            }
        }
    }

    /// Refuses every governed write until [`Overlay::thaw`].
    pub fn freeze(&self) {
        self.frozen.store(true, Ordering::SeqCst);
        drop(self.tree.write()); // whoever was past the check has appended its entry
    }

    /// Returns when every operation that the old rules had allowed is in the log.
    pub fn drain(&self) {
        drop(self.tree.write());
    }

    pub fn thaw(&self) {
        self.frozen.store(false, Ordering::SeqCst);
    }

    /// Returns every path that was touched since the base: more than changed, never less.
    pub fn changed_paths(&self) -> Vec<RepoPath> {
        self.touched.lock().iter().cloned().collect()
    }

    /// Returns the base's files whose bytes the kernel has asked for: more were read
    /// where it had them already.
    pub fn read_paths(&self) -> BTreeSet<RepoPath> {
        let tree = self.tree.read();
        let read = tree.all().filter(|&idx| {
            let node = tree.node(idx);
            node.has_seen(WAS_READ) && node.kind.is_file() && node.is(FROM_BASE)
        });
        read.filter_map(|idx| tree.base_path(idx).ok()).collect()
    }

    pub fn numbers(&self) -> Numbers {
        Numbers {
            nodes: self.tree.read().len(),
            unsettled: self.dirty.lock().len(),
            descriptors: self.work.open_count(),
        }
    }

    /// Returns the inodes whose pages the kernel may still have to write back.
    pub fn mapped(&self) -> Vec<u64> {
        let tree = self.tree.read();
        let files = tree.all().filter(|&idx| {
            let node = tree.node(idx);
            node.kind.is_file() && node.has_seen(SHOWN_W) && node.known()
        });
        files.map(|idx| tree.node(idx).ino).collect()
    }

    /// Says whether the kernel may remember that a name is not in a directory.
    pub fn remembers_absence(&self, dir: u64) -> bool {
        crate::vfs::nodes::Realm::of(dir) != crate::vfs::nodes::Realm::Control
    }

    fn touch(&self, tree: &mut Tree, idx: Idx, path: &RepoPath) {
        tree.node_mut(idx).flags |= CHANGED;
        self.touch_path(path);
    }

    fn touch_path(&self, path: &RepoPath) {
        let mut touched = self.touched.lock();
        if !touched.contains(path) {
            touched.insert(path.clone());
        }
    }
}

/// What the classification of a new name asks, answered from base, gate and tree.
struct ZoneFacts<'a> {
    overlay: &'a Overlay,
    tree: &'a Tree,
    dir: Idx,
}

impl Facts for ZoneFacts<'_> {
    type Error = Error;

    fn tracked(&self, path: &RepoPath) -> Result<bool> {
        Ok(crate::domain::layer::base_entry(self.overlay.base.as_ref(), path)?.is_some())
    }

    fn ignored(&self, path: &RepoPath, is_dir: bool) -> Result<bool> {
        Ok(
            self.overlay.base.ignored(path, is_dir)?
                || (self.overlay.options.scratch)(path, is_dir),
        )
    }

    fn claimed(&self, path: &RepoPath) -> bool {
        self.overlay.gate.writable(path)
    }

    fn present(&self, path: &RepoPath) -> bool {
        let stands = self.tree.child(self.dir, path.name());
        stands.is_some_and(|idx| self.tree.node(idx).kind.is_file())
            || path.parent().is_some_and(|dir| {
                let named = self.overlay.gate.claimed_names(&dir);
                named.iter().any(|name| name == path.name())
            })
    }

    fn claimed_in(&self, dir: &RepoPath) -> Option<RepoPath> {
        let named = self.overlay.gate.claimed_names(dir);
        let named = named.iter().filter_map(|name| dir.join(name).ok());
        let present = self.tree.list(self.dir, 0).filter_map(|(_, idx)| {
            let file = self.tree.node(idx).kind.is_file();
            file.then(|| dir.join(self.tree.name(idx)).ok()).flatten()
        });
        named
            .chain(present)
            .find(|path| self.overlay.gate.writable(path))
    }

    fn guarded(&self, path: &RepoPath) -> bool {
        self.overlay.gate.guards(path)
    }

    fn extra(&self, name: &[u8]) -> bool {
        (self.overlay.options.transient)(name)
    }
}
