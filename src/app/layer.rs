//! A session's write log, read back: what the session changed, up to any of its entries.
//!
//! Owns: [`read`], the one way from a log on disk to a [`Layer`], and what an entry
//! means as a point in that log. Invariants: every line chains from the session's
//! entry, and what the last seal covers must be there unchanged; beside a live
//! server the log is read up to its last whole line; an entry that was voided
//! leaves no trace. Never writes and takes no lock.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use crate::app::failure::Failure;
use crate::app::log::Name;
use crate::app::session::{self, Session};
use crate::app::site::Site;
use crate::domain::base::Oid;
use crate::domain::command::Need;
use crate::domain::digest::Digest;
use crate::domain::entry::{Chain, Line, Seal, decode, leaf};
use crate::domain::event::{Decision, Entry, Event, Synced};
use crate::domain::layer::{Layer, paths_of};
use crate::domain::logop::LogOp;
use crate::domain::names::{AgentName, SessionId};
use crate::domain::path::RepoPath;
use crate::domain::proof::Tree;
use crate::domain::time::Timestamp;
use crate::store::ledger::LedgerError;
use crate::store::writelog::{LogLines, read_log};

/// What reading a log gave.
#[derive(Debug)]
pub struct Reading {
    /// The fold of the first `seal.count` entries.
    pub layer: Layer,
    /// What a seal of those entries says.
    pub seal: Seal,
    /// How many whole entries the log has.
    pub end: u64,
    /// How many refusals the folded entries count.
    pub denials: u64,
    /// The newest of them, as the log has it.
    pub denied: Option<(u64, LogOp)>,
    /// The time of the last folded entry.
    pub ts: Option<Timestamp>,
}

/// Reads the first `upto` entries of the session's log; all of them where that is `None`.
///
/// A file that was being written at that point has the content of its next version
/// where nothing changed it in between.
pub fn read(session: &Session, upto: Option<u64>) -> Result<Reading, Failure> {
    let mut voided = BTreeSet::new();
    loop {
        let (reading, found) = Pass::new(session, upto, &voided).run(&session.log())?;
        if found.is_subset(&voided) {
            return Ok(reading);
        }
        // An entry that was undone later: rare, so it costs a second reading.
        voided.extend(found);
    }
}

/// One reading of a log.
struct Pass<'a> {
    session: &'a Session,
    upto: Option<u64>,
    voided: &'a BTreeSet<u64>,
    chain: Chain,
    tree: Tree,
    reading: Reading,
    /// The entries that a `void` names.
    found: BTreeSet<u64>,
    /// The paths that entries after the point named.
    touched: BTreeSet<RepoPath>,
}

impl<'a> Pass<'a> {
    fn new(session: &'a Session, upto: Option<u64>, voided: &'a BTreeSet<u64>) -> Self {
        let first = session.row.leaf;
        let tree = Tree::new();
        let seal = Seal {
            count: 0,
            head: first,
            root: tree.root(),
        };
        Self {
            session,
            upto,
            voided,
            chain: Chain::new(first),
            tree,
            reading: Reading {
                layer: Layer::default(),
                seal,
                end: 0,
                denials: 0,
                denied: None,
                ts: None,
            },
            found: BTreeSet::new(),
            touched: BTreeSet::new(),
        }
    }

    fn run(mut self, path: &Path) -> Result<(Reading, BTreeSet<u64>), Failure> {
        match read_log(path) {
            Ok(lines) => self.follow(lines)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.must_reach_seal(None)?,
            Err(error) => return Err(Failure::failed(format!("{}: {error}", path.display()))),
        }
        self.reading.end = self.chain.seq();
        match self.upto {
            Some(upto) if upto > self.reading.end => Err(missing(&Name::Session(
                self.session.id.clone(),
                upto.saturating_sub(1),
            ))),
            _ => Ok((self.reading, self.found)),
        }
    }

