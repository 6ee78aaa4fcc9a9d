//! The control zone: the virtual directory `.govfs`.
//!
//! Owns: its inodes. Each lookup of a file makes a new inode with a snapshot of
//! the bytes of that moment, so that no cache of the kernel's can be stale; the
//! directory stands in no listing. The repository's objects stand in it too, see
//! `objects`. Requests are written to `request` (or
//! `request.NAME`) and answered in `answer` (or `answer.NAME`) by a thread of
//! their own, so that a slow answer keeps no other request waiting.
//! Invariants: snapshots are dropped when the kernel forgets them; so many answers
//! are kept as `answers` says. Never decides what a request may do.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use crate::domain::gate::Refusal;
use crate::domain::gate::Tried;
use crate::domain::path::RepoPath;
use crate::vfs::error::Error;
use crate::vfs::error::Result;
use crate::vfs::nodes::ROOT_INO;
use crate::vfs::nodes::Realm;
use crate::vfs::overlay::Attr;
use crate::vfs::overlay::Caller;
use crate::vfs::overlay::FileKind;
use crate::vfs::overlay::Found;
use crate::vfs::overlay::Listed;
use crate::vfs::overlay::Overlay;
use crate::vfs::overlay::content::window;
use crate::vfs::overlay::objects::Objects;
use crate::vfs::overlay::objects::Shown;

mod answers;

use answers::{Answers, Given};

const REQUEST_MAX: usize = 1 << 20;
const CHANGED: &[u8] = b"changed";
const OBJECTS: &[u8] = b"objects";

/// What stands behind `.govfs`: the session's own view of claims and refusals.
pub trait Control: Send + Sync {
    /// Returns the names of the readable files (`README`, `claims`, `denials`, `plan` …).
    fn names(&self) -> Vec<String>;
    /// Returns a file's bytes as they are now.
    fn read(&self, name: &str) -> Option<Vec<u8>>;
    /// Answers a request written by `caller`; may take its time.
    fn submit(&self, request: &[u8], caller: Caller) -> Vec<u8>;
}

#[derive(Clone, Debug)]
enum Virtual {
    Snapshot(Arc<Vec<u8>>),
    /// A request that is being written; its answer goes under the name.
    Request(Vec<u8>),
    Answer(Arc<Given>),
}

pub(super) struct ControlDir {
    behind: Option<Arc<dyn Control>>,
    next: AtomicU64,
    files: Mutex<HashMap<u64, Virtual>>,
    answers: Arc<Answers>,
    objects: Objects,
}

impl ControlDir {
    pub(super) fn new(behind: Option<Arc<dyn Control>>, objects: Vec<OwnedFd>) -> Self {
        Self {
            behind,
            objects: Objects::new(objects),
            next: AtomicU64::new(2),
            files: Mutex::new(HashMap::new()),
            answers: Arc::default(),
        }
    }

    fn root_ino() -> u64 {
        Realm::Control.ino(1)
    }

    pub(super) fn root(&self, overlay: &Overlay) -> Result<Attr> {
        if self.behind.is_none() && self.objects.is_empty() {
            return Err(Error::NoEntry);
        }
        let now = overlay.now();
        Ok(attr(
            overlay,
            Self::root_ino(),
            FileKind::Directory,
            0o755,
            4096,
            now,
        ))
    }

    pub(super) fn lookup(&self, overlay: &Overlay, dir: u64, name: &[u8]) -> Result<Found> {
        if dir != Self::root_ino() {
            if !self.objects.knows(dir) {
                return Err(Error::NotDir);
            }
            let (ino, shown) = self.objects.lookup(dir, name, || self.fresh())?;
            return Ok(found_object(overlay, ino, shown));
        }
        if name == OBJECTS && !self.objects.is_empty() {
            let (ino, shown) = self.objects.top(|| self.fresh());
            return Ok(found_object(overlay, ino, shown));
        }
        let file = self.find(overlay, name).ok_or(Error::NoEntry)?;
        let ino = self.fresh();
        self.files.lock().insert(ino, file);
        Ok(Found {
            attr: self.attr(overlay, ino)?,
            lasting: false,
        })
    }

    fn fresh(&self) -> u64 {
        Realm::Control.ino(self.next.fetch_add(1, Ordering::Relaxed))
    }

