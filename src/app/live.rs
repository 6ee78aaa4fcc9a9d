//! Sessions that run: fixing where a write log ends while claims change hands.
//!
//! Owns: [`fence`], the one way to end what a session may write, and sealing what a
//! session without a server has written. Whoever ends a claim first fixes the cut: entries of the session's log after it do not count.
//! A live server answers with its last entry; a dead one's log is read by whoever
//! holds its lock; one that is alive and silent loses its connection first.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::app::control::{Answer, Ask, Live};
use crate::app::failure::Failure;
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

/// How long a live server may be silent before its connection is cut.
const SILENCE: Duration = Duration::from_secs(20);
/// How long a server may take to end after that.
const END: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(5);

/// A session that is held still while its claims change.
#[derive(Debug)]
pub struct Fence {
    cut: Option<Cut>,
    live: Option<Live>,
    /// Held while nobody serves, so that nobody starts to.
    _lock: Option<Lock>,
}

impl Fence {
    /// Returns the last entry that counts; `None` where the session has written nothing.
    pub fn cut(&self) -> Option<Cut> {
        self.cut.clone()
    }

    /// Lets the session go on, under the claims that it has now.
    pub fn lift(self) -> Result<(), Failure> {
        match self.live {
            Some(mut live) => match live.ask(&Ask::Refresh, SILENCE) {
                Ok(Answer::Failed { why }) => Err(Failure::failed(why)),
                // A server that ended meanwhile reads the rules when it starts again.
                _ => Ok(()),
            },
            None => Ok(()),
        }
    }
}

/// Tells the session's live server, if there is one, that the ledger changed.
pub fn refresh(site: &Site, id: &SessionId) {
    let dir = session::directory(&site.store, id);
    if let Ok(Some(mut live)) = Live::connect(&dir)
        && let Err(error) = live.ask(&Ask::Refresh, SILENCE)
    {
        tracing::warn!(%error, session = %id, "the server will see the change by itself");
    }
}

/// Holds a session still and says where its log ends: `claims` allow nothing from here on.
pub fn fence(site: &mut Site, id: &SessionId, claims: &[u64]) -> Result<Fence, Failure> {
    let dir = session::directory(&site.store, id);
    let connected = Live::connect(&dir);
    if let Ok(Some(mut live)) = connected {
        let ask = Ask::Fence { claims: claims.to_vec() };
        match live.ask(&ask, SILENCE) {
            Ok(Answer::Cut { cut }) => return Ok(Fence { cut, live: Some(live), _lock: None }),
            Ok(Answer::Failed { why }) => return Err(Failure::failed(why)),
            _ => {}
        }
    }
    stand_in(site, id, &dir)
}

/// Takes a dead or silent server's place: no entry can follow the ones that are there.
fn stand_in(site: &mut Site, id: &SessionId, dir: &Path) -> Result<Fence, Failure> {
    if !dir.exists() {
        return Ok(Fence { cut: None, live: None, _lock: None });
    }
    let begin = Instant::now();
    let mut aborted = false;
    loop {
        if let Some(lock) = Lock::take(dir).map_err(Failure::failed)? {
            let cut = seal_dead(site, id, &lock)?;
            return Ok(Fence { cut, live: None, _lock: Some(lock) });
        }
        if !aborted && begin.elapsed() > Duration::from_millis(500) {
            abort_connection(site, id);
            aborted = true;
        }
        if begin.elapsed() > END {
            return Err(Failure::failed(format!("the server of {id} neither answers nor ends"))
                .hint(format!("end it by its process id (in {}), then try again", dir.join("lock").display())));
        }
        std::thread::sleep(LOOK);
    }
}

/// Cuts the kernel's connection to a silent server: its mount fails closed.
fn abort_connection(site: &mut Site, id: &SessionId) {
    use std::os::unix::ffi::OsStringExt;
    use std::os::unix::fs::MetadataExt;
    let Ok(row) = session::load(site, id) else { return };
    let Some(mount) = row.mount else { return };
    let place = std::path::PathBuf::from(std::ffi::OsString::from_vec(mount.dir.0));
    // The parent answers without the silent server; the device number stands in mountinfo.
    let info = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let device = info.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        (fields.get(4).map(Path::new) == Some(place.as_path())).then(|| fields.get(2).map(|&dev| dev.to_owned()))?
    });
    let minor = device.as_deref().and_then(|device| device.split_once(':')).map(|(_, minor)| minor.to_owned());
    let minor = minor.or_else(|| {
        fs::metadata(&place).ok().map(|meta| nix::sys::stat::minor(meta.dev()).to_string())
    });
    if let Some(minor) = minor {
        let path = format!("/sys/fs/fuse/connections/{minor}/abort");
        if let Err(error) = fs::write(&path, "1") {
            tracing::warn!(%error, path, "the connection of a silent server cannot be cut");
        }
    }
}

/// Seals what a session without a server has written; its lock shows that none serves.
pub fn seal_dead(site: &mut Site, session: &SessionId, _lock: &Lock) -> Result<Option<Cut>, Failure> {
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
            && session::directory(&site.store, id).is_dir()
            && let Some(lock) = Lock::take(&session::directory(&site.store, id)).map_err(Failure::failed)?
        {
            seal_dead(site, id, &lock)?;
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
