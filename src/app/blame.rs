//! `blame`: who wrote each line of a file, down to the ledger entry that accounts for it.
//!
//! Owns: joining git's history of a path at the merge target's tip with the
//! ledger's merges and reverts, by commit, and from there with the write log of
//! the session that was merged. A line that came in without govfs shows its commit
//! and author. Never guesses: a commit that no entry names has none.

mod source;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use crate::app::failure::Failure;
use crate::app::merge::work;
use crate::app::session::{self, Session};
use crate::app::site::Site;
use crate::domain::base::Oid;
use crate::domain::entry::{Line, leaf};
use crate::domain::event::{Entry, Event, Merged};
use crate::domain::layer::lineage::Lineage;
use crate::domain::names::{AgentName, PlanId, SessionId};
use crate::domain::path::RepoPath;
use crate::domain::time::Timestamp;
use crate::git::promote::Promote;
use crate::store::ledger::LedgerError;

use source::Source;

/// What the ledger says of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub entry: u64,
    pub agent: Option<AgentName>,
    pub session: Option<SessionId>,
    pub plan: Option<PlanId>,
    /// What the merge promoted; none of a revert, which only brings back.
    body: Option<Box<Merged>>,
}

/// One line and who wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlamedLine {
    pub commit: Oid,
    /// The path it had there, and its number there from 1.
    pub path: RepoPath,
    pub number: usize,
    pub author: String,
    pub time: Timestamp,
    pub account: Option<Account>,
    /// The entry of the session's write log whose version brought the line.
    pub write: Option<u64>,
    pub text: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blame {
    pub commit: Oid,
    pub lines: Vec<BlamedLine>,
}

pub fn blame(site: &mut Site, path: &RepoPath) -> Result<Blame, Failure> {
    let state = site.ledger.state(&[])?;
    let target = Site::target(&state)?;
    let tip = site
        .repo
        .tip(&target)?
        .ok_or_else(|| Failure::missing(format!("{target} has no commit yet")))?;
    let promote = Promote::open(site.repo.common_dir()).map_err(Failure::failed)?;
    let tree = promote.tree_of(tip).map_err(Failure::failed)?;
    let there = promote.leaf(tree, path).map_err(Failure::failed)?;
    if !there.is_some_and(|leaf| leaf.is_file()) {
        return Err(Failure::missing(format!("{target} has no file {path}"))
            .hint("the path is relative to the repository's root"));
    }
    let accounts = accounts(site)?;
    let found = {
        let lineages = RefCell::new(Lineages {
            site: &mut *site,
            known: BTreeMap::new(),
        });
        let renamed = |commit: Oid, path: &RepoPath| {
            let account = accounts.get(&commit)?;
            let body = account.body.as_ref()?;
            let record = body.paths.iter().find(|record| record.path == *path)?;
            let from = record.from.clone();
            from.or_else(|| lineages.borrow_mut().of(account, body, path))
        };
        promote
            .blame(tip, path, &renamed)
            .map_err(Failure::failed)?
    };
    let mut authors: BTreeMap<Oid, (String, Timestamp)> = BTreeMap::new();
    let mut lines = Vec::with_capacity(found.len());
    for line in found {
        let (author, time) = if let Some(author) = authors.get(&line.commit) {
            author.clone()
        } else {
            let (name, seconds) = promote.author_of(line.commit).map_err(Failure::failed)?;
            let author = (name, Timestamp(seconds.saturating_mul(1_000_000_000)));
            authors.insert(line.commit, author.clone());
            author
        };
        lines.push(BlamedLine {
            account: accounts.get(&line.commit).cloned(),
            write: None,
            commit: line.commit,
            path: line.path,
            number: line.number,
            author,
            time,
            text: line.text,
        });
    }
    trace(site, &promote, &mut lines)?;
    Ok(Blame { commit: tip, lines })
}

/// Where files of merged sessions go back to, by the commit's entry.
struct Lineages<'a> {
    site: &'a mut Site,
    known: BTreeMap<u64, BTreeMap<RepoPath, RepoPath>>,
}

impl Lineages<'_> {
    /// Follows `path` through the session's log. One that cannot be read any more says
    /// nothing, and the file is recognised by its content.
    fn of(&mut self, account: &Account, body: &Merged, path: &RepoPath) -> Option<RepoPath> {
        if !self.known.contains_key(&account.entry) {
            let read = account.session.as_ref().map(|id| self.read(id, body));
            let lineage = read.and_then(Result::ok).unwrap_or_default();
            self.known.insert(account.entry, lineage);
        }
        self.known.get(&account.entry)?.get(path).cloned()
    }

    fn read(
        &mut self,
        id: &SessionId,
        body: &Merged,
    ) -> Result<BTreeMap<RepoPath, RepoPath>, Failure> {
        let row = session::load(self.site, id)?;
        let session = Session::of(self.site, id, &row);
        let mut lineage = Lineage::default();
        let work = work::read(&session, body.count, &mut |_, op, before| {
            lineage.follow(op, before);
        })?;
        Ok(lineage.end(&work.layer))
    }
}

/// Finds the write that brought each line, file by file of each merge.
fn trace(site: &mut Site, promote: &Promote, lines: &mut [BlamedLine]) -> Result<(), Failure> {
    let mut sources: BTreeMap<SessionId, Source> = BTreeMap::new();
    let files: BTreeSet<(Oid, RepoPath)> = lines
        .iter()
        .filter(|line| line.account.is_some())
        .map(|line| (line.commit, line.path.clone()))
        .collect();
    for (commit, path) in files {
        let mut those: Vec<&mut BlamedLine> = lines
            .iter_mut()
            .filter(|line| line.commit == commit && line.path == path)
            .collect();
        let account = those.first().and_then(|line| line.account.clone());
        let Some(Account {
            session: Some(id),
            body: Some(body),
            ..
        }) = account
        else {
            continue;
        };
        if !sources.contains_key(&id) {
            sources.insert(id.clone(), Source::read(site, &id, &body)?);
        }
        let Some(source) = sources.get(&id) else {
            continue;
        };
        let numbers: Vec<usize> = those.iter().map(|line| line.number - 1).collect();
        let entries = source.entries(promote, &body, &path, &numbers)?;
        for line in &mut those {
            line.write = entries.get(&(line.number - 1)).copied();
        }
    }
    Ok(())
}

/// Maps every commit that an entry made to that entry.
fn accounts(site: &mut Site) -> Result<BTreeMap<Oid, Account>, Failure> {
    let mut found = BTreeMap::new();
    let lines = site.ledger.lines()?;
    lines.forward(0, &mut |seq, bytes| {
        let line = Line::parse(bytes).map_err(|fault| LedgerError::Damaged(fault.to_string()))?;
        if !matches!(line.op, "merge" | "revert") {
            return Ok(true);
        }
        let entry = Entry::from_line(&line, leaf(bytes))?;
        let (commit, plan, body) = match entry.event {
            Event::Merge(body) => (body.commit, body.plan.clone(), Some(body)),
            Event::Revert(body) => (Some(body.commit), body.plan, None),
            _ => return Ok(true),
        };
        if let Some(commit) = commit {
            let account = Account {
                entry: seq,
                agent: entry.agent,
                session: entry.session,
                plan,
                body,
            };
            found.insert(commit, account);
        }
        Ok(true)
    })?;
    Ok(found)
}
