//! The gate of a live session: what the overlay asks, and where its entries go.
//!
//! Owns: the rules in force for one session (its claims, its role, the charter's
//! protected and sensitive paths), the open write log, and the recent refusals
//! that `.govfs/denials` shows. Invariants: an entry is in the log before this
//! returns; rules only change as a whole; an error is a denial. Never waits for
//! another session.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::{Mutex, RwLock};

use crate::app::clock;
use crate::app::rules::rules_for;
use crate::domain::charter::Charter;
use crate::domain::digest::Digest;
use crate::domain::entry::Seal;
use crate::domain::gate::{Denial, Gate, Halt, Permit, Recorded, Refusal, Rules, Tried};
use crate::domain::logop::{Actor, LogOp};
use crate::domain::names::{AgentName, SessionId};
use crate::domain::path::RepoPath;
use crate::domain::state::State;
use crate::store::versions::Versions;
use crate::store::writelog::{Durable, WriteLog};
use crate::vfs::counters::{Histogram, Latency};

/// How many refusals `.govfs/denials` shows.
const DENIALS_MAX: usize = 200;

/// Claims a free path on the first write, where the charter says so; gives whether it was claimed.
pub type FirstWrite = Box<dyn Fn(&RepoPath) -> bool + Send + Sync>;

pub struct Keeper {
    pub agent: AgentName,
    pub session: SessionId,
    rules: RwLock<Rules>,
    log: Mutex<WriteLog>,
    durable: Durable,
    versions: Versions,
    work: OwnedFd,
    /// Versions that no seal has made durable yet.
    fresh: Mutex<Vec<Digest>>,
    denials: Mutex<VecDeque<String>>,
    refused: AtomicU64,
    /// How long entries took to be appended.
    appended: Histogram,
    active_ms: AtomicU64,
    first_write: Option<FirstWrite>,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keeper({})", self.session)
    }
}

/// What a keeper stands on.
pub struct Ground {
    pub agent: AgentName,
    pub session: SessionId,
    pub log: WriteLog,
    pub versions: Versions,
    /// The versions that entries name which no seal covers yet.
    pub fresh: Vec<Digest>,
    pub work: OwnedFd,
    pub rules: Rules,
    pub first_write: Option<FirstWrite>,
}

impl std::fmt::Debug for Ground {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ground").finish_non_exhaustive()
    }
}

impl Keeper {
    pub fn new(ground: Ground) -> io::Result<Self> {
        let durable = Durable::new(ground.log.handle()?);
        Ok(Self {
            agent: ground.agent,
            session: ground.session,
            rules: RwLock::new(ground.rules),
            log: Mutex::new(ground.log),
            durable,
            versions: ground.versions,
            work: ground.work,
            fresh: Mutex::new(ground.fresh),
            denials: Mutex::new(VecDeque::new()),
            refused: AtomicU64::new(0),
            appended: Histogram::default(),
            active_ms: AtomicU64::new(0),
            first_write: ground.first_write,
        })
    }

    /// Puts other rules in force; every later operation is decided by them.
    pub fn set_rules(&self, rules: Rules) {
        *self.rules.write() = rules;
    }

    /// Refuses what these claims allowed, from now on.
    pub fn fence(&self, claims: &[u64]) {
        let mut rules = self.rules.write();
        let left = rules
            .claims
            .iter()
            .filter(|grant| !claims.contains(&grant.id));
        let mut fenced = Rules::new(left.cloned().collect());
        fenced.role = rules.role.take();
        fenced.protected = std::mem::take(&mut rules.protected);
        fenced.sensitive = std::mem::take(&mut rules.sensitive);
        fenced.others = std::mem::take(&mut rules.others);
        fenced.halt = rules.halt;
        *rules = fenced;
    }

    /// Stops, or lets go on, every governed write.
    pub fn halt(&self, halt: Option<Halt>) {
        self.rules.write().halt = halt;
    }

    pub fn count(&self) -> u64 {
        self.log.lock().count()
    }

    /// Makes the log and the versions that it names durable, and returns what a
    /// seal of those entries says.
    pub fn seal(&self) -> io::Result<Seal> {
        let (seal, fresh) = {
            let log = self.log.lock();
            (log.seal(), std::mem::take(&mut *self.fresh.lock()))
        };
        let durable = self.versions.make_durable(&fresh).map_err(io::Error::from);
        if let Err(error) = durable.and_then(|()| self.durable.sync(|| self.log.lock())) {
            self.fresh.lock().extend(fresh);
            return Err(error);
        }
        Ok(seal)
    }

    /// Gives back what the log set aside for more entries; nothing follows.
    pub fn release(&self) -> io::Result<()> {
        self.log.lock().release()
    }

