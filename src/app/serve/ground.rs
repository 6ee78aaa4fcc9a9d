//! What a session's server stands on: log, base, layer, private git directory.
//!
//! Owns: opening a session's places in order (lock first), the recovery that an
//! overlay makes from its log, and how the base is shown. Nothing is served yet.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::app::clock;
use crate::app::failure::Failure;
use crate::app::keeper::{FirstWrite, Ground, Keeper, rules_of};
use crate::app::session::{Lock, Session};
use crate::app::site::Site;
use crate::domain::charter::Charter;
use crate::domain::command::Need;
use crate::domain::convert::{AutoCrlf, Eol, EolConfig};
use crate::domain::digest::Digest;
use crate::domain::entry::{Line, Seal, decode};
use crate::domain::event::{Pinned, Tier};
use crate::domain::gate::Kept;
use crate::domain::logop::LogOp;
use crate::domain::state::{Kind, RowKey, State};
use crate::domain::zone::gitdir_rule;
use crate::git::base::{GitBase, LfsProgram, Options as BaseOptions, PromisorGit, program};
use crate::git::private::{
    EXCLUDE, PrivateError, PrivateSpec, may_be_told, object_dirs, prepare, prepare_index,
    relocate_index,
};
use crate::store::versions::Versions;
use crate::store::writelog::{Loss, WriteLog, read_log};
use crate::vfs::overlay::{
    Control, Gitdir, History, Logged, Options, Overlay, Parts, Share, Since,
};

/// How long a file must be quiet before it settles.
const QUIET: Duration = Duration::from_millis(500);
const VOID: &str = "void";
/// Index templates, kept per base tree.
const INDEXES: &str = "indexes";

/// How the mount is shown: whose it is, and where.
#[derive(Clone, Debug)]
pub struct Shown {
    pub uid: u32,
    pub gid: u32,
    /// The mount's place as its user sees it.
    pub place: PathBuf,
    pub sealed: bool,
    /// What holds around the users of a mount of the host.
    pub tier: Tier,
    pub allow_other: bool,
}

/// An overlay ready to be served.
pub struct Opened {
    pub overlay: Arc<Overlay>,
    pub keeper: Arc<Keeper>,
    pub lock: Lock,
    pub loss: Option<Loss>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").finish_non_exhaustive()
    }
}

/// Makes the control zone once there is a keeper to speak of.
pub type ControlOf = Box<dyn FnOnce(&Arc<Keeper>) -> Arc<dyn Control>>;

/// What the server gives the overlay besides its own parts.
pub struct Doors {
    pub control: ControlOf,
    pub first_write: Option<FirstWrite>,
}

impl std::fmt::Debug for Doors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Doors").finish_non_exhaustive()
    }
}

/// Loads what a session's rules depend on.
pub fn state_for(site: &mut Site, session: &Session) -> Result<State, Failure> {
    let needs = [
        Need::Agent(session.agent.clone()),
        Need::All(Kind::Claim),
        Need::Row(RowKey::new(Kind::Charter, &session.row.charter)),
        Need::Row(RowKey::new(Kind::Session, &session.id)),
        Need::Row(RowKey::new(Kind::Intent, &session.id)),
    ];
    Ok(site.ledger.state(&needs)?)
}

/// Returns the charter that the session is pinned to.
pub fn pinned_charter(state: &State, session: &Session) -> Result<Charter, Failure> {
    let pinned = &session.row.charter;
    // Mostly it is the one in force, which is parsed already.
    if let Some(law) = state.law.as_ref().filter(|law| law.digest() == pinned) {
        return Ok(Charter::clone(law));
    }
    let row = state.charters.get(pinned);
    row.and_then(|row| Charter::parse(&row.text).ok())
        .ok_or_else(|| Failure::integrity("the session's charter is missing or cannot be read"))
}

/// Loads the charter that the session is pinned to.
pub fn pinned(site: &mut Site, session: &Session) -> Result<Charter, Failure> {
    let row = RowKey::new(Kind::Charter, &session.row.charter);
    let state = site.ledger.state(&[Need::Row(row)])?;
    pinned_charter(&state, session)
}

