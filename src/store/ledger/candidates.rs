//! Which held claims a request meets, among very many.
//!
//! Two patterns overlap only where the literal prefix of one is the other's or an
//! ancestor of it, and where their ends do not contradict each other. The first is
//! an index; where it says nothing (`**/name`) an index on the tails stands in. Only
//! what is left is compiled, and the exact decision among it is `pattern`'s.

use std::collections::HashMap;

use rusqlite::{Connection, Row, params};

use super::rows::{load_claims, mode_of};
use super::{LedgerError, fault};
use crate::domain::claim::{CONFLICTS_MAX, excludes};
use crate::domain::event::Mode;
use crate::domain::names::AgentName;
use crate::domain::path::RepoPath;
use crate::domain::pattern::{Ends, Pattern};
use crate::domain::state::State;

const COLUMNS: &str = "SELECT id, agent, mode, literal, head, name, tail, pattern FROM claim";

/// A held claim that nothing yet tells apart from the request.
struct Candidate {
    id: i64,
    /// Its place among the holders.
    holder: usize,
    /// What its pattern is, where the index alone does not say that it overlaps.
    text: Option<Vec<u8>>,
}

/// Loads the claims of others that exclude `pattern` and overlap it: the first
/// [`CONFLICTS_MAX`], and of every further holder one.
pub(super) fn load(
    connection: &Connection,
    agent: &AgentName,
    mode: Mode,
    pattern: &Pattern,
    state: &mut State,
) -> Result<(), LedgerError> {
    let mut search = Search {
        connection,
        agent,
        mode,
        pattern,
        ends: pattern.ends(),
        holders: HashMap::new(),
        found: Vec::new(),
    };
    search.run()?;
    search.found.sort_unstable_by_key(|candidate| candidate.id);
    let mut met = vec![false; search.holders.len()];
    let mut count = 0;
    for Candidate { id, holder, text } in search.found {
        if count >= CONFLICTS_MAX && met[holder] {
            continue;
        }
        let held = text.as_deref().map(Pattern::parse).transpose();
        let held = held.map_err(|error| {
            LedgerError::Damaged(format!("a claim's pattern cannot be read: {error}"))
        })?;
        if held.is_none_or(|held| pattern.overlaps(&held)) {
            let sql = "SELECT id, body FROM claim WHERE id = ?1";
            load_claims(connection, sql, params![id], state)?;
            met[holder] = true;
            count += 1;
        }
    }
    Ok(())
}

struct Search<'a> {
    connection: &'a Connection,
    agent: &'a AgentName,
    mode: Mode,
    pattern: &'a Pattern,
    ends: Ends,
    /// A number for each, so that ten thousand candidates are not as many names.
    holders: HashMap<String, usize>,
    found: Vec<Candidate>,
}

impl Search<'_> {
    fn run(&mut self) -> Result<(), LedgerError> {
        let prefix = self.pattern.literal_prefix().clone();
        if !prefix.is_root() {
            return self.by_prefix(&prefix);
        }
        if self.ends.tail.is_empty() {
            return self.select("", []);
        }
        self.by_tail()
    }

    /// Everything whose prefix is this one, an ancestor of it, or beneath it.
    fn by_prefix(&mut self, prefix: &RepoPath) -> Result<(), LedgerError> {
        let mut above: Vec<Vec<u8>> = vec![Vec::new()];
        above.extend(prefix.ancestors().map(|path| path.as_bytes().to_vec()));
        above.push(prefix.as_bytes().to_vec());
        above.dedup();
        for path in above {
            self.select("WHERE prefix = ?1", params![path])?;
        }
        // `0` is the byte after `/`.
        let from = [prefix.as_bytes(), b"/"].concat();
        let to = [prefix.as_bytes(), b"0"].concat();
        self.select("WHERE prefix >= ?1 AND prefix < ?2", params![from, to])
    }

    /// Everything whose tail is one end of this one, or the other way about.
    fn by_tail(&mut self) -> Result<(), LedgerError> {
        let tail = self.ends.tail.clone();
        for len in 0..tail.len() {
            self.select("WHERE tail = ?1", params![&tail[..len]])?;
        }
        // No name ends in this byte alone, so nothing that begins with `tail` comes after it.
        let to = [tail.as_slice(), &[0xff; 65]].concat();
        self.select("WHERE tail >= ?1 AND tail < ?2", params![tail, to])
    }

    fn select(&mut self, which: &str, values: impl rusqlite::Params) -> Result<(), LedgerError> {
        let doing = fault("read claims");
        let sql = format!("{COLUMNS} {which}");
        let mut select = self.connection.prepare_cached(&sql).map_err(&doing)?;
        let mut rows = select.query(values).map_err(&doing)?;
        while let Some(row) = rows.next().map_err(&doing)? {
            if let Some(candidate) = self.look(row).map_err(&doing)? {
                self.found.push(candidate);
            }
        }
        Ok(())
    }

    fn look(&mut self, row: &Row<'_>) -> rusqlite::Result<Option<Candidate>> {
        let id = row.get(0)?;
        let agent = row.get_ref(1)?.as_str()?;
        if agent == self.agent.as_str() || !excludes(self.mode, mode_of(row.get(2)?)) {
            return Ok(None);
        }
        let text = row.get_ref(7)?.as_blob()?;
        // The text of a path without escapes is the path, and decides it at once.
        let plain = row.get::<_, bool>(3)? && !text.contains(&b'\\');
        let apart = if plain {
            !self.pattern.meets_plain(text)
        } else {
            let (head, name, tail) = (row.get_ref(4)?, row.get_ref(5)?, row.get_ref(6)?);
            let (head, name) = (head.as_blob()?, name.as_blob()?);
            self.ends.apart(head, name, tail.as_blob()?)
        };
        if apart {
            return Ok(None);
        }
        let next = self.holders.len();
        let holder = match self.holders.get(agent) {
            Some(holder) => *holder,
            None => *self.holders.entry(agent.to_owned()).or_insert(next),
        };
        Ok(Some(Candidate {
            id,
            holder,
            text: (!plain).then(|| text.to_vec()),
        }))
    }
}
