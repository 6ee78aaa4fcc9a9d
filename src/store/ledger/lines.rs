//! Reading: lines as they are stored, snapshots of the state, and the comparison
//! of the projections with a fold.

use rusqlite::{Connection, Transaction, params};

use super::turn::{integer, natural, read_tail};
use super::{Ledger, LedgerError, fault, rows};
use crate::domain::command::Need;
use crate::domain::digest::Digest;
use crate::domain::entry::Chain;
use crate::domain::proof::Tree;
use crate::domain::state::{Kind, Known, State};

/// Takes a line and its number; false ends the walk.
pub(crate) type Each<'a> = dyn FnMut(u64, &[u8]) -> Result<bool, LedgerError> + 'a;

/// A snapshot of the ledger: what others append meanwhile is not in it.
#[derive(Debug)]
pub struct Lines<'a> {
    transaction: Transaction<'a>,
    known: Known,
}

impl Ledger {
    /// Takes a snapshot for reading.
    pub fn lines(&mut self) -> Result<Lines<'_>, LedgerError> {
        let known = self.known.clone();
        let transaction = self
            .connection()?
            .transaction()
            .map_err(fault("read the ledger"))?;
        Ok(Lines { transaction, known })
    }

    /// Loads rows for reading.
    pub fn state(&mut self, needs: &[Need]) -> Result<State, LedgerError> {
        let state = self.lines()?.state(needs)?;
        self.known = state.known().clone();
        Ok(state)
    }
}

impl Lines<'_> {
    pub(super) fn connection(&self) -> &Connection {
        &self.transaction
    }

    /// Loads rows, as the projections have them.
    pub fn state(&self, needs: &[Need]) -> Result<State, LedgerError> {
        let mut state = State::knowing(&self.known);
        rows::load_law(self.connection(), &mut state)?;
        for need in needs {
            rows::load(
                self.connection(),
                need,
                &std::collections::BTreeSet::new(),
                &mut state,
            )?;
        }
        Ok(state)
    }

    /// Returns how many entries there are, going by the entries themselves.
    pub fn size(&self) -> Result<u64, LedgerError> {
        self.connection()
            .prepare_cached("SELECT coalesce(max(seq) + 1, 0) FROM entry")
            .and_then(|mut select| select.query_row([], |row| row.get(0)))
            .map(natural)
            .map_err(fault("read the ledger"))
    }

    /// Returns the end of the chain and the tree, as the projections have them.
    pub fn tail(&self) -> Result<(Chain, Tree), LedgerError> {
        read_tail(self.connection())
    }

    /// Returns one line.
    pub fn line(&self, seq: u64) -> Result<Option<Vec<u8>>, LedgerError> {
        self.connection()
            .prepare_cached("SELECT line FROM entry WHERE seq = ?1")
            .and_then(|mut select| {
                let mut rows = select.query(params![integer(seq)])?;
                rows.next()?.map(|row| row.get(0)).transpose()
            })
            .map_err(fault("read the ledger"))
    }

    /// Hands out the lines from `first` on, in order, until `each` says false.
    pub fn forward(&self, first: u64, each: &mut Each<'_>) -> Result<(), LedgerError> {
        let sql = "SELECT seq, line FROM entry WHERE seq >= ?1 ORDER BY seq";
        let doing = fault("read the ledger");
        let mut select = self.connection().prepare_cached(sql).map_err(&doing)?;
        let mut found = select.query(params![integer(first)]).map_err(&doing)?;
        while let Some(row) = found.next().map_err(&doing)? {
            let seq = natural(row.get(0).map_err(&doing)?);
            let line = row.get_ref(1).map_err(&doing)?;
            let line = line
                .as_blob()
                .map_err(|error| LedgerError::Damaged(error.to_string()))?;
            if !each(seq, line)? {
                break;
            }
        }
        Ok(())
    }

    /// Returns the leaves of the first `size` entries as they are stored (derived: check them against the lines).
    pub fn leaves(&self, size: u64) -> Result<Vec<Digest>, LedgerError> {
        self.connection()
            .prepare_cached("SELECT leaf FROM entry WHERE seq < ?1 ORDER BY seq")
            .and_then(|mut select| {
                select
                    .query_map(params![integer(size)], |row| row.get(0).map(Digest))?
                    .collect()
            })
            .map_err(fault("read the ledger"))
    }

    /// Says where the stored projections differ from `fold`, the state that the entries add up to.
    pub fn compare(&self, fold: &State) -> Result<Option<String>, LedgerError> {
        let mut expected = std::collections::BTreeMap::new();
        for key in fold.keys_of_all() {
            if let Some(body) = fold.row(&key)? {
                expected.insert(key, body);
            }
        }
        for &kind in Kind::ALL {
            for (key, body) in rows::all_of(self.connection(), kind)? {
                let name = format!("{} {}", key.kind.text(), key.id);
                match expected.remove(&key) {
                    None => {
                        return Ok(Some(format!(
                            "{name} is stored, but no entry accounts for it"
                        )));
                    }
                    Some(right) if right != body => {
                        return Ok(Some(format!(
                            "{name} differs from what the entries add up to"
                        )));
                    }
                    Some(_) => {}
                }
            }
        }
        for claim in fold.claims.values() {
            if !rows::claim_is_indexed(self.connection(), claim)? {
                let id = claim.id;
                return Ok(Some(format!(
                    "claim {id} is stored under what its entry does not say"
                )));
            }
        }
        let missing = expected.keys().next();
        Ok(missing.map(|key| {
            format!(
                "{} {} is missing, though entries account for it",
                key.kind.text(),
                key.id
            )
        }))
    }
}
