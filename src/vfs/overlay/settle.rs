//! Settling: a file's bytes become a version.
//!
//! Owns: when (fsync, rename, a quiet time, freeze, unmount), the order (bytes
//! kept under a second name, entry, first name dropped, so that a crash between
//! loses nothing) and the thread that does it. Invariants: the `version` entry's
//! hash is of exactly the bytes kept; a change that comes while a long file is
//! hashed postpones it; memory does not grow with the file.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use crate::domain::digest::Digest;
use crate::domain::logop::LogOp;
use crate::vfs::error::Error;
use crate::vfs::error::Result;
use crate::vfs::nodes::ORPHAN;
use crate::vfs::nodes::TRANSIENT;
use crate::vfs::overlay::Overlay;
use crate::vfs::working::Body;
use crate::vfs::working::FileMore;
use crate::vfs::working::hash_file;
use crate::vfs::working::work_name;

/// A shorter file is hashed without letting go of it.
const SHORT: u64 = 8 << 20;
/// A long file waits longer for quiet: this many bytes a second of waiting.
const BYTES_PER_SECOND: u64 = 64 << 20;
const WAIT_MAX: Duration = Duration::from_secs(30);
const TICK: Duration = Duration::from_millis(100);
/// How often a long file may change under a hash that must not be put off.
const TRIES: u32 = 8;

impl Overlay {
    /// Makes the bytes of one file a version, if they changed since the last.
    pub(super) fn settle(&self, ino: u64) -> Result<()> {
        for _ in 0..TRIES {
            if self.try_settle(ino)? {
                return Ok(());
            }
        }
        Ok(()) // it is being written without pause; it stays due
    }

    /// Settles one file; `false` where it changed meanwhile.
    fn try_settle(&self, ino: u64) -> Result<bool> {
        let Some(more) = self.due_file(ino)? else {
            self.dirty.lock().remove(&ino);
            return Ok(true);
        };
        let mut data = more.lock();
        if !data.unsettled {
            self.dirty.lock().remove(&ino);
            return Ok(true);
        }
        let file = self.working(ino, &more, &mut data)?;
        let size = more.size();
        let known = data.streamed(size);
        if known.is_none() && size > SHORT {
            let changes = data.changes;
            drop(data);
            let sha256 = hash_file(&file, size)?;
            data = more.lock();
            if data.changes != changes {
                return Ok(false);
            }
            self.keep_version(ino, &more, &mut data, sha256)?;
        } else {
            let sha256 = known.map_or_else(|| hash_file(&file, size), Ok)?;
            self.keep_version(ino, &more, &mut data, sha256)?;
        }
        Ok(true)
    }

    /// Returns the state of a governed file that may settle; transient ones and orphans do not.
    fn due_file(&self, ino: u64) -> Result<Option<Arc<FileMore>>> {
        let tree = self.tree.read();
        let node = match tree.by_ino(ino) {
            Ok(idx) => tree.node(idx),
            Err(Error::Stale) => return Ok(None),
            Err(error) => return Err(error),
        };
        let settles = node.kind.is_file() && !node.is(ORPHAN) && !node.is(TRANSIENT);
        Ok(node.file().filter(|_| settles).cloned())
    }

    fn keep_version(
        &self,
        ino: u64,
        more: &FileMore,
        data: &mut crate::vfs::working::Data,
        sha256: Digest,
    ) -> Result<()> {
        self.work.cut(ino, more.size())?;
        let file = self.work.open(ino)?;
        let moved = (self.gate).keep(&file, &work_name(ino), &sha256, data.whole)?;
        let recorded = self.record_version(ino, more, sha256);
        if moved {
            // The file is the version now, whatever becomes of its entry: the next
            // change starts from a copy, and that of an orphan too. Its first name
            // stays until the entry stands: after a crash the bytes are found by it.
            data.body = Body::Version(sha256);
            data.whole = false;
            self.work.close(ino);
        }
        if recorded? {
            data.unsettled = false;
            self.dirty.lock().remove(&ino);
        }
        if moved {
            self.work.remove(ino);
        }
        Ok(())
    }

