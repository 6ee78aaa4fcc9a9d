//! `status`: agents, sessions, mounts, tiers, claims, pending changes, refusals, sizes.
//!
//! Owns: gathering it, from the projections, the write logs and the live servers.
//! The cost is that of the changes and the sessions, never of the repository. A
//! mount whose server died is cleared away where it stands in the way. What cannot
//! be told of one session is said there and hides nothing else.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::app::claim;
use crate::app::content::Contents;
use crate::app::control::{Answer, Ask, Live};
use crate::app::diff;
use crate::app::failure::Failure;
use crate::app::layer::{self, Reading};
use crate::app::session::Session;
use crate::app::site::Site;
use crate::app::unmount;
use crate::domain::command::Need;
use crate::domain::event::{Mode, Tier};
use crate::domain::logop::LogOp;
use crate::domain::names::{AgentName, RoleName, SessionId};
use crate::domain::path::{RepoPath, percent_decode};
use crate::domain::request::Standing;
use crate::domain::state::{ClaimRow, Kind, SessionRow, SessionState, State};

/// How long a live server may take to say how busy it was.
const QUESTION: Duration = Duration::from_secs(10);
/// Kept contents are counted up to here: a screen must not take long.
const COUNTED_MAX: u64 = 20_000;

#[derive(Debug)]
pub struct Status {
    pub branch: String,
    /// `governor.md` was edited and is not in force.
    pub charter_edited: bool,
    pub sessions: Vec<SessionStatus>,
    /// Agents without an open session.
    pub idle: Vec<Idle>,
    /// Requests that wait for an answer.
    pub requests: u64,
    pub sizes: Sizes,
}

#[derive(Debug)]
pub struct Idle {
    pub agent: AgentName,
    pub role: RoleName,
    pub claims: Vec<ClaimRow>,
}

#[derive(Debug)]
pub struct SessionStatus {
    pub id: SessionId,
    pub row: SessionRow,
    pub role: Option<RoleName>,
    pub claims: Vec<ClaimRow>,
    pub server: Server,
    pub tier: Option<Tier>,
    pub work: Work,
    /// Bytes of its write log.
    pub log_bytes: u64,
    /// The server's counters, where they were asked for.
    pub stats: Option<String>,
    /// What could not be found out, and why.
    pub trouble: Option<String>,
}

/// Who serves a session's mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Server {
    None,
    Live {
        pid: u32,
        uid: u32,
        sealed: bool,
        /// Where the mount stands; `None` inside a seal.
        dir: Option<PathBuf>,
    },
    /// It died; its mount is gone, or was cleared away just now.
    Dead {
        dir: PathBuf,
        cleared: bool,
    },
}

/// What a session did.
#[derive(Debug, Default)]
pub struct Work {
    /// Git's letter and path of each change.
    pub changes: Vec<(char, RepoPath)>,
    /// Files that are being written.
    pub unsettled: u64,
    pub leftovers: Vec<RepoPath>,
    pub denials: u64,
    pub newest_denial: Option<(u64, LogOp)>,
    pub entries: u64,
    pub sealed: u64,
    /// Paths changed that no claim of the agent's covers now.
    pub unclaimed: Vec<RepoPath>,
}

/// How much room the store takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    pub ledger: u64,
    pub logs: u64,
    pub versions: u64,
    pub version_bytes: u64,
    /// There are more versions than were counted.
    pub more: bool,
}

pub fn status(site: &mut Site, with_stats: bool) -> Result<Status, Failure> {
    let state = due_ended(site)?;
    let branch = Site::target(&state)?;
    let shown = |row: &SessionRow| row.state == SessionState::Open || row.mount.is_some();
    let mut sessions = Vec::new();
    let mut sizes = Sizes {
        ledger: site.ledger.bytes(),
        ..Sizes::default()
    };
    for (id, row) in &state.sessions {
        let session = Session::of(site, id, row);
        let log_bytes = fs::metadata(session.log()).map_or(0, |meta| meta.len());
        sizes.logs += log_bytes;
        if shown(row) {
            sessions.push(look(site, &state, &session, log_bytes, with_stats));
        }
    }
    sessions.retain(|one| one.row.state == SessionState::Open || one.server != Server::None);
    count_versions(site, &mut sizes);
    let idle = state
        .agents
        .iter()
        .filter(|(_, row)| row.session.is_none())
        .map(|(agent, row)| Idle {
            agent: agent.clone(),
            role: row.role.clone(),
            claims: state.claims_of(agent).cloned().collect(),
        });
    Ok(Status {
        branch,
        charter_edited: site.has_uncommitted_edit(),
        idle: idle.collect(),
        requests: state
            .requests
            .values()
            .filter(|row| row.standing(&state) == Standing::Waiting)
            .count() as u64,
        sessions,
        sizes,
    })
}

