//! Changes of a file: bytes, length, mode, times, attributes.
//!
//! Owns: the way of a write: lock the file, ask the gate, append the entry, change
//! the bytes, answer. Invariants: the gate is asked for every request, however
//! long a handle has been open; a failed change after its entry is voided by
//! another; an orphan is changed without gate and log, for it has no path.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::domain::digest::Digest;
use crate::domain::gate::Check;
use crate::domain::gate::Recorded;
use crate::domain::gate::Refusal;
use crate::domain::gate::Tried;
use crate::domain::logop::FileMode;
use crate::domain::logop::LogOp;
use crate::domain::path::RepoPath;
use crate::vfs::error::Error;
use crate::vfs::error::Result;
use crate::vfs::nodes::Idx;
use crate::vfs::nodes::More;
use crate::vfs::nodes::ORPHAN;
use crate::vfs::nodes::Realm;
use crate::vfs::nodes::TRANSIENT;
use crate::vfs::nodes::Tree;
use crate::vfs::overlay::Caller;
use crate::vfs::overlay::Notice;
use crate::vfs::overlay::Overlay;
use crate::vfs::working::Body;
use crate::vfs::working::Data;
use crate::vfs::working::FileMore;

const NANOS: i64 = 1_000_000_000;

/// The gate's leave to change a file: where its entry goes.
pub(super) enum Leave {
    Orphan,
    Logged { path: RepoPath, claim: u64 },
}

impl Overlay {
    /// Returns the changeable state of a file, made on its first change.
    pub(super) fn changeable(&self, ino: u64) -> Result<Arc<FileMore>> {
        {
            let tree = self.tree.read();
            let node = tree.node(tree.by_ino(ino)?);
            if node.kind.is_dir() {
                return Err(Error::IsDir);
            }
            if let Some(file) = node.file() {
                return Ok(Arc::clone(file));
            }
        }
        let mut tree = self.tree.write();
        let idx = tree.by_ino(ino)?;
        self.make_changeable(&mut tree, idx)
    }

    pub(super) fn make_changeable(&self, tree: &mut Tree, idx: Idx) -> Result<Arc<FileMore>> {
        if let Some(file) = tree.node(idx).file() {
            return Ok(Arc::clone(file));
        }
        let (path, entry) = super::attr::base_place(tree, idx)?;
        let size = self.base.size(&path, &entry)?;
        let mtime = self.base.time().saturating_mul(NANOS);
        let file = Arc::new(FileMore::new(Body::Base, size, mtime));
        tree.node_mut(idx).more = More::File(Arc::clone(&file));
        Ok(file)
    }

    /// Asks the gate about a governed path.
    pub(super) fn permit(
        &self,
        tried: Tried,
        path: &RepoPath,
        caller: Caller,
    ) -> std::result::Result<u64, Refusal> {
        let kept = self.options.kept;
        if !kept.has(Check::Asking(tried)) {
            return Ok(0);
        }
        if self.frozen.load(Ordering::SeqCst) && kept.rule("frozen") {
            return Err(Refusal::by_rule(
                "frozen",
                "try again when the merge is over",
            ));
        }
        let by = self.actors.brief(caller.pid);
        self.gate
            .permit(tried, path, &by)
            .map(|permit| permit.claim())
    }

    /// Asks for leave to change a file that exists; a refusal is on record when this returns.
    pub(super) fn leave(
        &self,
        tree: &Tree,
        idx: Idx,
        tried: Tried,
        caller: Caller,
    ) -> Result<Leave> {
        let node = tree.node(idx);
        if node.is(ORPHAN) {
            return Ok(Leave::Orphan);
        }
        let path = tree.path(idx)?;
        let saves = if node.is(TRANSIENT) {
            node.file().and_then(|file| file.saves.lock().clone())
        } else {
            None
        };
        let asked = saves.as_ref().unwrap_or(&path);
        match self.permit(tried, asked, caller) {
            Ok(claim) => Ok(Leave::Logged {
                path,
                claim: if saves.is_some() { 0 } else { claim },
            }),
            Err(refusal) => Err(self.deny(tried, &path, refusal, caller)),
        }
    }

    /// Asks for leave and appends the entry that `entry` makes of it, both under
    /// one hold of the tree, so that the log knows the path of that moment.
    pub(super) fn log_change(
        &self,
        ino: u64,
        tried: Tried,
        caller: Caller,
        entry: impl FnOnce(RepoPath, u64) -> LogOp,
    ) -> Result<Option<Recorded>> {
        let tree = self.tree.read();
        let idx = tree.by_ino(ino)?;
        match self.leave(&tree, idx, tried, caller)? {
            Leave::Orphan => Ok(None),
            Leave::Logged { path, claim } => {
                let recorded = self.gate.record(&entry(path.clone(), claim))?;
                self.touch_path(&path);
                Ok(Some(recorded))
            }
        }
    }