    fn follow(&mut self, mut lines: LogLines) -> Result<(), Failure> {
        loop {
            self.check_seal()?;
            let Some(bytes) = lines.read().map_err(Failure::failed)? else {
                return self.must_reach_seal(None);
            };
            match self.chain.push(bytes) {
                Ok((line, leaf)) => {
                    self.tree.push(leaf);
                    let op = decode(&line).map_err(|fault| {
                        Failure::integrity(format!("{}:{}: {fault}", self.session.id, line.seq))
                    })?;
                    self.take(&line, leaf, &op);
                }
                // What follows the last seal and does not chain was never acknowledged.
                Err(fault) => return self.must_reach_seal(Some(fault.to_string())),
            }
        }
    }

    fn take(&mut self, line: &Line<'_>, leaf: Digest, op: &LogOp) {
        if let LogOp::Void { entry, .. } = op {
            self.found.insert(*entry);
        }
        if self.upto.is_some_and(|upto| line.seq >= upto) {
            self.look_ahead(op);
            return;
        }
        let reading = &mut self.reading;
        reading.seal.count = line.seq + 1;
        reading.seal.head = leaf;
        reading.seal.root = self.tree.root();
        reading.ts = Some(line.ts);
        if let LogOp::Denied { count, .. } = op {
            reading.denials += count;
            reading.denied = Some((line.seq, op.clone()));
        }
        if !self.voided.contains(&line.seq) {
            reading.layer.apply(op);
        }
    }

    /// Settles a file by its first entry after the point, if that is its version.
    fn look_ahead(&mut self, op: &LogOp) {
        if let LogOp::Version {
            path, size, sha256, ..
        } = op
            && !path.ancestors().any(|above| self.touched.contains(&above))
            && !self.touched.contains(path)
        {
            self.reading.layer.settle(path, *size, *sha256);
        }
        if !matches!(
            op,
            LogOp::Mode { .. } | LogOp::Times { .. } | LogOp::Xattr { .. }
        ) {
            self.touched
                .extend(paths_of(op).into_iter().flatten().cloned());
        }
    }

    fn check_seal(&self) -> Result<(), Failure> {
        let Some(sealed) = &self.session.row.sealed else {
            return Ok(());
        };
        let same = sealed.head == self.chain.prev() && sealed.root == self.tree.root();
        if sealed.count == self.chain.seq() && !same {
            let id = &self.session.id;
            return Err(Failure::integrity(format!(
                "{id}: the first {} entries of its log are not those that entry {} sealed",
                sealed.count, sealed.entry
            )));
        }
        Ok(())
    }

    fn must_reach_seal(&self, why: Option<String>) -> Result<(), Failure> {
        let have = self.chain.seq();
        let sealed = self.session.row.sealed.as_ref().map_or(0, |row| row.count);
        if have >= sealed {
            return Ok(());
        }
        let id = &self.session.id;
        Err(Failure::integrity(match why {
            Some(why) => format!("{id}: its log, which is sealed: {why}"),
            None => format!("{id}: {sealed} entries of its log are sealed, {have} are there"),
        }))
    }
}

fn missing(name: &Name) -> Failure {
    Failure::missing(format!("there is no entry {name}")).hint("govfs log")
}

/// A point in a session's life.
#[derive(Clone, Debug)]
pub struct Point {
    /// With the base that it stood on then.
    pub session: Session,
    /// How many entries of its log count.
    pub upto: Option<u64>,
}

/// Finds the agent's session and how much of its log had been written after `at`.
/// Without `at`: now, in the open session or else in the last one.
pub fn point(site: &mut Site, agent: &AgentName, at: Option<&Name>) -> Result<Point, Failure> {
    match at {
        None => Ok(Point {
            session: newest(site, agent, None)?,
            upto: None,
        }),
        Some(Name::Session(id, seq)) => {
            let session = of_agent(site, agent, id)?;
            let upto = seq + 1;
            let session = with_base_then(site, session, &|_, body| body.count >= upto)?;
            Ok(Point {
                session,
                upto: Some(upto),
            })
        }
        Some(name @ Name::Ledger(seq)) => {
            let bytes = site.ledger.lines()?.line(*seq)?;
            let bytes = bytes.ok_or_else(|| missing(name))?;
            let line = Line::parse(&bytes).map_err(Failure::integrity)?;
            let entry = Entry::from_line(&line, leaf(&bytes)).map_err(Failure::integrity)?;
            let session = newest(site, agent, Some(*seq))?;
            let upto = match covered(&entry, &session.id) {
                Some(count) => count,
                None => written_by(&session, entry.ts)?,
            };
            let session = with_base_then(site, session, &|entry, _| entry.seq > *seq)?;
            Ok(Point {
                session,
                upto: Some(upto),
            })
        }
    }
}

