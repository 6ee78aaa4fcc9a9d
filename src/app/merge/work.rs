//! What a session has written, read from its log and checked.
//!
//! Every line is held against the chain that starts at the session's own entry,
//! and the whole against the ledger's last seal of it. A line that does not
//! verify is an integrity fault that names the entry, and the path where the
//! line still shows one. Never writes.

use std::io::{BufReader, ErrorKind};

use crate::app::failure::Failure;
use crate::app::session::Session;
use crate::domain::entry::{Chain, Line, decode};
use crate::domain::layer::Layer;
use crate::domain::layer::paths_of;
use crate::domain::layer::voided;
use crate::domain::logop::LogOp;
use crate::domain::path::RepoPath;
use crate::domain::proof::Tree;
use crate::store::writelog::{Lines, open_log};

const READ_BUFFER: usize = 256 << 10;

/// The entries of a write log, in order, and their fold.
#[derive(Debug)]
pub struct Work {
    pub ops: Vec<(u64, LogOp)>,
    pub layer: Layer,
}

impl Work {
    pub fn of(ops: Vec<(u64, LogOp)>) -> Self {
        let layer = Layer::fold(ops.iter().map(|(seq, op)| (*seq, op)));
        Self { ops, layer }
    }

    /// Returns the operations that were not undone.
    pub fn standing(&self) -> impl Iterator<Item = &(u64, LogOp)> {
        let void = voided(self.ops.iter().map(|(_, op)| op));
        self.ops.iter().filter(move |(seq, _)| !void.contains(seq))
    }

    /// Says whether some file was written after its last version, as far as the log shows.
    pub fn has_unsettled(&self) -> bool {
        let mut open = std::collections::BTreeSet::new();
        for (_, op) in self.standing() {
            match op {
                LogOp::Version { path, .. } | LogOp::Recovered { path, .. } => {
                    open.remove(path);
                }
                LogOp::Write { path, .. }
                | LogOp::Truncate { path, .. }
                | LogOp::Hole { path, .. }
                | LogOp::Create { path, .. } => {
                    open.insert(path.clone());
                }
                LogOp::Rename {
                    path, to, exchange, ..
                } => carry(&mut open, path, to, *exchange),
                LogOp::Unlink { path, .. } => {
                    open.remove(path);
                }
                _ => {}
            }
        }
        !open.is_empty()
    }
}

/// Follows what is unsettled through a rename, of a file or of a directory above it.
fn carry(
    open: &mut std::collections::BTreeSet<RepoPath>,
    from: &RepoPath,
    to: &RepoPath,
    exchange: bool,
) {
    let moved: Vec<RepoPath> = take(open, from);
    let back: Vec<RepoPath> = take(open, to);
    open.extend(moved.iter().filter_map(|path| path.rebase(from, to)));
    if exchange {
        open.extend(back.iter().filter_map(|path| path.rebase(to, from)));
    }
}

fn take(open: &mut std::collections::BTreeSet<RepoPath>, at: &RepoPath) -> Vec<RepoPath> {
    let found: Vec<RepoPath> = open
        .iter()
        .filter(|path| path.starts_with(at))
        .cloned()
        .collect();
    for path in &found {
        open.remove(path);
    }
    found
}

/// Reads the first `count` entries of a session's log.
pub fn read(session: &Session, count: u64) -> Result<Work, Failure> {
    let path = session.log();
    if count == 0 {
        return Ok(Work::of(Vec::new()));
    }
    let file = open_log(&path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => missing(session, 0, count),
        _ => Failure::failed(format!("{}: {error}", path.display())),
    })?;
    let mut lines = Lines::new(BufReader::with_capacity(READ_BUFFER, file));
    let mut chain = Chain::new(session.row.leaf);
    let mut tree = Tree::new();
    let mut ops = Vec::new();
    while chain.seq() < count {
        let seq = chain.seq();
        let bytes = lines
            .read()
            .map_err(|error| Failure::failed(format!("{}: {error}", path.display())))?
            .ok_or_else(|| missing(session, seq, count))?;
        let broken =
            |what: &dyn std::fmt::Display| broken(session, seq, path_in(bytes).as_deref(), what);
        let (line, leaf) = chain.push(bytes).map_err(|fault| broken(&fault.broken))?;
        refuse_other(session, &line)?;
        ops.push((seq, decode(&line).map_err(|fault| broken(&fault))?));
        tree.push(leaf);
    }
    agrees(session, count, &chain, &tree)?;
    Ok(Work::of(ops))
}

/// Holds what was read against the ledger's seal of exactly that many entries.
fn agrees(session: &Session, count: u64, chain: &Chain, tree: &Tree) -> Result<(), Failure> {
    let Some(seal) = session
        .row
        .sealed
        .as_ref()
        .filter(|seal| seal.count == count)
    else {
        return Ok(());
    };
    if seal.head == chain.prev() && seal.root == tree.root() {
        return Ok(());
    }
    Err(Failure::integrity(format!(
        "session {}: its first {count} entries are not those that entry {} seals",
        session.id, seal.entry
    ))
    .hint("govfs verify says where"))
}

/// A chain that is whole may still be another session's.
fn refuse_other(session: &Session, line: &Line<'_>) -> Result<(), Failure> {
    let mine =
        line.session == Some(session.id.as_str()) && line.agent == Some(session.agent.as_str());
    if mine {
        return Ok(());
    }
    Err(Failure::integrity(format!(
        "{}:{} says that it is another session's",
        session.id, line.seq
    )))
}

fn missing(session: &Session, have: u64, count: u64) -> Failure {
    Failure::integrity(format!(
        "session {}: {count} entries are sealed, {have} are there",
        session.id
    ))
    .hint("govfs verify says where")
}

fn broken(
    session: &Session,
    seq: u64,
    path: Option<&str>,
    what: &dyn std::fmt::Display,
) -> Failure {
    let about = path.map(|path| format!(" ({path})")).unwrap_or_default();
    Failure::integrity(format!(
        "{}:{seq}{about} does not verify: {what}",
        session.id
    ))
    .hint("govfs verify says where")
}

/// Returns the path that a line speaks of, also where the line itself is not to be trusted.
fn path_in(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    let rest = &text[text.find("\"path\":\"")? + 8..];
    let shown = rest.split('"').next()?;
    Some(
        shown
            .chars()
            .filter(char::is_ascii_graphic)
            .take(200)
            .collect(),
    )
}

/// Returns every path that some entry names.
pub fn named(op: &LogOp) -> impl Iterator<Item = &RepoPath> {
    paths_of(op).into_iter().flatten()
}
