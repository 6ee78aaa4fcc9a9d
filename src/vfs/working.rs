//! The private working files: where a governed file's bytes are between two versions.
//!
//! Owns: the work directory, its files (named by inode number, never by a path of
//! the agent's), the descriptors kept open, and per file the state of its bytes
//! (`Body`) with the hash that grows while it is written front to back.
//! Invariants: at most [`OPEN_MAX`] descriptors, and no more than a part of what
//! the process may have; a file that was not changed since its version has that
//! version's bytes; memory does not grow with a file's size.
//! Never decides whether a write is allowed, never appends an entry.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Instant;

use nix::sys::resource::{Resource, getrlimit};
use parking_lot::Mutex;
use parking_lot::MutexGuard;
use rustix::fs::AtFlags;
use rustix::fs::Mode;
use rustix::fs::OFlags;

use crate::domain::digest::Digest;
use crate::domain::digest::Hasher;
use crate::domain::path::RepoPath;

/// How many descriptors stay open between requests.
pub const OPEN_MAX: usize = 1000;
/// Of the descriptors that the process may have, the part that one set may hold.
const OPEN_SHARE: u64 = 8;
/// However few they are, a set holds some: a request needs its file.
const OPEN_MIN: usize = 4;
/// Up to this size a file's hash grows while it is written; a longer one is
/// read again when it settles, in the settler's own time: a write that waits
/// for two hashes takes nearly twice as long.
const STREAM_MAX: u64 = 1 << 20;
const COPY_BUFFER: usize = 1 << 20;

/// What a changed file has that an untouched one has not.
#[derive(Debug)]
pub(crate) struct FileMore {
    /// Where the base has it, once it was moved.
    pub(crate) base_path: OnceLock<RepoPath>,
    /// For a transient file: the claimed path that it saves.
    pub(crate) saves: Mutex<Option<RepoPath>>,
    size: AtomicU64,
    mtime: AtomicI64,
    ctime: AtomicI64,
    atime: AtomicI64,
    pub(crate) xattrs: Mutex<BTreeMap<Vec<u8>, Vec<u8>>>,
    pub(crate) target: OnceLock<Vec<u8>>,
    data: Mutex<Data>,
}

/// Where a file's bytes are now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    Base,
    Version(Digest),
    /// Nothing, and no working file yet.
    Empty,
    Working,
}

/// The state of a file's bytes, behind its lock. Order of locks: this one before the tree's.
#[derive(Debug)]
pub(crate) struct Data {
    pub(crate) body: Body,
    /// Holds the hash of all bytes, if they were written front to back.
    stream: Option<Hasher>,
    /// Rewritten as a whole since the last version: its file may become the version.
    pub(crate) whole: bool,
    /// Changed since the last version.
    pub(crate) unsettled: bool,
    /// Counts changes, so that a long hash can tell whether one came between.
    pub(crate) changes: u64,
    pub(crate) last: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) mtime: i64,
    pub(crate) ctime: i64,
    pub(crate) atime: i64,
}

