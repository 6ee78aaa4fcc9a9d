//! Sessions: one agent's work, from its first mount or run to merge or abandon.
//!
//! Owns: entering a session (continuing the open one, or starting one on a base),
//! where a session keeps its things, and its lock. A session's base is kept from
//! git's garbage collection before its entry is written. Never serves a mount.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use crate::app::claim::{self, Answer, Patience};
use crate::app::clock;
use crate::app::failure::Failure;
use crate::app::queue;
use crate::app::site::Site;
use crate::domain::base::Oid;
use crate::domain::claim::Ask;
use crate::domain::command::{Command, Need, new_agent};
use crate::domain::event::{Draft, Event, Mode, SessionOpened};
use crate::domain::logop::Bytes;
use crate::domain::names::{AgentName, PlanId, SessionId};
use crate::domain::pattern::Pattern;
use crate::domain::state::{SessionRow, State};
use crate::git::promote::Promote;
use crate::store::ledger::Turn;

/// Where sessions are kept inside the store.
pub const SESSIONS: &str = "sessions";
pub const LOG: &str = "log.jsonl";
/// The numbers of what the session's agent asked for, in order: tells a run's end whether there is anything to look up.
pub const ASKED: &str = "asked";
const PARTS: [&str; 3] = ["work", "scratch", "git"];

/// What somebody wants to work on.
#[derive(Clone, Debug)]
pub struct Wish {
    pub agent: AgentName,
    /// Claimed first, all or nothing.
    pub claims: Vec<Pattern>,
    pub base: Option<String>,
    pub plan: Option<PlanId>,
}

/// An open session.
#[derive(Clone, Debug)]
pub struct Session {
    pub id: SessionId,
    pub agent: AgentName,
    pub dir: PathBuf,
    pub row: SessionRow,
}

impl Session {
    /// Returns the agent's open session.
    pub fn find(site: &mut Site, agent: &AgentName) -> Result<Self, Failure> {
        let state = site.ledger.state(&[Need::Agent(agent.clone())])?;
        let Some((id, row)) = state.open_session(agent) else {
            return Err(
                Failure::missing(format!("{agent} has no open session")).hint(format!(
                    "govfs run {agent} -- COMMAND, or govfs mount {agent}"
                )),
            );
        };
        Ok(Self::of(site, id, row))
    }

    pub fn of(site: &Site, id: &SessionId, row: &SessionRow) -> Self {
        Self {
            id: id.clone(),
            agent: row.agent.clone(),
            dir: directory(&site.store, id),
            row: row.clone(),
        }
    }

    pub fn log(&self) -> PathBuf {
        self.dir.join(LOG)
    }

    pub fn asked(&self) -> PathBuf {
        self.dir.join(ASKED)
    }
}

/// Returns where the session `id` keeps its things.
pub fn directory(store: &Path, id: &SessionId) -> PathBuf {
    store.join(SESSIONS).join(id.as_str())
}

/// Claims what was wished for and continues the agent's session, or starts one.
pub fn enter(site: &mut Site, wish: &Wish) -> Result<Session, Failure> {
    if let Some(plan) = &wish.plan {
        queue::ensure(site, plan, &wish.agent)?;
    }
    if !wish.claims.is_empty() {
        let mut ask = Ask::new(wish.agent.clone(), Mode::Write, wish.claims.clone());
        ask.plan.clone_from(&wish.plan);
        if let Answer::Refused(refusal) = claim::claim(site, ask, Patience::None)? {
            return Err(refusal.into());
        }
    }
    let base = match &wish.base {
        Some(revision) => Some(site.repo.resolve(revision)?),
        None => None,
    };
    let state = site.ledger.state(&[Need::Agent(wish.agent.clone())])?;
    site.refuse_other_place(&state.meta)?;
    if let Some((id, row)) = state.open_session(&wish.agent) {
        refuse_other_base(id, row, base)?;
        let session = Session::of(site, id, row);
        make_places(&session.dir)?;
        return Ok(session);
    }
    start(site, wish, base)
}

fn refuse_other_base(id: &SessionId, row: &SessionRow, wished: Option<Oid>) -> Result<(), Failure> {
    match wished {
        Some(base) if base != row.base => Err(Failure::refused(format!(
            "session {id} stands on {}, not on {base}",
            row.base
        ))
        .hint(format!(
            "merge or abandon it first, or move it to today's branch: govfs sync {}",
            row.agent
        ))),
        _ => Ok(()),
    }
}

