//! Opening: the tree is made again from the log, and from what lies in the work directory.
//!
//! Owns: the fold of a write log into the overlay's own tree, through the calls
//! that live requests use. Invariants: inode numbers come out as they were; a file
//! without its working file falls back to its last version.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use parking_lot::Condvar;
use parking_lot::Mutex;
use parking_lot::RwLock;

use crate::domain::digest::Digest;
use crate::domain::logop::LogOp;
use crate::domain::path::RepoPath;
use crate::vfs::error::Error;
use crate::vfs::error::Result;
use crate::vfs::nodes::Kind;
use crate::vfs::nodes::TRANSIENT;
use crate::vfs::nodes::Tree;
use crate::vfs::overlay::Options;
use crate::vfs::overlay::Overlay;
use crate::vfs::overlay::Parts;
use crate::vfs::overlay::ReadCache;
use crate::vfs::overlay::content::read_at;
use crate::vfs::overlay::control::ControlDir;
use crate::vfs::overlay::denial::Actors;
use crate::vfs::overlay::denial::Coalescer;
use crate::vfs::overlay::recover::Wrote;
use crate::vfs::real::RealTree;
use crate::vfs::working::Body;
use crate::vfs::working::FileMore;
use crate::vfs::working::Times;
use crate::vfs::working::WorkDir;
use crate::vfs::working::work_name;

/// One entry of the log that an overlay is opened with.
#[derive(Clone, Debug)]
pub struct Logged {
    pub seq: u64,
    /// When, in nanoseconds since 1970.
    pub ts: i64,
    pub op: LogOp,
}

/// What lies between a log's last entry and its opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since<'a> {
    /// The machine has not been restarted: only the last entry can be half done.
    SameBoot,
    /// It has: the contents of these entries, which no seal covers, may not have
    /// reached the disk.
    Reboot { unsealed: &'a [(u64, Digest)] },
}

/// A log to open an overlay with, read entry by entry: it may be longer than memory.
pub struct History<'a> {
    pub entries: &'a mut dyn Iterator<Item = std::io::Result<Logged>>,
    /// The entries that a later one undid.
    pub voided: &'a BTreeSet<u64>,
}

impl std::fmt::Debug for History<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "History({} voided)", self.voided.len())
    }
}

/// What the log says about files that have not settled.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    /// By inode: the writes since its last version.
    pub(super) writes: HashMap<u64, Vec<Wrote>>,
}

impl Overlay {
    /// Makes the tree that a log describes.
    pub fn open(
        parts: Parts,
        options: Options,
        log: History<'_>,
        since: Since<'_>,
    ) -> Result<Arc<Self>> {
        let tree = Tree::new(parts.base.root());
        let overlay = Self {
            tree: RwLock::new(tree),
            work: WorkDir::new(parts.work),
            reads: ReadCache::default(),
            scratch: RealTree::scratch(parts.scratch, parts.shares, &options),
            gitdir: parts
                .gitdir
                .map(|gitdir| RealTree::gitdir(gitdir, &options)),
            control: ControlDir::new(parts.control, parts.objects),
            base: parts.base,
            gate: parts.gate,
            options,
            frozen: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            dirty: Mutex::new(HashMap::new()),
            wake: Condvar::new(),
            denials: Mutex::new(Coalescer::default()),
            actors: Actors::default(),
            touched: Mutex::new(BTreeSet::new()),
            notices: std::sync::OnceLock::new(),
        };
        let gone = overlay.void_lost(log.voided, since)?;
        let unsettled = overlay.replay(log, &gone)?;
        overlay.recover(&unsettled, since == Since::SameBoot)?;
        overlay.sweep_work()?;
        Ok(Arc::new(overlay))
    }

