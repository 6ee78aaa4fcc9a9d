//! `blame`: who wrote each line of a file, down to the ledger entry that accounts for it.
//!
//! Owns: joining git's history of a path at the merge target's tip with the
//! ledger's merges and reverts, by commit. A line that came in without govfs shows
//! its commit and author. Never guesses: a commit that no entry names has none.

use std::collections::BTreeMap;

use crate::app::failure::Failure;
use crate::app::site::Site;
use crate::domain::base::Oid;
use crate::domain::entry::{Line, leaf};
use crate::domain::event::{Entry, Event};
use crate::domain::names::{AgentName, PlanId, SessionId};
use crate::domain::path::RepoPath;
use crate::domain::time::Timestamp;
use crate::git::promote::Promote;
use crate::store::ledger::LedgerError;

/// What the ledger says of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub entry: u64,
    pub agent: Option<AgentName>,
    pub session: Option<SessionId>,
    pub plan: Option<PlanId>,
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
    let found = promote.blame(tip, path).map_err(Failure::failed)?;
    let accounts = accounts(site)?;
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
            commit: line.commit,
            path: line.path,
            number: line.number,
            author,
            time,
            text: line.text,
        });
    }
    Ok(Blame { commit: tip, lines })
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
        let (commit, plan) = match entry.event {
            Event::Merge(body) => (body.commit, body.plan),
            Event::Revert(body) => (Some(body.commit), body.plan),
            _ => return Ok(true),
        };
        if let Some(commit) = commit {
            let account = Account {
                entry: seq,
                agent: entry.agent,
                session: entry.session,
                plan,
            };
            found.insert(commit, account);
        }
        Ok(true)
    })?;
    Ok(found)
}