fn start(site: &mut Site, wish: &Wish, base: Option<Oid>) -> Result<Session, Failure> {
    let before = site.ledger.state(&[])?;
    let branch = Site::target(&before)?;
    let base = match base {
        Some(base) => base,
        None => site.repo.tip(&branch)?.ok_or_else(|| {
            Failure::missing(format!("{branch} has no commit to start from"))
                .hint("commit something, or name another commit with --base")
        })?,
    };
    let keeper = Promote::open(site.repo.common_dir()).map_err(Failure::failed)?;
    let config = site.repo.pinned();
    let root = Bytes(std::os::unix::ffi::OsStrExt::as_bytes(site.repo.root().as_os_str()).to_vec());
    let (id, _, state) = site.act(|turn| {
        turn.load(&[Need::Agent(wish.agent.clone())])?;
        if let Some(id) = turn.state().open_session_id(&wish.agent) {
            return Ok(id.clone()); // somebody was faster
        }
        let id = next_id(turn, &wish.agent)?;
        keeper.keep(&id, base).map_err(Failure::failed)?;
        let charter = turn.state().meta.charter.ok_or_else(|| {
            Failure::missing("this repository has no charter yet").hint("govfs init")
        })?;
        let opened = SessionOpened {
            base,
            branch: branch.clone(),
            charter,
            config: config.clone(),
            root: root.clone(),
            plan: wish.plan.clone(),
        };
        let draft = Draft::new(Event::Session(opened))
            .by(&wish.agent)
            .within(Some(&id));
        match turn.command(&Command::Fact(Box::new(draft)))? {
            Some(refusal) => Err(refusal.into()),
            None => Ok(id),
        }
    })?;
    let row = row_of(site, &state, &id)?;
    let session = Session::of(site, &id, &row);
    make_places(&session.dir)?;
    Ok(session)
}

/// Describes an agent that nobody described, and gives its next session a name.
fn next_id(turn: &mut Turn<'_>, agent: &AgentName) -> Result<SessionId, Failure> {
    if !turn.state().agents.contains_key(agent) {
        let draft = new_agent(turn.state(), agent)?;
        turn.append(&draft)?;
    }
    let had = turn.state().agents.get(agent).map_or(0, |row| row.sessions);
    Ok(SessionId::nth(agent, had + 1))
}

fn row_of(site: &mut Site, state: &State, id: &SessionId) -> Result<SessionRow, Failure> {
    if let Some(row) = state.sessions.get(id) {
        return Ok(row.clone());
    }
    load(site, id)
}

/// Returns the row of any session, open or not.
pub fn load(site: &mut Site, id: &SessionId) -> Result<SessionRow, Failure> {
    let key = crate::domain::state::RowKey::new(crate::domain::state::Kind::Session, id);
    let mut state = site.ledger.state(&[Need::Row(key)])?;
    state
        .sessions
        .remove(id)
        .ok_or_else(|| Failure::missing(format!("there is no session {id}")).hint("govfs status"))
}

fn make_places(dir: &Path) -> Result<(), Failure> {
    let fault = |error: io::Error| Failure::failed(format!("{}: {error}", dir.display()));
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700);
    for part in PARTS {
        builder.create(dir.join(part)).map_err(fault)?;
    }
    Ok(())
}

/// The right to be a session's one server, or to stand in for a dead one.
#[derive(Debug)]
pub struct Lock {
    file: Flock<File>,
    /// The boot in which the lock was held before, if it was.
    pub last_boot: Option<String>,
}

impl Lock {
    /// Takes the session's lock; `None` while a server lives.
    pub fn take(dir: &Path) -> io::Result<Option<Self>> {
        let path = dir.join("lock");
        Self::at(&path)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
    }

    fn at(path: &Path) -> io::Result<Option<Self>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        let last_boot = fs::read_to_string(path)?
            .split_whitespace()
            .next()
            .map(str::to_owned);
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Some(Self { file, last_boot })),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(errno.into()),
        }
    }

    /// Says in the lock who holds it, and in which boot.
    pub fn sign(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        let line = format!("{} {}\n", clock::boot_id(), std::process::id());
        io::Seek::rewind(&mut &*self.file)?;
        (&*self.file).write_all(line.as_bytes())
    }

    /// Says whether the last holder ran in this boot. A lock that nobody signed, or
    /// whose signature a power loss took, is no witness of that.
    pub fn same_boot(&self) -> bool {
        self.last_boot
            .as_deref()
            .is_some_and(|boot| boot == clock::boot_id())
    }
}
