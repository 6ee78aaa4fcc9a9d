//! Objects by id, from several threads.
//!
//! Owns: the handles on git's object database and what happens when an object is
//! not where it was: a repack moves objects between packs, so a failed read is
//! tried once more with a handle opened anew, then once more after the operator's
//! git was asked to fetch it, before it is an error. Each handle of libgit2 holds
//! one lock while it inflates, so there are several, and a thread keeps to one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use git2::ErrorCode;
use git2::Odb;
use parking_lot::Mutex;
use parking_lot::RwLock;

use crate::domain::base::Oid;

use super::Fetch;

/// How many threads can inflate objects at the same time.
const HANDLES: usize = 4;

#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    #[error("cannot open the object database {path}: {reason}")]
    Open { path: PathBuf, reason: String },
    #[error("object {oid} is missing from the repository")]
    Missing { oid: Oid },
    #[error("object {oid} cannot be read: {reason}")]
    Unreadable { oid: Oid, reason: String },
    #[error("object {oid} is malformed or not of the kind expected")]
    Malformed { oid: Oid },
}

impl From<ObjectError> for io::Error {
    fn from(error: ObjectError) -> Self {
        Self::other(error)
    }
}

/// Has libgit2 remember no objects, in a process that lives long: what it serves is
/// kept once, in its own form.
pub fn remember_no_objects() {
    git2::opts::enable_caching(false);
}

pub(super) struct Objects {
    path: PathBuf,
    handles: Vec<RwLock<Arc<Odb<'static>>>>,
    fetch: Option<Arc<dyn Fetch>>,
}

impl std::fmt::Debug for Objects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Objects({})", self.path.display())
    }
}

impl Objects {
    /// Opens the object database at `path`, alternates included.
    pub(super) fn open(path: &Path, fetch: Option<Arc<dyn Fetch>>) -> Result<Self, ObjectError> {
        let handles = (0..HANDLES)
            .map(|_| open_handle(path).map(|odb| RwLock::new(Arc::new(odb))))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            path: path.to_path_buf(),
            handles,
            fetch,
        })
    }

    /// Returns the bytes of the object.
    pub(super) fn read(&self, oid: &Oid) -> Result<Vec<u8>, ObjectError> {
        self.attempt(oid, |odb, id| {
            odb.read(id).map(|object| object.data().to_vec())
        })
    }

    /// Returns the size of the object from its header alone.
    pub(super) fn size(&self, oid: &Oid) -> Result<u64, ObjectError> {
        self.attempt(oid, |odb, id| {
            odb.read_header(id).map(|(size, _)| size as u64)
        })
    }

    fn attempt<T>(
        &self,
        oid: &Oid,
        ask: impl Fn(&Odb<'static>, git2::Oid) -> Result<T, git2::Error>,
    ) -> Result<T, ObjectError> {
        let id = git2::Oid::from_bytes(&oid.0).map_err(|error| unreadable(oid, &error))?;
        let slot = &self.handles[thread_slot()];
        let handle = slot.read().clone();
        if let Ok(found) = ask(&handle, id) {
            return Ok(found);
        }
        let fresh = self.reopen(slot)?;
        let error = match ask(&fresh, id) {
            Ok(found) => return Ok(found),
            Err(error) => error,
        };
        if error.code() != ErrorCode::NotFound {
            return Err(unreadable(oid, &error));
        }
        if !self.fetch.as_ref().is_some_and(|fetch| fetch.fetch(oid)) {
            return Err(ObjectError::Missing { oid: *oid });
        }
        let fresh = self.reopen(slot)?;
        ask(&fresh, id).map_err(|_| ObjectError::Missing { oid: *oid })
    }

    /// Replaces a handle that may know packs which are gone.
    fn reopen(&self, slot: &RwLock<Arc<Odb<'static>>>) -> Result<Arc<Odb<'static>>, ObjectError> {
        let fresh = Arc::new(open_handle(&self.path)?);
        *slot.write() = fresh.clone();
        Ok(fresh)
    }
}

/// Returns a path as text, which is all that libgit2's binding takes. One that is none goes by a descriptor: one for
/// each such directory, kept as long as this process, because libgit2 comes back to the path whenever it likes.
pub(in crate::git) fn in_text(path: &Path) -> std::io::Result<String> {
    static OPENED: Mutex<BTreeMap<PathBuf, File>> = Mutex::new(BTreeMap::new());
    if let Some(text) = path.to_str() {
        return Ok(text.to_owned());
    }
    let mut opened = OPENED.lock();
    if !opened.contains_key(path) {
        opened.insert(path.to_owned(), File::open(path)?);
    }
    let number = opened.get(path).map(AsRawFd::as_raw_fd);
    Ok(format!("/proc/self/fd/{}", number.unwrap_or(-1)))
}

fn open_handle(path: &Path) -> Result<Odb<'static>, ObjectError> {
    let failed = |reason: String| ObjectError::Open {
        path: path.to_path_buf(),
        reason,
    };
    // libgit2 takes a path that is not there for an empty alternate.
    let metadata = path.metadata().map_err(|error| failed(error.to_string()))?;
    if !metadata.is_dir() {
        return Err(failed("not a directory".to_owned()));
    }
    let text = in_text(path).map_err(|error| failed(error.to_string()))?;
    let odb = Odb::new().map_err(|error| failed(error.message().to_owned()))?;
    odb.add_disk_alternate(&text)
        .map_err(|error| failed(error.message().to_owned()))?;
    Ok(odb)
}

fn unreadable(oid: &Oid, error: &git2::Error) -> ObjectError {
    ObjectError::Unreadable {
        oid: *oid,
        reason: error.message().to_owned(),
    }
}

/// Returns which handle this thread uses.
fn thread_slot() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static SLOT: usize = NEXT.fetch_add(1, Ordering::Relaxed) % HANDLES;
    }
    SLOT.with(|slot| *slot)
}
