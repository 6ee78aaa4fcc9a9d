//! `snapshot`: a session's tree as it was after an entry, rebuilt on disk.
//!
//! Owns: laying out base, layer and versions in a new directory. It is built aside
//! and appears whole, under a name that was free or an empty directory. Invariants:
//! every version is checked against its hash while it is copied; nothing outside
//! the directory is touched, whatever links the tree has: each name is made in a
//! directory held open, never through a path. A state that was never settled
//! cannot be rebuilt, and is refused by name.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::symlinkat;

use crate::app::content::{Contents, bad_version};
use crate::app::diff::settle;
use crate::app::failure::Failure;
use crate::app::keys;
use crate::app::layer::{self, Point};
use crate::app::log::Name;
use crate::app::site::Site;
use crate::domain::base::Base;
use crate::domain::digest::{Digest, Hasher};
use crate::domain::event::{Entry, Event};
use crate::domain::layer::{Content, TreeEntry};
use crate::domain::logop::FileMode;
use crate::domain::names::AgentName;
use crate::domain::path::RepoPath;
use crate::store::ledger::LedgerError;
use crate::store::versions::VersionError;

const BUFFER: usize = 1 << 17;

/// What was rebuilt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub dir: PathBuf,
    pub session: crate::domain::names::SessionId,
    /// How many entries of the session's log it shows.
    pub count: u64,
    pub files: u64,
    pub bytes: u64,
}

pub fn snapshot(
    site: &mut Site,
    agent: &AgentName,
    at: Option<&Name>,
    out: Option<&Path>,
) -> Result<Snapshot, Failure> {
    let Point { session, upto } = layer::point(site, agent, at)?;
    if let Some(why) = settle(site, &session)
        && at.is_none()
    {
        return Err(Failure::failed(format!("{}: {why}", session.id)));
    }
    let reading = layer::read(&session, upto)?;
    let contents = Contents::of(site, &session)?;
    let tree = reading
        .layer
        .tree(&contents.base)
        .map_err(|error| Failure::failed(format!("the base cannot be read: {error}")))?;
    refuse_unsettled(&tree)?;
    let count = reading.seal.count;
    let dir = match out {
        Some(dir) => std::path::absolute(dir).map_err(Failure::failed)?,
        None => keys::state_dir()?
            .join("snapshots")
            .join(format!("{}-{count}", session.id)),
    };
    let aside = Aside::beside(&dir)?;
    let mut build = Build {
        root: open_dir(aside.dir.path())?,
        last: None,
        contents: &contents,
        files: 0,
        bytes: 0,
    };
    for entry in &tree {
        build.put(site, entry)?;
    }
    let (files, bytes) = (build.files, build.bytes);
    drop(build);
    aside.publish(&dir)?;
    Ok(Snapshot {
        dir,
        session: session.id,
        count,
        files,
        bytes,
    })
}

fn refuse_unsettled(tree: &[TreeEntry]) -> Result<(), Failure> {
    let open: Vec<String> = tree
        .iter()
        .filter(|entry| entry.content == Content::Unsettled)
        .map(|entry| entry.path.to_string())
        .collect();
    if open.is_empty() {
        return Ok(());
    }
    Err(Failure::refused(format!(
        "at that entry these files were being written, and only settled states are kept: {}",
        open.join(" ")
    ))
    .hint("name the entry that settled them: govfs log --op version --path PATH"))
}

/// A directory that is taken away again unless it is published.
struct Aside {
    dir: tempfile::TempDir,
}

impl Aside {
    fn beside(dir: &Path) -> Result<Self, Failure> {
        let taken = match fs::read_dir(dir) {
            Ok(mut names) => names.next().is_some(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(_) => true,
        };
        if taken || fs::symlink_metadata(dir).is_ok_and(|meta| !meta.is_dir()) {
            return Err(
                Failure::refused(format!("{} is there already", dir.display()))
                    .hint("name a new directory with --out"),
            );
        }
        let parent = dir.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(parent).map_err(|error| fault(parent, &error))?;
        tempfile::Builder::new()
            .prefix(".govfs-snapshot-")
            .permissions(Permissions::from_mode(0o777))
            .tempdir_in(parent)
            .map(|dir| Self { dir })
            .map_err(|error| fault(parent, &error))
    }

    /// Gives it its name; only over nothing, or over an empty directory.
    fn publish(self, dir: &Path) -> Result<(), Failure> {
        fs::rename(self.dir.path(), dir).map_err(|error| fault(dir, &error))?;
        let _ = self.dir.keep(); // it has moved: there is nothing left to take away
        Ok(())
    }
}

/// A tree being laid out.
struct Build<'a> {
    root: OwnedFd,
    /// The directory that was written to last: the next name is mostly in it too.
    last: Option<(RepoPath, OwnedFd)>,
    contents: &'a Contents,
    files: u64,
    bytes: u64,
}