/// Loads what there is, claims that have run out ended first.
fn due_ended(site: &mut Site) -> Result<State, Failure> {
    let needs = [
        Need::All(Kind::Agent),
        Need::All(Kind::Session),
        Need::All(Kind::Claim),
        Need::All(Kind::Request),
    ];
    claim::in_force(site, &needs)
}

fn look(
    site: &Site,
    state: &State,
    session: &Session,
    log_bytes: u64,
    with_stats: bool,
) -> SessionStatus {
    let mut trouble = None;
    let (server, stats) = match Live::connect(&session.dir) {
        Ok(Some(mut live)) => {
            let stats = with_stats.then(|| stats(&mut live)).flatten();
            (living(&live), stats)
        }
        Ok(None) => (dead(session), None),
        Err(error) => {
            trouble = Some(format!("its server does not answer: {error}"));
            (Server::None, None)
        }
    };
    let claims: Vec<ClaimRow> = state.claims_of(&session.agent).cloned().collect();
    let work = work(site, session, &claims).unwrap_or_else(|failure| {
        trouble = Some(failure.message);
        Work::default()
    });
    let on_host = matches!(server, Server::Live { sealed: false, .. });
    SessionStatus {
        id: session.id.clone(),
        role: state.agents.get(&session.agent).map(|row| row.role.clone()),
        tier: if on_host {
            Some(Tier::C)
        } else {
            session.row.tier
        },
        row: session.row.clone(),
        claims,
        server,
        work,
        log_bytes,
        stats,
        trouble,
    }
}

fn stats(live: &mut Live) -> Option<String> {
    match live.ask(&Ask::Stats, QUESTION) {
        Ok(Answer::Stats { text }) => Some(text),
        _ => None,
    }
}

fn living(live: &Live) -> Server {
    use std::os::unix::ffi::OsStringExt;
    let hello = &live.hello;
    let dir = percent_decode(&hello.at).filter(|at| !at.is_empty());
    Server::Live {
        pid: hello.pid,
        uid: hello.uid,
        sealed: hello.sealed,
        dir: dir.map(|dir| PathBuf::from(std::ffi::OsString::from_vec(dir))),
    }
}

fn dead(session: &Session) -> Server {
    use std::os::unix::ffi::OsStringExt;
    let Some(row) = &session.row.mount else {
        return Server::None;
    };
    let dir = PathBuf::from(std::ffi::OsString::from_vec(row.dir.0.clone()));
    let cleared = unmount::clear_stale(session, &dir).is_ok();
    Server::Dead { dir, cleared }
}

/// Returns what a session did; `claims` are its agent's.
pub(super) fn work(site: &Site, session: &Session, claims: &[ClaimRow]) -> Result<Work, Failure> {
    let reading = layer::read(session, None)?;
    let sealed = session.row.sealed.as_ref().map_or(0, |row| row.count);
    let mut work = Work {
        denials: reading.denials,
        newest_denial: reading.denied.clone(),
        entries: reading.seal.count,
        sealed,
        leftovers: reading.layer.leftovers(),
        ..Work::default()
    };
    if session.row.state == SessionState::Open && !reading.layer.touched().is_empty() {
        add_changes(site, session, &reading, claims, &mut work)?;
    }
    Ok(work)
}

fn add_changes(
    site: &Site,
    session: &Session,
    reading: &Reading,
    claims: &[ClaimRow],
    work: &mut Work,
) -> Result<(), Failure> {
    use crate::domain::layer::Content;
    let contents = Contents::of(site, session)?;
    for shift in diff::shifts(&contents, reading, &[])? {
        let open = shift.new.as_ref().and_then(|side| side.content()) == Some(&Content::Unsettled);
        work.unsettled += u64::from(open);
        let covers =
            |claim: &ClaimRow| claim.mode == Mode::Write && claim.pattern.covers(&shift.path);
        if !claims.iter().any(covers) {
            work.unclaimed.push(shift.path.clone());
        }
        work.changes.push((shift.letter(), shift.path));
    }
    Ok(())
}

/// Counts kept contents; a store that cannot be listed has none to show.
fn count_versions(site: &Site, sizes: &mut Sizes) {
    let shards = fs::read_dir(site.store.join("versions"));
    for shard in shards.into_iter().flatten().flatten() {
        for kept in fs::read_dir(shard.path()).into_iter().flatten().flatten() {
            if sizes.versions == COUNTED_MAX {
                sizes.more = true;
                return;
            }
            sizes.versions += 1;
            sizes.version_bytes += kept.metadata().map_or(0, |meta| meta.len());
        }
    }
}
