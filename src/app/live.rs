//! Sessions that run: fixing where a write log ends while claims change hands.
//!
//! Owns: [`fence`], the one way to end what a session may write, and sealing. Whoever
//! ends a claim first fixes the cut: entries of the session's log after it do not
//! count. With no server alive the session's lock is taken, the log read to its
//! last whole line and sealed; nothing before the cut is lost.

use std::fs::{File, OpenOptions, TryLockError};
use std::time::Duration;

use crate::app::control::{Answer, Ask, Live};
use crate::app::failure::Failure;
use crate::app::log::{log_path, session_dir};
use crate::app::site::Site;
use crate::domain::command::Need;
use crate::domain::digest::Digest;
use crate::domain::entry::Seal;
use crate::domain::event::{Cut, Draft, Event, Sealed};
use crate::domain::names::SessionId;
use crate::domain::state::{Kind, SessionRow, SessionState};
use crate::store::versions::Versions;
use crate::store::writelog::{LogError, WriteLog};

/// The file in a session's directory that its server holds locked.
pub const LOCK: &str = "lock";

/// How long a live server may take to settle everything.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);
/// How long it may take for anything else.
const ASK_LIMIT: Duration = Duration::from_secs(10);

/// A session whose claims change: nothing more is written under those that end.
#[derive(Debug)]
pub struct Fence {
    cut: Option<Cut>,
    server: Option<Live>,
    /// Held while no server lives, so that none can start meanwhile.
    _lock: Option<File>,
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
    if let Some(mut server) = connect(site, session)? {
        let ask = Ask::Fence {
            claims: claims.to_vec(),
        };
        let cut = match server.ask(&ask, ASK_LIMIT) {
            Ok(Answer::Cut { count }) => Cut { count },
            other => return Err(unexpected(other)),
        };
        return Ok(Fence {
            cut: Some(cut),
            server: Some(server),
            _lock: None,
        });
    }
    let lock = lock(site, session)?;
    let cut = match &lock {
        Some(_) => seal_dead(site, session)?,
        None => None,
    };
    Ok(Fence {
        cut,
        server: None,
        _lock: lock,
    })
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
    Live::connect(&session_dir(site, session))
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
        Ok(other) => Failure::failed(format!("the session's server gave an unexpected answer: {other:?}")),
        Err(error) => Failure::failed(format!("the session's server does not answer: {error}"))
            .hint("end it with govfs unmount --force, then try again"),
    }
}

/// Takes a session's lock; `None` where it has no directory yet, or a server holds it.
fn lock(site: &Site, session: &SessionId) -> Result<Option<File>, Failure> {
    let dir = session_dir(site, session);
    if !dir.is_dir() {
        return Ok(None);
    }
    let path = dir.join(LOCK);
    let fault = |error: std::io::Error| Failure::failed(format!("{}: {error}", path.display()));
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(fault)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(fault(error)),
    }
}

/// Seals what a session without a server has written. The caller holds its lock.
fn seal_dead(site: &mut Site, session: &SessionId) -> Result<Option<Cut>, Failure> {
    let key = crate::domain::state::RowKey::new(Kind::Session, session);
    let state = site.ledger.state(&[Need::Row(key)])?;
    let Some(row) = state.sessions.get(session) else {
        return Ok(None);
    };
    let path = log_path(site, session);
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
    let (mut log, _) = WriteLog::open(&path, &row.agent, session, row.leaf, sealed.as_ref(), &mut |line| {
        if line.seq >= covered && line.op == "version" {
            fresh.extend(line.digest("sha256"));
        }
    })?;
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
    let draft = Draft::new(Event::Seal(sealed)).by(&row.agent).within(Some(session));
    site.act(|turn| {
        turn.append(&draft)?;
        Ok(())
    })?;
    Ok(())
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
        } else if let Some(lock) = lock(site, id)? {
            seal_dead(site, id)?;
            drop(lock);
        }
    }
    Ok(())
}

fn seal_live(
    site: &mut Site,
    id: &SessionId,
    row: &SessionRow,
    server: &mut Live,
) -> Result<(), Failure> {
    let sealing = match server.ask(&Ask::Settle, SETTLE_LIMIT) {
        Ok(Answer::Settled(sealing)) => sealing,
        other => return Err(unexpected(other)),
    };
    let seal = Seal {
        count: sealing.count,
        head: sealing.head,
        root: sealing.root,
    };
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
