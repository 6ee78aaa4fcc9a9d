//! Bytes of governed files: from the base, a version, or the working file.
//!
//! Owns: reading, the small memory of base blobs that are being read, and
//! copy-up before the first change. Invariants: a blob is kept in memory only
//! until its end was read, and never a large one; nobody waits for a copy but
//! who writes that file. Never decides, never logs.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::domain::base::BaseEntry;
use crate::domain::path::RepoPath;
use crate::vfs::error::Error;
use crate::vfs::error::Result;
use crate::vfs::nodes::READ;
use crate::vfs::nodes::WAS_READ;
use crate::vfs::overlay::Notice;
use crate::vfs::overlay::Overlay;
use crate::vfs::overlay::attr::base_place;
use crate::vfs::working::Body;
use crate::vfs::working::Data;
use crate::vfs::working::FileMore;
use crate::vfs::working::copy_all;

const BLOBS_MAX: usize = 16;
/// A larger blob is put into a nameless file when it is not read at once.
const BLOB_KEPT_MAX: usize = 2 << 20;

/// Base blobs that are being read piece by piece.
#[derive(Debug, Default)]
pub struct ReadCache {
    blobs: Mutex<VecDeque<(u64, Arc<Vec<u8>>)>>,
}

impl ReadCache {
    fn get(&self, ino: u64) -> Option<Arc<Vec<u8>>> {
        let blobs = self.blobs.lock();
        let found = blobs.iter().find(|(at, _)| *at == ino);
        found.map(|(_, blob)| Arc::clone(blob))
    }

    fn put(&self, ino: u64, blob: Arc<Vec<u8>>) {
        let mut blobs = self.blobs.lock();
        if blobs.len() >= BLOBS_MAX {
            blobs.pop_front();
        }
        blobs.push_back((ino, blob));
    }

    pub(super) fn drop_blob(&self, ino: u64) {
        self.blobs.lock().retain(|(at, _)| *at != ino);
    }
}

/// Where a read finds its bytes.
enum Source {
    Blob(Arc<Vec<u8>>),
    File(Arc<File>),
    Nothing,
}

impl Overlay {
    /// Reads up to `size` bytes at `offset` of a governed file and hands them to `answer`.
    pub(super) fn read_tree<T>(
        &self,
        ino: u64,
        offset: u64,
        size: u32,
        answer: impl FnOnce(&[u8]) -> T,
    ) -> Result<T> {
        match self.source(ino)? {
            Source::Nothing => Ok(answer(&[])),
            Source::Blob(blob) => {
                let asked = window(blob.len(), offset, size);
                if asked.end == blob.len() {
                    self.reads.drop_blob(ino);
                }
                Ok(answer(&blob[asked]))
            }
            Source::File(file) => Ok(answer(&read_at(&file, offset, size)?)),
        }
    }

    fn source(&self, ino: u64) -> Result<Source> {
        let place = {
            let tree = self.tree.read();
            let idx = tree.by_ino(ino)?;
            let node = tree.node(idx);
            if node.kind.is_dir() {
                return Err(Error::IsDir);
            }
            if !node.has_seen(READ)
                && let Some(dir) = tree.read_one(idx)
            {
                self.tell(Notice::Listing(dir));
            }
            node.see(READ | WAS_READ);
            match node.file() {
                Some(more) => Err(Arc::clone(more)),
                None => Ok(base_place(&tree, idx)?),
            }
        };
        match place {
            Ok((path, entry)) => self.base_source(ino, &path, &entry),
            Err(more) => {
                let body = more.lock().body;
                self.body_source(ino, body, &more)
            }
        }
    }

    fn body_source(&self, ino: u64, body: Body, more: &FileMore) -> Result<Source> {
        match body {
            Body::Empty => Ok(Source::Nothing),
            Body::Working => Ok(Source::File(self.work.open(ino)?)),
            Body::Version(sha256) => {
                if let Some(file) = self.work.recall(ino) {
                    return Ok(Source::File(file));
                }
                let file = Arc::new(self.gate.version(&sha256)?);
                self.work.remember(ino, Arc::clone(&file));
                Ok(Source::File(file))
            }
            Body::Base => {
                let (path, entry) = self.base_of(ino, more)?;
                self.base_source(ino, &path, &entry)
            }
        }
    }

    fn base_of(&self, ino: u64, more: &FileMore) -> Result<(RepoPath, BaseEntry)> {
        let tree = self.tree.read();
        let idx = tree.by_ino(ino)?;
        let (path, entry) = base_place(&tree, idx)?;
        debug_assert!(more.base_path.get().is_none_or(|pinned| *pinned == path));
        Ok((path, entry))
    }

    fn base_source(&self, ino: u64, path: &RepoPath, entry: &BaseEntry) -> Result<Source> {
        if let Some(blob) = self.reads.get(ino) {
            return Ok(Source::Blob(blob));
        }
        if let Some(file) = self.work.recall(ino) {
            return Ok(Source::File(file));
        }
        let blob = self.base.read(path, entry)?;
        if blob.len() > BLOB_KEPT_MAX {
            let mut file = self.work.nameless(ino)?;
            file.write_all(&blob)?;
            let file = Arc::new(file);
            self.work.remember(ino, Arc::clone(&file));
            return Ok(Source::File(file));
        }
        let blob = Arc::new(blob);
        self.reads.put(ino, Arc::clone(&blob));
        Ok(Source::Blob(blob))
    }

    /// Makes sure that a file has a working file with its bytes, and returns it.
    pub(super) fn working(&self, ino: u64, more: &FileMore, data: &mut Data) -> Result<Arc<File>> {
        let file = match data.body {
            Body::Working => return Ok(self.work.open(ino)?),
            Body::Empty => self.work.create(ino)?,
            Body::Version(sha256) => {
                let source = self.gate.version(&sha256)?;
                self.work.copy_up(ino, |target| copy_all(&source, target))?
            }
            Body::Base => {
                let (path, entry) = self.base_of(ino, more)?;
                let blob = self.base.read(&path, &entry)?;
                self.reads.drop_blob(ino);
                self.work.copy_up(ino, |target| target.write_all(&blob))?
            }
        };
        data.body = Body::Working;
        Ok(file)
    }
}

/// Returns which of `len` bytes a read of `size` at `offset` gets.
pub(super) fn window(len: usize, offset: u64, size: u32) -> Range<usize> {
    let from = usize::try_from(offset).unwrap_or(usize::MAX).min(len);
    from..from.saturating_add(size as usize).min(len)
}

/// Reads up to `size` bytes at `offset`; fewer only at the end of the file.
pub(in crate::vfs) fn read_at(file: &File, offset: u64, size: u32) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; size as usize];
    let mut got = 0;
    while got < bytes.len() {
        match file.read_at(&mut bytes[got..], offset + got as u64) {
            Ok(0) => break,
            Ok(more) => got += more,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(got);
    Ok(bytes)
}