    fn find(&self, overlay: &Overlay, name: &[u8]) -> Option<Virtual> {
        let behind = self.behind.as_ref()?;
        if name == CHANGED {
            let list = changed_list(&overlay.changed_paths());
            return Some(Virtual::Snapshot(Arc::new(list)));
        }
        if let Some(tag) = tag_of(name, b"request") {
            return Some(Virtual::Request(tag.to_vec()));
        }
        if let Some(tag) = tag_of(name, b"answer") {
            return self.answers.get(tag).map(Virtual::Answer);
        }
        let bytes = behind.read(std::str::from_utf8(name).ok()?)?;
        Some(Virtual::Snapshot(Arc::new(bytes)))
    }

    pub(super) fn attr(&self, overlay: &Overlay, ino: u64) -> Result<Attr> {
        if ino == Self::root_ino() {
            return self.root(overlay);
        }
        if self.objects.knows(ino) {
            return Ok(object_attr(overlay, ino, self.objects.shown(ino)?));
        }
        let (perm, size) = match self.files.lock().get(&ino).ok_or(Error::Stale)? {
            Virtual::Snapshot(bytes) => (0o444, bytes.len() as u64),
            Virtual::Answer(given) => (0o444, given.bytes.len() as u64),
            Virtual::Request(_) => (0o644, 0),
        };
        Ok(attr(
            overlay,
            ino,
            FileKind::Regular,
            perm,
            size,
            overlay.now(),
        ))
    }

    pub(super) fn read(&self, ino: u64, offset: u64, size: u32) -> Result<Vec<u8>> {
        if self.objects.knows(ino) {
            return self.objects.read(ino, offset, size);
        }
        match self.files.lock().get(&ino).ok_or(Error::Stale)? {
            Virtual::Request(_) => Ok(Vec::new()),
            Virtual::Snapshot(bytes) => Ok(bytes[window(bytes.len(), offset, size)].to_vec()),
            Virtual::Answer(given) => {
                let window = window(given.bytes.len(), offset, size);
                given.was_read(window.end);
                Ok(given.bytes[window].to_vec())
            }
        }
    }

    pub(super) fn list(
        &self,
        overlay: &Overlay,
        ino: u64,
        after: u64,
        plus: bool,
        each: &mut dyn FnMut(Listed) -> bool,
    ) -> Result<()> {
        if self.objects.knows(ino) {
            return self.list_objects(overlay, ino, after, plus, each);
        }
        if ino != Self::root_ino() {
            return Err(Error::NotDir);
        }
        let behind = self.behind.as_ref().ok_or(Error::NoEntry)?;
        let mut names: Vec<(Vec<u8>, u64, FileKind)> = vec![
            (b".".to_vec(), ino, FileKind::Directory),
            (b"..".to_vec(), ROOT_INO, FileKind::Directory),
        ];
        let files = behind.names();
        let files = files
            .iter()
            .map(String::as_bytes)
            .chain([CHANGED, b"request"]);
        let unknown = u64::MAX >> 1; // any number but 0 will do for a name that is not looked up
        names.extend(files.map(|name| (name.to_vec(), unknown, FileKind::Regular)));
        if !self.objects.is_empty() {
            names.push((OBJECTS.to_vec(), unknown, FileKind::Directory));
        }
        for (next, (name, ino, kind)) in (1..).zip(names) {
            let dots = matches!(name.as_slice(), b"." | b"..");
            let listed = Listed {
                name,
                ino,
                kind,
                next,
                attr: None,
            };
            if next > after && self.give(overlay, Self::root_ino(), listed, plus && !dots, each) {
                break;
            }
        }
        Ok(())
    }

    /// Hands one name of a listing over; says whether the listing is full.
    fn give(
        &self,
        overlay: &Overlay,
        dir: u64,
        mut listed: Listed,
        plus: bool,
        each: &mut dyn FnMut(Listed) -> bool,
    ) -> bool {
        if plus {
            let Ok(found) = self.lookup(overlay, dir, &listed.name) else {
                return false; // it went away in the meantime
            };
            listed.ino = found.attr.ino;
            listed.attr = Some(found.attr);
        }
        let ino = listed.ino;
        let full = each(listed);
        if full && plus {
            self.forget(ino, 1);
        }
        full
    }