    /// Refuses early, before bytes are copied for a change that would be refused.
    pub(super) fn check_change(&self, ino: u64, tried: Tried, caller: Caller) -> Result<()> {
        let tree = self.tree.read();
        let idx = tree.by_ino(ino)?;
        self.leave(&tree, idx, tried, caller).map(|_| ())
    }

    /// Writes to a file. `cached`: the kernel writes a mapped page back.
    pub fn write(
        &self,
        ino: u64,
        offset: u64,
        bytes: &[u8],
        cached: bool,
        caller: Caller,
    ) -> Result<u32> {
        let written = match Realm::of(ino) {
            Realm::Tree => self.write_tree(ino, offset, bytes, caller),
            Realm::Scratch | Realm::Gitdir => {
                self.check_real(ino, Tried::Write, caller)?;
                let real = self.real(ino)?;
                let file = real.file(ino, &|dir| self.tree_path(dir), true)?;
                Ok(write_all_at(&file, bytes, offset)?)
            }
            Realm::Control => self.control.write(self, ino, offset, bytes, caller),
        };
        if cached && matches!(written, Err(Error::Denied)) {
            self.tell(Notice::Data(ino)); // the page shows what was never written
        }
        written.map(|written| u32::try_from(written).unwrap_or(u32::MAX))
    }

