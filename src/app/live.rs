//! Sessions that run: fixing where a write log ends while claims change hands.
//!
//! Owns: [`fence`], the one way to end what a session may write, and sealing. Whoever
//! ends a claim first fixes the cut: entries of the session's log after it do not
//! count. With no server alive the session's lock is taken, the log read to its
//! last whole line and sealed; nothing before the cut is lost.

use std::fs::{File, OpenOptions, TryLockError};

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

/// A session that is held still while its claims change.
#[derive(Debug)]
pub struct Fence {
    cut: Option<Cut>,
    /// Held while no server lives, so that none can start meanwhile.
    _lock: Option<File>,
}

impl Fence {
    /// Returns the last entry that counts; `None` where the session has written nothing.
    pub fn cut(&self) -> Option<Cut> {
        self.cut.clone()
    }

    /// Lets the session go on, under the claims that it has now.
    pub fn lift(self) -> Result<(), Failure> {
        drop(self);
        Ok(())
    }
}

/// Holds a session still and says where its log ends.
pub fn fence(site: &mut Site, session: &SessionId) -> Result<Fence, Failure> {
    let Some(lock) = lock(site, session)? else {
        return Ok(Fence {
            cut: None,
            _lock: None,
        });
    };
    let cut = seal_dead(site, session)?;
    Ok(Fence {
        cut,
        _lock: Some(lock),
    })
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
    Ok(Some(Cut {
        count: seal.count,
        head: seal.head,
    }))
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

/// Seals every open session that has no server; a live one seals itself.
pub fn seal_all(site: &mut Site) -> Result<(), Failure> {
    let state = site.ledger.state(&[Need::All(Kind::Session)])?;
    for (id, row) in &state.sessions {
        if row.state == SessionState::Open
            && let Some(lock) = lock(site, id)?
        {
            seal_dead(site, id)?;
            drop(lock);
        }
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
