//! One turn: load, decide elsewhere, append, project, commit.

use std::collections::BTreeSet;

use rusqlite::{Transaction, params};

use super::{LedgerError, fault, rows};
use crate::domain::claim;
use crate::domain::command::{Command, Need, Refusal, Verdict, decide};
use crate::domain::digest::Digest;
use crate::domain::entry::{Chain, Head, encode, leaf};
use crate::domain::event::{Draft, Entry};
use crate::domain::proof::Tree;
use crate::domain::state::{RowKey, State};
use crate::domain::time::{Now, Timestamp};

/// A transaction. Dropped before [`Turn::commit`], it has never been.
#[derive(Debug)]
pub struct Turn<'a> {
    transaction: Transaction<'a>,
    chain: Chain,
    tree: Tree,
    state: State,
    now: Now,
    touched: BTreeSet<RowKey>,
    /// What was loaded: nobody but this turn can change it meanwhile.
    loaded: Vec<Need>,
    entries: Vec<Entry>,
}

impl<'a> Turn<'a> {
    /// Reads the end of the chain, and first of all ends the claims whose time is over.
    pub(super) fn begin(
        transaction: Transaction<'a>,
        mut state: State,
        clock: &dyn Fn() -> Now,
    ) -> Result<Self, LedgerError> {
        let (chain, tree) = read_tail(&transaction)?;
        let mut now = clock();
        now.ts = chain.stamp(now.ts);
        rows::load_law(&transaction, &mut state)?;
        rows::load_due(&transaction, &now, &mut state)?;
        let mut turn = Self {
            transaction,
            chain,
            tree,
            state,
            now,
            touched: BTreeSet::new(),
            loaded: Vec::new(),
            entries: Vec::new(),
        };
        for draft in claim::decide_expiry(&turn.state, &turn.now) {
            turn.append(&draft)?;
        }
        Ok(turn)
    }

    /// Loads rows that are not there yet.
    pub fn load(&mut self, needs: &[Need]) -> Result<(), LedgerError> {
        for need in needs {
            // A search among all claims is worth remembering, a row is not.
            let search = matches!(need, Need::Claims { .. });
            if search && self.loaded.contains(need) {
                continue;
            }
            rows::load(&self.transaction, need, &self.touched, &mut self.state)?;
            self.loaded.extend(search.then(|| need.clone()));
        }
        Ok(())
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    /// The time of the next entry.
    pub fn now(&self) -> &Now {
        &self.now
    }

    /// The entries of this turn so far.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// How many entries the ledger has, and the root of their tree.
    pub fn tree(&self) -> (u64, Digest) {
        (self.chain.seq(), self.tree.root())
    }

    pub(super) fn transaction(&self) -> &Transaction<'a> {
        &self.transaction
    }

    /// Loads what `command` needs, decides it and appends what comes out; a refusal is the answer, not an error.
    pub fn command(&mut self, command: &Command) -> Result<Option<Refusal>, LedgerError> {
        self.load(&command.needs())?;
        let Verdict { drafts, refusal } = decide(&self.state, command, &self.now);
        for draft in &drafts {
            self.append(draft)?;
        }
        Ok(refusal)
    }

    /// Appends one entry and folds it in.
    pub fn append(&mut self, draft: &Draft) -> Result<&Entry, LedgerError> {
        self.load(&draft.needs())?;
        let seq = self.chain.seq();
        let unwritable = |error: serde_json::Error| LedgerError::Sqlite {
            doing: "write an entry",
            what: error.to_string(),
        };
        let (op, body) = draft.event.to_body().map_err(unwritable)?;
        let head = Head {
            seq,
            prev: self.chain.prev(),
            ts: self.now.ts,
            op: &op,
            agent: draft
                .agent
                .as_ref()
                .map(crate::domain::names::AgentName::as_str),
            session: draft
                .session
                .as_ref()
                .map(crate::domain::names::SessionId::as_str),
        };
        let line = encode(&head, &body)?;
        let leaf = leaf(&line);
        self.transaction
            .prepare_cached("INSERT INTO entry (seq, line, leaf) VALUES (?1, ?2, ?3)")
            .and_then(|mut insert| insert.execute(params![integer(seq), line, leaf.0]))
            .map_err(fault("append"))?;
        let entry = Entry {
            seq,
            ts: self.now.ts,
            leaf,
            agent: draft.agent.clone(),
            session: draft.session.clone(),
            event: draft.event.clone(),
        };
        self.touched.extend(self.state.apply(&entry));
        self.chain.advance(leaf, self.now.ts);
        self.tree.push(leaf);
        self.now.ts = self.chain.stamp(self.now.ts);
        self.entries.push(entry);
        self.entries.last().ok_or(LedgerError::Busy)
    }

    /// Makes it so, durably. Returns the entries and the state as far as it was loaded.
    pub fn commit(self) -> Result<(Vec<Entry>, State), LedgerError> {
        for key in &self.touched {
            rows::save(&self.transaction, key, &self.state)?;
        }
        if !self.entries.is_empty() {
            write_tail(&self.transaction, &self.chain, &self.tree)?;
        }
        self.transaction.commit().map_err(fault("commit"))?;
        Ok((self.entries, self.state))
    }
}

/// SQLite's integers are signed; no ledger reaches 2^63 entries.
pub(super) fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn natural(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// Reads the end of the chain as the projections have it.
pub(super) fn read_tail(connection: &rusqlite::Connection) -> Result<(Chain, Tree), LedgerError> {
    let (size, leaf, ts, frontier): (i64, [u8; 32], Option<i64>, Vec<u8>) = connection
        .prepare_cached("SELECT size, leaf, ts, frontier FROM tail WHERE id = 1")
        .and_then(|mut select| {
            select.query_row([], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })
        })
        .map_err(fault("read the ledger's end"))?;
    let last: Option<(i64, [u8; 32])> = connection
        .prepare_cached("SELECT seq, leaf FROM entry ORDER BY seq DESC LIMIT 1")
        .and_then(|mut select| {
            let mut rows = select.query([])?;
            rows.next()?
                .map(|row| Ok((row.get(0)?, row.get(1)?)))
                .transpose()
        })
        .map_err(fault("read the ledger's end"))?;
    if last != (size > 0).then_some((size - 1, leaf)) {
        return Err(LedgerError::Tail(format!(
            "{size} entries are expected, the last one is {}",
            last.map_or("missing".to_owned(), |(seq, _)| seq.to_string())
        )));
    }
    let hashes = frontier.chunks_exact(32).map(|hash| {
        let mut digest = [0; 32];
        digest.copy_from_slice(hash);
        Digest(digest)
    });
    let size = natural(size);
    let tree = Tree::resume(size, hashes.collect())
        .ok_or_else(|| LedgerError::Tail("the tree's frontier has another size".to_owned()))?;
    Ok((Chain::resume(size, Digest(leaf), ts.map(Timestamp)), tree))
}

fn write_tail(
    connection: &rusqlite::Connection,
    chain: &Chain,
    tree: &Tree,
) -> Result<(), LedgerError> {
    let frontier: Vec<u8> = tree.frontier().iter().flat_map(|hash| hash.0).collect();
    connection
        .prepare_cached("UPDATE tail SET size = ?1, leaf = ?2, ts = ?3, frontier = ?4 WHERE id = 1")
        .and_then(|mut update| {
            update.execute(params![
                integer(chain.seq()),
                chain.prev().0,
                chain.ts().map(|ts| ts.0),
                frontier
            ])
        })
        .map_err(fault("append"))?;
    Ok(())
}
