//! Sessions that run: fixing where a write log ends while claims change hands.
//!
//! Owns: [`fence`], the one way to end what a session may write, and sealing. Whoever
//! ends a claim first fixes the cut: entries of the session's log after it do not
//! count. With no server alive the session's lock is taken, the log read to its
//! last whole line and sealed; one that is alive and silent loses its connection
//! to the kernel first. Nothing before the cut is lost.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::stat::{major, minor};

use crate::app::control::{Answer, Ask, Live};
use crate::app::failure::Failure;
use crate::app::mounts;
use crate::app::session::{self, Lock};
use crate::app::site::Site;
use crate::domain::command::Need;
use crate::domain::digest::Digest;
use crate::domain::entry::Seal;
use crate::domain::event::{Cut, Draft, Event, Sealed};
use crate::domain::names::SessionId;
use crate::domain::state::{Kind, SessionRow, SessionState};
use crate::store::versions::Versions;
use crate::store::writelog::{LogError, WriteLog};

pub mod still;

/// How long a live server may take to settle everything.
const SETTLE_LIMIT: Duration = Duration::from_mins(1);
/// How long it may take for anything else.
const ASK_LIMIT: Duration = Duration::from_secs(10);
/// How long a server may take to end once its connection to the kernel is cut.
const END_LIMIT: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(5);

/// A session whose claims change: nothing more is written under those that end.
#[derive(Debug)]
pub struct Fence {
    cut: Option<Cut>,
    server: Option<Live>,
    /// Held while no server lives, so that none can start meanwhile.
    _lock: Option<Lock>,
}

impl Fence {
    /// Returns which entries count; `None` where the session has written nothing.
    pub fn cut(&self) -> Option<Cut> {
        self.cut.clone()
    }

    /// Lets the session go on, under the claims that it has now.
    pub fn lift(self) -> Result<(), Failure> {
        match self.server {
            Some(mut server) => expect_done(server.ask(&Ask::Refresh, ASK_LIMIT)),
            None => Ok(()),
        }
    }
}

/// Stops writing under `claims` and says where the session's log then ends.
pub fn fence(site: &mut Site, session: &SessionId, claims: &[u64]) -> Result<Fence, Failure> {
    if let Ok(Some(mut server)) = connect(site, session) {
        let ask = Ask::Fence {
            claims: claims.to_vec(),
        };
        match server.ask(&ask, ASK_LIMIT) {
            Ok(Answer::Cut { count }) => {
                return Ok(Fence {
                    cut: Some(Cut { count }),
                    server: Some(server),
                    _lock: None,
                });
            }
            Ok(other) => return Err(unexpected(Ok(other))),
            // It died meanwhile, or lives and is silent: somebody has to stand in.
            Err(error) => tracing::warn!(%error, %session, "the server does not answer"),
        }
    }
    stand_in(site, session)
}

/// Takes a dead or silent server's place: no entry can follow the ones that are there.
fn stand_in(site: &mut Site, session: &SessionId) -> Result<Fence, Failure> {
    let dir = session::directory(&site.store, session);
    if !dir.is_dir() {
        return Ok(Fence {
            cut: None,
            server: None,
            _lock: None,
        });
    }
    let begin = Instant::now();
    let mut aborted = false;
    loop {
        if let Some(lock) = Lock::take(&dir).map_err(Failure::failed)? {
            return Ok(Fence {
                cut: seal_dead(site, session, &lock)?,
                server: None,
                _lock: Some(lock),
            });
        }
        if !aborted {
            abort_connection(site, session);
            aborted = true;
        }
        if begin.elapsed() > END_LIMIT {
            let lock = dir.join("lock");
            return Err(Failure::failed(format!(
                "the server of {session} neither answers nor ends"
            ))
            .hint(format!(
                "end the process that {} names, then try again",
                lock.display()
            )));
        }
        std::thread::sleep(LOOK);
    }
}

/// Cuts the kernel's connection to a silent server: its mount fails closed, and the server ends.
pub fn abort_connection(site: &mut Site, session: &SessionId) {
    let Some(mount) = session::load(site, session).ok().and_then(|row| row.mount) else {
        return;
    };
    let place = PathBuf::from(OsString::from_vec(mount.dir.0));
    let connection = mounts::connection(&place).or_else(|| {
        // Out of this process's view (a seal's), unless its place shows the device.
        let device = fs::metadata(&place).ok()?.dev();
        (major(device) == 0).then(|| minor(device))
    });
    if let Some(connection) = connection
        && let Err(error) = mounts::cut_off(connection)
    {
        tracing::warn!(%error, connection, "the connection of a silent server cannot be cut");
    }
}