fn of_agent(site: &mut Site, agent: &AgentName, id: &SessionId) -> Result<Session, Failure> {
    let row = session::load(site, id)?;
    if row.agent == *agent {
        Ok(Session::of(site, id, &row))
    } else {
        Err(Failure::usage(format!(
            "{id} is a session of {}",
            row.agent
        )))
    }
}

/// Returns the agent's newest session that had begun by entry `by`.
pub fn newest(site: &mut Site, agent: &AgentName, by: Option<u64>) -> Result<Session, Failure> {
    let state = site.ledger.state(&[Need::Agent(agent.clone())])?;
    let Some(row) = state.agents.get(agent) else {
        return Err(Failure::missing(format!("there is no agent {agent}")).hint("govfs agent list"));
    };
    for n in (1..=row.sessions).rev() {
        let id = SessionId::nth(agent, n);
        let row = session::load(site, &id)?;
        if by.is_none_or(|by| row.entry <= by) {
            return Ok(Session::of(site, &id, &row));
        }
    }
    Err(match by {
        Some(by) => Failure::missing(format!("{agent} had no session yet at entry {by}"))
            .hint(format!("govfs log --agent {agent} --op session")),
        None => Failure::missing(format!("{agent} has had no session")).hint(format!(
            "govfs run {agent} -- COMMAND, or govfs mount {agent}"
        )),
    })
}

/// Returns how many entries of the session's log a ledger entry speaks for.
fn covered(entry: &Entry, id: &SessionId) -> Option<u64> {
    if entry.session.as_ref() != Some(id) {
        return None;
    }
    match &entry.event {
        Event::Seal(body) => Some(body.count),
        Event::Merge(body) => Some(body.count),
        Event::MergeIntent(body) => Some(body.count),
        Event::Abandon(body) => Some(body.count),
        Event::Sync(body) => Some(body.count),
        Event::Session(_) => Some(0),
        _ => None,
    }
}

/// Counts the entries that had been written by the time `ts`.
fn written_by(session: &Session, ts: Timestamp) -> Result<u64, Failure> {
    let mut lines = match read_log(&session.log()) {
        Ok(lines) => lines,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(Failure::failed(error)),
    };
    let mut count = 0;
    while let Some(bytes) = lines.read().map_err(Failure::failed)? {
        let line = Line::parse(bytes).map_err(Failure::integrity)?;
        if line.ts > ts {
            break;
        }
        count += 1;
    }
    Ok(count)
}

/// Puts the session back on the base that it had before the first move of it that came `later`.
fn with_base_then(
    site: &mut Site,
    mut session: Session,
    later: &dyn Fn(&Entry, &Synced) -> bool,
) -> Result<Session, Failure> {
    let mut earlier: Option<Oid> = None;
    let name = session.id.as_str();
    let lines = site.ledger.lines()?;
    lines.forward(session.row.entry, &mut |_, bytes| {
        let line = Line::parse(bytes).map_err(|fault| LedgerError::Damaged(fault.to_string()))?;
        if line.op != "sync" || line.session != Some(name) {
            return Ok(true);
        }
        let entry = Entry::from_line(&line, leaf(bytes))?;
        if let Event::Sync(body) = &entry.event
            && body.decision == Decision::Allow
            && later(&entry, body)
        {
            earlier = Some(body.from);
        }
        Ok(earlier.is_none())
    })?;
    if let Some(base) = earlier {
        session.row.base = base;
    }
    Ok(session)
}
