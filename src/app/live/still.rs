//! A session held still: settled, sealed, and (for a merge) closed to writing.
//!
//! Owns: [`Still`], under which a merge, an abandon or a sync reads what a session
//! has written. One at a time per session. With a live server the server settles
//! and freezes; with none, whoever holds the session's lock stands in, and files
//! that a dead server left unsettled are recovered first. Dropped without a word,
//! the server goes on under the claims it has.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};

use super::{ASK_LIMIT, LOOK, abort_connection, append_seal, expect_done, seal_dead, settled};
use crate::app::control::{Ask, Live};
use crate::app::failure::Failure;
use crate::app::merge::work;
use crate::app::serve::without_mount;
use crate::app::session::{self, Lock, Session};
use crate::app::site::Site;

/// How long a server may take to start or end before it counts as silent.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a silent one may take to end once its connection to the kernel is cut.
const END_LIMIT: Duration = Duration::from_secs(30);

/// A session that nothing is added to while this lives.
#[derive(Debug)]
pub struct Still {
    /// How many entries its log has.
    pub count: u64,
    server: Option<Live>,
    /// Held while no server lives, so that none can start meanwhile.
    _lock: Option<Lock>,
    _turn: Flock<File>,
}

impl Still {
    /// Says whether the session's server lives.
    pub fn is_served(&self) -> bool {
        self.server.is_some()
    }

    /// Lets the session go on as it was.
    pub fn thaw(self) -> Result<(), Failure> {
        match self.server {
            Some(mut server) => expect_done(server.ask(&Ask::Thaw, ASK_LIMIT)),
            None => Ok(()),
        }
    }

    /// Tells the server that the session is over, or stands elsewhere.
    pub fn changed(self) -> Result<(), Failure> {
        match self.server {
            Some(mut server) => expect_done(server.ask(&Ask::Refresh, ASK_LIMIT)),
            None => Ok(()),
        }
    }
}

/// How still a session is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Settled and sealed; a live server goes on afterwards.
    Settle,
    /// Also closed to writing until thawed.
    Freeze,
}

/// Holds `session` still and seals everything it has written.
pub fn hold(site: &mut Site, session: &Session, how: Hold) -> Result<Still, Failure> {
    let turn = take_turn(session)?;
    let begin = Instant::now();
    let mut aborted = false;
    loop {
        if let Some(server) = connected(session) {
            return held_by_server(site, session, server, how, turn);
        }
        if let Some(lock) = Lock::take(&session.dir).map_err(Failure::failed)? {
            let (lock, count) = stand_in(site, session, lock)?;
            return Ok(Still {
                count,
                server: None,
                _lock: Some(lock),
                _turn: turn,
            });
        }
        if begin.elapsed() > PATIENCE && !aborted {
            abort_connection(site, &session.id);
            aborted = true;
        }
        if begin.elapsed() > END_LIMIT {
            return Err(Failure::failed(format!(
                "the server of {} neither answers nor ends",
                session.id
            ))
            .hint(format!("govfs unmount {} --force", session.agent)));
        }
        std::thread::sleep(LOOK);
    }
}

/// A server that does not answer counts as none: its lock says whether it lives.
fn connected(session: &Session) -> Option<Live> {
    Live::connect(&session.dir).unwrap_or_else(|error| {
        tracing::warn!(%error, session = %session.id, "the server does not answer");
        None
    })
}

/// Waits until nobody else is ending or moving this session.
fn take_turn(session: &Session) -> Result<Flock<File>, Failure> {
    let path = session.dir.join("turn");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|error| Failure::failed(format!("{}: {error}", path.display())))?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| Failure::failed(errno))
}

fn held_by_server(
    site: &mut Site,
    session: &Session,
    mut server: Live,
    how: Hold,
    turn: Flock<File>,
) -> Result<Still, Failure> {
    let ask = match how {
        Hold::Settle => Ask::Settle,
        Hold::Freeze => Ask::Freeze,
    };
    let seal = settled(&mut server, &ask)?;
    let row = session::load(site, &session.id)?;
    if row.sealed.as_ref().is_none_or(|row| row.count < seal.count) {
        append_seal(site, &session.id, &row, &seal)?;
    }
    Ok(Still {
        count: seal.count,
        server: Some(server),
        _lock: None,
        _turn: turn,
    })
}

/// Does what the dead server did not: recovers, settles, seals.
fn stand_in(site: &mut Site, session: &Session, lock: Lock) -> Result<(Lock, u64), Failure> {
    let count = seal_dead(site, &session.id, &lock)?.map_or(0, |cut| cut.count);
    let row = session::load(site, &session.id)?;
    let session = Session::of(site, &session.id, &row);
    if !work::read(&session, count, &mut |_, _, _| {})?.has_unsettled() {
        return Ok((lock, count));
    }
    drop(lock); // opening the overlay takes it again
    let opened = without_mount(site, &session)?;
    opened
        .overlay
        .settle_all()
        .map_err(|error| Failure::failed(format!("not every file settled: {error}")))?;
    let seal = opened.keeper.seal().map_err(Failure::failed)?;
    append_seal(site, &session.id, &session.row, &seal)?;
    Ok((opened.lock, seal.count))
}