/// Tells the session's server, if one lives, that the ledger changed.
pub fn refresh(site: &Site, session: &SessionId) -> Result<(), Failure> {
    match connect(site, session)? {
        Some(mut server) => expect_done(server.ask(&Ask::Refresh, ASK_LIMIT)),
        None => Ok(()),
    }
}

/// Returns the connection to a session's live server.
pub fn connect(site: &Site, session: &SessionId) -> Result<Option<Live>, Failure> {
    Live::connect(&session::directory(&site.store, session))
        .map_err(|error| Failure::failed(format!("the server of session {session}: {error}")))
}

fn expect_done(answer: std::io::Result<Answer>) -> Result<(), Failure> {
    match answer {
        Ok(Answer::Done) => Ok(()),
        other => Err(unexpected(other)),
    }
}

fn unexpected(answer: std::io::Result<Answer>) -> Failure {
    match answer {
        Ok(Answer::Failed { why }) => Failure::failed(format!("the session's server: {why}")),
        Ok(other) => Failure::failed(format!(
            "the session's server gave an unexpected answer: {other:?}"
        )),
        Err(error) => Failure::failed(format!("the session's server does not answer: {error}"))
            .hint("end it with govfs unmount --force, then try again"),
    }
}

/// Seals what a session without a server has written; its lock shows that none serves.
pub fn seal_dead(
    site: &mut Site,
    session: &SessionId,
    _lock: &Lock,
) -> Result<Option<Cut>, Failure> {
    let key = crate::domain::state::RowKey::new(Kind::Session, session);
    let state = site.ledger.state(&[Need::Row(key)])?;
    let Some(row) = state.sessions.get(session) else {
        return Ok(None);
    };
    let path = session::directory(&site.store, session).join(session::LOG);
    if !path.exists() {
        return Ok(None);
    }
    let sealed = row.sealed.as_ref().map(|seal| Seal {
        count: seal.count,
        head: seal.head,
        root: seal.root,
    });
    let covered = sealed.as_ref().map_or(0, |seal| seal.count);
    let mut fresh: Vec<Digest> = Vec::new();
    let (mut log, _) = WriteLog::open(
        &path,
        &row.agent,
        session,
        row.leaf,
        sealed.as_ref(),
        &mut |line| {
            if line.seq >= covered && line.op == "version" {
                fresh.extend(line.digest("sha256"));
            }
        },
    )?;
    let seal = log.seal();
    if seal.count > covered {
        log.sync().map_err(Failure::failed)?;
        let versions = Versions::of(&site.store);
        fresh.retain(|sha256| versions.has(sha256));
        versions.make_durable(&fresh).map_err(Failure::failed)?;
        append_seal(site, session, row, &seal)?;
    }
    Ok(Some(Cut { count: seal.count }))
}

fn append_seal(
    site: &mut Site,
    session: &SessionId,
    row: &SessionRow,
    seal: &Seal,
) -> Result<(), Failure> {
    let sealed = Sealed {
        count: seal.count,
        head: seal.head,
        root: seal.root,
        scratch: None,
    };
    let draft = Draft::new(Event::Seal(sealed))
        .by(&row.agent)
        .within(Some(session));
    site.bind(draft)
}

/// Seals every open session; a live server settles first.
pub fn seal_all(site: &mut Site) -> Result<(), Failure> {
    let state = site.ledger.state(&[Need::All(Kind::Session)])?;
    for (id, row) in &state.sessions {
        if row.state != SessionState::Open {
            continue;
        }
        if let Some(mut server) = connect(site, id)? {
            seal_live(site, id, row, &mut server)?;
            continue;
        }
        let dir = session::directory(&site.store, id);
        if dir.is_dir()
            && let Some(lock) = Lock::take(&dir).map_err(Failure::failed)?
        {
            seal_dead(site, id, &lock)?;
        }
    }
    Ok(())
}

/// Has a server settle (and freeze, where `ask` says so); returns what it sealed.
fn settled(server: &mut Live, ask: &Ask) -> Result<Seal, Failure> {
    match server.ask(ask, SETTLE_LIMIT) {
        Ok(Answer::Settled(sealing)) => Ok(Seal {
            count: sealing.count,
            head: sealing.head,
            root: sealing.root,
        }),
        other => Err(unexpected(other)),
    }
}

fn seal_live(
    site: &mut Site,
    id: &SessionId,
    row: &SessionRow,
    server: &mut Live,
) -> Result<(), Failure> {
    let seal = settled(server, &Ask::Settle)?;
    if row.sealed.as_ref().map_or(0, |sealed| sealed.count) < seal.count {
        append_seal(site, id, row, &seal)?;
    }
    Ok(())
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        match &error {
            LogError::Io { .. } => Self::failed(&error),
            LogError::Broken { .. } | LogError::Short { .. } | LogError::Seal { .. } => {
                Self::integrity(&error).hint("govfs verify says where")
            }
        }
    }
}