    /// Appends a version's entry, if the file has a name.
    fn record_version(&self, ino: u64, more: &FileMore, sha256: Digest) -> Result<bool> {
        let tree = self.tree.read();
        let idx = tree.by_ino(ino)?;
        if tree.node(idx).is(ORPHAN) {
            return Ok(false);
        }
        self.gate.record(&LogOp::Version {
            path: tree.path(idx)?,
            size: more.size(),
            mode: tree.node(idx).kind.mode(),
            sha256,
        })?;
        Ok(true)
    }

    /// Lets a file settle at the settler's next turn.
    pub(super) fn settle_soon(&self, ino: u64) {
        // The file is locked only after the tree is let go: never in the other order.
        let file = {
            let tree = self.tree.read();
            let idx = tree.by_ino(ino).ok();
            idx.and_then(|idx| tree.node(idx).file().cloned())
        };
        if file.is_some_and(|file| file.lock().unsettled) {
            let due = Instant::now().checked_sub(WAIT_MAX);
            let mut dirty = self.dirty.lock();
            dirty.insert(ino, due.unwrap_or_else(Instant::now));
            self.wake.notify_one();
        }
    }

    /// Settles every file that has to; returns how many could not be.
    pub fn settle_all(&self) -> Result<usize> {
        let all: Vec<u64> = self.dirty.lock().keys().copied().collect();
        let mut first = None;
        for ino in all {
            if let Err(error) = self.settle(ino) {
                tracing::warn!(ino, %error, "a file did not settle");
                first.get_or_insert(error);
            }
        }
        self.flush_denials(true);
        match first {
            Some(error) => Err(error),
            None => Ok(self.pending()),
        }
    }

    /// Returns how many governed files changed since their last version.
    pub fn pending(&self) -> usize {
        let all: Vec<u64> = self.dirty.lock().keys().copied().collect();
        let due = all
            .iter()
            .filter(|&&ino| self.due_file(ino).is_ok_and(|file| file.is_some()));
        due.count()
    }

    /// Settles what has been quiet for long enough.
    fn settle_quiet(&self) {
        let now = Instant::now();
        let all: Vec<(u64, Instant)> = {
            let dirty = self.dirty.lock();
            dirty.iter().map(|(&ino, &since)| (ino, since)).collect()
        };
        for (ino, since) in all {
            let Ok(Some(more)) = self.due_file(ino) else {
                continue;
            };
            let (last, size) = (more.lock().last.unwrap_or(since), more.size());
            let asked = now.duration_since(since) >= WAIT_MAX;
            let quiet =
                self.options.quiet + Duration::from_secs(size / BYTES_PER_SECOND).min(WAIT_MAX);
            if !asked && now.duration_since(last) < quiet {
                continue;
            }
            if let Err(error) = self.try_settle(ino) {
                tracing::warn!(ino, %error, "a file did not settle; it will be tried again");
                self.dirty.lock().insert(ino, Instant::now());
            }
        }
    }
}

/// The thread that settles quiet files and flushes repeated refusals.
#[derive(Debug)]
pub struct Settler {
    overlay: Arc<Overlay>,
    thread: Option<JoinHandle<()>>,
}

impl Settler {
    pub fn start(overlay: &Arc<Overlay>) -> std::io::Result<Self> {
        let weak = Arc::downgrade(overlay);
        let thread = std::thread::Builder::new()
            .name("settler".into())
            .spawn(move || {
                while let Some(overlay) = weak.upgrade() {
                    if overlay.is_stopping() {
                        break;
                    }
                    overlay.settle_quiet();
                    overlay.flush_denials(false);
                    overlay.wait_for_work();
                }
            })?;
        Ok(Self {
            overlay: Arc::clone(overlay),
            thread: Some(thread),
        })
    }
}

impl Drop for Settler {
    fn drop(&mut self) {
        self.overlay.stop_settler();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a panic there was already reported
        }
    }
}

impl Overlay {
    fn is_stopping(&self) -> bool {
        self.stopping.load(std::sync::atomic::Ordering::SeqCst)
    }

    fn stop_settler(&self) {
        self.stopping
            .store(true, std::sync::atomic::Ordering::SeqCst);
        drop(self.dirty.lock());
        self.wake.notify_all();
    }

    /// Waits a tick when there is work, and longer when there is none.
    fn wait_for_work(&self) {
        let mut dirty = self.dirty.lock();
        if self.is_stopping() {
            return;
        }
        let wait = if dirty.is_empty() { TICK * 20 } else { TICK };
        self.wake.wait_for(&mut dirty, wait);
    }
}