impl Build<'_> {
    fn put(&mut self, site: &mut Site, entry: &TreeEntry) -> Result<(), Failure> {
        let path = &entry.path;
        let at = |errno: Errno| Failure::failed(format!("{path}: {errno}"));
        let parent = path.parent().unwrap_or_default();
        self.enter(&parent)?;
        let dir = match &self.last {
            Some((_, dir)) => dir.as_fd(),
            None => self.root.as_fd(),
        };
        let name = path.name();
        let Some(mode) = entry.mode else {
            return mkdirat(dir, name, Mode::from_bits_truncate(0o777)).map_err(at);
        };
        self.files += 1;
        if mode == FileMode::Symlink {
            let target = self.whole(entry)?;
            return symlinkat(target.as_slice(), dir, name).map_err(at);
        }
        let bits = if mode == FileMode::Exec { 0o755 } else { 0o644 };
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(dir, name, flags, Mode::from_bits_truncate(bits)).map_err(at)?;
        self.bytes += self.fill(site, entry, File::from(file))?;
        Ok(())
    }

    /// Opens the directory `path`, name by name and never through a link.
    fn enter(&mut self, path: &RepoPath) -> Result<(), Failure> {
        if self.last.as_ref().is_some_and(|(last, _)| last == path) {
            return Ok(());
        }
        let mut dir = self.root.try_clone().map_err(Failure::failed)?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        for name in path.components() {
            dir = openat(&dir, name, flags, Mode::empty())
                .map_err(|errno| Failure::failed(format!("{path}: {errno}")))?;
        }
        self.last = Some((path.clone(), dir));
        Ok(())
    }

    /// Returns a content that is small by nature, or read whole from the base.
    fn whole(&self, entry: &TreeEntry) -> Result<Vec<u8>, Failure> {
        let fault = |error: io::Error| Failure::failed(format!("{}: {error}", entry.path));
        match &entry.content {
            Content::Target(target) => Ok(target.0.clone()),
            Content::Base(path) => {
                let found = self.contents.base.find(path).map_err(fault)?;
                let found = found.ok_or_else(|| {
                    Failure::integrity(format!("{path}: the base does not have it"))
                })?;
                self.contents.base.read(path, &found).map_err(fault)
            }
            _ => Err(Failure::integrity(format!("{}: no content", entry.path))),
        }
    }

    fn fill(&self, site: &mut Site, entry: &TreeEntry, mut file: File) -> Result<u64, Failure> {
        let fault = |error: io::Error| Failure::failed(format!("{}: {error}", entry.path));
        if let Content::Version { sha256, .. } = &entry.content {
            return self
                .copy(sha256, &mut file)
                .map_err(|error| lost(site, &entry.path, &error));
        }
        let bytes = self.whole(entry)?;
        file.write_all(&bytes).map_err(fault)?;
        Ok(bytes.len() as u64)
    }

    /// Copies a version, which may be larger than memory, and checks it on the way.
    fn copy(&self, sha256: &Digest, file: &mut File) -> Result<u64, VersionError> {
        let fault = |source| VersionError::Io {
            sha256: *sha256,
            source,
        };
        let mut source = self.contents.versions.open(sha256)?;
        let mut hasher = Hasher::default();
        let mut buffer = vec![0; BUFFER];
        loop {
            let count = source.read(&mut buffer).map_err(fault)?;
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
            file.write_all(&buffer[..count]).map_err(fault)?;
        }
        let len = hasher.len();
        match hasher.finish() {
            found if found == *sha256 => Ok(len),
            found => Err(VersionError::Altered {
                sha256: *sha256,
                found,
            }),
        }
    }
}

/// Says why a version cannot be had: dropped by an entry that says so, or lost.
pub fn lost(site: &mut Site, path: &RepoPath, error: &VersionError) -> Failure {
    let VersionError::Missing(sha256) = error else {
        return bad_version(path, error);
    };
    match dropped_by(site, sha256) {
        Ok(Some(entry)) => Failure::missing(format!(
            "{path}: its content then is past retention and was dropped by entry {entry}"
        )),
        Ok(None) => bad_version(path, error),
        Err(failure) => failure,
    }
}

fn dropped_by(site: &mut Site, sha256: &Digest) -> Result<Option<u64>, Failure> {
    let mut found = None;
    let lines = site.ledger.lines()?;
    lines.forward(0, &mut |seq, bytes| {
        let line = crate::domain::entry::Line::parse(bytes)
            .map_err(|fault| LedgerError::Damaged(fault.to_string()))?;
        if line.op == "gc" {
            let entry = Entry::from_line(&line, crate::domain::entry::leaf(bytes))?;
            if let Event::Gc(body) = entry.event
                && body.versions.contains(sha256)
            {
                found = Some(seq);
            }
        }
        Ok(found.is_none())
    })?;
    Ok(found)
}

fn open_dir(path: &Path) -> Result<OwnedFd, Failure> {
    File::open(path)
        .map(OwnedFd::from)
        .map_err(|error| fault(path, &error))
}

fn fault(path: &Path, error: &io::Error) -> Failure {
    Failure::failed(format!(
        "{}: {error}",
        String::from_utf8_lossy(path.as_os_str().as_bytes())
    ))
}
