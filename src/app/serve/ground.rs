//! What a session's server stands on: log, base, layer, private git directory.
//!
//! Owns: opening a session's places in order (lock first), the recovery that an
//! overlay makes from its log, and how the base is shown. Nothing is served yet.

use std::fs::{self, File, OpenOptions};
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
use crate::domain::entry::{Seal, decode};
use crate::domain::event::Pinned;
use crate::domain::state::{Kind, RowKey, State};
use crate::domain::zone::gitdir_rule;
use crate::git::base::{GitBase, LfsProgram, Options as BaseOptions, PromisorGit};
use crate::git::private::{
    EXCLUDE, PrivateError, PrivateSpec, object_dirs, prepare, prepare_index, relocate_index,
};
use crate::store::versions::Versions;
use crate::store::writelog::{Loss, WriteLog};
use crate::vfs::overlay::{Control, Gitdir, Logged, Options, Overlay, Parts, Share, Since};

/// How long a file must be quiet before it settles.
const QUIET: Duration = Duration::from_millis(500);
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
    let text = state
        .charters
        .get(&session.row.charter)
        .map(|row| row.text.as_str());
    text.and_then(|text| Charter::parse(text).ok())
        .ok_or_else(|| Failure::integrity("the session's charter is missing or cannot be read"))
}

/// Opens everything that a session's server needs; takes its lock first.
pub fn open(
    site: &mut Site,
    session: &Session,
    shown: &Shown,
    doors: Doors,
) -> Result<Opened, Failure> {
    let mut lock = Lock::take(&session.dir)
        .map_err(|error| fault(&session.dir, &error))?
        .ok_or_else(|| {
            Failure::refused(format!("session {} is being served already", session.id))
        })?;
    let state = state_for(site, session)?;
    let charter = pinned_charter(&state, session)?;
    let mut logged = Vec::new();
    let (log, loss) = open_log(session, &mut logged)?;
    let versions = Versions::of(&site.store);
    versions
        .after_boot(&clock::boot_id())
        .map_err(Failure::failed)?;
    let sealed = session.row.sealed.as_ref().map_or(0, |seal| seal.count);
    let fresh = contents_from(&logged, sealed);
    let since = if lock.same_boot() {
        Since::SameBoot
    } else {
        for sha256 in &fresh {
            versions
                .set_aside_damaged(sha256)
                .map_err(Failure::failed)?;
        }
        Since::Reboot { sealed }
    };
    let fresh = fresh.into_iter().filter(|sha256| versions.has(sha256));
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
    let overlay = Overlay::open(parts, options(charter, shown), &logged, since)
        .map_err(|error| Failure::integrity(format!("session {}: {error}", session.id)))?;
    lock.sign().map_err(|error| fault(&session.dir, &error))?;
    Ok(Opened {
        overlay,
        keeper,
        lock,
        loss,
    })
}

/// Returns the contents that entries name from entry `from` on.
fn contents_from(logged: &[Logged], from: u64) -> Vec<Digest> {
    let late = logged.iter().filter(|logged| logged.seq >= from);
    late.filter_map(|logged| logged.op.content()).collect()
}

fn open_log(
    session: &Session,
    logged: &mut Vec<Logged>,
) -> Result<(WriteLog, Option<Loss>), Failure> {
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
        return Ok((log, None));
    }
    let mut unreadable = None;
    let opened = WriteLog::open(
        &path,
        agent,
        id,
        first,
        sealed.as_ref(),
        &mut |line| match decode(line) {
            Ok(op) => logged.push(Logged {
                seq: line.seq,
                ts: line.ts.0,
                op,
            }),
            Err(error) => drop(unreadable.get_or_insert((line.seq, error))),
        },
    );
    if let Some((seq, error)) = unreadable {
        return Err(Failure::integrity(format!(
            "{id}:{seq} cannot be read: {error}"
        )));
    }
    opened.map_err(Failure::integrity)
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

/// Finds a program of the operator's by its absolute path.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(name))
        .find(|path| nix::unistd::access(path, nix::unistd::AccessFlags::X_OK).is_ok())
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
        cat: Path::new("/bin/cat"),
        eol: eol(session),
        exclude: EXCLUDE,
    };
    prepare(&dir, &spec).map_err(Failure::failed)?;
    relocate_index(&dir, &shown.place).map_err(Failure::failed)?;
    let templates = site.store.join(INDEXES);
    let (base, place, inside) = (Arc::clone(base), shown.place.clone(), dir.clone());
    Ok(Gitdir {
        dir: directory(&dir)?,
        rule: gitdir_rule,
        prepare: Box::new(move || {
            fs::create_dir_all(&templates)?;
            prepare_index(&inside, &base, &templates, &place, EXCLUDE).map_err(errno_of)
        }),
    })
}

/// Keeps the error number of what the disk refused, as the mount's users see it.
fn errno_of(error: PrivateError) -> std::io::Error {
    match error {
        PrivateError::Write { source, .. } if source.raw_os_error().is_some() => source,
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