    /// Returns the boot clock's milliseconds of the last governed change; 0 before the first.
    pub fn active_ms(&self) -> u64 {
        self.active_ms.load(Ordering::Relaxed)
    }

    /// Returns how long the entries of this server took to be appended.
    pub fn latency(&self) -> Option<Latency> {
        self.appended.latency()
    }

    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Returns the recent refusals, newest last, one line each.
    pub fn denials(&self) -> Vec<String> {
        self.denials.lock().iter().cloned().collect()
    }

    fn may_claim(&self, tried: Tried, path: &RepoPath, refusal: &Refusal) -> bool {
        refusal.rule == "not-claimed"
            && tried != Tried::Access
            && self.first_write.as_ref().is_some_and(|claim| claim(path))
    }

    fn decide(&self, tried: Tried, path: &RepoPath) -> Result<Permit, Refusal> {
        self.rules.read().decide(tried, path, clock::boot_ms())
    }
}

impl Gate for Keeper {
    fn permit(&self, tried: Tried, path: &RepoPath, _by: &Actor) -> Result<Permit, Refusal> {
        let verdict = match self.decide(tried, path) {
            Err(refusal) if self.may_claim(tried, path, &refusal) => self.decide(tried, path),
            verdict => verdict,
        };
        if verdict.is_ok() {
            self.active_ms.store(clock::boot_ms(), Ordering::Relaxed);
        }
        verdict
    }

    fn attempt(&self, path: &RepoPath, _by: &Actor) -> bool {
        match self.decide(Tried::Open, path) {
            Ok(_) => true,
            Err(refusal) => self.may_claim(Tried::Open, path, &refusal),
        }
    }

    fn writable(&self, path: &RepoPath) -> bool {
        self.decide(Tried::Write, path).is_ok()
    }

    fn uniform(&self, dir: &RepoPath) -> bool {
        self.rules.read().uniform(dir)
    }

    fn leads_to_claim(&self, path: &RepoPath) -> bool {
        self.rules.read().leads(path, clock::boot_ms())
    }

    fn claimed_names(&self, dir: &RepoPath) -> Vec<Vec<u8>> {
        self.rules.read().names_in(dir)
    }

    fn guards(&self, path: &RepoPath) -> bool {
        self.rules.read().guards(path)
    }

    fn record(&self, op: &LogOp) -> io::Result<Recorded> {
        let begun = Instant::now();
        let mut log = self.log.lock();
        let seq = log.append(clock::wall(), op)?;
        let ts = log.ts().unwrap_or_default();
        drop(log);
        self.appended.add(begun.elapsed());
        Ok(Recorded { seq, ts })
    }

    fn denied(&self, denial: &Denial) -> io::Result<()> {
        self.refused.fetch_add(denial.count, Ordering::Relaxed);
        let recorded = self.record(&denial.entry())?;
        let times = if denial.count > 1 {
            format!(" ({} times)", denial.count)
        } else {
            String::new()
        };
        let line = format!(
            "{} {} {}: refused{times}, {}: {}; {}",
            recorded.ts,
            denial.tried.word(),
            denial.path,
            denial.refusal.rule,
            denial.refusal.reason,
            denial.refusal.hint
        );
        let mut denials = self.denials.lock();
        if denials.len() == DENIALS_MAX {
            denials.pop_front();
        }
        denials.push_back(line);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.durable.sync(|| self.log.lock())
    }

    fn keep(&self, file: &File, name: &str, sha256: &Digest, take: bool) -> io::Result<bool> {
        if take {
            self.versions.adopt(&self.work, name, file, sha256)?;
        } else {
            self.versions.keep(file, sha256)?;
        }
        self.fresh.lock().push(*sha256);
        Ok(take)
    }

    fn version(&self, sha256: &Digest) -> io::Result<File> {
        Ok(self.versions.open(sha256)?)
    }
}

/// Returns the rules that the ledger gives a session now.
pub fn rules_of(state: &State, agent: &AgentName, session: &SessionId) -> Rules {
    let pinned = state.sessions.get(session).map(|row| row.charter);
    let pinned = pinned.and_then(|digest| state.charters.get(&digest));
    let law = pinned.map(|row| Charter::parse(&row.text));
    let Some(Ok(law)) = law else {
        // No charter, or one that does not parse: no writes.
        let mut nothing = Rules::default();
        nothing.halt = Some(Halt::Ended);
        return nothing;
    };
    let mut rules = rules_for(state, &law, agent, &clock::now());
    let over = state
        .sessions
        .get(session)
        .is_none_or(|row| row.state != crate::domain::state::SessionState::Open);
    rules.halt = over.then_some(Halt::Ended);
    if !over && state.intents.contains_key(session) {
        rules.halt = Some(Halt::Frozen); // a merge was cut short: nothing more until it is finished or undone
    }
    rules
}