    fn write_tree(&self, ino: u64, offset: u64, bytes: &[u8], caller: Caller) -> Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let end = (offset.checked_add(bytes.len() as u64))
            .filter(|&end| i64::try_from(end).is_ok())
            .ok_or(Error::TooBig)?;
        let more = self.changeable(ino)?;
        let mut data = more.lock();
        if !matches!(data.body, Body::Working | Body::Empty) {
            self.check_change(ino, Tried::Write, caller)?;
        }
        let file = self.working(ino, &more, &mut data)?;
        let streamed = data.hash_write(bytes, offset, more.size());
        let by = self.actors.brief(caller.pid);
        let recorded = self.log_change(ino, Tried::Write, caller, |path, claim| LogOp::Write {
            path,
            offset,
            len: bytes.len() as u64,
            sha256: streamed.digest,
            claim,
            by,
        })?;
        let result = write_all_at(&file, bytes, offset);
        self.settle_write(
            ino,
            &more,
            &mut data,
            recorded,
            result,
            (offset, end),
            streamed.stream,
            bytes,
        )
    }

    /// Books the outcome of a write that was logged.
    #[expect(
        clippy::too_many_arguments,
        reason = "one caller; a struct would only rename them"
    )]
    fn settle_write(
        &self,
        ino: u64,
        more: &FileMore,
        data: &mut Data,
        recorded: Option<Recorded>,
        result: io::Result<usize>,
        (offset, end): (u64, u64),
        stream: Option<crate::domain::digest::Hasher>,
        bytes: &[u8],
    ) -> Result<usize> {
        let now = recorded.map_or_else(|| self.now(), |recorded| recorded.ts.0);
        let written = match result {
            Ok(written) if written == bytes.len() => {
                data.changed(stream);
                more.set_size(more.size().max(end));
                written
            }
            Ok(written) => {
                // A full disk took some of it: the entry for all is void, one for the part follows.
                self.void(recorded, "short write");
                data.touched();
                self.mark_dirty(ino);
                self.log_change(ino, Tried::Write, Caller::default(), |path, claim| {
                    LogOp::Write {
                        path,
                        offset,
                        len: written as u64,
                        sha256: Digest::of(&bytes[..written]),
                        claim,
                        by: crate::domain::logop::Actor::default(),
                    }
                })
                .inspect_err(|_| self.cut_growth(ino, more))?;
                more.set_size(more.size().max(offset + written as u64));
                written
            }
            Err(error) => {
                self.void(recorded, &error.to_string());
                data.touched();
                self.mark_dirty(ino);
                self.cut_growth(ino, more);
                return Err(error.into());
            }
        };
        more.changed(now);
        self.mark_dirty(ino);
        Ok(written)
    }

    /// Takes away what a write that no entry stands for has left behind the file's
    /// end: it would come back as bytes of a hole, or as the tail of a version.
    fn cut_growth(&self, ino: u64, more: &FileMore) {
        if let Err(error) = self.work.cut(ino, more.size()) {
            tracing::error!(%error, ino, "a failed write could not be taken back");
        }
    }

    pub(super) fn void(&self, recorded: Option<Recorded>, reason: &str) {
        let Some(recorded) = recorded else { return };
        let void = LogOp::Void {
            entry: recorded.seq,
            reason: reason.to_owned(),
        };
        if let Err(error) = self.gate.record(&void) {
            tracing::error!(%error, entry = recorded.seq, "an entry could not be voided");
        }
    }

    pub(super) fn mark_dirty(&self, ino: u64) {
        let mut dirty = self.dirty.lock();
        if dirty.insert(ino, Instant::now()).is_none() && dirty.len() == 1 {
            self.wake.notify_one();
        }
    }

    pub(super) fn truncate(&self, ino: u64, size: u64, caller: Caller) -> Result<()> {
        if i64::try_from(size).is_err() {
            return Err(Error::TooBig);
        }
        let more = self.changeable(ino)?;
        let mut data = more.lock();
        let copies = size > 0 && !matches!(data.body, Body::Working | Body::Empty);
        let file = if copies || (size > 0 && data.body == Body::Empty) {
            self.check_change(ino, Tried::Truncate, caller)?;
            Some(self.working(ino, &more, &mut data)?)
        } else if size > 0 {
            Some(self.work.open(ino)?)
        } else {
            None
        };
        let by = self.actors.brief(caller.pid);
        let recorded = self.log_change(ino, Tried::Truncate, caller, |path, claim| {
            LogOp::Truncate {
                path,
                size,
                claim,
                by,
            }
        })?;
        if let Some(file) = file
            && let Err(error) = file.set_len(size)
        {
            self.void(recorded, &error.to_string());
            return Err(error.into());
        }
        if size == 0 {
            // A new file is cheaper than an old one cut short, which some file
            // systems write out when it is closed.
            match data.body {
                Body::Working => self.work.remove(ino),
                Body::Base | Body::Version(_) | Body::Empty => self.work.close(ino),
            }
            self.reads.drop_blob(ino);
            data.body = Body::Empty;
            data.emptied();
        } else {
            data.touched();
        }
        more.set_size(size);
        more.changed(recorded.map_or_else(|| self.now(), |recorded| recorded.ts.0));
        self.mark_dirty(ino);
        Ok(())
    }

    /// Makes what was written to a file durable, with its entries.
    pub fn fsync(&self, ino: u64) -> Result<()> {
        match Realm::of(ino) {
            Realm::Tree => {
                self.sync_bytes(ino)?;
                self.settle(ino)?;
                Ok(self.gate.sync()?)
            }
            Realm::Scratch | Realm::Gitdir => {
                let file = self
                    .real(ino)?
                    .file(ino, &|dir| self.tree_path(dir), false)?;
                Ok(file.sync_all()?)
            }
            Realm::Control => Ok(()),
        }
    }

    /// Makes a directory's names durable: they are entries of the log.
    pub fn fsync_dir(&self, ino: u64) -> Result<()> {
        match Realm::of(ino) {
            Realm::Tree => Ok(self.gate.sync()?),
            Realm::Scratch | Realm::Gitdir => self.fsync(ino),
            Realm::Control => Ok(()),
        }
    }

    /// Takes set-id bits from a file on disk that is about to be written.
    pub fn drop_set_id(&self, ino: u64) {
        if let (Realm::Scratch, Ok(real)) = (Realm::of(ino), self.real(ino)) {
            real.drop_set_id(ino, &|dir| self.tree_path(dir));
        }
    }

    /// Makes a file's bytes durable where they are: also where they have settled by themselves a moment before,
    /// as a version that no seal waited for yet.
    fn sync_bytes(&self, ino: u64) -> Result<()> {
        let more = {
            let tree = self.tree.read();
            tree.node(tree.by_ino(ino)?).file().cloned()
        };
        let Some(more) = more else { return Ok(()) };
        let (working, version) = {
            // Opened while the file is held: it cannot settle under its old name meanwhile.
            let data = more.lock();
            match data.body {
                Body::Working => (Some(self.work.open(ino)?), None),
                Body::Version(sha256) => (None, Some(self.gate.version(&sha256)?)),
                Body::Base | Body::Empty => (None, None),
            }
        };
        working.map_or(Ok(()), |file| file.sync_data())?;
        Ok(version.map_or(Ok(()), |file| file.sync_data())?)
    }
}

/// Writes until everything is written or the disk takes no more.
fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < bytes.len() {
        match file.write_at(&bytes[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(more) => done += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(done)
}

/// The mode that git would keep of a new file's.
pub(super) const fn mode_of(mode: u32) -> FileMode {
    if mode & 0o100 != 0 {
        FileMode::Exec
    } else {
        FileMode::Plain
    }
}
