//! `restore`: one file put back as it was after an entry: a governed write like any other.
//!
//! Owns: finding the content then, checked by hash, and writing it where the
//! session is: through its mount while one stands, through an overlay of our own
//! under the session's lock otherwise. Invariants: the gate decides, and a refusal
//! is on record in the session's log; names of the mount are opened one by one
//! and never through a link. Never changes the log of a session that is over.

use std::fs::File;
use std::io;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, symlinkat, unlinkat};

use crate::app::claim::{self, Answer, Patience};
use crate::app::clock;
use crate::app::content::Contents;
use crate::app::control::{Ask, Live};
use crate::app::failure::Failure;
use crate::app::keeper::rules_of;
use crate::app::layer::{self, Point};
use crate::app::live;
use crate::app::log::Name;
use crate::app::serve::ground::{pinned_charter, state_for};
use crate::app::serve::{own_ids, record, without_mount};
use crate::app::session::Session;
use crate::app::site::Site;
use crate::app::snapshot::lost;
use crate::domain::base::Base;
use crate::domain::charter::ClaimMode;
use crate::domain::claim::Ask as ClaimAsk;
use crate::domain::event::{Event, Mode as ClaimKind, Sealed};
use crate::domain::gate::Tried;
use crate::domain::layer::Content;
use crate::domain::logop::FileMode;
use crate::domain::names::AgentName;
use crate::domain::path::{RepoPath, percent_decode};
use crate::domain::pattern::Pattern;
use crate::vfs::error::Error;
use crate::vfs::nodes::ROOT_INO;
use crate::vfs::overlay::{Caller, FileKind, Overlay, SetAttr};

const CHUNK: usize = 1 << 20;
const SETTLE: std::time::Duration = std::time::Duration::from_secs(60);

/// What was put back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    pub path: RepoPath,
    pub mode: FileMode,
    pub size: u64,
}

/// A file as it was.
struct Then {
    mode: FileMode,
    bytes: Vec<u8>,
}

pub fn restore(
    site: &mut Site,
    agent: &AgentName,
    path: &RepoPath,
    at: &Name,
) -> Result<Restored, Failure> {
    let session = Session::find(site, agent)?;
    let then = then(site, agent, path, at)?;
    claim_first(site, &session, path)?;
    let written = match live::connect(site, &session.id)? {
        Some(server) => through_mount(server, path, &then),
        None => unmounted(site, &session, path, &then),
    };
    match written {
        Ok(()) => Ok(Restored {
            path: path.clone(),
            mode: then.mode,
            size: then.bytes.len() as u64,
        }),
        Err(Trouble::Refused) => Err(refusal(site, &session, path)),
        Err(Trouble::Other(failure)) => Err(failure),
    }
}

/// Finds what stood at `path` after the entry.
fn then(site: &mut Site, agent: &AgentName, path: &RepoPath, at: &Name) -> Result<Then, Failure> {
    let Point { session, upto } = layer::point(site, agent, Some(at))?;
    let reading = layer::read(&session, upto)?;
    let contents = Contents::of(site, &session)?;
    let stood = reading.layer.at(&contents.base, path);
    let stood = stood.map_err(|error| Failure::failed(format!("{path}: {error}")))?;
    let (mode, content) = match stood {
        None => {
            return Err(Failure::missing(format!(
                "there was no {path} at entry {at}"
            )));
        }
        Some(stood) => match stood.mode {
            Some(mode) => (mode, stood.content),
            None => {
                return Err(Failure::usage(format!(
                    "{path} was a directory at entry {at}"
                )));
            }
        },
    };
    let bytes = match content {
        Content::Target(target) => target.0,
        Content::Version { sha256, .. } => contents
            .versions
            .read(&sha256)
            .map_err(|error| lost(site, path, &error))?,
        Content::Base(from) => {
            let fault = |error: io::Error| Failure::failed(format!("{from}: {error}"));
            let entry = contents.base.find(&from).map_err(fault)?;
            let entry =
                entry.ok_or_else(|| Failure::integrity(format!("{from}: not in the base")))?;
            contents.base.read(&from, &entry).map_err(fault)?
        }
        Content::None | Content::Unsettled => {
            return Err(Failure::refused(format!(
                "{path} was being written at entry {at}, and only settled states are kept"
            ))
            .hint(format!("govfs log --op version --path {path}")));
        }
    };
    Ok(Then { mode, bytes })
}