impl FileMore {
    pub(crate) fn new(body: Body, size: u64, mtime: i64) -> Self {
        let fresh = body == Body::Empty;
        Self {
            base_path: OnceLock::new(),
            saves: Mutex::new(None),
            size: AtomicU64::new(size),
            mtime: AtomicI64::new(mtime),
            ctime: AtomicI64::new(mtime),
            atime: AtomicI64::new(mtime),
            xattrs: Mutex::new(BTreeMap::new()),
            target: OnceLock::new(),
            data: Mutex::new(Data {
                body,
                stream: fresh.then(Hasher::default),
                whole: fresh,
                unsettled: fresh,
                changes: 0,
                last: None,
            }),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Data> {
        self.data.lock()
    }

    pub(crate) fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    pub(crate) fn set_size(&self, size: u64) {
        self.size.store(size, Ordering::Release);
    }

    pub(crate) fn times(&self) -> Times {
        Times {
            mtime: self.mtime.load(Ordering::Relaxed),
            ctime: self.ctime.load(Ordering::Relaxed),
            atime: self.atime.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn set_mtime(&self, mtime: i64) {
        self.mtime.store(mtime, Ordering::Relaxed);
    }

    pub(crate) fn set_ctime(&self, ctime: i64) {
        self.ctime.store(ctime, Ordering::Relaxed);
    }

    pub(crate) fn set_atime(&self, atime: i64) {
        self.atime.store(atime, Ordering::Relaxed);
    }

    /// Notes that the bytes changed at `now`.
    pub(crate) fn changed(&self, now: i64) {
        self.set_mtime(now);
        self.set_ctime(now);
    }
}

impl Data {
    /// Hashes `bytes`, about to be written at `offset` of a file of `size` bytes,
    /// and carries the whole file's hash along where that is cheap.
    pub(crate) fn hash_write(&mut self, bytes: &[u8], offset: u64, size: u64) -> Streamed {
        let end = offset + bytes.len() as u64;
        let next = (self.stream.as_ref())
            .filter(|stream| stream.len() == offset && size == offset && end <= STREAM_MAX)
            .cloned();
        let Some(mut stream) = next else {
            return Streamed {
                digest: Digest::of(bytes),
                stream: None,
            };
        };
        stream.update(bytes);
        let digest = if offset == 0 {
            stream.clone().finish()
        } else {
            Digest::of(bytes)
        };
        Streamed {
            digest,
            stream: Some(stream),
        }
    }

    /// Notes a change of the bytes that the growing hash follows no more.
    pub(crate) fn touched(&mut self) {
        self.changed(None);
    }

    pub(crate) fn changed(&mut self, stream: Option<Hasher>) {
        self.stream = stream;
        self.unsettled = true;
        self.changes += 1;
        self.last = Some(Instant::now());
    }

    /// Notes that the file has no bytes now.
    pub(crate) fn emptied(&mut self) {
        self.changed(Some(Hasher::default()));
        self.whole = true;
    }

    /// Returns the hash of the whole file of `size` bytes, if it is known already.
    pub(crate) fn streamed(&self, size: u64) -> Option<Digest> {
        let stream = self.stream.as_ref()?;
        (stream.len() == size).then(|| stream.clone().finish())
    }
}

pub(crate) struct Streamed {
    pub(crate) digest: Digest,
    pub(crate) stream: Option<Hasher>,
}

/// The directory of working files.
#[derive(Debug)]
pub(crate) struct WorkDir {
    dir: OwnedFd,
    open: Mutex<OpenFiles>,
}

/// Descriptors kept open, the least used dropped first.
#[derive(Debug, Default)]
pub(crate) struct OpenFiles {
    files: HashMap<u64, (Arc<File>, u64)>,
    clock: u64,
}

/// Returns the name of the working file of an inode.
pub fn work_name(ino: u64) -> String {
    format!("{ino:016x}")
}

impl WorkDir {
    pub(crate) fn new(dir: OwnedFd) -> Self {
        Self {
            dir,
            open: Mutex::default(),
        }
    }

    /// Returns the working file of `ino`, which exists.
    pub(crate) fn open(&self, ino: u64) -> io::Result<Arc<File>> {
        self.cached(ino, || self.open_with(&work_name(ino), OFlags::RDWR))
    }

    /// Cuts a working file that is longer than `size`.
    pub(crate) fn cut(&self, ino: u64, size: u64) -> io::Result<()> {
        let file = self.open(ino)?;
        if file.metadata()?.len() > size {
            file.set_len(size)?;
        }
        Ok(())
    }

    /// Returns a new, empty working file for `ino`.
    pub(crate) fn create(&self, ino: u64) -> io::Result<Arc<File>> {
        self.close(ino);
        let name = work_name(ino);
        // Never one that is there: a name left behind can be that of a version's bytes.
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        self.cached(ino, || match self.open_with(&name, flags) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.remove_name(&name);
                self.open_with(&name, flags)
            }
            made => made,
        })
    }

    /// Fills a new working file by `write`; nothing is left behind when that fails.
    pub(crate) fn copy_up(
        &self,
        ino: u64,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> io::Result<Arc<File>> {
        self.close(ino);
        let name = work_name(ino);
        let part = format!("{name}.part");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC;
        let mut file = self.open_with(&part, flags)?;
        let filled = write(&mut file)
            .and_then(|()| Ok(rustix::fs::renameat(&self.dir, &part, &self.dir, &name)?));
        if let Err(error) = filled {
            self.remove_name(&part);
            return Err(error);
        }
        self.cached(ino, || Ok(file))
    }

    /// Copies a working file that is a version too, as after a crash: nobody may change its bytes.
    pub(crate) fn make_own(&self, ino: u64) -> io::Result<()> {
        let mut shared = self.open_with(&work_name(ino), OFlags::RDONLY)?;
        let meta = shared.metadata()?;
        if meta.nlink() > 1 || meta.mode() & 0o200 == 0 {
            self.copy_up(ino, |target| io::copy(&mut shared, target).map(drop))?;
        }
        Ok(())
    }

    pub(crate) fn remove_name(&self, name: &str) {
        // What is not there need not be removed, and a leftover is swept at the next start.
        let _ = rustix::fs::unlinkat(&self.dir, name, AtFlags::empty());
    }

    /// Removes the working file of `ino`.
    pub(crate) fn remove(&self, ino: u64) {
        self.close(ino);
        self.remove_name(&work_name(ino));
    }

    /// Makes a nameless file, for bytes that are only read.
    pub(crate) fn nameless(&self, ino: u64) -> io::Result<File> {
        let name = format!("{}.base", work_name(ino));
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC;
        let file = self.open_with(&name, flags)?;
        self.remove_name(&name);
        Ok(file)
    }

    /// Keeps `file` open for `ino`, for reading.
    pub(crate) fn remember(&self, ino: u64, file: Arc<File>) {
        self.open.lock().put(ino, file);
    }

    pub(crate) fn recall(&self, ino: u64) -> Option<Arc<File>> {
        self.open.lock().get(ino)
    }

    /// Forgets the descriptor of `ino`; whoever still uses it keeps it.
    pub(crate) fn close(&self, ino: u64) {
        self.open.lock().files.remove(&ino);
    }

    pub(crate) fn open_count(&self) -> usize {
        self.open.lock().files.len()
    }

    pub(crate) fn exists(&self, ino: u64) -> bool {
        rustix::fs::statat(&self.dir, work_name(ino), AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Returns the names of all files in the directory.
    pub(crate) fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        Ok(names)
    }

    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.dir
    }

    /// Makes a file that is no inode's working file.
    pub(crate) fn named(&self, name: &str) -> io::Result<File> {
        self.open_with(name, OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC)
    }

    fn open_with(&self, name: &str, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.dir, name, flags, Mode::RUSR | Mode::WUSR)?;
        Ok(File::from(fd))
    }

    fn cached(&self, ino: u64, open: impl FnOnce() -> io::Result<File>) -> io::Result<Arc<File>> {
        if let Some(file) = self.recall(ino) {
            return Ok(file);
        }
        let file = Arc::new(open()?);
        self.remember(ino, Arc::clone(&file));
        Ok(file)
    }
}

impl OpenFiles {
    pub(crate) fn get(&mut self, ino: u64) -> Option<Arc<File>> {
        self.clock += 1;
        let clock = self.clock;
        let (file, used) = self.files.get_mut(&ino)?;
        *used = clock;
        Some(Arc::clone(file))
    }

    pub(crate) fn close(&mut self, ino: u64) {
        self.files.remove(&ino);
    }

    pub(crate) fn take(&mut self, ino: u64) -> Option<Arc<File>> {
        self.files.remove(&ino).map(|(file, _)| file)
    }

    pub(crate) fn put(&mut self, ino: u64, file: Arc<File>) {
        self.clock += 1;
        if self.files.len() >= open_max() {
            self.drop_older_half();
        }
        self.files.insert(ino, (file, self.clock));
    }

    fn drop_older_half(&mut self) {
        let mut used: Vec<u64> = self.files.values().map(|(_, used)| *used).collect();
        used.sort_unstable();
        let cut = used[used.len() / 2];
        self.files.retain(|_, (_, used)| *used > cut);
    }
}

/// Returns how many descriptors one set may hold, by the limit of this process.
pub(crate) fn open_max() -> usize {
    static MAX: OnceLock<usize> = OnceLock::new();
    *MAX.get_or_init(|| {
        let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
        let part = usize::try_from(limit / OPEN_SHARE).unwrap_or(OPEN_MAX);
        part.clamp(OPEN_MIN, OPEN_MAX)
    })
}

/// Hashes `size` bytes of a file without holding more than a buffer of them.
pub(crate) fn hash_file(file: &File, size: u64) -> io::Result<Digest> {
    let mut hasher = Hasher::default();
    let mut buffer = vec![
        0;
        COPY_BUFFER
            .min(usize::try_from(size).unwrap_or(COPY_BUFFER))
            .max(1)
    ];
    let mut at = 0;
    while at < size {
        let got = file.read_at(&mut buffer, at)?;
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let got = got.min(usize::try_from(size - at).unwrap_or(got));
        hasher.update(&buffer[..got]);
        at += got as u64;
    }
    Ok(hasher.finish())
}

/// Copies the whole of `source` to `target`.
pub(crate) fn copy_all(source: &File, target: &mut File) -> io::Result<()> {
    let mut buffer = vec![0; COPY_BUFFER];
    let mut at = 0;
    loop {
        let got = source.read_at(&mut buffer, at)?;
        if got == 0 {
            return Ok(());
        }
        target.write_all(&buffer[..got])?;
        at += got as u64;
    }
}