    /// Voids the entries whose contents a power loss took; what is left of their
    /// files is found as that of any file that had not settled.
    fn void_lost(&self, voided: &BTreeSet<u64>, since: Since<'_>) -> Result<BTreeSet<u64>> {
        let Since::Reboot { unsealed } = since else {
            return Ok(BTreeSet::new());
        };
        let mut gone = BTreeSet::new();
        for (seq, sha256) in unsealed.iter().filter(|(seq, _)| !voided.contains(seq)) {
            match self.gate.version(sha256) {
                Ok(_) => continue,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) if error.raw_os_error().is_some() => return Err(error.into()),
                Err(_) => {} // it is not there
            }
            self.gate.record(&LogOp::Void {
                entry: *seq,
                reason: "its content did not survive a power loss".to_owned(),
            })?;
            gone.insert(*seq);
        }
        Ok(gone)
    }

    fn replay(&self, log: History<'_>, gone: &BTreeSet<u64>) -> Result<Unsettled> {
        let mut unsettled = Unsettled::default();
        for logged in log.entries {
            let logged = logged?;
            if log.voided.contains(&logged.seq) || gone.contains(&logged.seq) {
                continue;
            }
            for path in crate::domain::layer::paths_of(&logged.op)
                .into_iter()
                .flatten()
            {
                self.load_to(path)?;
            }
            let mut tree = self.tree.write();
            self.replay_one(&mut tree, &logged, &mut unsettled)
                .map_err(|error| {
                    let why = format!("entry {} does not fit the tree: {error}", logged.seq);
                    Error::Io(std::io::Error::new(std::io::ErrorKind::InvalidData, why))
                })?;
        }
        Ok(unsettled)
    }

    /// Loads every directory on the way to a path, and the path itself if it is one.
    fn load_to(&self, path: &RepoPath) -> Result<()> {
        match self.find(path) {
            Ok(idx) => {
                let node = {
                    let tree = self.tree.read();
                    let node = tree.node(idx);
                    (node.kind == Kind::Dir).then_some(node.ino)
                };
                node.map_or(Ok(()), |ino| self.load(ino).map(|_| ()))
            }
            Err(Error::NoEntry) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn replay_one(
        &self,
        tree: &mut Tree,
        logged: &Logged,
        unsettled: &mut Unsettled,
    ) -> Result<()> {
        let at =
            |tree: &Tree, path: &RepoPath| tree.find(path).ok().flatten().ok_or(Error::NoEntry);
        match &logged.op {
            LogOp::Create { path, .. }
            | LogOp::Mkdir { path, .. }
            | LogOp::Symlink { path, .. } => {
                let dir = at(tree, &path.parent().unwrap_or_default())?;
                let made = self.put_new(tree, dir, &logged.op, logged.seq, logged.ts);
                made.map(|_| ()).ok_or(Error::Invalid)
            }
            LogOp::Rename {
                path,
                to,
                exchange,
                claim,
                ..
            } => {
                let source = at(tree, path)?;
                self.apply_rename(tree, path, to, *exchange, logged.ts)?;
                if *claim == 0 {
                    tree.node_mut(source).flags |= TRANSIENT;
                }
                Ok(())
            }
            LogOp::Unlink { path, .. } | LogOp::Rmdir { path, .. } => {
                let idx = at(tree, path)?;
                unsettled.writes.remove(&tree.node(idx).ino);
                self.take_out(tree, idx, logged.ts);
                self.touch_path(path);
                Ok(())
            }
            LogOp::Denied { .. } | LogOp::Void { .. } => Ok(()),
            _ => self.replay_file(tree, logged, unsettled),
        }
    }

    fn replay_file(
        &self,
        tree: &mut Tree,
        logged: &Logged,
        unsettled: &mut Unsettled,
    ) -> Result<()> {
        let (op, ts) = (&logged.op, logged.ts);
        let [Some(path), _] = crate::domain::layer::paths_of(op) else {
            return Ok(());
        };
        let idx = tree.find(path).ok().flatten().ok_or(Error::NoEntry)?;
        let ino = tree.node(idx).ino;
        self.touch_path(path);
        if let (LogOp::Times { mtime, .. }, true) = (op, tree.node(idx).kind.is_dir()) {
            let atime = self.times(tree, idx).atime;
            let (mtime, ctime) = (*mtime, ts);
            let times = Times {
                mtime,
                ctime,
                atime,
            };
            tree.set_dir_times(idx, times);
            return Ok(());
        }
        let more = self.make_changeable(tree, idx)?;
        let last = unsettled
            .writes
            .get_mut(&ino)
            .and_then(|all| all.last_mut());
        if let Some(last) = last {
            last.answered = true;
        }
        match op {
            LogOp::Write { .. } | LogOp::Truncate { .. } | LogOp::Hole { .. } => {
                let writes = unsettled.writes.entry(ino).or_default();
                replay_bytes(&more, logged, ts, writes);
            }
            LogOp::Version {
                size, sha256, mode, ..
            } => {
                unsettled.writes.remove(&ino);
                more.set_size(*size);
                settled(&more, *sha256);
                tree.node_mut(idx).kind = Kind::of_mode(*mode);
            }
            LogOp::Recovered { size, sha256, .. } => {
                unsettled.writes.remove(&ino);
                more.set_size(*size);
                settled(&more, *sha256);
            }
            LogOp::Mode { mode, .. } => {
                tree.node_mut(idx).kind = Kind::of_mode(*mode);
                more.set_ctime(ts);
            }
            LogOp::Times { mtime, .. } => more.set_mtime(*mtime),
            LogOp::Xattr { name, sha256, .. } => self.replay_xattr(&more, &name.0, *sha256)?,
            _ => {}
        }
        Ok(())
    }

    fn replay_xattr(&self, more: &FileMore, name: &[u8], sha256: Option<Digest>) -> Result<()> {
        let mut xattrs = more.xattrs.lock();
        match sha256 {
            None => {
                xattrs.remove(name);
            }
            Some(sha256) => {
                let file = self.gate.version(&sha256)?;
                let len = u32::try_from(file.metadata()?.len()).unwrap_or(u32::MAX);
                xattrs.insert(name.to_vec(), read_at(&file, 0, len)?);
            }
        }
        Ok(())
    }

    /// Removes working files that no node with a name has any more.
    pub(in crate::vfs) fn sweep_work(&self) -> Result<()> {
        let kept: BTreeSet<String> = {
            let tree = self.tree.read();
            let files = tree.all().filter(|&idx| {
                let file = tree.node(idx).file();
                file.is_some_and(|file| file.lock().body == Body::Working)
            });
            files.map(|idx| work_name(tree.node(idx).ino)).collect()
        };
        for name in self.work.names()? {
            if !kept.contains(&name) {
                self.work.remove_name(&name);
            }
        }
        Ok(())
    }
}

/// Replays what changes bytes; `writes` are those of the file that still count.
fn replay_bytes(more: &FileMore, logged: &Logged, ts: i64, writes: &mut Vec<Wrote>) {
    match &logged.op {
        LogOp::Write {
            offset,
            len,
            sha256,
            ..
        } => {
            more.set_size(more.size().max(offset + len));
            writes.push(Wrote {
                seq: logged.seq,
                offset: *offset,
                len: *len,
                sha256: *sha256,
                answered: false,
            });
            more.lock().touched();
        }
        LogOp::Truncate { size, .. } => {
            more.set_size(*size);
            writes.retain(|wrote| wrote.offset + wrote.len <= *size);
            let mut data = more.lock();
            if *size == 0 {
                writes.clear();
                data.body = Body::Empty;
                data.emptied();
            } else {
                data.touched();
            }
        }
        LogOp::Hole {
            offset, len, size, ..
        } => {
            more.set_size(*size);
            writes.retain(|wrote| {
                wrote.offset + wrote.len <= *offset || wrote.offset >= offset + len
            });
            more.lock().touched();
        }
        _ => return,
    }
    more.changed(ts);
}

pub(super) fn settled(more: &FileMore, sha256: Digest) {
    let mut data = more.lock();
    data.body = Body::Version(sha256);
    data.unsettled = false;
    data.whole = false;
    data.last = Some(Instant::now());
}