/// Where the charter says so, the first write to a free path claims it.
fn claim_first(site: &mut Site, session: &Session, path: &RepoPath) -> Result<(), Failure> {
    let state = state_for(site, session)?;
    let rules = rules_of(&state, &session.agent, &session.id);
    let free = rules
        .decide(Tried::Write, path, clock::boot_ms())
        .is_err_and(|refusal| refusal.rule == "not-claimed");
    if !free || pinned_charter(&state, session)?.claims.mode != ClaimMode::FirstWrite {
        return Ok(());
    }
    let pattern = Pattern::exactly(path).map_err(Failure::usage)?;
    let ask = ClaimAsk::new(session.agent.clone(), ClaimKind::Write, vec![pattern]);
    match claim::claim(site, ask, Patience::None)? {
        Answer::Granted(_) => Ok(()),
        Answer::Refused(refusal) => Err(refusal.into()),
    }
}

/// What stopped a write.
enum Trouble {
    Refused,
    Other(Failure),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Other(failure)
    }
}

impl From<Errno> for Trouble {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::EACCES | Errno::EPERM | Errno::EROFS => Self::Refused,
            errno => Self::Other(Failure::failed(format!("the mount: {errno}"))),
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)).into()
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        match error {
            Error::Denied | Error::NotPermitted => Self::Refused,
            error => Self::Other(Failure::failed(error)),
        }
    }
}

/// Says which rule refused.
fn refusal(site: &mut Site, session: &Session, path: &RepoPath) -> Failure {
    let state = match state_for(site, session) {
        Ok(state) => state,
        Err(failure) => return failure,
    };
    let rules = rules_of(&state, &session.agent, &session.id);
    match rules.decide(Tried::Write, path, clock::boot_ms()) {
        Err(refusal) => Failure::refused(format!(
            "{} may not write {path}: {}: {}",
            session.agent, refusal.rule, refusal.reason
        ))
        .hint(refusal.hint),
        Ok(_) => Failure::refused(format!("{} may not write {path}", session.agent))
            .hint(format!("govfs why {path} --agent {}", session.agent)),
    }
}

// Through the mount.

fn through_mount(mut server: Live, path: &RepoPath, then: &Then) -> Result<(), Trouble> {
    if server.hello.sealed {
        return Err(Trouble::Other(
            Failure::refused(format!(
                "the session runs sealed (server {}), where nobody else writes",
                server.hello.pid
            ))
            .hint("wait until the run ends"),
        ));
    }
    let place = percent_decode(&server.hello.at).unwrap_or_default();
    let place =
        PathBuf::from(<std::ffi::OsString as std::os::unix::ffi::OsStringExt>::from_vec(place));
    let root = openat(AT_FDCWD, &place, directory(), Mode::empty())?;
    let dir = walk(root, &path.parent().unwrap_or_default())?;
    let stat = match fstatat(&dir, path.name(), AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => Some(stat),
        Err(Errno::ENOENT) => None,
        Err(errno) => return Err(errno.into()),
    };
    put(&dir, path, stat, then)?;
    let answer = server.ask(&Ask::Settle, SETTLE)?;
    if let crate::app::control::Answer::Failed { why } = answer {
        return Err(Trouble::Other(Failure::failed(why)));
    }
    Ok(())
}

const fn directory() -> OFlag {
    OFlag::O_RDONLY
        .union(OFlag::O_DIRECTORY)
        .union(OFlag::O_NOFOLLOW)
        .union(OFlag::O_CLOEXEC)
}

/// Opens a directory of the mount, made where it is missing.
fn walk(root: OwnedFd, path: &RepoPath) -> Result<OwnedFd, Trouble> {
    let mut dir = root;
    for name in path.components() {
        dir = match openat(&dir, name, directory(), Mode::empty()) {
            Err(Errno::ENOENT) => {
                mkdirat(&dir, name, Mode::from_bits_truncate(0o777))?;
                openat(&dir, name, directory(), Mode::empty())?
            }
            opened => opened?,
        };
    }
    Ok(dir)
}