    fn list_objects(
        &self,
        overlay: &Overlay,
        ino: u64,
        after: u64,
        plus: bool,
        each: &mut dyn FnMut(Listed) -> bool,
    ) -> Result<()> {
        self.objects.list(ino, after, &mut |name, is_dir, next| {
            let listed = Listed {
                name: name.to_vec(),
                ino: u64::MAX >> 1,
                kind: if is_dir {
                    FileKind::Directory
                } else {
                    FileKind::Regular
                },
                next,
                attr: None,
            };
            self.give(overlay, ino, listed, plus, each)
        })
    }

    /// Takes a request, whole in one write, and has it answered.
    pub(super) fn write(
        &self,
        overlay: &Overlay,
        ino: u64,
        offset: u64,
        bytes: &[u8],
        caller: Caller,
    ) -> Result<usize> {
        if self.objects.knows(ino) {
            return Err(overlay.deny_control(OBJECTS, Tried::Write, caller));
        }
        let tag = match self.files.lock().get(&ino).ok_or(Error::Stale)? {
            Virtual::Request(tag) => tag.clone(),
            Virtual::Snapshot(_) | Virtual::Answer(_) => {
                return Err(overlay.deny_control(b"", Tried::Write, caller));
            }
        };
        if offset != 0 || bytes.len() > REQUEST_MAX {
            return Err(Error::TooBig);
        }
        let behind = Arc::clone(self.behind.as_ref().ok_or(Error::Stale)?);
        let answers = Arc::clone(&self.answers);
        answers.remove(&tag);
        let request = bytes.to_vec();
        std::thread::Builder::new()
            .name("request".into())
            .spawn(move || {
                let answer = behind.submit(&request, caller);
                answers.put(tag, answer);
            })?;
        Ok(bytes.len())
    }

    pub(super) fn setattr(&self, overlay: &Overlay, ino: u64) -> Result<Attr> {
        let is_request = matches!(self.files.lock().get(&ino), Some(Virtual::Request(_)));
        if is_request {
            self.attr(overlay, ino)
        } else {
            Err(Error::Denied)
        }
    }

    pub(super) fn forget(&self, ino: u64, count: u64) {
        self.files.lock().remove(&ino);
        self.objects.forget(ino, count);
    }
}

/// Returns what follows `stem` in `stem` or `stem.TAG`.
fn tag_of<'a>(name: &'a [u8], stem: &[u8]) -> Option<&'a [u8]> {
    match name.strip_prefix(stem)? {
        b"" => Some(b""),
        rest => rest.strip_prefix(b"."),
    }
}

/// Writes the list of changed paths as git's file system monitor hook (version 2) does.
fn changed_list(paths: &[RepoPath]) -> Vec<u8> {
    let mut list = b"govfs\0".to_vec();
    for path in paths {
        list.extend_from_slice(path.as_bytes());
        list.push(0);
    }
    list
}

fn found_object(overlay: &Overlay, ino: u64, shown: Shown) -> Found {
    Found {
        attr: object_attr(overlay, ino, shown),
        lasting: shown.lasting,
    }
}

fn object_attr(overlay: &Overlay, ino: u64, shown: Shown) -> Attr {
    let perm = match shown.kind {
        FileKind::Directory => 0o555,
        _ => 0o444,
    };
    attr(overlay, ino, shown.kind, perm, shown.size, shown.time)
}

fn attr(overlay: &Overlay, ino: u64, kind: FileKind, perm: u16, size: u64, now: i64) -> Attr {
    Attr {
        ino,
        kind,
        perm,
        size,
        blocks: size.div_ceil(512),
        nlink: 1,
        rdev: 0,
        uid: overlay.options.uid,
        gid: overlay.options.gid,
        mtime: now,
        ctime: now,
        atime: now,
    }
}

impl Overlay {
    /// Refuses a change of a name in `.govfs`.
    pub(super) fn deny_control(&self, name: &[u8], tried: Tried, caller: Caller) -> Error {
        let dir = RepoPath::parse(b".govfs").unwrap_or_default();
        let path = dir.join(name).unwrap_or(dir);
        let refusal = Refusal::by_rule("control", "write a request to .govfs/request");
        self.deny(tried, &path, refusal, caller)
    }
}