/// Opens everything that a session's server needs; takes its lock first.
pub fn open(
    site: &mut Site,
    session: &Session,
    shown: &Shown,
    doors: Doors,
) -> Result<Opened, Failure> {
    let mut lock = Lock::take(&session.dir)
        .map_err(Failure::failed)?
        .ok_or_else(|| {
            Failure::refused(format!("session {} is being served already", session.id))
        })?;
    let state = state_for(site, session)?;
    let charter = pinned_charter(&state, session)?;
    let (log, loss, noted) = open_log(session)?;
    let versions = Versions::of(&site.store);
    versions
        .after_boot(&clock::boot_id())
        .map_err(Failure::failed)?;
    let since = since(&lock, &versions, &noted.unsealed)?;
    let fresh = noted.unsealed.iter().map(|(_, sha256)| *sha256);
    let fresh = fresh.filter(|sha256| versions.has(sha256));
    let keeper = Keeper::new(Ground {
        agent: session.agent.clone(),
        session: session.id.clone(),
        log,
        fresh: fresh.collect(),
        versions,
        work: directory(&session.dir.join("work"))?,
        rules: rules_of(&state, &session.agent, &session.id),
        first_write: doors.first_write,
    })
    .map_err(|error| fault(&session.dir, &error))?;
    let keeper = Arc::new(keeper);
    let base = Arc::new(base(site, session)?);
    let objects = object_dirs(site.repo.common_dir());
    let parts = Parts {
        base: Arc::clone(&base) as _,
        gate: Arc::clone(&keeper) as _,
        work: directory(&session.dir.join("work"))?,
        scratch: directory(&session.dir.join("scratch"))?,
        shares: shares(site, &charter),
        gitdir: Some(gitdir(site, session, shown, &base, objects.len())?),
        control: Some((doors.control)(&keeper)),
        objects: objects
            .iter()
            .map(|dir| directory(dir))
            .collect::<Result<_, _>>()?,
    };
    let history = History {
        entries: &mut entries(session)?,
        voided: &noted.voided,
    };
    let overlay = Overlay::open(parts, options(charter, shown), history, since)
        .map_err(|error| Failure::integrity(format!("session {}: {error}", session.id)))?;
    lock.sign().map_err(|error| fault(&session.dir, &error))?;
    Ok(Opened {
        overlay,
        keeper,
        lock,
        loss,
    })
}

/// Says what the overlay may believe of the disk; after a reboot, damaged versions go first.
fn since<'a>(
    lock: &Lock,
    versions: &Versions,
    unsealed: &'a [(u64, Digest)],
) -> Result<Since<'a>, Failure> {
    if lock.same_boot() {
        return Ok(Since::SameBoot);
    }
    for (_, sha256) in unsealed {
        versions
            .set_aside_damaged(sha256)
            .map_err(Failure::failed)?;
    }
    Ok(Since::Reboot { unsealed })
}

/// What is noted of a log while it is checked: it may be longer than memory.
#[derive(Default)]
struct Noted {
    /// The entries that a later one undid.
    voided: BTreeSet<u64>,
    /// The contents that entries name which no seal covers.
    unsealed: Vec<(u64, Digest)>,
}

impl Noted {
    /// Takes up one line; one that cannot be read is named when its turn comes.
    fn note(&mut self, line: &Line<'_>, sealed: u64) {
        if line.op == VOID {
            if let Ok(LogOp::Void { entry, .. }) = decode(line) {
                self.voided.insert(entry);
            }
        } else if line.seq >= sealed
            && let Some(sha256) = decode(line).ok().and_then(|op| op.content())
        {
            self.unsealed.push((line.seq, sha256));
        }
    }
}

/// Opens the log, checked whole.
fn open_log(session: &Session) -> Result<(WriteLog, Option<Loss>, Noted), Failure> {
    let mut noted = Noted::default();
    let path = session.log();
    let (agent, id, first) = (&session.agent, &session.id, session.row.leaf);
    let sealed = session.row.sealed.as_ref().map(|row| Seal {
        count: row.count,
        head: row.head,
        root: row.root,
    });
    let never_sealed = sealed.as_ref().is_none_or(|seal| seal.count == 0);
    if never_sealed && !path.exists() {
        let log = WriteLog::create(&path, agent, id, first).map_err(Failure::failed)?;
        return Ok((log, None, noted));
    }
    let count = sealed.as_ref().map_or(0, |seal| seal.count);
    let note = &mut |line: &Line<'_>| noted.note(line, count);
    let opened = WriteLog::open(&path, agent, id, first, sealed.as_ref(), note);
    let (log, loss) = opened.map_err(Failure::integrity)?;
    Ok((log, loss, noted))
}

/// Reads the entries of a log that was checked when it was opened, one by one.
fn entries(session: &Session) -> Result<impl Iterator<Item = io::Result<Logged>>, Failure> {
    let path = session.log();
    let mut lines = read_log(&path).map_err(|error| fault(&path, &error))?;
    Ok(std::iter::from_fn(move || {
        let bytes = lines.read().transpose()?;
        Some(bytes.and_then(|bytes| {
            let line = Line::parse(bytes).map_err(io::Error::other)?;
            let unreadable = |error| io::Error::other(format!("entry {}: {error}", line.seq));
            Ok(Logged {
                seq: line.seq,
                ts: line.ts.0,
                op: decode(&line).map_err(unreadable)?,
            })
        }))
    }))
}

/// Opens the session's base as the operator's git would check it out.
pub fn base(site: &Site, session: &Session) -> Result<GitBase, Failure> {
    let common = site.repo.common_dir();
    GitBase::open(common, session.row.base, base_options(common, eol(session))).map_err(|error| {
        Failure::failed(format!(
            "the base {} cannot be read: {error}",
            session.row.base
        ))
    })
}