fn put(dir: &OwnedFd, path: &RepoPath, stat: Option<FileStat>, then: &Then) -> Result<(), Trouble> {
    let name = path.name();
    let kind = stat.map(|stat| SFlag::from_bits_truncate(stat.st_mode & libc::S_IFMT));
    if kind == Some(SFlag::S_IFDIR) {
        return Err(Trouble::Other(in_the_way(path)));
    }
    if kind.is_some() && (then.mode == FileMode::Symlink || kind != Some(SFlag::S_IFREG)) {
        unlinkat(dir, name, UnlinkatFlags::NoRemoveDir)?;
    }
    if then.mode == FileMode::Symlink {
        return Ok(symlinkat(then.bytes.as_slice(), dir, name)?);
    }
    let bits = if then.mode == FileMode::Exec {
        0o755
    } else {
        0o644
    };
    let flags =
        OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut file = File::from(openat(dir, name, flags, Mode::from_bits_truncate(bits))?);
    file.write_all(&then.bytes)?;
    let exec = file.metadata()?;
    let exec = std::os::unix::fs::PermissionsExt::mode(&exec.permissions()) & 0o100 != 0;
    if exec != (then.mode == FileMode::Exec) {
        fchmod(&file, Mode::from_bits_truncate(bits))?;
    }
    Ok(file.sync_all()?)
}

fn in_the_way(path: &RepoPath) -> Failure {
    Failure::refused(format!("{path} is a directory now")).hint("move it away first")
}

// Without a mount.

fn unmounted(
    site: &mut Site,
    session: &Session,
    path: &RepoPath,
    then: &Then,
) -> Result<(), Trouble> {
    let opened = without_mount(site, session)?;
    let (uid, gid) = own_ids();
    let caller = Caller {
        uid,
        gid,
        pid: std::process::id(),
    };
    let written = overlay_put(&opened.overlay, path, then, caller);
    let settled = opened.overlay.settle_all();
    let seal = opened.keeper.seal()?;
    let sealed = Sealed {
        count: seal.count,
        head: seal.head,
        root: seal.root,
        scratch: None,
    };
    record(site, session, Event::Seal(sealed))?;
    written?;
    settled?;
    Ok(())
}

fn overlay_put(
    overlay: &Overlay,
    path: &RepoPath,
    then: &Then,
    caller: Caller,
) -> Result<(), Trouble> {
    let mut dir = ROOT_INO;
    for name in path.parent().unwrap_or_default().components() {
        dir = match overlay.lookup(dir, name) {
            Ok(found) if found.attr.kind == FileKind::Directory => found.attr.ino,
            Ok(_) => return Err(Error::NotDir.into()),
            Err(Error::NoEntry) => overlay.mkdir(dir, name, 0o777, caller)?.ino,
            Err(error) => return Err(error.into()),
        };
    }
    let name = path.name();
    let mut there = match overlay.lookup(dir, name) {
        Ok(found) => Some(found.attr),
        Err(Error::NoEntry) => None,
        Err(error) => return Err(error.into()),
    };
    if there.is_some_and(|attr| attr.kind == FileKind::Directory) {
        return Err(Trouble::Other(in_the_way(path)));
    }
    let link = then.mode == FileMode::Symlink;
    if there.is_some_and(|attr| link || attr.kind != FileKind::Regular) {
        overlay.unlink(dir, name, caller)?;
        there = None;
    }
    if link {
        overlay.symlink(dir, name, &then.bytes, caller)?;
        return Ok(());
    }
    let exec = then.mode == FileMode::Exec;
    let bits = if exec { 0o755 } else { 0o644 };
    let ino = match there {
        None => overlay.create(dir, name, bits, caller)?.ino,
        Some(attr) => {
            let empty = SetAttr {
                size: Some(0),
                mode: (exec != (attr.perm & 0o100 != 0)).then_some(bits),
                ..SetAttr::default()
            };
            overlay.setattr(attr.ino, &empty, caller)?.ino
        }
    };
    for (at, chunk) in then.bytes.chunks(CHUNK).enumerate() {
        overlay.write(ino, (at * CHUNK) as u64, chunk, false, caller)?;
    }
    Ok(())
}