/// Says how trees of the repository `common` are shown.
pub fn base_options(common: &Path, eol: EolConfig) -> BaseOptions {
    BaseOptions {
        eol,
        smudge: program("git-lfs")
            .map(|lfs| Arc::new(LfsProgram::new(lfs, common.to_owned())) as _),
        fetch: program("git").map(|git| Arc::new(PromisorGit::new(git, common.to_owned())) as _),
    }
}

/// Returns the operator's line-ending settings as they were when the session began.
pub fn eol(session: &Session) -> EolConfig {
    eol_of(&session.row.config)
}

/// Reads line-ending settings as git's configuration spells them.
pub fn eol_of(config: &Pinned) -> EolConfig {
    EolConfig {
        autocrlf: match config.autocrlf.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => AutoCrlf::True,
            "input" => AutoCrlf::Input,
            _ => AutoCrlf::False,
        },
        eol: match config.eol.to_ascii_lowercase().as_str() {
            "crlf" => Eol::Crlf,
            _ => Eol::Lf,
        },
    }
}

/// Says how a tree is shown and kept under a charter.
pub fn options(charter: Charter, shown: &Shown) -> Options {
    let charter = Arc::new(charter);
    let names = Arc::clone(&charter);
    Options {
        uid: shown.uid,
        gid: shown.gid,
        real_owners: shown.allow_other && nix::unistd::geteuid().is_root(),
        clock: Arc::new(|| clock::wall().0),
        scratch: Arc::new(move |path, _| charter.scratch.iter().any(|one| one.covers(path))),
        transient: Arc::new(move |name| names.transient.adds(name)),
        quiet: QUIET,
        kept: Kept::default(),
    }
}

/// Opens the operator's directories that the charter shares; one that is not there is none.
pub fn shares(site: &Site, charter: &Charter) -> Vec<Share> {
    let Some(root) = site.repo.workdir() else {
        return Vec::new();
    };
    let literal = charter.share.iter().filter_map(|pattern| pattern.literal());
    literal
        .filter_map(|at| {
            let place = root.join(std::ffi::OsStr::from_bytes(at.as_bytes()));
            let dir = directory(&place).ok()?;
            Some(Share {
                at: at.clone(),
                dir,
            })
        })
        .collect()
}

fn gitdir(
    site: &Site,
    session: &Session,
    shown: &Shown,
    base: &Arc<GitBase>,
    objects: usize,
) -> Result<Gitdir, Failure> {
    let dir = session.dir.join("git");
    let objects = objects_seen(objects);
    let spec = PrivateSpec {
        common_dir: site.repo.common_dir(),
        objects: &objects,
        base: session.row.base,
        branch: &session.row.branch,
        agent: &session.agent,
        cat: asked(),
        eol: eol(session),
        exclude: EXCLUDE,
        shown: &session.dir.join("refs"),
    };
    prepare(&dir, &spec).map_err(Failure::failed)?;
    relocate_index(&dir, &shown.place).map_err(Failure::failed)?;
    let templates = site.store.join(INDEXES);
    let (base, place, inside) = (Arc::clone(base), shown.place.clone(), dir.clone());
    Ok(Gitdir {
        dir: directory(&dir)?,
        rule: gitdir_rule,
        prepare: Box::new(move || {
            prepare_index(&inside, &base, &templates, &place, EXCLUDE).map_err(errno_of)
        }),
    })
}

/// Returns what git asks for the list of changes, if the operator's git may be told.
/// It is the agent's too: the seal passes `PATH` on.
pub fn asked() -> Option<&'static Path> {
    let told = program("git").is_some_and(|git| may_be_told(&git));
    told.then_some(Path::new("/bin/cat"))
}

/// Keeps what kind of refusal of the disk it was, as the mount's users see it.
fn errno_of(error: PrivateError) -> std::io::Error {
    tracing::warn!(%error, "the index was not prepared; it will be tried again");
    match error {
        PrivateError::Write { source, .. } | PrivateError::Base { source } => source,
        error => std::io::Error::other(error),
    }
}

/// Where the repository's objects are seen from the private object directory: through
/// the mount itself, so that the place is the same inside a seal and outside.
pub fn objects_seen(count: usize) -> Vec<PathBuf> {
    (0..count)
        .map(|at| PathBuf::from(format!("../../.govfs/objects/{at}")))
        .collect()
}

pub fn directory(path: &Path) -> Result<OwnedFd, Failure> {
    let flags = libc::O_DIRECTORY | libc::O_CLOEXEC;
    let opened: std::io::Result<File> =
        OpenOptions::new().read(true).custom_flags(flags).open(path);
    opened
        .map(OwnedFd::from)
        .map_err(|error| fault(path, &error))
}

fn fault(path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format!("{}: {error}", path.display()))
}
